"""Budgets: what may be spent in a day and in a month, by all requests and by those of each namespace.

Before an attempt, the money that it may cost is reserved, so that many attempts at once cannot all spend the last
dollar. After it, the reservation is released and the real cost is added to `Spending`. Every amount counts twice: for
its namespace and for everybody.

A switch may be used from several threads, each with its loop. `_lock` guards the reservations and the record of sent
alerts; `Spending` has locks of its own. An alert is sent once for each budget and period.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from math import inf
from pathlib import Path
from threading import Lock
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from .. import _clock
from .._log import write
from .._policy import BudgetSettings
from ..notices import BudgetAlert, BudgetCallbackFailed, Notify, Period
from .spending import Line, Spending

EVERYBODY: Final = ""
"""The namespace of the budget for all requests. Every request counts towards it."""


ROUNDING: Final = 1e-9
"""Amounts below this count as zero, because sums of floats are not exact."""


class Budget(Struct, frozen=True):
    """One budget in its current period."""

    namespace: str
    period: Period
    line: Line
    limit: float

    def __str__(self) -> str:
        return f"the {self.period} budget" + (f" of {self.namespace!r}" if self.namespace else "")


class Budgets:
    """The budgets of the configuration, and what is reserved of them."""

    def __init__(
        self,
        settings: BudgetSettings,
        alert: Callable[[BudgetAlert], None] | None = None,
        now: Callable[[], datetime] = _clock.now,
        notify: Notify = write,
    ) -> None:
        self._settings = settings
        self._alert = alert
        self._now = now
        self._notify = notify
        self._zone = _zone(settings.time_zone)
        self.spending = self._spending(settings.path)
        self._reserved: dict[str, float] = {}
        self._alerted: set[Line] = set()
        self._lock = Lock()

    def adopt(self, settings: BudgetSettings) -> None:
        """Use other budgets from now on. What was spent is kept, unless the settings name another file for it."""
        if settings.path != self._settings.path:
            self.spending = self._spending(settings.path)
        self._settings, self._zone = settings, _zone(settings.time_zone)

    def _spending(self, path: str | None) -> Spending:
        return Spending(None if path is None else Path(path).expanduser(), self._notify)

    @property
    def are_set(self) -> bool:
        """Whether there is any budget at all."""
        return self._settings.are_set

    def left(self, namespace: str) -> tuple[float, str]:
        """What a request of this namespace may cost at most, and the name of the budget that has the least left."""
        least, whose = inf, ""
        for budget in self._of(namespace):
            left = budget.limit - self.spending.of(budget.line) - self._reserved.get(budget.namespace, 0.0)
            if left < least:
                least, whose = left, str(budget)
        return least, whose

    def reserve(self, namespace: str, dollars: float, expected: float | None = None) -> str | None:
        """Reserve an amount for an attempt. Returns the name of a budget that has too little left, or `None`.

        Args:
            namespace: The namespace of the request.
            dollars: The most that the attempt may cost, often far more than it will.
            expected: What it will probably cost. If nothing else is reserved, it is enough that this amount is left;
                otherwise the last dollars of a budget could not be spent at all.
        """
        with self._lock:
            for budget in self._of(namespace):
                reserved = self._reserved.get(budget.namespace, 0.0)
                left = budget.limit - self.spending.of(budget.line) - reserved
                minimum = dollars if reserved or expected is None else min(expected, dollars)
                if left < minimum or left <= 0:
                    return str(budget)
            for scope in _scopes(namespace):
                self._reserved[scope] = self._reserved.get(scope, 0.0) + dollars
        return None

    def release(self, namespace: str, dollars: float) -> None:
        """Give back an amount that was reserved."""
        with self._lock:
            for scope in _scopes(namespace):
                left = self._reserved.get(scope, 0.0) - dollars
                self._reserved[scope] = left if left > ROUNDING else 0.0

    def spend(self, namespace: str, dollars: float) -> None:
        """Add the cost of an attempt, as the ledger has it."""
        now = self._now().astimezone(self._zone)
        periods = (f"{now:%Y-%m-%d}", f"{now:%Y-%m}")
        self.spending.add([(scope, period) for scope in _scopes(namespace) for period in periods], dollars)
        for budget in self._of(namespace):
            self._alert_if_due(budget)

    def spent(self, namespace: str = EVERYBODY) -> dict[Period, float]:
        """Dollars spent today and this month, by a namespace or by all requests."""
        now = self._now().astimezone(self._zone)
        return {
            "daily": self.spending.of((namespace, f"{now:%Y-%m-%d}")),
            "monthly": self.spending.of((namespace, f"{now:%Y-%m}")),
        }

    def _of(self, namespace: str) -> Iterator[Budget]:
        now = self._now().astimezone(self._zone)
        for scope in _scopes(namespace):
            amounts = self._settings if scope == EVERYBODY else self._settings.namespaces.get(scope)
            if amounts is None:
                continue
            if amounts.daily is not None:
                yield Budget(scope, "daily", (scope, f"{now:%Y-%m-%d}"), amounts.daily)
            if amounts.monthly is not None:
                yield Budget(scope, "monthly", (scope, f"{now:%Y-%m}"), amounts.monthly)

    def _alert_if_due(self, budget: Budget) -> None:
        """Send an alert, once for each period, when the share `alert_at` of a budget is spent."""
        spent = self.spending.of(budget.line)
        if spent < self._settings.alert_at * budget.limit:
            return
        with self._lock:
            if budget.line in self._alerted:
                return
            self._alerted.add(budget.line)
        alert = BudgetAlert(budget.namespace, budget.period, budget.line[1], spent, budget.limit)
        self._notify(alert)
        if self._alert is not None:
            try:
                self._alert(alert)
            except Exception as error:  # noqa: BLE001 - the application's code: the budget holds all the same
                self._notify(BudgetCallbackFailed(error))


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)  # not every machine has a file of time zones


def _scopes(namespace: str) -> tuple[str, ...]:
    return (EVERYBODY,) if namespace == EVERYBODY else (EVERYBODY, namespace)
