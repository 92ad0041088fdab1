"""`Runtime`: a policy and the objects that were built from it.

A reload builds another runtime. A stream keeps the runtime that it began with until it ends. Health, limits, money and
open streams outlive a reload: they are in `Shared`, which all runtimes of a switch have in common.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from weakref import ref

from msgspec import UNSET, Struct
from msgspec.structs import asdict, replace

from .. import _catalog as catalog
from .. import _clock
from .._config import identity
from .._dispatch import OpenStreams, RetryStop, RetryWait, offered_rung
from .._policy import BODY, Policy, ProviderSettings, Wishes, is_offline
from .._providers import uses_an_sdk
from .._routing import (
    Admission,
    Conditions,
    Plan,
    RequestFacts,
    RouteBreakers,
    SharedState,
    candidates,
    demands,
    plan,
    route_of,
)
from .._usage import Usage
from .._vendors.entries import quirks_of
from .._vendors.quirks import Quirk
from ..exceptions import CacheError, ConfigurationError, InvalidRequestError
from ..notices import Notify
from ..provider import Provider
from ..tasks import NAMESPACE, Target, TaskRequest, TaskType, namespace_of
from .knowledge import Knowledge
from .runtimes import Runtimes
from .styles import MOST_REMEMBERED, Styles

if TYPE_CHECKING:
    from ..cache import StreamingCache


MakeProvider: TypeAlias = Callable[[ProviderSettings, Notify], Provider]
"""Makes a provider from its settings. The provider's notices go to the function."""


class Shared(Struct, frozen=True):
    """The state that all runtimes of one switch share. `no_prefill` is described in `Styles`."""

    traffic: SharedState
    knowledge: Knowledge
    open_streams: OpenStreams
    notify: Notify
    runtimes: Runtimes
    make_provider: MakeProvider
    no_prefill: dict[str, None]
    retry_wait: RetryWait | None = None
    retry_stop: RetryStop | None = None


class Runtime:
    """A policy and the objects that were built from it.

    A provider whose settings are the same as in the runtime `before` is kept, with its connections. The others of that
    runtime are released when their streams are over (`Runtimes`).
    """

    def __init__(self, policy: Policy, shared: Shared, before: Runtime | None = None) -> None:
        check_cache(policy)
        self.policy = policy
        self.shared = shared
        self.catalog = catalog_of(policy)
        self._identity = lru_cache(MOST_REMEMBERED)(partial(_identity, policy.providers))
        self.styles = Styles(partial(self.catalog.capabilities, load=False), self._identity, shared.no_prefill)
        former = {} if before is None else before.providers
        self.providers: dict[str, Provider] = {
            name: former[name]
            if name in former and former[name].settings == settings
            else shared.make_provider(settings, shared.notify)
            for name, settings in policy.providers.items()
        }
        self.open_streams = OpenStreams(shared.open_streams, partial(_release_unused, ref(self)))
        self._routing_keys = routing_keys(policy)
        self.cache_in_use: StreamingCache | None = None
        if before is not None and before.policy.cache == policy.cache:
            self.cache_in_use = before.cache_in_use

    @property
    def cache(self) -> StreamingCache | None:
        """The configured cache, which is used by calls that do not name another one."""
        if self.cache_in_use is None and self.policy.cache is not None:
            from ..cache import StreamingCache

            self.cache_in_use = StreamingCache(**asdict(self.policy.cache), notify=self.shared.notify)
        return self.cache_in_use

    def may_answer(self, request: TaskRequest, *, has_body: bool) -> tuple[Target, ...]:
        """Every target that may answer this request, whether it is healthy or not."""
        if is_offline(os.environ):
            return (Target(BODY, ""),)
        return tuple(target for target in candidates(request, self.policy) if has_body or target.provider != BODY)

    def without_schemas(self, request: TaskRequest) -> frozenset[Target]:
        """The targets of a request whose models are known not to follow a schema."""
        return frozenset(
            target
            for target in self.may_answer(request, has_body=False)
            if target.provider in self.providers
            and (can := self.catalog.capabilities(target, load=False)).known
            and not can.structured_output
        )

    def kinds(self, request: TaskRequest) -> tuple[str, ...]:
        """The kinds of the providers that use an SDK and may be asked for this request, in the order of its targets."""
        names = dict.fromkeys(target.provider for target in self.may_answer(request, has_body=False))
        asked = [self.providers[name] for name in names if name in self.providers]
        return tuple([provider.settings.kind for provider in asked if uses_an_sdk(provider)])

    def models(self, targets: tuple[Target, ...]) -> tuple[str, ...]:
        """The identity of each of these targets: see `identity`."""
        return tuple(map(self._identity, targets))

    def plan(
        self,
        request: TaskRequest,
        wishes: Wishes,
        *,
        has_body: bool = False,
        load: bool = True,
        spent: float = 0.0,
    ) -> Plan:
        """The targets for a request, with the present health, limits and budgets. Without `load`, prices count only if
        they were loaded. `spent` are the US dollars that earlier turns of the stream have cost.
        """
        traffic = self.shared.traffic
        money_left, budget = traffic.budgets.left(namespace_of(request))
        return plan(
            request,
            self.policy,
            capabilities=partial(self.catalog.capabilities, load=load),
            conditions=Conditions(
                health=traffic.health.snapshot(self._route_breakers(request.task_type)),
                limited=traffic.limiter.exhausted(),
                money_left=money_left,
                budget=budget,
                spent=spent,
                draw=_clock.random(),
                has_body=has_body,
                offline=is_offline(os.environ),
            ),
            wishes=wishes,
        )

    def with_rungs(self, plan: Plan, request: TaskRequest) -> Plan:
        """The plan, with the strongest way in which each of its targets could continue a broken answer."""
        rungs = tuple(
            [
                offered_rung(request, self.providers.get(target.provider), target, self.styles.of)
                for target in plan.targets
            ]
        )
        return replace(plan, rungs=rungs)

    def to_send(self, request: TaskRequest) -> TaskRequest:
        """The request without the metadata that only routing reads."""
        if not request.metadata or self._routing_keys.isdisjoint(request.metadata):
            return request
        metadata = {name: value for name, value in request.metadata.items() if name not in self._routing_keys}
        return replace(request, metadata=metadata)

    def admission(self, request: TaskRequest, plan: Plan, wishes: Wishes, spent: float = 0.0) -> Admission:
        """The admission control for a planned request. `spent` is as in `plan`."""
        facts = RequestFacts(
            demands=demands(request),
            namespace=namespace_of(request),
            max_cost=route_of(request, self.policy, wishes).max_cost,
            last=plan.targets[-1],
            patience=partial(self._patience, request.task_type),
            capabilities=partial(self.catalog.capabilities, load=False),
            own_limit=self._own_limit,
            breakers=self._route_breakers(request.task_type),
            cached={} if plan.affinity is None else plan.affinity.cached,
            spent=spent,
        )
        return Admission(self.shared.traffic, facts)

    def _patience(self, task_type: TaskType, target: Target) -> float:
        """How many seconds a request may wait for a target's rate limit. The time of the request bounds it as well."""
        return self.policy.resilience_of(task_type, target).max_retry_after

    def _route_breakers(self, task_type: TaskType) -> RouteBreakers | None:
        """The breakers of a task's route, if it has settings of its own for them."""
        policy = self.policy
        own = policy.route(task_type).resilience
        if own is None or own.breaker is UNSET:
            return None
        route = str(task_type) if task_type in policy.tasks else "default"
        return RouteBreakers(route, lambda target: policy.resilience_of(task_type, target).breaker)

    def _own_limit(self, target: Target) -> int | None:
        """The limit of output tokens that a target's provider sends if the request has none."""
        limit: object = getattr(self.providers[target.provider], "max_tokens", None)
        return limit if isinstance(limit, int) else None

    def latest_first_token(self, request: TaskRequest, plan: Plan, wishes: Wishes) -> float | None:
        """The `max_latency` of a request, if there is another target to go to."""
        return None if len(plan.targets) == 1 else route_of(request, self.policy, wishes).max_latency

    def price(self, target: Target, usage: Usage) -> float | None:
        """US dollars for this usage; `None` if no price is known."""
        if target.provider not in self.policy.providers:
            return 0.0  # the decorated body is free
        return self.catalog.cost(target, usage)

    def capabilities(self, target: str | Target, *, load: bool = True) -> catalog.Capabilities:
        """What a model can do and what it costs. A target is written `provider/model`."""
        parsed = Target.parse(target) if isinstance(target, str) else target
        if parsed.provider not in self.policy.providers:
            configured = ", ".join(self.policy.providers)
            raise InvalidRequestError(f"no provider {parsed.provider!r} is configured (configured: {configured})")
        return self.catalog.capabilities(parsed, load=load)


def routing_keys(policy: Policy) -> frozenset[str]:
    """The metadata keys that routing reads: `namespace`, and each key that a route of the policy names as `sticky`."""
    routes = (policy.default, *policy.tasks.values())
    return frozenset({NAMESPACE, *(route.sticky for route in routes if route.sticky is not None)})


def check_cache(policy: Policy) -> None:
    """Raise a `ConfigurationError` if the configured cache would have to write to a file that is not a cache's."""
    if policy.cache is None or policy.cache.store == "memory":
        return
    from ..cache._sqlite import check_file

    try:
        check_file(Path(policy.cache.store))
    except CacheError as error:
        raise ConfigurationError(error.message, file=policy.source, key="cache.store") from error


def catalog_of(policy: Policy) -> catalog.Catalog:
    """The catalog with the corrections of a policy.

    It holds no bound method of the runtime: in a reference cycle, a runtime that was replaced would keep its providers'
    connections open until the garbage collector runs.
    """
    return catalog.Catalog(partial(_vendor_model, policy.providers), policy.catalog, partial(_quirks, policy.providers))


def _vendor_model(providers: Mapping[str, ProviderSettings], target: Target) -> tuple[str, str]:
    """The kind of vendor, and its own name for the model."""
    settings = providers[target.provider]
    return settings.kind, settings.vendor_model(target.model)


def _quirks(providers: Mapping[str, ProviderSettings], target: Target) -> frozenset[Quirk]:
    """The quirks of a target's host, as its entry has them."""
    return quirks_of(providers[target.provider])


def _identity(providers: Mapping[str, ProviderSettings], target: Target) -> str:
    """What a target stands for: see `identity`."""
    settings = providers.get(target.provider)
    return target.provider if settings is None else identity(settings, target.model)


def _release_unused(runtime: ref[Runtime]) -> None:
    """The last open stream of a runtime is over."""
    living = runtime()
    if living is not None:
        living.shared.runtimes.release_unused(living)
