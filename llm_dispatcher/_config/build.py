"""Builds the frozen policy from validated settings, and fills in the missing ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import convert
from msgspec.structs import replace

from .._policy import (
    BODY,
    BudgetSettings,
    CacheSettings,
    Correction,
    Limits,
    ModelSettings,
    Policy,
    ProviderSettings,
    Route,
    Weights,
)
from .._redaction import Secret
from .._resilience import Resilience, ResilienceOverride
from .._vendors.table import FIRST_ROUTE, FIRST_TASK_ROUTES, vendor
from .._vendors.vendor import Size
from ..tasks import Target
from .models import (
    CorrectionSection,
    LimitsSection,
    ModelSection,
    ProviderSection,
    RouteSection,
    RoutingSection,
    Settings,
)
from .resilience import ModelResilienceSection, RouteResilienceSection


class Headers(dict[str, str]):
    """Headers, which may hold keys: `repr` masks their values, as it does for a `Secret`."""

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self, "***"))


def build_policy(
    settings: Settings,
    *,
    kinds: Mapping[str, str],
    api_keys: Mapping[str, str | None],
    first_routes: bool,
    source: str | None,
    is_found: bool,
) -> Policy:
    """The policy of these settings. Its default route is empty if no provider has a model.

    `first_routes` says that only keys were configured: then every task gets the first route of the table of vendors. A
    provider that lists no models has the models that routes name for it, else its vendor's general model.
    """
    routing = settings.routing
    if first_routes:
        default: Route | None = _first_route(kinds, *FIRST_ROUTE)
        tasks = {task: _first_route(kinds, *route) for task, route in FIRST_TASK_ROUTES.items()}
    else:
        default = None if routing.default is None else _route(routing.default, routing)
        tasks = {task: _route(route, routing) for task, route in routing.tasks.items()}
    routed = [target for route in (default, *tasks.values()) if route is not None for target in route.targets]
    models = {name: _models(name, section, kinds[name], routed) for name, section in settings.providers.items()}
    if default is None:
        default = _plain_route((Target(name, model) for name, names in models.items() for model in names), routing)
    resilience = convert(settings.resilience.model_dump(), Resilience)
    return Policy(
        providers={
            name: _provider(name, section, kinds[name], models[name], api_keys[name], resilience)
            for name, section in settings.providers.items()
        },
        default=default,
        tasks=tasks,
        catalog={_target(name): _correction(section) for name, section in settings.catalog.items()},
        budgets=convert(settings.budgets.model_dump(), BudgetSettings),
        cache=None if settings.cache is None else convert(settings.cache.model_dump(), CacheSettings),
        resilience=resilience,
        source=source,
        is_found=is_found,
    )


def _route(section: list[str] | RouteSection, routing: RoutingSection) -> Route:
    """Build a route; unset fields take the routing-wide defaults."""
    if isinstance(section, list):
        return _plain_route(map(_target, section), routing)
    return replace(
        _plain_route(map(_target, section.targets), routing),
        **{
            name: value
            for name in ("strategy", "max_cost", "max_latency", "on_refusal", "affinity")
            if (value := getattr(section, name)) is not None
        },
        weights=convert(section.weights.model_dump(), Weights),
        split={_target(each): share for each, share in section.split.items()},
        sticky=section.sticky,
        resilience=_override(section.resilience),
    )


def _plain_route(targets: Iterable[Target], routing: RoutingSection) -> Route:
    return Route(
        tuple(targets),
        routing.optimization_strategy,
        routing.max_cost,
        routing.max_latency,
        on_refusal=routing.on_refusal,
        affinity=routing.affinity,
    )


def _target(text: str) -> Target:
    return Target(BODY, "") if text == BODY else Target.parse(text)


def _first_route(kinds: Mapping[str, str], size: Size, order: Iterable[str]) -> Route:
    return Route(tuple(Target(kind, vendor(kind).model(size)) for kind in order if kind in kinds))


def _models(name: str, section: ProviderSection, kind: str, routed: Iterable[Target]) -> dict[str, ModelSettings]:
    if section.models and isinstance(section.models, Mapping):
        return {model: _model(each) for model, each in section.models.items()}
    names = section.models or [target.model for target in routed if target.provider == name]
    general = vendor(kind).models.get("general")
    return dict.fromkeys(names or ([general] if general else []), ModelSettings())


def _model(section: ModelSection) -> ModelSettings:
    return ModelSettings(
        alias=section.alias,
        enabled=section.enabled,
        limits=_limits(section.limits),
        resilience=_override(section.resilience),
    )


def _override(section: ModelResilienceSection | RouteResilienceSection | None) -> ResilienceOverride | None:
    """The keys that are set in a section; `None` if none is."""
    settings = {} if section is None else section.model_dump(exclude_unset=True)
    return convert(settings, ResilienceOverride) if settings else None


def _limits(section: LimitsSection | None) -> Limits | None:
    return None if section is None else Limits(**section.model_dump())


def _correction(section: CorrectionSection) -> Correction:
    return Correction(**section.model_dump(exclude_none=True))


def _provider(
    name: str,
    section: ProviderSection,
    kind: str,
    models: Mapping[str, ModelSettings],
    api_key: str | None,
    resilience: Resilience,
) -> ProviderSettings:
    override = _override(section.resilience)
    return ProviderSettings(
        name=name,
        kind=kind,
        api_key=None if api_key is None else Secret(api_key),
        base_url=section.base_url,
        headers=Headers(section.headers),
        models=models,
        api=section.api,
        options=section.options,
        enabled=section.enabled,
        limits=_limits(section.limits),
        resilience=override,
        durability=(resilience if override is None else override.over(resilience)).durability,
    )
