"""Whether a request may try a target now: asked by the loop before each attempt, told of it afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..config.policy import Resilience
from ..events import Attempt
from ..exceptions import ProviderError, ProviderServiceUnavailableError
from ..provider import BODY
from ..tasks import Target
from .health import Health
from .retries import RetryBudget


class Traffic:
    """What all requests of a switch share: the health of its targets, and the retry budgets of its providers."""

    def __init__(self, resilience: Resilience, clock: Callable[[], float] = time.monotonic) -> None:
        self.health = Health(resilience.breaker, clock)
        self._resilience = resilience
        self._clock = clock
        self._retries: dict[str, RetryBudget] = {}

    def retries(self, provider: str) -> RetryBudget:
        """The retry budget of a provider."""
        return self._retries.setdefault(provider, RetryBudget(self._resilience.retry_budget, self._clock))


class Admission:
    """One request on its way: at most one attempt of it is under way at a time."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._asked: set[Target] = set()
        self._providers: set[str] = set()
        self._era = 0

    async def enter(self, target: Target) -> ProviderError | None:
        """Let the request try a target, or say why not. Who was let in is owed a `note`."""
        if target.provider == BODY:
            return None
        if not self._may_try(target):
            return _refused(target, f"the retry budget of {target.provider} is spent")
        era = self._traffic.health.enter(target)
        if era is None:
            return _refused(target, "its breaker is open")
        self._asked.add(target)
        if target.provider not in self._providers:
            self._providers.add(target.provider)
            self._traffic.retries(target.provider).request()
        self._era = era
        return None

    def note(self, attempt: Attempt) -> None:
        """An attempt that was let in is over."""
        if attempt.target.provider != BODY:
            self._traffic.health.note(attempt, self._era)

    def _may_try(self, target: Target) -> bool:
        """Every try after a request's first draws on the budget of the provider that receives it.

        A switch may owe what it draws where the target is doing well, or is another provider's and still unknown: it
        is not failing, and refusing it would save nobody but lose the request.
        """
        if not self._asked:
            return True
        health = self._traffic.health
        is_unknown = target.provider not in self._providers and health.is_new(target)
        owing = target not in self._asked and (is_unknown or health.is_well(target))
        return self._traffic.retries(target.provider).draw(owing=owing)


def _refused(target: Target, reason: str) -> ProviderServiceUnavailableError:
    return ProviderServiceUnavailableError(f"not asked: {reason}", provider=target.provider, model=target.model)
