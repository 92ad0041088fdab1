"""What all requests of a switch share, and keep when the configuration changes.

Several threads may use a switch, each with its own event loop. Each part has a lock of its own, which it holds for
moments; nothing here holds two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from .. import _clock
from .._log import write
from .._policy import Policy
from .._resilience import RetryBudgetSettings
from ..notices import BudgetAlert, Notify
from ..tasks import Target
from .budgets import Budgets
from .health import Health
from .rate_limits import Limiter
from .retry_budget import RetryBudget


class SharedState:
    """The health of targets, the retry budgets of providers, the rate limits, and what was spent."""

    def __init__(
        self,
        policy: Policy,
        *,
        alert: Callable[[BudgetAlert], None] | None = None,
        clock: Callable[[], float] = _clock.monotonic,
        now: Callable[[], datetime] = _clock.now,
        notify: Notify = write,
    ) -> None:
        self.health = Health(partial(policy.resilience_of, None), clock, notify)
        self.limiter = Limiter(policy.providers, clock)
        self.budgets = Budgets(policy.budgets, alert, now, notify)
        self.notify = notify
        self._policy = policy
        self._clock = clock
        self._retry_budgets: dict[str, RetryBudget] = {}

    def adopt(self, policy: Policy) -> None:
        """Use another configuration from now on."""
        self._policy = policy
        self.health.adopt(partial(policy.resilience_of, None))
        self.limiter.adopt(policy.providers)
        self.budgets.adopt(policy.budgets)
        for provider, budget in list(self._retry_budgets.items()):  # a copy: other threads may add theirs meanwhile
            budget.adopt(self._retry_settings(provider))

    def retry_budget(self, provider: str) -> RetryBudget:
        """The retry budget of a provider."""
        budget = self._retry_budgets.get(provider)
        return budget or self._retry_budgets.setdefault(
            provider, RetryBudget(self._retry_settings(provider), self._clock)
        )

    def _retry_settings(self, provider: str) -> RetryBudgetSettings:
        return self._policy.resilience_of(None, Target(provider, "")).retry_budget
