"""The configuration as the rest of the house sees it: frozen values, checked when they were read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from ._catalog import Correction
from .provider import ProviderSettings
from .tasks import Target, TaskType

OnBreak: TypeAlias = Literal["continue", "restart", "raise"]
Strategy: TypeAlias = Literal["ordered", "cost", "speed", "quality", "balanced", "weighted"]

OFFLINE: Final = "LLM_DISPATCHER_OFFLINE"
"""Set to 1, every request goes to its decorated body and nothing leaves the machine."""


def is_offline(environ: Mapping[str, str]) -> bool:
    """Whether nothing may leave the machine."""
    return environ.get(OFFLINE, "").strip().lower() in ("1", "true", "yes", "on")


class Timeouts(Struct, frozen=True):
    """Seconds, each with a clock of its own; `None` switches one off."""

    connect: float | None = 10.0
    first_token: float | None = 30.0
    idle: float | None = 20.0
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
    """How much trouble is taken before a request fails.

    `max_retries` counts further tries of one target. Waits between tries grow from `backoff` seconds to
    `max_backoff` with full jitter; a vendor's `Retry-After` is honoured up to `max_retry_after`, beyond it the next
    target is asked. `continuation` is the user turn that asks for the rest of a broken answer, in words of the
    operator's own; `{anchor}` in it stands for the last words that were delivered.
    """

    max_retries: int = 2
    fallback_enabled: bool = True
    on_break: OnBreak = "continue"
    timeouts: Timeouts = Timeouts()
    backoff: float = 0.25
    max_backoff: float = 8.0
    max_retry_after: float = 20.0
    continuation: str | None = None
    breaker: BreakerSettings = BreakerSettings()
    retry_budget: RetryBudgetSettings = RetryBudgetSettings()


class Weights(Struct, frozen=True):
    """How much each thing matters to the strategy `balanced`, in relation to the others."""

    cost: float = 1.0
    speed: float = 1.0
    quality: float = 1.0


class Route(Struct, frozen=True):
    """Where the requests of a task go. The provider `body` stands for the decorated function's own body.

    `max_cost` is in US dollars a request, `max_latency` in seconds to the first token. The strategy `weighted` asks
    each target first for its share in `split`. Requests with the same sticky key go to the same target: the request's
    own `sticky`, or else what its metadata has under the name in the route's `sticky`.
    """

    targets: tuple[Target, ...]
    strategy: Strategy = "ordered"
    max_cost: float | None = None
    max_latency: float | None = None
    weights: Weights = Weights()
    split: Mapping[Target, float] = {}
    sticky: str | None = None


class Amounts(Struct, frozen=True):
    """US dollars that may be spent in a day and in a month; `None` sets no bound."""

    daily: float | None = None
    monthly: float | None = None


class BudgetSettings(Amounts, frozen=True):
    """Budgets of all requests together, and of those of a `namespace`.

    Days and months are those of `time_zone`. An alert is given when the share `alert_at` of a budget is spent. What was
    spent is kept in the file `path`; without one, it is forgotten with the process.
    """

    namespaces: Mapping[str, Amounts] = {}
    time_zone: str = "UTC"
    alert_at: float = 0.8
    path: str | None = None

    @property
    def are_set(self) -> bool:
        """Whether there is any budget at all."""
        return any(each.daily is not None or each.monthly is not None for each in (self, *self.namespaces.values()))


class CacheSettings(Struct, frozen=True):
    """A cache for all calls that name none. `store` is `memory` or the path of a SQLite file, `ttl` is in seconds
    (`None`: for ever), `replay` is `instant` or characters a second.
    """

    similarity_threshold: float = 0.95
    max_cache_size: int = 100
    max_bytes: int = 64_000_000
    ttl: float | None = 86_400.0
    store: str = "memory"
    namespace: str = ""
    replay: Literal["instant"] | float = "instant"


class Policy(Struct, frozen=True):
    """One whole configuration. `source` is the file that it was read from, if any; a file that nobody named, but which
    was found in the working folder, `is_found`.
    """

    providers: Mapping[str, ProviderSettings]
    default: Route
    tasks: Mapping[TaskType, Route] = {}
    resilience: Resilience = Resilience()
    catalog: Mapping[Target, Correction] = {}
    budgets: BudgetSettings = BudgetSettings()
    cache: CacheSettings | None = None
    source: str | None = None
    is_found: bool = False

    def route(self, task_type: TaskType) -> Route:
        return self.tasks.get(task_type, self.default)
