"""Admission: whether a request may try a target now.

The loop asks `Admission.enter` before each attempt, and gets a `Pass` or the reason why not. The pass holds what the
attempt has taken: a slot of its rate limit, a place at its target's breaker, and reserved money. Everything that a pass
holds goes back when it is left, also if nothing could be recorded of the attempt. If `enter` refuses or is cancelled,
it has given back everything itself.

One request can have several passes at a time. An `Admission` and its passes belong to one request, and only the event
loop of that request calls them; what they change in the `SharedState` has locks of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from .._bookkeeping import reported_not_raised
from .._catalog import Capabilities
from .._durations import in_seconds
from .._policy import BODY
from .._tokens import BYTES_A_TOKEN
from ..events import Attempt
from ..exceptions import BudgetExceededError, ProviderError, ProviderRateLimitError, ProviderServiceUnavailableError
from ..provider import Opened
from ..tasks import Target
from .budgets import ROUNDING
from .health import LOCAL, RouteBreakers
from .rate_limits import Lease
from .requirements import EXPECTED_OUTPUT, Demands
from .shared_state import SharedState

REASONING_OUTPUT: Final = 64_000
"""Output tokens that are reserved for an answer of a reasoning model, if its request sets no limit. Hidden reasoning
can be counted only at the end. No known model writes more than twice as much in one answer, so all attempts that run at
once cannot pass a budget by more than what was reserved for them.
"""


class RequestFacts(Struct, frozen=True, kw_only=True):
    """What admission has to know of a request.

    `last` is the last target of the plan. `patience` is how many seconds the request may wait for a target's rate
    limit. `own_limit` is the limit of output tokens that a target's provider sends if the request has none. `breakers`
    are those of the request's route, if it has its own. `cached` is how many tokens of the prompt each target is
    expected to have in its prompt cache. `spent` are the US dollars that the earlier turns of its stream have cost.
    """

    demands: Demands
    namespace: str = ""
    max_cost: float | None = None
    last: Target | None = None
    patience: Callable[[Target], float] = lambda target: 0.0
    capabilities: Callable[[Target], Capabilities] = lambda target: Capabilities()
    own_limit: Callable[[Target], int | None] = lambda target: None
    breakers: RouteBreakers | None = None
    cached: Mapping[Target, int] = {}
    spent: float = 0.0


class Pass:
    """The permission for one attempt, and this class itself the one for the decorated body, which holds nothing."""

    def hear(self, opened: Opened) -> None:
        """The vendor has accepted the request, and may have reported its rate limits."""

    def count(self, text: str) -> BudgetExceededError | None:
        """The model has written this text. Returns the error to end with if a budget is passed."""
        return None

    def note(self, attempt: Attempt) -> None:
        """The attempt is over, and this is its row."""

    def take_back(self, dollars: float) -> None:
        """So many US dollars of the rows that were noted before were not spent: the vendor has reported less."""

    def leave(self) -> None:
        """Give back what the attempt held."""


class Reservation(Struct, frozen=True):
    """Money for one attempt, in US dollars: what is reserved and expected, and what its input and each byte cost."""

    reserved: float = 0.0
    expected: float = 0.0
    input_cost: float = 0.0
    cost_a_byte: float = 0.0


NO_MONEY: Final = Reservation()


class TargetPass(Pass):
    """The permission for one attempt at a target."""

    def __init__(self, admission: Admission, target: Target, lease: Lease, era: int | None, money: Reservation) -> None:
        self.target = target
        self.expected = money.expected
        self.cost = money.input_cost
        self._admission = admission
        self._lease = lease
        self._era = era
        self._cost_a_byte = money.cost_a_byte
        self._reserved = money.reserved

    def hear(self, opened: Opened) -> None:
        state = self._admission.state
        if opened.allowance is not None:
            with reported_not_raised(self.target, "rate limits", state.notify):
                state.limiter.hear(self.target, opened.allowance)

    def count(self, text: str) -> BudgetExceededError | None:
        self.cost += self._cost_a_byte * len(text.encode("utf-8", "surrogatepass"))
        error = self._admission.check_max_cost()
        if error is not None:
            return error
        budgets = self._admission.state.budgets
        if self.cost > self._reserved + ROUNDING and budgets.are_set:
            more = max(self.cost - self._reserved, self._reserved / 4)
            if (budget := budgets.reserve(self._admission.facts.namespace, more)) is not None:
                return BudgetExceededError(f"{budget} is spent")
            self._reserved += more
        return None

    def note(self, attempt: Attempt) -> None:
        """Record the attempt in health, limits and budgets, each on its own: an error in one does not keep the others
        from recording it.
        """
        state, usage, failure = self._admission.state, attempt.usage, attempt.failure
        is_local = failure is not None and failure.kind == LOCAL
        self._admission.is_excused = is_local
        is_own = attempt.target == self.target  # else the vendor has continued with another model by itself
        with reported_not_raised(self.target, "health", state.notify):
            state.health.note(attempt, self._era if is_own else None, self._admission.facts.breakers)
        with reported_not_raised(self.target, "rate limits", state.notify):
            if failure is not None and failure.status == 429 and failure.retry_after:
                state.limiter.close_for(self.target, failure.retry_after)
            if is_local and usage.source == "unknown":
                self._lease.give_back()  # nothing was sent
            elif is_own:
                self._lease.count(0 if usage.source == "unknown" else usage.total_tokens)
        with reported_not_raised(self.target, "cost", state.notify):
            if usage.cost:
                self._admission.spend(usage.cost)

    def take_back(self, dollars: float) -> None:
        with reported_not_raised(self.target, "cost", self._admission.state.notify):
            self._admission.spend(-dollars)

    def leave(self) -> None:
        admission = self._admission
        self._lease.leave()
        admission.state.health.leave(self.target, self._era, admission.facts.breakers)
        if self._reserved:
            admission.state.budgets.release(admission.facts.namespace, self._reserved)
            self._reserved = 0.0
        admission.forget(self)


FREE: Final = Pass()
"""The pass of the decorated body. No vendor is asked, so there is nothing to hold."""


class Admission:
    """Admits the attempts of one request."""

    def __init__(self, state: SharedState, facts: RequestFacts) -> None:
        self.state: Final = state
        self.facts: Final = facts
        self.is_excused = False
        """Whether the last attempt failed because of this machine."""
        self._attempted_targets: set[Target] = set()
        self._providers: set[str] = set()
        self._passes: list[TargetPass] = []
        self._dollars_so_far = facts.spent

    async def enter(self, target: Target, left: float | None = None) -> Pass | ProviderError | BudgetExceededError:
        """A pass for one attempt at a target, or the reason why not.

        Args:
            target: The target to ask.
            left: Seconds for which the request can wait for this target; `None` does not bound the wait.
        """
        if target.provider == BODY:
            return FREE
        state, facts = self.state, self.facts
        tokens = float(facts.demands.input_tokens + (facts.demands.most_output or EXPECTED_OUTPUT))
        may_wait = target == facts.last or state.limiter.waits(target)
        lease = state.limiter.lease(target, tokens)
        patience = facts.patience(target) if may_wait else 0.0
        if not await lease.take(patience if left is None else min(patience, left)):
            return _too_many(target, state.limiter.seconds_until(target, tokens))
        era = state.health.enter(target, facts.breakers)
        if era is None:
            lease.give_back()
            return _unavailable(target, "its breaker is open")
        money = self._reserve(target)
        if isinstance(money, Reservation) and self._may_try(target):
            admitted = TargetPass(self, target, lease, era, money)
            self._passes.append(admitted)
            self._count_request(target)
            return admitted
        lease.give_back()
        state.health.leave(target, era, facts.breakers)
        if not isinstance(money, Reservation):
            return money
        state.budgets.release(facts.namespace, money.reserved)
        return _unavailable(target, f"the retry budget of {target.provider} is spent")

    def enter_again(self, target: Target) -> Pass | BudgetExceededError:
        """A pass for reading on a run that the vendor keeps: it holds no more than reserved money. The run's input was
        charged when it began.
        """
        if target.provider == BODY:
            return FREE
        money = self._reserve(target, has_input=False)
        if not isinstance(money, Reservation):
            return money
        admitted = TargetPass(self, target, self.state.limiter.lease(target, 0.0), None, money)
        self._passes.append(admitted)
        return admitted

    def pass_of(self, target: Target) -> Pass:
        """The pass of the newest open attempt at a target. Metering counts its text on it.

        If the vendor has continued with another model by itself, it is the pass of the target that was asked there.
        """
        newest = list(reversed(self._passes))
        passes: Iterator[Pass] = (each for each in newest if each.target == target)
        others: Iterator[Pass] = (each for each in newest if each.target.provider == target.provider)
        return next(passes, None) or next(others, FREE)

    def forget(self, admitted: TargetPass) -> None:
        """An attempt is over, and its pass is back."""
        self._passes.remove(admitted)

    def _count_request(self, target: Target) -> None:
        self._attempted_targets.add(target)
        if target.provider not in self._providers:
            self._providers.add(target.provider)
            self.state.retry_budget(target.provider).request()

    def _may_try(self, target: Target) -> bool:
        """Whether the retry budget allows this attempt.

        Every try after a request's first draws on the budget of the provider that receives it. A try that follows
        trouble of this machine does not, because no vendor has received anything. A switch may overdraw the budget if
        its target is healthy, or is unknown and of another provider: such a target is not failing, so refusing it
        would spare nobody and lose the request.
        """
        if not self._attempted_targets or self.is_excused:
            return True
        health = self.state.health
        is_unknown = target.provider not in self._providers and health.is_new(target)
        owing = target not in self._attempted_targets and (is_unknown or health.is_healthy(target))
        return self.state.retry_budget(target.provider).draw(owing=owing)

    # ── money ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_metered(self) -> bool:
        """Whether the text of this request has to be counted while it is written."""
        return self.facts.max_cost is not None or self.state.budgets.are_set

    def spend(self, dollars: float) -> None:
        """An attempt has cost so much."""
        self._dollars_so_far += dollars
        self.state.budgets.spend(self.facts.namespace, dollars)

    def check_max_cost(self) -> BudgetExceededError | None:
        """The error to end with if the request has cost more than its `max_cost`."""
        most = self.facts.max_cost
        if most is not None and self._dollars_so_far + sum(each.cost for each in self._passes) > most:
            return BudgetExceededError(f"the request has cost more than max_cost (${most:g})")
        return None

    def _reserve(self, target: Target, *, has_input: bool = True) -> Reservation | BudgetExceededError:
        """Reserve what an attempt may cost. Cached tokens lower what it is expected to cost, but not the reservation:
        the vendor may have dropped its cache.
        """
        facts = self.facts
        if not self.is_metered:
            return NO_MONEY
        needs, can = facts.demands, facts.capabilities(target)
        tokens_in = needs.input_tokens if has_input else 0
        cached = facts.cached.get(target, 0) if has_input else 0
        expected = can.dollars(tokens_in, needs.output_tokens, cached) or 0.0
        committed = self._dollars_so_far + sum(max(each.cost, each.expected) for each in self._passes)
        if facts.max_cost is not None and committed + expected > facts.max_cost:
            return BudgetExceededError(
                f"another attempt may cost ${expected:.6f}: with what was spent already (${committed:.6f}) "
                f"that is more than max_cost (${facts.max_cost:g})"
            )
        reserved = can.dollars(tokens_in, self._most_output(target, can)) or 0.0
        probable = can.dollars(tokens_in, needs.most_output or needs.output_tokens, cached) or 0.0
        budget = self.state.budgets.reserve(facts.namespace, reserved, probable)
        if budget is not None:
            return BudgetExceededError(f"{budget} has less left than the ${reserved:.6f} that this attempt may cost")
        return Reservation(
            reserved=reserved,
            expected=expected,
            input_cost=can.dollars(tokens_in, 0, cached) or 0.0,
            cost_a_byte=(can.dollars(0, 1) or 0.0) / BYTES_A_TOKEN,
        )

    def _most_output(self, target: Target, can: Capabilities) -> int:
        """The output tokens to reserve money for. Visible text is counted while it is written, so the tokens of a usual
        answer are enough for it, and a longer answer reserves more. Hidden reasoning can reserve nothing later.
        """
        needs = self.facts.demands
        if needs.most_output:
            return needs.most_output
        if can.reasoning and needs.may_reason:
            return self.facts.own_limit(target) or REASONING_OUTPUT
        return EXPECTED_OUTPUT


def _unavailable(target: Target, reason: str) -> ProviderServiceUnavailableError:
    return ProviderServiceUnavailableError(f"not asked: {reason}", provider=target.provider, model=target.model)


def _too_many(target: Target, seconds: float) -> ProviderRateLimitError:
    is_known = seconds not in (0.0, float("inf"))
    reason = "all its concurrent streams are in use"
    if is_known:
        reason = f"its rate limit is spent for {in_seconds(seconds)} more"
    return ProviderRateLimitError(
        f"not asked: {reason}", provider=target.provider, model=target.model, retry_after=seconds if is_known else None
    )
