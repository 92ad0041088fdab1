"""Whether a request may try a target now: asked by the loop before each attempt, told of it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from msgspec import Struct

from .. import _clock
from .._bookkeeping import reported_not_raised
from .._catalog import Capabilities
from .._durations import in_seconds
from .._log import write
from .._policy import BODY, Policy
from .._tokens import BYTES_A_TOKEN
from ..events import Attempt
from ..exceptions import BudgetExceededError, ProviderError, ProviderRateLimitError, ProviderServiceUnavailableError
from ..notices import BudgetAlert, Notify
from ..provider import Opened
from ..tasks import Target
from .budgets import ROUNDING, Budgets
from .health import LOCAL, Health
from .rate_limits import Entry, Limiter
from .requirements import EXPECTED_OUTPUT, Demands
from .retry_budget import RetryBudget

REASONING_OUTPUT: Final = 64_000
"""Output tokens that are reserved for an answer of a model that reasons, if its request sets no limit. What a model
thinks unseen can be counted only when it is done. No model that we know writes more than twice as much in one answer;
so all that run at once cannot pass a budget by more than what was reserved for them.
"""


class Traffic:
    """What all requests of a switch share, and keep when its configuration changes: the health of targets, the retry
    budgets of providers, rate limits, and what was spent.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        alert: Callable[[BudgetAlert], None] | None = None,
        clock: Callable[[], float] = _clock.monotonic,
        now: Callable[[], datetime] = _clock.now,
        notify: Notify = write,
    ) -> None:
        self.health = Health(policy.resilience, clock, notify)
        self.limiter = Limiter(policy.providers, clock)
        self.budgets = Budgets(policy.budgets, alert, now, notify)
        self.notify = notify
        self._policy = policy
        self._clock = clock
        self._retries: dict[str, RetryBudget] = {}

    def adopt(self, policy: Policy) -> None:
        """Another configuration from now on."""
        self._policy = policy
        self.health.adopt(policy.resilience)
        self.limiter.adopt(policy.providers)
        self.budgets.adopt(policy.budgets)
        for retries in list(self._retries.values()):  # (a copy: other threads may add theirs meanwhile)
            retries.adopt(policy.resilience.retry_budget)

    def retries(self, provider: str) -> RetryBudget:
        """The retry budget of a provider."""
        known = self._retries.get(provider)
        return known or self._retries.setdefault(
            provider, RetryBudget(self._policy.resilience.retry_budget, self._clock)
        )


class Errand(Struct, frozen=True, kw_only=True):
    """What admission has to know of a request. `last` is the target after which there is none; `patience` is how many
    seconds the request may wait for a rate limit. `own_limit` is the limit of output tokens that a target's provider
    sends where the request has none.
    """

    demands: Demands
    namespace: str = ""
    max_cost: float | None = None
    last: Target | None = None
    patience: float = 0.0
    capabilities: Callable[[Target], Capabilities] = lambda target: Capabilities()
    own_limit: Callable[[Target], int | None] = lambda target: None


class _Held(Struct, frozen=True):
    """What an attempt that was let in has to give back."""

    target: Target
    entry: Entry
    era: int


class Admission:
    """One request on its way: at most one attempt of it is under way at a time.

    An attempt begins with `enter` and ends with `leave`. In between it holds a slot of its rate limit, a pass of its
    target's breaker and reserved money; `leave` gives back all three, also where nothing could be recorded of the
    attempt. Only the loop of this request calls these methods; what they change in `Traffic` has locks of its own.
    """

    def __init__(self, traffic: Traffic, errand: Errand) -> None:
        self._traffic = traffic
        self._errand = errand
        self._asked: set[Target] = set()
        self._providers: set[str] = set()
        self._holding: _Held | None = None
        self._is_excused = False
        self._spent = 0.0
        self._reserved = 0.0
        self._cost = 0.0
        self._a_byte = 0.0

    # ── before and after an attempt ────────────────────────────────────────────────────────────────────────────────

    async def enter(self, target: Target, left: float | None = None) -> ProviderError | BudgetExceededError | None:
        """Let the request try a target, or say why not. Every successful `enter` must be followed by `leave`. A
        request that has so many seconds `left` for this target waits for no longer than that.
        """
        if target.provider == BODY:
            return None
        traffic, wanted = self._traffic, self._errand.demands
        tokens = float(wanted.input_tokens + (wanted.most_output or EXPECTED_OUTPUT))
        may_wait = target == self._errand.last or traffic.limiter.waits(target)
        entry = traffic.limiter.entry(target, tokens)
        patience = self._errand.patience if left is None else min(self._errand.patience, left)
        if not await entry.take(patience if may_wait else 0.0):
            return _too_many(target, traffic.limiter.seconds_until(target, tokens))
        era = traffic.health.enter(target)
        refusal: ProviderError | BudgetExceededError | None = None
        if era is None:
            refusal = _unavailable(target, "its breaker is open")
        elif (refusal := self._reserve(target)) is None and not self._may_try(target):
            self._release()
            refusal = _unavailable(target, f"the retry budget of {target.provider} is spent")
        if era is None or refusal is not None:
            entry.give_back()
            if era is not None:
                traffic.health.leave(target, era)
            return refusal
        self._holding = _Held(target, entry, era)
        self._asked.add(target)
        if target.provider not in self._providers:
            self._providers.add(target.provider)
            traffic.retries(target.provider).request()
        return None

    def hear(self, target: Target, head: Opened) -> None:
        """The vendor has accepted the request, and may have reported its rate limits."""
        if head.allowance is not None:
            with reported_not_raised(target, "rate limits", self._traffic.notify):
                self._traffic.limiter.hear(target, head.allowance)

    def note(self, attempt: Attempt) -> None:
        """An attempt that was let in is over. Health, limits and budgets are told, each on its own: what one of them
        cannot handle keeps nothing from the others.
        """
        held, target, usage, failure = self._holding, attempt.target, attempt.usage, attempt.failure
        if held is None:
            return
        self._is_excused = failure is not None and failure.kind == LOCAL
        with reported_not_raised(target, "health", self._traffic.notify):
            self._traffic.health.note(attempt, held.era)
        with reported_not_raised(target, "rate limits", self._traffic.notify):
            if failure is not None and failure.status == 429 and failure.retry_after:
                self._traffic.limiter.shut(target, failure.retry_after)
            if failure is not None and failure.kind == LOCAL and usage.source == "unknown":
                held.entry.give_back()  # nothing was sent
            else:
                held.entry.count(0 if usage.source == "unknown" else usage.total_tokens)
        with reported_not_raised(target, "cost", self._traffic.notify):
            if usage.cost:
                self._spent += usage.cost
                self._traffic.budgets.spend(self._errand.namespace, usage.cost)

    def leave(self) -> None:
        """Give back what the attempt held: its slot, its pass of the breaker, and the money that was reserved."""
        held, self._holding = self._holding, None
        if held is not None:
            held.entry.leave()
            self._traffic.health.leave(held.target, held.era)
        self._release()

    def _may_try(self, target: Target) -> bool:
        """Every try after a request's first draws on the budget of the provider that receives it. One that follows
        trouble of this machine does not: no vendor has received anything.

        A switch may owe what it draws where the target is doing well, or is another provider's and still unknown: it
        is not failing, and refusing it would save nobody but lose the request.
        """
        if not self._asked or self._is_excused:
            return True
        health = self._traffic.health
        is_unknown = target.provider not in self._providers and health.is_new(target)
        owing = target not in self._asked and (is_unknown or health.is_well(target))
        return self._traffic.retries(target.provider).draw(owing=owing)

    # ── money ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_metered(self) -> bool:
        """Whether what is written has to be counted."""
        return self._errand.max_cost is not None or self._traffic.budgets.are_set

    def count(self, text: str) -> BudgetExceededError | None:
        """The model has written this: the error to end with, where that passes what may be spent."""
        self._cost += self._a_byte * len(text.encode("utf-8", "surrogatepass"))
        most = self._errand.max_cost
        if most is not None and self._spent + self._cost > most:
            return BudgetExceededError(f"the request has cost more than max_cost (${most:g})")
        if self._cost > self._reserved + ROUNDING and self._traffic.budgets.are_set:
            more = max(self._cost - self._reserved, self._reserved / 4)
            if (budget := self._traffic.budgets.reserve(self._errand.namespace, more)) is not None:
                return BudgetExceededError(f"{budget} is spent")
            self._reserved += more
        return None

    def _reserve(self, target: Target) -> BudgetExceededError | None:
        """Keep what the attempt may cost."""
        errand = self._errand
        if not self.is_metered:
            return None
        wanted, known = errand.demands, errand.capabilities(target)
        dollars = known.dollars(wanted.input_tokens, wanted.output_tokens) or 0.0
        if errand.max_cost is not None and self._spent + dollars > errand.max_cost:
            return BudgetExceededError(
                f"another attempt may cost ${dollars:.6f}: with what was spent already (${self._spent:.6f}) "
                f"that is more than max_cost (${errand.max_cost:g})"
            )
        reserved = known.dollars(wanted.input_tokens, self._most_output(target, known)) or 0.0
        expected = None if wanted.most_output else dollars
        if (budget := self._traffic.budgets.reserve(errand.namespace, reserved, expected)) is not None:
            return BudgetExceededError(f"{budget} has not the ${reserved:.6f} left that this may cost")
        self._reserved = reserved
        self._cost = known.dollars(wanted.input_tokens, 0) or 0.0
        self._a_byte = (known.dollars(0, 1) or 0.0) / BYTES_A_TOKEN
        return None

    def _most_output(self, target: Target, known: Capabilities) -> int:
        """The output tokens to reserve money for. What a reader sees is counted while it is written, so for that a
        usual answer is enough: one that grows longer reserves more. Unseen reasoning has no such second chance.
        """
        wanted = self._errand.demands
        if wanted.most_output:
            return wanted.most_output
        if known.reasoning and wanted.may_reason:
            return self._errand.own_limit(target) or REASONING_OUTPUT
        return EXPECTED_OUTPUT

    def _release(self) -> None:
        if self._reserved:
            self._traffic.budgets.release(self._errand.namespace, self._reserved)
        self._reserved = self._cost = self._a_byte = 0.0


def _unavailable(target: Target, reason: str) -> ProviderServiceUnavailableError:
    return ProviderServiceUnavailableError(f"not asked: {reason}", provider=target.provider, model=target.model)


def _too_many(target: Target, seconds: float) -> ProviderRateLimitError:
    known = seconds not in (0.0, float("inf"))
    spent = f"its rate limit is spent for {in_seconds(seconds)} more" if known else "all its streams are taken"
    return ProviderRateLimitError(
        f"not asked: {spent}", provider=target.provider, model=target.model, retry_after=seconds if known else None
    )
