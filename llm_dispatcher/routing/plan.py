"""The plan: targets in order, and every rejected one with its reason. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from math import inf

from msgspec import Struct

from ..catalog import Traits
from ..config.policy import Policy
from ..exceptions import InvalidRequestError, NoProviderAvailableError
from ..provider import BODY
from ..tasks import AudioPart, ImagePart, Target, TaskRequest


class Plan(Struct, frozen=True):
    """Where a request goes: `targets` are asked in this order; `rejected` says why the others are not."""

    targets: tuple[Target, ...]
    rejected: Mapping[Target, str]

    def __str__(self) -> str:
        asked = [f"{place}. {target}" for place, target in enumerate(self.targets, start=1)]
        return "\n".join([*asked, *(f"-  {target}: {reason}" for target, reason in self.rejected.items())])


def plan(
    request: TaskRequest,
    policy: Policy,
    *,
    traits: Callable[[Target], Traits],
    price: Callable[[Target], float | None] = lambda target: None,
    has_body: bool = False,
    offline: bool = False,
    fallback: bool = True,
) -> Plan:
    """The targets for a request. A pin that names no configured provider is refused; where nothing is left, so is the
    request, with every target's reason.
    """
    candidates = [Target(BODY, "")] if offline else list(dict.fromkeys(_candidates(request, policy)))
    if policy.route(request.task_type).strategy == "cost" and not offline:
        candidates.sort(key=lambda target: _rank(target, price))
    asked: list[Target] = []
    rejected: dict[Target, str] = {}
    for target in candidates:
        reason = _why_not(target, request, traits, has_body)
        if reason is None and asked and not fallback:
            reason = "fallback is switched off"
        if reason is None:
            asked.append(target)
        else:
            rejected[target] = reason
    if not asked:
        raise NoProviderAvailableError(f"no target can serve this {request.task_type} request", reasons=rejected)
    return Plan(tuple(asked), rejected)


def _rank(target: Target, price: Callable[[Target], float | None]) -> float:
    """Cheap before dear, what has no known price after what has, and the stand-in, which is no model, last."""
    if target.provider == BODY:
        return inf
    known = price(target)
    return UNKNOWN_PRICE if known is None else known


UNKNOWN_PRICE = 1e9


def _candidates(request: TaskRequest, policy: Policy) -> Iterable[Target]:
    """The route's targets, or those that the request pins."""
    for provider in request.providers:
        _known(provider, policy, "providers")
    if request.model is not None:
        return _pinned_model(request.model, request, policy)
    route = policy.route(request.task_type).targets
    if not request.providers:
        return route
    pinned: list[Target] = []
    for provider in request.providers:
        in_route = [target for target in route if target.provider == provider]
        pinned += in_route or _first_model(provider, policy)
    return pinned


def _pinned_model(model: str, request: TaskRequest, policy: Policy) -> list[Target]:
    provider, slash, name = model.partition("/")
    if slash and name and (provider in policy.providers or provider == BODY):
        if request.providers and provider not in request.providers:
            raise InvalidRequestError(f"model={model!r} and providers={list(request.providers)} exclude each other")
        return [Target(provider, name)]
    if request.providers:
        return [Target(pinned, model) for pinned in request.providers]
    listed = [Target(each, model) for each, settings in policy.providers.items() if model in settings.models]
    if listed:
        return listed
    if len(policy.providers) == 1 and not slash:
        return [Target(only, model) for only in policy.providers]
    if slash:
        _known(provider, policy, "model")
    raise InvalidRequestError(
        f"model={model!r} is listed by no configured provider; write it as provider/model, "
        f"with one of {', '.join(policy.providers)}"
    )


def _known(provider: str, policy: Policy, setting: str) -> None:
    if provider in policy.providers or provider == BODY:
        return
    near = get_close_matches(provider, policy.providers, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InvalidRequestError(
        f"{setting}= names the provider {provider!r}, which is not configured "
        f"(configured: {', '.join(policy.providers)}){hint}"
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


def _why_not(target: Target, request: TaskRequest, traits: Callable[[Target], Traits], has_body: bool) -> str | None:
    """Why a target cannot serve a request. What the catalog does not know of a model is left to its vendor."""
    if target.provider == BODY:
        return None if has_body else "there is no decorated body to stand in"
    can = traits(target)
    if not can.known:
        return None
    parts = [part for message in request.conversation for part in message.parts]
    if not can.text:
        return "it does not generate text"
    if not can.vision and any(isinstance(part, ImagePart) for part in parts):
        return "it cannot take images"
    if not can.audio and any(isinstance(part, AudioPart) for part in parts):
        return "it cannot take audio"
    if not can.tools and request.tools:
        return "it cannot call tools"
    return None
