"""What models can do, how they go on with a broken answer, and what they cost.

Prices and context windows come from genai-prices, which is loaded when the first price is asked for. The rest is the
small table below; a model that it does not know gets its vendor's defaults and is marked so. What the configuration
says of a model goes over both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Final

from msgspec import UNSET, Struct
from msgspec.structs import asdict, replace

from ._importing import importing
from ._policy import Continues, Correction
from ._usage import Usage
from ._vendors.hosts import HOSTS, PREFILLS
from .tasks import Target, TaskType


class Traits(Struct, frozen=True, kw_only=True):
    """What a model takes and gives. `known` is false where these are only its vendor's defaults."""

    text: bool = True
    vision: bool = False
    audio: bool = False
    transcription: bool = False
    tools: bool = False
    structured_output: bool = False
    reasoning: bool = False
    continues: Continues = "anchored"
    known: bool = True


class Capabilities(Traits, frozen=True, kw_only=True):
    """A model's traits, its context window in tokens, and its prices in US dollars a million tokens.

    `quality` holds the operator's own figures, by task; nobody else's are trusted.
    """

    context_window: int | None = None
    input_price: float | None = None
    output_price: float | None = None
    quality: Mapping[TaskType, float] = {}

    def dollars(self, input_tokens: int, output_tokens: int) -> float | None:
        """What so many tokens cost, as far as one can tell before they are counted."""
        if self.input_price is None or self.output_price is None:
            return None
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1_000_000


_VENDORS: Final[dict[str, Traits]] = {
    "openai": Traits(vision=True, tools=True, structured_output=True, known=False),
    "anthropic": Traits(vision=True, tools=True, structured_output=True, known=False),
    "google": Traits(vision=True, audio=True, tools=True, structured_output=True, known=False),
}
MOST_REMEMBERED: Final = 4_096
"""Targets whose capabilities are kept; past it they are looked up anew."""

_UNKNOWN_VENDOR: Final = Traits(tools=True, structured_output=True, known=False)

_CHAT: Final = Traits(vision=True, tools=True, structured_output=True)
_THINKS: Final = replace(_CHAT, reasoning=True)
_TEXT_ONLY: Final = Traits(tools=True, structured_output=True)

_MODELS: Final[dict[str, tuple[tuple[str, Traits], ...]]] = {
    # The first pattern that matches the beginning of a model's name decides.
    "openai": (
        (r"gpt-4o(-mini)?-transcribe|gpt-transcribe|whisper-", Traits(text=False, transcription=True)),
        (r"gpt-audio|gpt-4o(-mini)?-audio", Traits(audio=True, tools=True)),
        (r"gpt-3\.5", Traits(tools=True)),
        (r"gpt-oss", replace(_TEXT_ONLY, reasoning=True)),
        (r"gpt-4o|gpt-4\.1|gpt-4-turbo", _CHAT),
        (r"gpt-4", Traits(tools=True)),
        (r"gpt-5|gpt-6|o1|o3|o4", _THINKS),
    ),
    "anthropic": (
        # Claude models up to 4.5 go on with an open assistant turn; later ones refuse a request that ends in one.
        (r"claude-3-7|claude-(opus|sonnet)-4-[0-5](?!\d)|claude-haiku-4-5", replace(_THINKS, continues="prefill")),
        (r"claude-3", replace(_CHAT, continues="prefill")),
        (r"claude-", _THINKS),
    ),
    "google": (
        (r"gemini-1|gemini-2\.0", replace(_CHAT, audio=True)),
        (r"gemini-", replace(_THINKS, audio=True)),
        (r"gemma-", _CHAT),
    ),
    "xai": (
        (r"grok-voice-transcribe", Traits(text=False, transcription=True)),
        (r"grok-imagine", Traits(text=False)),
        (r"grok-.*non-reasoning", _CHAT),
        (r"grok-[4-9]|grok-code|grok-build", _THINKS),
    ),
    "deepseek": (
        (r"deepseek-(v4-)?flash", _THINKS),
        (r"deepseek-v4|deepseek-v3\.2", replace(_TEXT_ONLY, reasoning=True)),
        (r"deepseek-reasoner", Traits(structured_output=True, reasoning=True)),
        (r"deepseek-chat", _TEXT_ONLY),
    ),
    "mistral": (
        (r".*(-embed|-ocr|-moderation|-tts)", Traits(text=False)),
        (r"voxtral-mini", Traits(text=False, transcription=True)),
        (r"voxtral-", Traits(audio=True, tools=True, structured_output=True)),
        (r"magistral-|mistral-medium|mistral-large-4|mistral-small-(latest|26)", _THINKS),
        (r"ministral-|pixtral-|mistral-large", _CHAT),
        (r"codestral-|devstral-", _TEXT_ONLY),
    ),
    "perplexity": (
        (r"sonar-(reasoning|deep-research)", Traits(reasoning=True)),
        (r"sonar", Traits()),
    ),
}
_ANYWHERE: Final = (
    # Models that many hosts serve.
    (r"(.*/)?whisper-", Traits(text=False, transcription=True)),
    (r"(.*/)?gpt-oss", replace(_TEXT_ONLY, reasoning=True)),
    (r"(.*/)?[a-z0-9.-]*-embed", Traits(text=False)),
)
_MAKERS: Final = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "x-ai": "xai",
    "xai": "xai",
    "deepseek": "deepseek",
    "mistralai": "mistral",
}
"""How hosts that serve other vendors' models call these vendors, before a slash."""


class Catalog:
    """What is known of a policy's targets. `vendor_model` gives a target's kind of vendor and that one's own name."""

    def __init__(
        self,
        vendor_model: Callable[[Target], tuple[str, str]],
        corrections: Mapping[Target, Correction] | None = None,
    ) -> None:
        self._vendor_model = vendor_model
        self._corrections = corrections or {}
        self._found: dict[Target, Capabilities] = {}
        self._without_prices: dict[Target, Capabilities] = {}

    def capabilities(self, target: Target, *, load: bool = True) -> Capabilities:
        """All that is known of a target. Without `load`, windows and prices are there only if they were loaded."""
        cached = self._found.get(target)
        if cached is not None:
            return cached
        if len(self._found) + len(self._without_prices) > MOST_REMEMBERED:  # a request may name any model
            self._found.clear()
            self._without_prices.clear()
        if load:
            load_prices()
        if are_prices_loaded():
            return self._found.setdefault(target, self._corrected(target, capabilities(*self._vendor_model(target))))
        cached = self._without_prices.get(target)
        if cached is None:
            bare = Capabilities(**asdict(traits(*self._vendor_model(target))))
            cached = self._without_prices[target] = self._corrected(target, bare)
        return cached

    def cost(self, target: Target, usage: Usage) -> float | None:
        """US dollars for this usage, `None` where no price is known. Corrected prices know no discount for caches."""
        correction = self._corrections.get(target)
        if correction is not None and correction.has_prices:
            return self.capabilities(target).dollars(usage.input_tokens, usage.output_tokens)
        return cost(*self._vendor_model(target), usage)

    def _corrected(self, target: Target, known: Capabilities) -> Capabilities:
        correction = self._corrections.get(target)
        if correction is None:
            return known
        changes = {name: value for name, value in asdict(correction).items() if value is not UNSET}
        return replace(known, **changes, known=True)


@lru_cache(maxsize=1024)
def traits(kind: str, model: str) -> Traits:
    """What a model of a kind of vendor can do. How it goes on is a matter of its host as well."""
    if kind in _VENDORS and kind in _MODELS:
        return _listed(kind, model) or _VENDORS[kind]
    goes_on = kind in HOSTS and bool(HOSTS[kind].quirks & PREFILLS)
    maker, slash, name = model.partition("/")
    found = _listed("openai" if kind == "azure" else kind, model)
    if found is None and slash and maker in _MAKERS:
        found = _listed(_MAKERS[maker], name)
    return replace(found or _UNKNOWN_VENDOR, continues="prefill" if goes_on else "anchored")


def _listed(kind: str, model: str) -> Traits | None:
    patterns = (*_MODELS.get(kind, ()), *_ANYWHERE)
    return next((found for pattern, found in patterns if re.match(pattern, model)), None)


@lru_cache(maxsize=1024)
def capabilities(kind: str, model: str) -> Capabilities:
    """A model's traits with its window and prices."""
    found = asdict(traits(kind, model))
    if kind in _FREE:
        return Capabilities(**found, input_price=0.0, output_price=0.0)
    if not _is_priced(kind, model):
        return Capabilities(**found)
    from genai_prices.data_snapshot import get_snapshot

    _, info = get_snapshot().find_provider_model(model, None, _PRICE_LISTS[kind], None)
    return Capabilities(
        **found,
        context_window=info.context_window,
        input_price=_dollars_a_million(kind, model, Usage(input_tokens=_SAMPLE)),
        output_price=_dollars_a_million(kind, model, Usage(output_tokens=_SAMPLE)),
    )


def cost(kind: str, model: str, usage: Usage) -> float | None:
    """US dollars for this usage, `None` where no price is known.

    Input includes cached tokens. Some gateways leave them out, and then report more cached tokens than input tokens.
    In that case the cached tokens are added to the input: genai-prices refuses to price what does not add up.
    """
    if kind in _FREE:
        return 0.0
    if not _is_priced(kind, model):
        return None
    from genai_prices import Usage as Counted
    from genai_prices import calc_price

    cached = usage.cache_read_tokens + usage.cache_write_tokens
    counted = Counted(
        input_tokens=usage.input_tokens + (cached if cached > usage.input_tokens else 0),
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    return float(calc_price(counted, model, provider_id=_PRICE_LISTS[kind]).total_price)


@cache
def load_prices() -> None:
    """Load what prices are read from, which takes a third of a second the first time: better in a thread."""
    importing(_is_priced, "openai", "")


def are_prices_loaded() -> bool:
    """Whether a price can be told without waiting."""
    return load_prices.cache_info().currsize > 0


_PRICE_LISTS: Final = {
    "anthropic": "anthropic",
    "google": "google",
    **{kind: host.prices for kind, host in HOSTS.items() if host.prices is not None},
}
_FREE: Final = frozenset({"ollama", "lmstudio", "vllm", "llamacpp"})
"""Who runs on one's own machine sends no bill."""

_SAMPLE: Final = 1_000
"""Small enough to stay in the first tier of prices that rise with the length of a prompt."""


def _dollars_a_million(kind: str, model: str, usage: Usage) -> float | None:
    dollars = cost(kind, model, usage)
    return None if dollars is None else round(dollars * 1_000_000 / _SAMPLE, 6)


@lru_cache(maxsize=1024)
def _is_priced(kind: str, model: str) -> bool:
    if kind not in _PRICE_LISTS:
        return False
    from genai_prices.data_snapshot import get_snapshot

    try:
        get_snapshot().find_provider_model(model, None, _PRICE_LISTS[kind], None)
    except LookupError:
        return False
    return True
