"""Prices and context windows, from genai-prices.

genai-prices takes a third of a second to import, so it is loaded by the first question for a price, or before that in
a thread by `load_prices`. If it is not installed, only the prices of local servers are known: they are free.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, Final

from msgspec import Struct

from . import _clock
from ._importing import importing
from ._usage import Usage
from ._vendors.table import vendor

_SAMPLE: Final = 1_000
"""Tokens. Small enough to stay in the first tier of prices that rise with the length of a prompt."""


class Price(Struct, frozen=True, kw_only=True):
    """Prices in US dollars a million tokens, and the context window in tokens; `None` if unknown.

    `cached_input_price` is that of tokens that are read from the vendor's prompt cache.
    """

    context_window: int | None = None
    input_price: float | None = None
    cached_input_price: float | None = None
    output_price: float | None = None


_FREE: Final = Price(input_price=0.0, cached_input_price=0.0, output_price=0.0)
_UNKNOWN: Final = Price()


def price_of(kind: str, model: str) -> Price:
    """The prices and the window of a model of a kind of vendor."""
    if vendor(kind).is_local:
        return _FREE
    info = _model_info(vendor(kind).price_list, model)
    if info is None:
        return _UNKNOWN
    return Price(
        context_window=info.context_window,
        input_price=_dollars_a_million(kind, model, Usage(input_tokens=_SAMPLE)),
        cached_input_price=_dollars_a_million(kind, model, Usage(input_tokens=_SAMPLE, cache_read_tokens=_SAMPLE)),
        output_price=_dollars_a_million(kind, model, Usage(output_tokens=_SAMPLE)),
    )


def cost(kind: str, model: str, usage: Usage) -> float | None:
    """US dollars for this usage, or `None` if no price is known.

    Input includes cached tokens. Some gateways leave them out, and then report more cached tokens than input tokens.
    In that case the cached tokens are added to the input: genai-prices refuses counts that do not add up.
    """
    row = vendor(kind)
    if row.is_local:
        return 0.0
    if _model_info(row.price_list, model) is None:
        return None
    from genai_prices import Usage as TokenCounts
    from genai_prices import calc_price

    cached = usage.cache_read_tokens + usage.cache_write_tokens
    tokens = TokenCounts(
        input_tokens=usage.input_tokens + (cached if cached > usage.input_tokens else 0),
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=min(usage.cache_write_1h_tokens, usage.cache_write_tokens),
    )
    return float(
        calc_price(tokens, model, provider_id=row.price_list, genai_request_timestamp=_clock.now()).total_price
    )


@cache
def load_prices() -> None:
    """Load the price lists, which takes a third of a second the first time: call it in a thread."""
    importing(_model_info, "openai", "")


def are_prices_loaded() -> bool:
    """Whether a question for a price is answered without waiting."""
    return load_prices.cache_info().currsize > 0


def _dollars_a_million(kind: str, model: str, usage: Usage) -> float | None:
    dollars = cost(kind, model, usage)
    return None if dollars is None else round(dollars * 1_000_000 / _SAMPLE, 6)


@lru_cache(maxsize=1024)
def _model_info(price_list: str | None, model: str) -> Any:
    """The entry of genai-prices for a model; `None` if it has none, or is not installed."""
    if price_list is None:
        return None
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "genai_prices":
            raise
        return None
    try:
        return get_snapshot().find_provider_model(model, None, price_list, None)[1]
    except LookupError:
        return None
