"""The settings as pydantic models: every key, its type, its bounds and its description.

The defaults are those of the frozen values in `_policy.py` and `_resilience.py`, so each one is written once. The
descriptions become docs/configuration.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, SecretStr, Tag, model_validator
from pydantic_core import PydanticCustomError

from .._policy import (
    AffinityScope,
    Api,
    BudgetSettings,
    CacheSettings,
    Continues,
    OnLimit,
    OnRefusal,
    Strategy,
    Weights,
)
from .._vendors.table import VENDORS
from ..tasks import TaskType
from . import text_types as texts
from .resilience import ModelResilienceSection, ProviderResilienceSection, ResilienceSection, RouteResilienceSection
from .section import Bool, Count, Dollars, Name, OrEmpty, Seconds, Section, Share, Text, empty

_CACHE: Final = CacheSettings()
_WEIGHTS: Final = Weights()
_BUDGETS: Final = BudgetSettings()


def _list_or_mapping(value: object) -> str | None:
    return "list" if isinstance(value, list) else "mapping" if isinstance(value, (dict, Section)) else None


_LIST_OR_MAPPING: Final = Discriminator(
    _list_or_mapping,
    custom_error_type="list_or_mapping",
    custom_error_message="a list or a mapping",
)


class LimitsSection(Section):
    """Limits of the requests that are sent."""

    requests_per_minute: Count | None = Field(None, description="Every attempt counts.")
    tokens_per_minute: Count | None = Field(None, description="Input and output tokens together.")
    concurrent_streams: Count | None = Field(None, description="Streams that are open at the same time.")
    on_limit: OnLimit = Field(
        "switch", description="`switch`: a request that would exceed a limit goes to the next target; `wait`: it waits."
    )


class ModelSection(Section):
    """Settings of one model."""

    alias: Name | None = Field(None, description="The vendor's name of the model.")
    enabled: Bool = Field(True, description="Whether requests may be sent to it.")
    limits: LimitsSection | None = Field(None, description="Limits of this model.")
    resilience: ModelResilienceSection | None = Field(None, description="Retries, timeouts and breaker of its own.")


Models: TypeAlias = Annotated[
    Annotated[list[Name], Tag("list")] | Annotated[dict[Name, ModelSection], Tag("mapping")], _LIST_OR_MAPPING
]


class ProviderSection(Section):
    """One vendor, or another account with the same vendor."""

    kind: Text | None = Field(
        None,
        description="The vendor whose API it has; by default the provider's name. Other packages can add kinds.",
        json_schema_extra={"anyOf": [{"enum": list(VENDORS)}, {"type": "string", "minLength": 1}, {"type": "null"}]},
    )
    api_key: SecretStr | None = Field(None, description="By default the value of the vendor's environment variable.")
    base_url: Annotated[str, AfterValidator(texts.base_url)] | None = Field(
        None, description="The address of the API, if it is not the vendor's own."
    )
    headers: OrEmpty[
        dict[Annotated[str, AfterValidator(texts.header_name)], Annotated[str, AfterValidator(texts.header_value)]]
    ] = Field({}, description="HTTP headers that are sent with every request.")
    models: Models | None = Field(None, description="The models, in order of preference; the first is the default.")
    api: Api | None = Field(None, description="Which of OpenAI's two APIs is used.")
    options: OrEmpty[dict[str, Any]] = Field({}, description="Settings that only this kind of vendor has.")
    enabled: Bool = Field(True, description="Whether requests may be sent to it.")
    limits: LimitsSection | None = Field(None, description="Limits of all its models together.")
    resilience: ProviderResilienceSection | None = Field(
        None, description="Retries, timeouts and breakers of its own; a model's win over them."
    )


AffinitySetting: TypeAlias = Annotated[AffinityScope, BeforeValidator(lambda value: "off" if value is False else value)]
"""In YAML, `off` without quotes is the value `false`."""

TargetName: TypeAlias = Annotated[str, AfterValidator(texts.target)]
TargetNames: TypeAlias = Annotated[list[TargetName], Field(min_length=1)]


class WeightsSection(Section):
    """How much each criterion counts for the strategy `balanced`, relative to the others."""

    cost: Share = Field(_WEIGHTS.cost, description="The expected cost of a request.")
    speed: Share = Field(_WEIGHTS.speed, description="The expected time to the end of the answer.")
    quality: Share = Field(_WEIGHTS.quality, description="The figures in `catalog.….quality`.")

    @model_validator(mode="after")
    def _one_weight_is_positive(self) -> Self:
        if not self.cost + self.speed + self.quality:
            raise PydanticCustomError("no_weight", "must have one weight that is more than 0")
        return self


class RouteSection(Section):
    """Targets, written `provider/model`, and the rules that order them."""

    targets: TargetNames = Field(description="The targets in order; `body` is the function's own body.")
    strategy: Strategy | None = Field(None, description="By default `routing.optimization_strategy`.")
    max_cost: Dollars | None = Field(None, description="US dollars that a request may cost.")
    max_latency: Seconds | None = Field(None, description="Seconds to the first token; slower targets are tried last.")
    weights: WeightsSection = Field(default_factory=empty(WeightsSection), description="For the strategy `balanced`.")
    split: OrEmpty[dict[TargetName, Share]] = Field({}, description="For the strategy `weighted`: each target's share.")
    sticky: Text | None = Field(
        None, description="The metadata key whose value is used as `sticky` if a request has none."
    )
    on_refusal: OnRefusal | None = Field(None, description="By default `routing.on_refusal`.")
    affinity: AffinitySetting | None = Field(None, description="By default `routing.affinity`.")
    resilience: RouteResilienceSection | None = Field(
        None, description="Retries and timeouts of its own; those of a provider and a model win over them."
    )

    @model_validator(mode="after")
    def _split_names_targets(self) -> Self:
        if self.strategy == "weighted" and not any(self.split.values()):
            raise PydanticCustomError(
                "no_split", "the strategy weighted needs a split with a share that is more than 0"
            )
        for target in self.split:
            if target not in self.targets:
                raise PydanticCustomError(
                    "split_target", "splits to {target}, which is not one of its targets", {"target": repr(target)}
                )
        return self


RouteShape: TypeAlias = Annotated[
    Annotated[TargetNames, Tag("list")] | Annotated[RouteSection, Tag("mapping")], _LIST_OR_MAPPING
]


class RoutingSection(Section):
    """The targets for each task, in order."""

    default: RouteShape | None = Field(
        None, description="The route of all other tasks. By default it has every listed model of every provider."
    )
    tasks: OrEmpty[dict[TaskType, RouteShape]] = Field({}, description="Routes of single tasks.")
    optimization_strategy: Strategy = Field(
        "ordered", description="The strategy of routes that have none of their own."
    )
    max_cost: Dollars | None = Field(
        None, description="US dollars that a request may cost, for routes that have no `max_cost` of their own."
    )
    max_latency: Seconds | None = Field(
        None, description="Seconds to the first token, for routes that have no `max_latency` of their own."
    )
    on_refusal: OnRefusal = Field(
        "stop",
        description="What happens when a model refuses to answer or a filter stops it, for routes that have no "
        "`on_refusal` of their own. `stop`: that is the answer; `next`: the next target is asked.",
    )
    affinity: AffinitySetting = Field(
        "conversation",
        description="Where a conversation goes on, for routes that have no `affinity` of their own. `conversation`: at "
        "the target that answered last, while it can serve; `off`: where the strategy says.",
    )


class CorrectionSection(Section):
    """Facts about a model. They win over the catalog's, and add to it."""

    text: Bool | None = Field(None, description="Whether it writes text.")
    vision: Bool | None = Field(None, description="Whether it accepts images.")
    audio: Bool | None = Field(None, description="Whether it accepts audio.")
    transcription: Bool | None = Field(
        None, description="Whether it transcribes speech. Requests are not sent yet to a model that does nothing else."
    )
    tools: Bool | None = Field(None, description="Whether it calls tools.")
    structured_output: Bool | None = Field(None, description="Whether it follows a JSON schema.")
    reasoning: Bool | None = Field(None, description="Whether it reasons before it answers.")
    continues: Continues | None = Field(None, description="How it continues an answer that another model has begun.")
    context_window: Annotated[int, Field(strict=True, ge=1)] | None = Field(None, description="Tokens.")
    input_price: Dollars | None = Field(None, description="US dollars per million tokens.")
    cached_input_price: Dollars | None = Field(
        None, description="US dollars per million tokens that are read from the vendor's prompt cache."
    )
    output_price: Dollars | None = Field(None, description="US dollars per million tokens.")
    quality: OrEmpty[dict[TaskType, Share]] | None = Field(
        None, description="Your own figures by task, for the strategies `quality` and `balanced`; higher is better."
    )


class AmountsSection(Section):
    """US dollars that may be spent."""

    daily: Dollars | None = Field(None, description="Per day, from midnight.")
    monthly: Dollars | None = Field(None, description="Per month, from its first day.")


class BudgetsSection(AmountsSection):
    """Budgets of all requests together, and of single namespaces."""

    namespaces: OrEmpty[dict[Name, AmountsSection]] = Field({}, description="Budgets by the namespace of a request.")
    time_zone: Annotated[str, AfterValidator(texts.time_zone)] = Field(
        _BUDGETS.time_zone, description="The time zone in which days and months begin."
    )
    alert_at: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        _BUDGETS.alert_at, description="The share of a budget at which an alert is sent."
    )
    path: Text | None = Field(None, description="An SQLite file that records the money spent.")


class CacheSection(Section):
    """A cache for all calls that name no cache of their own. An empty `cache:` has these defaults."""

    similarity_threshold: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] = Field(
        _CACHE.similarity_threshold,
        description="The least similarity of two prompts that share an answer. 1.0: the same text, "
        "whatever its case and spacing.",
    )
    max_cache_size: Count = Field(_CACHE.max_cache_size, description="Number of entries.")
    max_bytes: Count = Field(_CACHE.max_bytes, description="Size of all entries, with the data that finds them.")
    ttl: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        _CACHE.ttl, description="Seconds for which an entry is valid; `null`: no limit."
    )
    store: Text = Field(_CACHE.store, description="`memory`, or the path of an SQLite file.")
    namespace: str = Field(
        _CACHE.namespace, description="The namespace of the answers; requests of other namespaces do not get them."
    )
    replay: Literal["instant"] | Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = Field(
        _CACHE.replay, description="`instant`, or characters per second."
    )


class Settings(Section):
    """llm_dispatcher.yaml"""

    providers: OrEmpty[dict[Annotated[str, AfterValidator(texts.provider_name)], ProviderSection]] = Field(
        {}, description="The vendors, by names that you choose."
    )
    routing: RoutingSection = Field(
        default_factory=empty(RoutingSection),
        description="The models for each task, in order.",
    )
    catalog: OrEmpty[dict[TargetName, CorrectionSection]] = Field(
        {}, description="Facts about models, by `provider/model`."
    )
    budgets: BudgetsSection = Field(default_factory=empty(BudgetsSection), description="US dollars that may be spent.")
    cache: OrEmpty[CacheSection | None] = Field(
        None, description="The cache of calls that do not name another one. Without this section, they have no cache."
    )
    resilience: ResilienceSection = Field(
        default_factory=empty(ResilienceSection),
        description="Retries, timeouts, and what happens when a stream breaks.",
    )
