"""The shape of the configuration: every key, its type and its bounds.

Defaults are those of the frozen values in `policy.py`, so that each is written once.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .._policy import (
    Api,
    BreakerSettings,
    BudgetSettings,
    CacheSettings,
    Continues,
    OnBreak,
    OnLimit,
    Resilience,
    RetryBudgetSettings,
    Strategy,
    Timeouts,
    Weights,
)
from .._vendors.table import VENDORS
from ..tasks import TaskType
from . import text_types as texts

T = TypeVar("T")

_TIMEOUTS: Final = Timeouts()
_RESILIENCE: Final = Resilience()
_CACHE: Final = CacheSettings()
_BREAKER: Final = BreakerSettings()
_RETRY_BUDGET: Final = RetryBudgetSettings()
_WEIGHTS: Final = Weights()
_BUDGETS: Final = BudgetSettings()


class Section(BaseModel):
    """A mapping with known keys. One that is left empty (`resilience:` and nothing below it) takes its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_empty(cls, value: object) -> object:
        return {} if value is None else value


def _nothing_is_empty(value: object) -> object:
    return {} if value is None else value


Truth: TypeAlias = Annotated[bool, Field(strict=True)]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=10**12)]
Dollars: TypeAlias = Annotated[float, Field(strict=True, ge=0, le=1_000_000, allow_inf_nan=False)]
Share: TypeAlias = Annotated[float, Field(strict=True, ge=0, le=1_000_000, allow_inf_nan=False)]
Text: TypeAlias = Annotated[str, Field(min_length=1)]
Name: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(texts.printable)]
Seconds: TypeAlias = Annotated[float, Field(strict=True, gt=0, le=86_400, allow_inf_nan=False)]
Wait: TypeAlias = Annotated[float, Field(strict=True, ge=0, le=3_600, allow_inf_nan=False)]
Maybe: TypeAlias = Annotated[T, BeforeValidator(_nothing_is_empty)]
"""A mapping that may be left empty."""


def _list_or_mapping(value: object) -> str | None:
    return "list" if isinstance(value, list) else "mapping" if isinstance(value, (dict, Section)) else None


_EITHER: Final = Discriminator(
    _list_or_mapping,
    custom_error_type="list_or_mapping",
    custom_error_message="a list or a mapping",
)


class LimitsSection(Section):
    """How much may be asked."""

    requests_per_minute: Count | None = Field(None, description="Attempts, each one counted.")
    tokens_per_minute: Count | None = Field(None, description="Input and output together.")
    concurrent_streams: Count | None = Field(None, description="Under way at a time.")
    on_limit: OnLimit = Field("switch", description="Whether a request waits, or goes elsewhere if it can.")


class ModelSection(Section):
    """What is said of one model."""

    alias: Name | None = Field(None, description="The name that the vendor knows the model by.")
    enabled: Truth = Field(True, description="Whether requests may go there.")
    limits: LimitsSection | None = Field(None, description="How much may be asked of it.")


Models: TypeAlias = Annotated[
    Annotated[list[Name], Tag("list")] | Annotated[dict[Name, ModelSection], Tag("mapping")], _EITHER
]


class ProviderSection(Section):
    """One vendor, or one more account with it."""

    kind: Text | None = Field(
        None,
        description="Whose wire it speaks; by default the provider's name. Packages may bring further kinds.",
        json_schema_extra={"anyOf": [{"enum": list(VENDORS)}, {"type": "string", "minLength": 1}, {"type": "null"}]},
    )
    api_key: SecretStr | None = Field(None, description="By default the vendor's usual variable.")
    base_url: Annotated[str, AfterValidator(texts.base_url)] | None = Field(
        None, description="Where the vendor is, if not at its usual address."
    )
    headers: Maybe[
        dict[Annotated[str, AfterValidator(texts.header_name)], Annotated[str, AfterValidator(texts.header_value)]]
    ] = Field({}, description="Sent with every request.")
    models: Models | None = Field(None, description="In order of preference; the first is the default.")
    api: Api | None = Field(None, description="Which of OpenAI's two interfaces is spoken.")
    options: Maybe[dict[str, Any]] = Field({}, description="What only this kind of vendor understands.")
    enabled: Truth = Field(True, description="Whether requests may go there.")
    limits: LimitsSection | None = Field(None, description="How much may be asked of all its models together.")


TargetName: TypeAlias = Annotated[str, AfterValidator(texts.target)]
TargetNames: TypeAlias = Annotated[list[TargetName], Field(min_length=1)]


class WeightsSection(Section):
    """How much each thing matters to the strategy `balanced`, in relation to the others."""

    cost: Share = Field(_WEIGHTS.cost, description="What a request is expected to cost.")
    speed: Share = Field(_WEIGHTS.speed, description="When the answer is expected to be whole.")
    quality: Share = Field(_WEIGHTS.quality, description="The figures under `catalog`.")

    @model_validator(mode="after")
    def _something_matters(self) -> Self:
        if not self.cost + self.speed + self.quality:
            raise PydanticCustomError("no_weight", "must have one weight that is more than 0")
        return self


class RouteSection(Section):
    """Targets, written `provider/model`, and how one of them is chosen."""

    targets: TargetNames = Field(description="In order; `body` is the function's own body.")
    strategy: Strategy | None = Field(None, description="By default routing.optimization_strategy.")
    max_cost: Dollars | None = Field(None, description="US dollars a request may cost.")
    max_latency: Seconds | None = Field(None, description="Seconds to the first token; slower targets come last.")
    weights: WeightsSection = Field(
        default_factory=lambda: WeightsSection.model_validate({}), description="For the strategy balanced."
    )
    split: Maybe[dict[TargetName, Share]] = Field({}, description="For the strategy weighted: each target's share.")
    sticky: Text | None = Field(
        None, description="The metadata key that decides where a request has no `sticky` of its own."
    )

    @model_validator(mode="after")
    def _split_is_of_targets(self) -> Self:
        if self.strategy == "weighted" and not any(self.split.values()):
            raise PydanticCustomError(
                "no_split", "the strategy weighted needs a split with a share that is more than 0"
            )
        for target in self.split:
            if target not in self.targets:
                raise PydanticCustomError(
                    "split_target", "splits to {target}, which is none of its targets", {"target": repr(target)}
                )
        return self


RouteShape: TypeAlias = Annotated[
    Annotated[TargetNames, Tag("list")] | Annotated[RouteSection, Tag("mapping")], _EITHER
]


class RoutingSection(Section):
    """Which targets serve which task, in order."""

    default: RouteShape | None = Field(None, description="By default every listed model of every provider.")
    tasks: Maybe[dict[TaskType, RouteShape]] = Field({}, description="Tasks with a route of their own.")
    optimization_strategy: Strategy = Field("ordered", description="For routes without a strategy of their own.")
    max_cost: Dollars | None = Field(None, description="US dollars, for routes without one of their own.")
    max_latency: Seconds | None = Field(None, description="Seconds, for routes without one of their own.")


class CorrectionSection(Section):
    """What is true of a model, over what the catalog says or does not know."""

    text: Truth | None = Field(None, description="Whether it gives text.")
    vision: Truth | None = Field(None, description="Whether it takes images.")
    audio: Truth | None = Field(None, description="Whether it takes sounds.")
    transcription: Truth | None = Field(
        None, description="Whether it turns speech into text. A model that does nothing else is not asked yet."
    )
    tools: Truth | None = Field(None, description="Whether it calls tools.")
    structured_output: Truth | None = Field(None, description="Whether it follows a JSON schema.")
    reasoning: Truth | None = Field(None, description="Whether it thinks before it answers.")
    continues: Continues | None = Field(None, description="How it goes on with an answer that another had begun.")
    context_window: Annotated[int, Field(strict=True, ge=1)] | None = Field(None, description="Tokens.")
    input_price: Dollars | None = Field(None, description="US dollars a million tokens.")
    output_price: Dollars | None = Field(None, description="US dollars a million tokens.")
    quality: Maybe[dict[TaskType, Share]] | None = Field(
        None, description="Your own figures by task, for the strategies quality and balanced; more is better."
    )


class AmountsSection(Section):
    """US dollars that may be spent."""

    daily: Dollars | None = Field(None, description="A day, from midnight.")
    monthly: Dollars | None = Field(None, description="A month, from its first day.")


class BudgetsSection(AmountsSection):
    """Budgets of all requests together, and of namespaces."""

    namespaces: Maybe[dict[Name, AmountsSection]] = Field({}, description="By the request's namespace.")
    time_zone: Annotated[str, AfterValidator(texts.time_zone)] = Field(
        _BUDGETS.time_zone, description="Whose days and months they are."
    )
    alert_at: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        _BUDGETS.alert_at, description="The share of a budget at which an alert is given."
    )
    path: Text | None = Field(None, description="An SQLite file that keeps what was spent.")


class TimeoutsSection(Section):
    """Seconds; null switches a clock off."""

    connect: Seconds | None = Field(_TIMEOUTS.connect, description="Until the vendor is connected.")
    first_token: Seconds | None = Field(
        _TIMEOUTS.first_token, description="Until an attempt's first content; keep-alives do not count."
    )
    idle: Seconds | None = Field(_TIMEOUTS.idle, description="Between two pieces of content.")
    total: Seconds | None = Field(_TIMEOUTS.total, description="For the whole request, all attempts together.")


class BreakerSection(Section):
    """When a target that fails is left alone, and for how long."""

    failures: Annotated[int, Field(strict=True, ge=1, le=1_000)] | None = Field(
        _BREAKER.failures, description="Within the window, in a row or half of its attempts; null: never."
    )
    window: Seconds = Field(_BREAKER.window, description="Seconds in which failures are counted.")
    cooldown: Seconds = Field(_BREAKER.cooldown, description="Seconds for which it is left alone.")
    probes: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(
        _BREAKER.probes, description="Attempts at a time that find out whether it is well again."
    )


class RetryBudgetSection(Section):
    """How much of a provider's load may be retries, in each minute."""

    share: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = Field(
        _RETRY_BUDGET.share, description="Of its requests; null: any."
    )
    floor: Annotated[int, Field(strict=True, ge=0, le=10_000)] = Field(
        _RETRY_BUDGET.floor, description="So many more, however few its requests are."
    )


class ResilienceSection(Section):
    """How much trouble is taken before a request fails."""

    max_retries: Annotated[int, Field(strict=True, ge=0, le=10)] = Field(
        _RESILIENCE.max_retries, description="Further tries of one target."
    )
    fallback_enabled: Annotated[bool, Field(strict=True)] = Field(
        _RESILIENCE.fallback_enabled, description="Whether the next target is asked when one fails."
    )
    on_break: OnBreak = Field(
        _RESILIENCE.on_break, description="When a stream breaks after its reader has seen text of it."
    )
    backoff: Wait = Field(_RESILIENCE.backoff, description="Seconds before the first retry at most; then twice that …")
    max_backoff: Wait = Field(_RESILIENCE.max_backoff, description="… up to this.")
    max_retry_after: Wait = Field(
        _RESILIENCE.max_retry_after,
        description="When a vendor asks for a longer wait than these seconds, the next target is asked.",
    )
    continuation: Annotated[str, AfterValidator(texts.wording)] | None = Field(
        None, description="The user turn that asks for the rest of a broken answer; {anchor} stands for its last words."
    )
    timeouts: TimeoutsSection = Field(default_factory=lambda: TimeoutsSection.model_validate({}))
    breaker: BreakerSection = Field(default_factory=lambda: BreakerSection.model_validate({}))
    retry_budget: RetryBudgetSection = Field(default_factory=lambda: RetryBudgetSection.model_validate({}))


class CacheSection(Section):
    """A cache for all calls that name none. `cache:` with nothing below it is one with these defaults."""

    similarity_threshold: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] = Field(
        _CACHE.similarity_threshold, description="1.0: the same text, but for the manner of typing."
    )
    max_cache_size: Count = Field(_CACHE.max_cache_size, description="Entries.")
    max_bytes: Count = Field(_CACHE.max_bytes, description="Of all entries, with what they are found by.")
    ttl: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        _CACHE.ttl, description="Seconds; null: for ever."
    )
    store: Text = Field(_CACHE.store, description="memory, or the path of a SQLite file.")
    namespace: str = Field(_CACHE.namespace, description="Whose answers these are; no other namespace gets them.")
    replay: Literal["instant"] | Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = Field(
        _CACHE.replay, description="instant, or characters a second."
    )


class Settings(Section):
    """llm_dispatcher.yaml"""

    providers: Maybe[dict[Annotated[str, AfterValidator(texts.provider_name)], ProviderSection]] = Field(
        {}, description="Who can be asked, by names of yours."
    )
    routing: RoutingSection = Field(
        default_factory=lambda: RoutingSection.model_validate({}),
        description="Which models serve which task, in order.",
    )
    catalog: Maybe[dict[TargetName, CorrectionSection]] = Field({}, description="By provider/model.")
    budgets: BudgetsSection = Field(
        default_factory=lambda: BudgetsSection.model_validate({}), description="US dollars that may be spent."
    )
    cache: Maybe[CacheSection | None] = Field(None, description="Without it there is none, but what a call names.")
    resilience: ResilienceSection = Field(
        default_factory=lambda: ResilienceSection.model_validate({}), description="What is done before a request fails."
    )
