"""The plan: the targets of a request in order, and every rejected one with its reason.

`plan` is a pure function: it reads its arguments and returns a value. It asks nobody and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, isinf
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from .._catalog import Capabilities
from .._durations import in_seconds
from .._policy import BODY, Affinity, Policy, Route, Strategy, Wishes
from ..events import Rung
from ..exceptions import BudgetExceededError, NoProviderAvailableError
from ..tasks import Target, TaskRequest
from .affinity import affinity_on, stays
from .affinity import in_words as affinity_in_words
from .candidates import candidates
from .requirements import Demands, demands, unmet_requirement
from .strategies import STRATEGIES, Contender, Ranking, in_words
from .target_stats import TargetHealth


class Plan(Struct, frozen=True):
    """Where a request goes: `targets` are asked in this order; `rejected` says why the others are not.

    For each target in order, `figures` holds the number by which the strategy placed it, `dollars` the expected cost of
    the request there, and `health` how it has been doing. The targets in `late` are slower than `max_latency` and
    are asked after the others. `affinity` is that of the conversation, if the plan counts it. `rungs` holds the
    strongest rung by which each target could continue a broken answer (`None` for the body); only `explain` fills it
    in.
    """

    targets: tuple[Target, ...]
    rejected: Mapping[Target, str]
    strategy: Strategy = "ordered"
    figures: tuple[float, ...] = ()
    dollars: tuple[float | None, ...] = ()
    late: frozenset[Target] = frozenset()
    health: tuple[TargetHealth, ...] = ()
    rungs: tuple[Rung | None, ...] = ()
    affinity: Affinity | None = None

    @property
    def reasons(self) -> dict[Target, str]:
        """Why each target has its place, and how it failed last. A target may keep its place in spite of a failure."""
        reasons: dict[Target, str] = {}
        for target, figure, health in zip(self.targets, self.figures, self.health, strict=True):
            late = "slower than max_latency" if target in self.late else None
            parts = (late, self._affinity_of(target, health), in_words(self.strategy, figure), health.failed)
            reasons[target] = "; ".join(words for words in parts if words is not None)
        return reasons

    def __str__(self) -> str:
        rungs = self.rungs or (None,) * len(self.targets)
        lines = [
            f"{place}. {target}"
            + (f" (if it breaks: {rung})" if rung is not None else "")
            + self._remarks(target, health)
            for place, (target, health, rung) in enumerate(zip(self.targets, self.health, rungs, strict=True), start=1)
        ]
        return "\n".join([*lines, *(f"-  {target}: {reason}" for target, reason in self.rejected.items())])

    def _remarks(self, target: Target, health: TargetHealth) -> str:
        """What the printed plan says of a target, beside its place and its rung."""
        remarks = [words for words in (self._affinity_of(target, health), health.failed) if words is not None]
        return f": {'; '.join(remarks)}" if remarks else ""

    def _affinity_of(self, target: Target, health: TargetHealth) -> str | None:
        return None if self.affinity is None else affinity_in_words(self.affinity, target, health)


SMALL_WINDOW: Final = 4_000
"""Tokens that fit into the context window of every model."""


class Conditions(Struct, frozen=True, kw_only=True):
    """What is known at the moment of planning, beside the policy.

    `limited` holds the targets whose rate limits are used up, with the seconds until there is room again, or infinity
    if that is unknown. They are asked only if no other target can serve. `money_left` is what the budgets still allow,
    and `budget` is the name of the tightest one. `spent` are the US dollars that earlier turns of the stream have cost.
    `draw` is a random number that decides a split without a sticky key.
    """

    health: Mapping[Target, TargetHealth] = {}
    limited: Mapping[Target, float] = {}
    money_left: float = inf
    budget: str = ""
    spent: float = 0.0
    draw: float = 0.0
    has_body: bool = False
    offline: bool = False


NO_WISHES: Final = Wishes()
NOTHING_CACHED: Final[Mapping[Target, int]] = {}
NO_CONDITIONS: Final = Conditions()
_NOTHING_YET: Final = TargetHealth()
_BODY: Final = Capabilities(input_price=0.0, output_price=0.0)
_NO_BODY: Final = "only the body of an async generator that yields its answer can stand in"
_NO_BODY_OFFLINE: Final = f"LLM_DISPATCHER_OFFLINE is set, so no vendor is asked, and {_NO_BODY}"


def plan(
    request: TaskRequest,
    policy: Policy,
    *,
    capabilities: Callable[[Target], Capabilities],
    conditions: Conditions = NO_CONDITIONS,
    wishes: Wishes = NO_WISHES,
) -> Plan:
    """The targets for a request.

    Args:
        request: The request to plan for.
        policy: The configuration.
        capabilities: What a target can do and what it costs.
        conditions: Health, limits and money at this moment.
        wishes: What the call asks of its routing.

    Raises:
        InvalidRequestError: A pin names a provider that is not configured.
        NoProviderAvailableError: No target can serve the request. The error has the reason for each.
        BudgetExceededError: No target can serve the request, and at least one only because of its cost.
    """
    route = route_of(request, policy, wishes)
    affinity = affinity_on(route, wishes.affinity)
    cached = NOTHING_CACHED if affinity is None else affinity.cached
    request_demands = demands(request)
    tokens_in, tokens_out = request_demands.input_tokens, request_demands.output_tokens
    rejected: dict[Target, str] = {}
    contenders: list[Contender] = []
    waiting: list[Contender] = []
    is_too_expensive = False
    for target in (Target(BODY, ""),) if conditions.offline else candidates(request, policy):
        if target.provider == BODY:
            if conditions.has_body:
                contenders.append(Contender(target, _BODY, _NOTHING_YET, 0.0))
            else:
                rejected[target] = _NO_BODY_OFFLINE if conditions.offline else _NO_BODY
            continue
        can = capabilities(target)
        health = conditions.health.get(target, _NOTHING_YET)
        contender = Contender(
            target, can, health, can.dollars(tokens_in, tokens_out, cached.get(target, 0) if cached else 0)
        )
        reason = _obstacle(contender, request_demands, policy)
        if reason is None:
            reason = _cost_obstacle(contender, route, conditions)
            is_too_expensive = is_too_expensive or reason is not None
        if reason is None and conditions.limited and (reason := _limit_obstacle(target, conditions)) is not None:
            waiting.append(contender)
        if reason is None:
            contenders.append(contender)
        else:
            rejected[target] = reason
    if not contenders:
        contenders = waiting  # nothing else can serve, so the request waits for one of these
        rejected = {target: why for target, why in rejected.items() if target not in {each.target for each in waiting}}
    if not contenders:
        raise _no_target(request, rejected, is_too_expensive=is_too_expensive)
    key, is_sticky = _key_of(request, route, conditions)
    ranking = Ranking(contenders, route, request_demands, request.task_type, key, is_sticky)
    return _ordered(ranking, rejected, affinity, fallback=wishes.fallback)


def needs_prices(request: TaskRequest, policy: Policy, wishes: Wishes) -> bool:
    """Whether planning needs prices or context windows."""
    route = route_of(request, policy, wishes)
    if route.max_cost is not None or route.strategy in ("cost", "balanced"):
        return True
    return demands(request).input_tokens >= SMALL_WINDOW


def route_of(request: TaskRequest, policy: Policy, wishes: Wishes) -> Route:
    """The task's route. What the call asks of its routing replaces the route's own settings."""
    route = policy.route(request.task_type)
    if wishes.strategy is None and wishes.max_cost is None and wishes.max_latency is None:
        return route
    return replace(
        route,
        strategy=wishes.strategy or route.strategy,
        max_cost=route.max_cost if wishes.max_cost is None else wishes.max_cost,
        max_latency=route.max_latency if wishes.max_latency is None else wishes.max_latency,
    )


def _obstacle(contender: Contender, request_demands: Demands, policy: Policy) -> str | None:
    """Why a target cannot serve now, apart from money and rate limits."""
    target, health = contender.target, contender.health
    if not policy.providers[target.provider].is_enabled(target.model):
        return "it is disabled"
    reason = unmet_requirement(contender.capabilities, request_demands)
    if reason is not None:
        return reason
    if health.opens_in is not None:
        state = (
            f"open for {in_seconds(health.opens_in)} more"
            if health.opens_in
            else "half open, and its probes have begun"
        )
        return f"its breaker is {state}" + (f"; {health.failed}" if health.failed is not None else "")
    return None


def _cost_obstacle(contender: Contender, route: Route, conditions: Conditions) -> str | None:
    dollars = contender.dollars
    if route.max_cost is not None:
        if dollars is None:
            return "its price is not known, and max_cost is set (prices can be given under catalog:)"
        if dollars + conditions.spent > route.max_cost:
            already = f", with ${conditions.spent:.6f} spent already," if conditions.spent else ""
            return f"at about ${dollars:.6f}{already} it is over max_cost (${route.max_cost:g})"
    if conditions.money_left < (dollars or 0.0) or conditions.money_left <= 0:
        return f"it is over budget: ${max(conditions.money_left, 0.0):.6f} is left of {conditions.budget}"
    return None


def _limit_obstacle(target: Target, conditions: Conditions) -> str | None:
    seconds = conditions.limited.get(target)
    if seconds is None:
        return None
    if isinf(seconds):
        return "all its concurrent streams are in use"
    return f"its rate limit is spent for {in_seconds(seconds)} more"


def _no_target(request: TaskRequest, rejected: Mapping[Target, str], *, is_too_expensive: bool) -> Exception:
    none = NoProviderAvailableError(f"no target can serve this {request.task_type} request", reasons=rejected)
    return BudgetExceededError(none.message) if is_too_expensive else none


def _key_of(request: TaskRequest, route: Route, conditions: Conditions) -> tuple[str, bool]:
    """The key that decides a weighted split, and whether it is the sticky key of the request. Else it is the draw."""
    sticky = request.sticky
    if sticky is None and route.sticky is not None:
        sticky = request.metadata.get(route.sticky)
    return (str(conditions.draw), False) if sticky is None else (str(sticky), True)


def _ordered(ranking: Ranking, rejected: dict[Target, str], affinity: Affinity | None, *, fallback: bool) -> Plan:
    """The plan for the targets that can serve. Without `fallback` it has the first of them only."""
    contenders, route = ranking.contenders, ranking.route
    figures = STRATEGIES[route.strategy](ranking)
    late: frozenset[Target] = frozenset()
    if route.max_latency is not None:
        late = frozenset(each.target for each in contenders if (each.health.first_token_tail or 0) > route.max_latency)
    order = list(range(len(contenders)))
    if route.strategy != "ordered" or late:
        # The body is not a model. Only a route that lists its targets in order can put it anywhere but last.
        last = "" if route.strategy == "ordered" else BODY
        order.sort(key=lambda place: _rank(contenders[place].target, figures[place], late, last))
    if affinity is not None:
        _put_last_first(order, ranking, late, affinity)
    if not fallback:
        rejected.update((contenders[place].target, "fallback is switched off") for place in order[1:])
        del order[1:]
    return Plan(
        tuple([contenders[place].target for place in order]),
        rejected,
        route.strategy,
        tuple([figures[place] for place in order]),
        tuple([contenders[place].dollars for place in order]),
        late,
        tuple([contenders[place].health for place in order]),
        affinity=affinity,
    )


def _put_last_first(order: list[int], ranking: Ranking, late: frozenset[Target], affinity: Affinity) -> None:
    """Move the target that answered last to the front, if the conversation stays with it."""
    for place in order:
        each = ranking.contenders[place]
        if each.target == affinity.last:
            if stays(each.target, each.health, late, ranking.route, is_sticky=ranking.is_sticky):
                order.remove(place)
                order.insert(0, place)
            return


def _rank(target: Target, figure: float, late: frozenset[Target], last: str) -> tuple[bool, bool, float]:
    return target.provider == last, bool(late) and target in late, figure
