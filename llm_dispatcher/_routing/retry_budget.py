"""A retry budget: in an outage, retries must not become the greater part of the load.

Several threads may use one budget. Two of them at the same moment may both draw its last retry, which does no harm.
See docs/decisions/0009.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .._resilience import RetryBudgetSettings
from .sliding_window import SlidingWindow

WINDOW: Final = 60.0
"""Seconds in which requests and retries are counted."""


class RetryBudget:
    """The budget of one provider: within a minute, at most `share` of its requests and `floor` more are retries."""

    def __init__(self, settings: RetryBudgetSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._requests = SlidingWindow(WINDOW, clock)
        self._retries = SlidingWindow(WINDOW, clock)

    def adopt(self, settings: RetryBudgetSettings) -> None:
        """Use other settings from now on."""
        self._settings = settings

    def request(self) -> None:
        """Count a request that comes to this provider for the first time."""
        self._requests.add()

    def draw(self, *, owing: bool = False) -> bool:
        """Take one retry out of the budget. With `owing`, the budget may be overdrawn. False if there is none."""
        share = self._settings.share
        if share is None:
            return True
        if not owing and self._retries.total + 1 > share * self._requests.total + self._settings.floor:
            return False
        self._retries.add()
        return True
