"""The sections `resilience:`: the whole one, and those of a provider, a model and a route, which change a part of it.

Each key is written once, in the section of the most levels that can have it. What a level cannot have is missing in its
section; `validation` says why. A key that is left out of a part keeps the value of the level above.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, ConfigDict, Field

from .._resilience import BreakerSettings, Durability, OnBreak, OnUnproven, Resilience, RetryBudgetSettings, Timeouts
from . import text_types as texts
from .section import Bool, Seconds, Section, Wait, empty

_TIMEOUTS: Final = Timeouts()
_RESILIENCE: Final = Resilience()
_BREAKER: Final = BreakerSettings()
_RETRY_BUDGET: Final = RetryBudgetSettings()


def _without_defaults(schema: dict[str, Any]) -> None:
    for key in schema["properties"].values():
        key.pop("default", None)


class Part(Section):
    """A section in which only the keys that are set count. Its schema has no defaults."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)


class FlowSection(Section):
    """The least speed of an answer, once it has begun."""

    characters: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = Field(
        description="Characters of text, reasoning and tool arguments together."
    )
    seconds: Seconds = Field(description="Seconds within which the next so many characters have to come.")


class _ClocksOfATarget(Section):
    connect: Seconds | None = Field(_TIMEOUTS.connect, description="To the connection with the vendor.")
    first_token: Seconds | None = Field(
        _TIMEOUTS.first_token, description="To the first content of an attempt; keep-alive messages do not count."
    )
    idle: Seconds | None = Field(_TIMEOUTS.idle, description="Between two pieces of content.")
    flow: FlowSection | None = Field(
        None, description="The least speed of an answer; a slower one is continued by another attempt."
    )


class TimeoutsSection(_ClocksOfATarget):
    """Timeouts in seconds; `null` switches one off."""

    total: Seconds | None = Field(_TIMEOUTS.total, description="For the whole request, with all attempts.")


class RouteTimeoutsSection(Part, TimeoutsSection):
    """Its own timeouts in seconds; `null` switches one off."""


class TargetTimeoutsSection(Part, _ClocksOfATarget):
    """Its own timeouts in seconds; `null` switches one off."""


class BreakerSection(Section):
    """When requests stop going to a target that fails, and for how long."""

    failures: Annotated[int, Field(strict=True, ge=1, le=1_000)] | None = Field(
        _BREAKER.failures,
        description="Failures within the window that open the breaker, in a row or as half of the attempts. "
        "`null`: it never opens.",
    )
    window: Seconds = Field(_BREAKER.window, description="Seconds in which failures are counted.")
    cooldown: Seconds = Field(_BREAKER.cooldown, description="Seconds for which no request goes to the target.")
    probes: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(
        _BREAKER.probes, description="Attempts at the same time that test whether the target works again."
    )


class OwnBreakerSection(Part, BreakerSection):
    """When requests stop going to such a target, and for how long."""


class RetryBudgetSection(Section):
    """How many retries may be sent to a provider in a minute."""

    share: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = Field(
        _RETRY_BUDGET.share, description="As a share of its requests; `null`: no limit."
    )
    floor: Annotated[int, Field(strict=True, ge=0, le=10_000)] = Field(
        _RETRY_BUDGET.floor, description="Retries that are always allowed, in addition to the share."
    )


class OwnRetryBudgetSection(Part, RetryBudgetSection):
    """How many retries may be sent to this provider in a minute."""


class _OfEveryLevel(Section):
    max_retries: Annotated[int, Field(strict=True, ge=0, le=10)] = Field(
        _RESILIENCE.max_retries, description="Retries of one target."
    )
    backoff: Wait = Field(
        _RESILIENCE.backoff,
        description="The longest wait before the first retry, in seconds. It doubles with each retry.",
    )
    max_backoff: Wait = Field(_RESILIENCE.max_backoff, description="The longest wait before any retry, in seconds.")
    max_retry_after: Wait = Field(
        _RESILIENCE.max_retry_after,
        description="Seconds. If a vendor asks for a longer wait, the next target is tried at once.",
    )
    continuation: Annotated[str, AfterValidator(texts.continuation)] | None = Field(
        None,
        description="The user turn that asks for the rest of a broken answer; `{anchor}` stands for its last words.",
    )


class _OfARequest(_OfEveryLevel):
    fallback_enabled: Bool = Field(
        _RESILIENCE.fallback_enabled, description="Whether the next target is tried when one fails."
    )
    on_break: OnBreak = Field(
        _RESILIENCE.on_break, description="What happens when a stream breaks after its reader has received text."
    )
    on_unproven: OnUnproven = Field(
        _RESILIENCE.on_unproven,
        description="What happens with a continuation that does not show where it goes on from. `next`: it stays "
        "unseen, and the next target is asked; `show`: it is shown if the delivered text ends at a boundary.",
    )


class _OfATarget(_OfEveryLevel):
    durability: Durability = Field(
        _RESILIENCE.durability,
        description="`reattachable`: a vendor that can keep a run is asked to, so that a broken stream is read on.",
    )


class ResilienceSection(_OfARequest, _OfATarget):
    """Retries, switches and timeouts before a request fails."""

    timeouts: TimeoutsSection = Field(default_factory=empty(TimeoutsSection))
    breaker: BreakerSection = Field(default_factory=empty(BreakerSection))
    retry_budget: RetryBudgetSection = Field(default_factory=empty(RetryBudgetSection))


class RouteResilienceSection(Part, _OfARequest):
    """What the requests of this route have instead of the settings in `resilience`."""

    timeouts: RouteTimeoutsSection = Field(default_factory=empty(RouteTimeoutsSection))
    breaker: OwnBreakerSection = Field(default_factory=empty(OwnBreakerSection))


class ModelResilienceSection(Part, _OfATarget):
    """What requests to this model have instead of the settings of its provider, of the route and in `resilience`."""

    timeouts: TargetTimeoutsSection = Field(default_factory=empty(TargetTimeoutsSection))
    breaker: OwnBreakerSection = Field(default_factory=empty(OwnBreakerSection))


class ProviderResilienceSection(ModelResilienceSection):
    """What requests to this provider have instead of the settings of the route and in `resilience`."""

    retry_budget: OwnRetryBudgetSection = Field(default_factory=empty(OwnRetryBudgetSection))
