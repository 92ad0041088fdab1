"""The capabilities and prices of models, and the way in which each continues a broken answer.

A model's traits come from the table of vendors, its prices and context window from `_prices`. The configuration's
corrections replace both. If no pattern of the table matches a model, it gets its vendor's defaults and is marked as
unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from msgspec import UNSET
from msgspec.structs import asdict, replace

from ._policy import Correction
from ._prices import are_prices_loaded, cost, load_prices, price_of
from ._usage import Usage
from ._vendors.quirks import PREFILLS, Quirk
from ._vendors.table import author, vendor
from ._vendors.traits import UNKNOWN, Traits, matching
from .tasks import Target, TaskType

__all__ = [
    "Capabilities",
    "Catalog",
    "Correction",
    "Traits",
    "are_prices_loaded",
    "capabilities",
    "cost",
    "load_prices",
    "traits",
]


class Capabilities(Traits, frozen=True, kw_only=True):
    """A model's traits, its context window in tokens, and its prices in US dollars a million tokens.

    `cached_input_price` is that of input that the vendor reads from its prompt cache; without one, it is `input_price`.
    `quality` holds figures from the configuration, by task. There are none from other sources.
    """

    context_window: int | None = None
    input_price: float | None = None
    cached_input_price: float | None = None
    output_price: float | None = None
    quality: Mapping[TaskType, float] = {}

    def dollars(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float | None:
        """The estimated cost of these tokens; `None` if a price is unknown.

        Args:
            input_tokens: The tokens of the prompt, with those from a prompt cache.
            output_tokens: The tokens of the answer.
            cached_tokens: How many of the prompt's tokens are read from the vendor's prompt cache.
        """
        if self.input_price is None or self.output_price is None:
            return None
        total = input_tokens * self.input_price + output_tokens * self.output_price
        if cached_tokens > 0 and self.cached_input_price is not None:
            total -= min(cached_tokens, input_tokens) * (self.input_price - self.cached_input_price)
        return total / 1_000_000


MOST_REMEMBERED: Final = 4_096
"""The most targets with cached capabilities. A request may name any model, so past this number the cache is cleared."""


class Catalog:
    """The capabilities of a policy's targets.

    Args:
        vendor_model: Maps a target to its kind of vendor and the vendor's name for the model.
        corrections: What the configuration says of a target.
        quirks: Maps a target to the quirks of its host. Without it, they are those of the vendor's row.
    """

    def __init__(
        self,
        vendor_model: Callable[[Target], tuple[str, str]],
        corrections: Mapping[Target, Correction] | None = None,
        quirks: Callable[[Target], frozenset[Quirk] | None] = lambda target: None,
    ) -> None:
        self._vendor_model = vendor_model
        self._corrections = corrections or {}
        self._quirks = quirks
        self._capabilities: dict[Target, Capabilities] = {}
        self._without_prices: dict[Target, Capabilities] = {}

    def capabilities(self, target: Target, *, load: bool = True) -> Capabilities:
        """A target's capabilities. Without `load`, windows and prices are there only if they were loaded."""
        cached = self._capabilities.get(target)
        if cached is not None:
            return cached
        if len(self._capabilities) + len(self._without_prices) > MOST_REMEMBERED:  # a request may name any model
            self._capabilities.clear()
            self._without_prices.clear()
        if load:
            load_prices()
        if are_prices_loaded():
            return self._capabilities.setdefault(
                target, self._corrected(target, capabilities(*self._vendor_model(target), self._quirks(target)))
            )
        cached = self._without_prices.get(target)
        if cached is None:
            bare = Capabilities(**asdict(traits(*self._vendor_model(target), self._quirks(target))))
            cached = self._without_prices[target] = self._corrected(target, bare)
        return cached

    def cost(self, target: Target, usage: Usage) -> float | None:
        """US dollars for this usage; `None` if no price is known. Corrected prices discount cached tokens only if they
        have a price of their own.
        """
        correction = self._corrections.get(target)
        if correction is not None and correction.has_prices:
            can = self.capabilities(target)
            return can.dollars(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens)
        return cost(*self._vendor_model(target), usage)

    def _corrected(self, target: Target, original: Capabilities) -> Capabilities:
        correction = self._corrections.get(target)
        if correction is None:
            return original
        changes = {name: value for name, value in asdict(correction).items() if value is not UNSET}
        if correction.input_price is not UNSET:
            changes.setdefault("cached_input_price", None)  # the catalog's belongs to another price of the input
        may_prefill = original.may_prefill and correction.continues is UNSET  # the configuration knows
        return replace(original, **changes, may_prefill=may_prefill, known=True)


@lru_cache(maxsize=1024)
def traits(kind: str, model: str, quirks: frozenset[Quirk] | None = None) -> Traits:
    """The traits of a model of a kind of vendor.

    Hosts that serve other vendors' models name them `author/model`. There, the host decides whether the model continues
    an open turn. `quirks` are the host's; by default, those of its row.
    """
    row = vendor(kind)
    if quirks is None:
        quirks = row.quirks
    model_traits = matching(row.patterns, model)
    if row.defaults is not None:
        # A vendor's own model continues as it does at home, whatever gateway is asked for it.
        return model_traits or replace(row.defaults, may_prefill="may_prefill" in quirks)
    name, slash, rest = model.partition("/")
    if model_traits is None and slash and (by := author(name)) is not None:
        model_traits = matching(by.patterns, rest)
    continues_open_turns = bool(quirks & PREFILLS)
    return replace(
        model_traits or UNKNOWN,
        continues="prefill" if continues_open_turns else "anchored",
        may_prefill="may_prefill" in quirks and not continues_open_turns,
        chunk_is_token="chunk_is_token" in quirks,
    )


def capabilities(kind: str, model: str, quirks: frozenset[Quirk] | None = None) -> Capabilities:
    """A model's traits with its window and its prices of today."""
    price = price_of(kind, model)
    return Capabilities(
        **asdict(traits(kind, model, quirks)),
        context_window=price.context_window,
        input_price=price.input_price,
        cached_input_price=price.cached_input_price,
        output_price=price.output_price,
    )
