"""The configuration as frozen values. `_config` reads and checks it, and makes these values from it.

Other modules only read them. A changed configuration is a new `Policy`; no value here changes after it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from ._redaction import Secret, conceal_credentials, conceal_header, conceal_options
from ._resilience import Durability, Resilience, ResilienceOverride, overridden
from .tasks import Target, TaskType

Strategy: TypeAlias = Literal["ordered", "cost", "speed", "quality", "balanced", "weighted"]

Continues: TypeAlias = Literal["prefill", "anchored"]
"""How a model continues a broken answer: it continues an open assistant turn, or it is asked to begin with the last
words that were delivered.
"""

Api: TypeAlias = Literal["responses", "chat"]
OnLimit: TypeAlias = Literal["switch", "wait"]

OnRefusal: TypeAlias = Literal["stop", "next"]
"""What happens when a model refuses or a filter stops its answer: that is the answer, or the next target is asked."""

AffinityScope: TypeAlias = Literal["conversation", "off"]
"""Whether a conversation goes on at the target that answered last."""

BODY: Final = "body"
"""The provider name of the decorated function's own body."""

OFFLINE: Final = "LLM_DISPATCHER_OFFLINE"
"""Set to 1, every request goes to its decorated body and nothing leaves the machine."""


def is_offline(environ: Mapping[str, str]) -> bool:
    """Whether nothing may leave the machine."""
    return environ.get(OFFLINE, "").strip().lower() in ("1", "true", "yes", "on")


class Weights(Struct, frozen=True):
    """How much each thing matters to the strategy `balanced`, in relation to the others."""

    cost: float = 1.0
    speed: float = 1.0
    quality: float = 1.0


class Route(Struct, frozen=True):
    """The targets for the requests of a task. The provider `body` is the decorated function's own body.

    `max_cost` is in US dollars a request, `max_latency` in seconds to the first token. The strategy `weighted` asks
    each target first for its share in `split`. Requests with the same sticky key go to the same target. The key is
    the request's `sticky`, else the value in its metadata under the name in the route's `sticky`.
    """

    targets: tuple[Target, ...]
    strategy: Strategy = "ordered"
    max_cost: float | None = None
    max_latency: float | None = None
    weights: Weights = Weights()
    split: Mapping[Target, float] = {}
    sticky: str | None = None
    on_refusal: OnRefusal = "stop"
    affinity: AffinityScope = "conversation"
    resilience: ResilienceOverride | None = None


class Affinity(Struct, frozen=True):
    """Where a conversation is at home: the target that answered `last`, and how many tokens of the next prompt each
    target is expected to have in its prompt cache.
    """

    last: Target | None = None
    cached: Mapping[Target, int] = {}


class Wishes(Struct, frozen=True, kw_only=True):
    """The wishes of one call for its routing; `None` leaves a choice to the route.

    `affinity` is that of the conversation to which the call belongs, if it belongs to one.
    """

    strategy: Strategy | None = None
    max_cost: float | None = None
    max_latency: float | None = None
    fallback: bool = True
    affinity: Affinity | None = None


class Limits(Struct, frozen=True):
    """Rate limits; `None` is no limit. At a limit, `on_limit` makes a request wait or go to the next target."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_streams: int | None = None
    on_limit: OnLimit = "switch"


class ModelSettings(Struct, frozen=True):
    """The configuration of one model; `alias` is the name that the vendor knows it by."""

    alias: str | None = None
    enabled: bool = True
    limits: Limits | None = None
    resilience: ResilienceOverride | None = None


class ProviderSettings(Struct, frozen=True, kw_only=True):
    """One entry under `providers:`: `name` is its key there, `kind` says whose wire it speaks.

    `durability` is the policy's, or the entry's own if it has one.
    """

    name: str
    kind: str
    api_key: Secret | None = None
    base_url: str | None = None
    headers: Mapping[str, str] = {}
    models: Mapping[str, ModelSettings] = {}
    api: Api | None = None
    options: Mapping[str, Any] = {}
    enabled: bool = True
    limits: Limits | None = None
    resilience: ResilienceOverride | None = None
    durability: Durability = "live"

    def __post_init__(self) -> None:
        """Have secret headers, options and parts of the address removed from messages too, as the key is."""
        for name, value in self.headers.items():
            conceal_header(name, value)
        conceal_options(self.options)
        if self.base_url is not None:
            conceal_credentials(self.base_url)

    def is_enabled(self, model: str) -> bool:
        """Whether requests may go to a model."""
        settings = self.models.get(model)
        return self.enabled and (settings is None or settings.enabled)

    def durability_of(self, model: str) -> Durability:
        """Whether the vendor is asked to keep the runs of a model."""
        settings = self.models.get(model)
        own = None if settings is None else settings.resilience
        return self.durability if own is None or own.durability is UNSET else own.durability

    def vendor_model(self, model: str) -> str:
        """The vendor's own name for a model, aliases resolved."""
        settings = self.models.get(model)
        return (settings and settings.alias) or model

    def model_name(self, vendor_model: str) -> str:
        """The name that this entry has for a model of the vendor, or the vendor's own."""
        return next((name for name in self.models if self.vendor_model(name) == vendor_model), vendor_model)


class Correction(Struct, frozen=True, kw_only=True):
    """Facts about one model that the configuration sets. Those it leaves out stay as the catalog has them."""

    text: bool | UnsetType = UNSET
    vision: bool | UnsetType = UNSET
    audio: bool | UnsetType = UNSET
    transcription: bool | UnsetType = UNSET
    tools: bool | UnsetType = UNSET
    structured_output: bool | UnsetType = UNSET
    reasoning: bool | UnsetType = UNSET
    continues: Continues | UnsetType = UNSET
    context_window: int | UnsetType = UNSET
    input_price: float | UnsetType = UNSET
    cached_input_price: float | UnsetType = UNSET
    output_price: float | UnsetType = UNSET
    quality: Mapping[TaskType, float] | UnsetType = UNSET

    @property
    def has_prices(self) -> bool:
        """Whether it sets a price."""
        return any(each is not UNSET for each in (self.input_price, self.cached_input_price, self.output_price))


class Amounts(Struct, frozen=True):
    """US dollars that may be spent in a day and in a month; `None` sets no bound."""

    daily: float | None = None
    monthly: float | None = None


class BudgetSettings(Amounts, frozen=True):
    """Budgets of all requests together, and of those of a `namespace`.

    Days and months are those of `time_zone`. An alert is given when the share `alert_at` of a budget is spent. Spending
    is kept in the file `path`; without one, it is forgotten with the process.
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
    """One whole configuration. `source` is the file that it was read from, if any; `is_found` says that
    the user did not name the file: it was found in the working folder.
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

    def resilience_of(self, task_type: TaskType | None, target: Target | None) -> Resilience:
        """The resilience for requests of a task at a target. A model's settings win over its provider's, these over
        those of the task's route, and these over the policy's.

        Without a target, it is what holds for a whole request: `total`, `on_break`, `on_unproven` and
        `fallback_enabled` are read there only. Without a task, it is what holds for a target on all routes, as for
        the breaker that they share.
        """
        route = None if task_type is None else self.route(task_type).resilience
        provider = None if target is None else self.providers.get(target.provider)
        model = None if target is None or provider is None else provider.models.get(target.model)
        levels = (route, provider and provider.resilience, model and model.resilience)
        overrides = tuple([each for each in levels if each is not None])
        return overridden(self.resilience, overrides) if overrides else self.resilience
