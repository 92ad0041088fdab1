"""The sections `resilience:`: the whole one, and those of a provider, a model and a route, which change a part of it.

What a level cannot have is missing in its section; `validation` says why. A key that is left out keeps the value of the
level above, so only the keys that are set count there.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from pydantic import AfterValidator, Field

from .._policy import BreakerSettings, Durability, OnBreak, OnUnproven, Resilience, RetryBudgetSettings, Timeouts
from . import text_types as texts
from .section import Bool, Seconds, Section, Wait

_TIMEOUTS: Final = Timeouts()
_RESILIENCE: Final = Resilience()
_BREAKER: Final = BreakerSettings()
_RETRY_BUDGET: Final = RetryBudgetSettings()

_ABOVE: Final[Any] = None
"""The default of a key that keeps the value of the level above. Such a key is not among those that are set."""


class FlowSection(Section):
    """The least speed of an answer, once it has begun."""

    characters: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = Field(
        description="Characters of text, reasoning and tool arguments together."
    )
    seconds: Seconds = Field(description="Seconds within which the next so many characters have to come.")


Connect: TypeAlias = Annotated[Seconds | None, Field(description="To the connection with the vendor.")]
FirstToken: TypeAlias = Annotated[
    Seconds | None,
    Field(description="To the first content of an attempt; keep-alive messages do not count."),
]
Idle: TypeAlias = Annotated[Seconds | None, Field(description="Between two pieces of content.")]
SlowestFlow: TypeAlias = Annotated[
    FlowSection | None,
    Field(description="The least speed of an answer; a slower one is continued by another attempt. By default none."),
]
Total: TypeAlias = Annotated[Seconds | None, Field(description="For the whole request, with all attempts.")]


class TimeoutsSection(Section):
    """Timeouts in seconds; `null` switches one off."""

    connect: Connect = _TIMEOUTS.connect
    first_token: FirstToken = _TIMEOUTS.first_token
    idle: Idle = _TIMEOUTS.idle
    flow: SlowestFlow = None
    total: Total = _TIMEOUTS.total


class TargetTimeoutsSection(Section):
    """Its own timeouts in seconds; `null` switches one off."""

    connect: Connect = _ABOVE
    first_token: FirstToken = _ABOVE
    idle: Idle = _ABOVE
    flow: SlowestFlow = _ABOVE


class RouteTimeoutsSection(TargetTimeoutsSection):
    """Its own timeouts in seconds; `null` switches one off."""

    total: Total = _ABOVE


Failures: TypeAlias = Annotated[
    Annotated[int, Field(strict=True, ge=1, le=1_000)] | None,
    Field(
        description="Failures within the window that open the breaker, in a row or as half of the attempts. "
        "`null`: it never opens."
    ),
]
Window: TypeAlias = Annotated[Seconds, Field(description="Seconds in which failures are counted.")]
Cooldown: TypeAlias = Annotated[Seconds, Field(description="Seconds for which no request goes to the target.")]
Probes: TypeAlias = Annotated[
    int,
    Field(strict=True, ge=1, le=100, description="Attempts at the same time that test whether the target works again."),
]


class BreakerSection(Section):
    """When requests stop going to a target that fails, and for how long."""

    failures: Failures = _BREAKER.failures
    window: Window = _BREAKER.window
    cooldown: Cooldown = _BREAKER.cooldown
    probes: Probes = _BREAKER.probes


class TargetBreakerSection(Section):
    """When requests stop going to such a target, and for how long."""

    failures: Failures = _ABOVE
    window: Window = _ABOVE
    cooldown: Cooldown = _ABOVE
    probes: Probes = _ABOVE


RetryShare: TypeAlias = Annotated[
    Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None,
    Field(description="As a share of its requests; `null`: no limit."),
]
RetryFloor: TypeAlias = Annotated[
    int,
    Field(strict=True, ge=0, le=10_000, description="Retries that are always allowed, in addition to the share."),
]


class RetryBudgetSection(Section):
    """How many retries may be sent to a provider in a minute."""

    share: RetryShare = _RETRY_BUDGET.share
    floor: RetryFloor = _RETRY_BUDGET.floor


class ProviderRetryBudgetSection(Section):
    """How many retries may be sent to this provider in a minute."""

    share: RetryShare = _ABOVE
    floor: RetryFloor = _ABOVE


MaxRetries: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=10, description="Retries of one target.")]
FallbackEnabled: TypeAlias = Annotated[Bool, Field(description="Whether the next target is tried when one fails.")]
Break: TypeAlias = Annotated[
    OnBreak, Field(description="What happens when a stream breaks after its reader has received text.")
]
Unproven: TypeAlias = Annotated[
    OnUnproven,
    Field(
        description="What happens with a continuation that does not show where it goes on from. `next`: it stays "
        "unseen, and the next target is asked; `show`: it is shown if the delivered text ends at a boundary."
    ),
]
Durable: TypeAlias = Annotated[
    Durability,
    Field(description="`reattachable`: a vendor that can keep a run is asked to, so that a broken stream is read on."),
]
Backoff: TypeAlias = Annotated[
    Wait, Field(description="The longest wait before the first retry, in seconds. It doubles with each retry.")
]
MaxBackoff: TypeAlias = Annotated[Wait, Field(description="The longest wait before any retry, in seconds.")]
MaxRetryAfter: TypeAlias = Annotated[
    Wait, Field(description="Seconds. If a vendor asks for a longer wait, the next target is tried at once.")
]
Continuation: TypeAlias = Annotated[
    Annotated[str, AfterValidator(texts.continuation)] | None,
    Field(description="The user turn that asks for the rest of a broken answer; `{anchor}` stands for its last words."),
]


class ResilienceSection(Section):
    """Retries, switches and timeouts before a request fails."""

    max_retries: MaxRetries = _RESILIENCE.max_retries
    fallback_enabled: FallbackEnabled = _RESILIENCE.fallback_enabled
    on_break: Break = _RESILIENCE.on_break
    on_unproven: Unproven = _RESILIENCE.on_unproven
    durability: Durable = _RESILIENCE.durability
    backoff: Backoff = _RESILIENCE.backoff
    max_backoff: MaxBackoff = _RESILIENCE.max_backoff
    max_retry_after: MaxRetryAfter = _RESILIENCE.max_retry_after
    continuation: Continuation = None
    timeouts: TimeoutsSection = Field(default_factory=lambda: TimeoutsSection.model_validate({}))
    breaker: BreakerSection = Field(default_factory=lambda: BreakerSection.model_validate({}))
    retry_budget: RetryBudgetSection = Field(default_factory=lambda: RetryBudgetSection.model_validate({}))


class RouteResilienceSection(Section):
    """What the requests of this route have instead of the settings in `resilience`."""

    max_retries: MaxRetries = _ABOVE
    fallback_enabled: FallbackEnabled = _ABOVE
    on_break: Break = _ABOVE
    on_unproven: Unproven = _ABOVE
    backoff: Backoff = _ABOVE
    max_backoff: MaxBackoff = _ABOVE
    max_retry_after: MaxRetryAfter = _ABOVE
    continuation: Continuation = _ABOVE
    timeouts: RouteTimeoutsSection = _ABOVE
    breaker: TargetBreakerSection = _ABOVE


class ModelResilienceSection(Section):
    """What requests to this model have instead of the settings of its provider, of the route and in `resilience`."""

    max_retries: MaxRetries = _ABOVE
    durability: Durable = _ABOVE
    backoff: Backoff = _ABOVE
    max_backoff: MaxBackoff = _ABOVE
    max_retry_after: MaxRetryAfter = _ABOVE
    continuation: Continuation = _ABOVE
    timeouts: TargetTimeoutsSection = _ABOVE
    breaker: TargetBreakerSection = _ABOVE


class ProviderResilienceSection(ModelResilienceSection):
    """What requests to this provider have instead of the settings of the route and in `resilience`."""

    retry_budget: ProviderRetryBudgetSection = _ABOVE
