"""Resilience as frozen values: retries, timeouts and breakers, and what a provider, a model or a route changes of them.

The policy has a whole `Resilience`. Each other level has a `ResilienceOverride`, which holds only what is different
there. Other modules only read these values.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, TypeAlias, TypeVar

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

T = TypeVar("T", bound=Struct)

OnBreak: TypeAlias = Literal["continue", "restart", "raise"]

Durability: TypeAlias = Literal["live", "reattachable"]
"""Whether a vendor that can keep a run is asked to, so that a broken stream is read on from where it broke."""

OnUnproven: TypeAlias = Literal["next", "show"]
"""What happens with a continuation that has not shown where it goes on from: the next target is asked, or it is shown
if it can be read.
"""


class Flow(Struct, frozen=True):
    """The least speed of an answer: so many `characters` in any `seconds`, once it has begun."""

    characters: int
    seconds: float


class Timeouts(Struct, frozen=True):
    """Seconds, each with a clock of its own; `None` switches one off."""

    connect: float | None = 10.0
    first_token: float | None = 30.0
    idle: float | None = 20.0
    flow: Flow | None = None
    total: float | None = 300.0


class BreakerSettings(Struct, frozen=True):
    """When a target is left alone: `failures` within `window` seconds, in a row or half of its attempts, open its
    breaker for `cooldown` seconds; then `probes` attempts at a time find out. `failures=None`: never.
    """

    failures: int | None = 5
    window: float = 30.0
    cooldown: float = 15.0
    probes: int = 1


class RetryBudgetSettings(Struct, frozen=True):
    """How much of a provider's load may be retries: a `share` of its requests and a `floor` more in each minute.
    `share=None`: any.
    """

    share: float | None = 0.1
    floor: int = 10


class Resilience(Struct, frozen=True):
    """Retries, timeouts and breakers: the limits of the effort before a request fails.

    `max_retries` counts further tries of one target. Waits between tries grow from `backoff` seconds to
    `max_backoff` with full jitter; a vendor's `Retry-After` is honoured up to `max_retry_after`, beyond it the next
    target is asked. `continuation` is the user turn that asks for the rest of a broken answer, in the operator's
    words; `{anchor}` in it is replaced by the last delivered words.
    """

    max_retries: int = 2
    fallback_enabled: bool = True
    on_break: OnBreak = "continue"
    on_unproven: OnUnproven = "next"
    durability: Durability = "live"
    timeouts: Timeouts = Timeouts()
    backoff: float = 0.25
    max_backoff: float = 8.0
    max_retry_after: float = 20.0
    continuation: str | None = None
    breaker: BreakerSettings = BreakerSettings()
    retry_budget: RetryBudgetSettings = RetryBudgetSettings()


class Override(Struct, frozen=True, kw_only=True):
    """Settings of a provider, a model or a route. Those it leaves out stay as they are above it."""

    def over(self, base: T) -> T:
        """The settings of `base`, with these in their place."""
        changes: dict[str, object] = {}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not UNSET:
                changes[name] = value.over(getattr(base, name)) if isinstance(value, Override) else value
        return replace(base, **changes)


class TimeoutsOverride(Override, frozen=True, kw_only=True):
    """Clocks of their own. Only a route can have a `total`."""

    connect: float | UnsetType | None = UNSET
    first_token: float | UnsetType | None = UNSET
    idle: float | UnsetType | None = UNSET
    flow: Flow | UnsetType | None = UNSET
    total: float | UnsetType | None = UNSET


class BreakerOverride(Override, frozen=True, kw_only=True):
    """Settings of their own for the breakers of a provider's, a model's or a route's targets."""

    failures: int | UnsetType | None = UNSET
    window: float | UnsetType = UNSET
    cooldown: float | UnsetType = UNSET
    probes: int | UnsetType = UNSET


class RetryBudgetOverride(Override, frozen=True, kw_only=True):
    """A retry budget of a provider's own."""

    share: float | UnsetType | None = UNSET
    floor: int | UnsetType = UNSET


class ResilienceOverride(Override, frozen=True, kw_only=True):
    """What a provider, a model or a route changes of `Resilience`. `_config` says what can be changed where."""

    max_retries: int | UnsetType = UNSET
    fallback_enabled: bool | UnsetType = UNSET
    on_break: OnBreak | UnsetType = UNSET
    on_unproven: OnUnproven | UnsetType = UNSET
    durability: Durability | UnsetType = UNSET
    timeouts: TimeoutsOverride | UnsetType = UNSET
    backoff: float | UnsetType = UNSET
    max_backoff: float | UnsetType = UNSET
    max_retry_after: float | UnsetType = UNSET
    continuation: str | UnsetType | None = UNSET
    breaker: BreakerOverride | UnsetType = UNSET
    retry_budget: RetryBudgetOverride | UnsetType = UNSET


@lru_cache(maxsize=1024)
def overridden(base: Resilience, overrides: tuple[ResilienceOverride, ...]) -> Resilience:
    """The settings of `base` with the overrides, of which the strongest comes last."""
    for override in overrides:
        base = override.over(base)
    return base
