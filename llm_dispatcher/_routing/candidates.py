"""The targets that may be asked: those of a route, or those that a request pins."""

from __future__ import annotations

from collections.abc import Iterable

from .._hints import did_you_mean
from .._policy import BODY, Policy
from ..exceptions import InvalidRequestError
from ..tasks import Target, TaskRequest


def candidates(request: TaskRequest, policy: Policy) -> Iterable[Target]:
    """The route's targets, or those that the request pins, each once."""
    for provider in request.providers:
        _check_is_configured(provider, policy, "providers")
    if request.model is not None:
        return dict.fromkeys(_pinned_model(request.model, request, policy))
    route = policy.route(request.task_type).targets
    if not request.providers:
        return dict.fromkeys(route)
    pinned: list[Target] = []
    for provider in request.providers:
        in_route = [target for target in route if target.provider == provider]
        pinned += in_route or _first_model(provider, policy)
    return dict.fromkeys(pinned)


def _pinned_model(model: str, request: TaskRequest, policy: Policy) -> list[Target]:
    provider, slash, name = model.partition("/")
    if slash and name and (provider in policy.providers or provider == BODY):
        if request.providers and provider not in request.providers:
            raise InvalidRequestError(f"model={model!r} and providers={list(request.providers)} exclude each other")
        return [Target(provider, name)]
    if request.providers:
        return [Target(pinned, model) for pinned in request.providers]
    targets = [Target(each, model) for each, settings in policy.providers.items() if model in settings.models]
    if targets:
        return targets
    if len(policy.providers) == 1 and not slash:
        return [Target(only, model) for only in policy.providers]
    if slash:
        _check_is_configured(provider, policy, "model")
    raise InvalidRequestError(
        f"model={model!r} is listed by no configured provider; write it as provider/model, "
        f"with one of {', '.join(policy.providers)}"
    )


def _check_is_configured(provider: str, policy: Policy, setting: str) -> None:
    if provider in policy.providers or provider == BODY:
        return
    raise InvalidRequestError(
        f"{setting}= names the provider {provider!r}, which is not configured "
        f"(configured: {', '.join(policy.providers)}){did_you_mean(provider, policy.providers)}"
    )


def _first_model(provider: str, policy: Policy) -> list[Target]:
    if provider == BODY:
        return [Target(BODY, "")]
    models = policy.providers[provider].models
    if not models:
        raise InvalidRequestError(
            f"providers= names {provider!r}, which has no model in the route and lists none; "
            f'write model="{provider}/…" or list models under providers.{provider}.models'
        )
    return [Target(provider, next(iter(models)))]
