"""A circuit breaker: it keeps requests away from a target that fails, and lets a few through as probes.

States: `closed` (attempts are admitted), `open` (none is admitted for `cooldown` seconds), `half_open` (a few are
admitted as probes). Each change of state begins a new era and forgets all counts. An attempt gets the number of the era
in which it was admitted, and reports with that number: an attempt from an earlier era says nothing about this one.

A breaker has no lock of its own. `Health` holds its lock around every call, and sends the notices of a breaker after
it has released the lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .._durations import in_seconds
from .._log import write
from .._resilience import BreakerSettings
from ..events import Failure
from ..exceptions import (
    ProviderConnectionError,
    ProviderProtocolError,
    ProviderQuotaExceededError,
    ProviderRateLimitError,
    ProviderServiceUnavailableError,
    ProviderTimeoutError,
    StreamTruncatedError,
)
from ..notices import BreakerChanged, BreakerState, Notify
from ..tasks import Target
from .sliding_window import SlidingWindow

_COUNTED: Final = frozenset(
    kind.__name__
    for kind in (
        ProviderConnectionError,
        ProviderTimeoutError,  # stalls and late first tokens are among these
        ProviderRateLimitError,
        ProviderServiceUnavailableError,
        ProviderProtocolError,
        ProviderQuotaExceededError,
        StreamTruncatedError,
    )
)


def counts(failure: Failure) -> bool:
    """Whether a failure says that the target is unhealthy. A refusal that the request itself has caused does not."""
    if failure.status is not None and 400 <= failure.status < 500 and failure.status not in (408, 429):
        return False
    return failure.kind in _COUNTED


class Breaker:
    """The breaker of one target, or of one target for the requests of one `route`.

    A closed breaker opens when `failures` attempts within `window` seconds have failed, and these were in a row or at
    least half of all. An open one admits nobody for `cooldown` seconds. Then it is half open and admits `probes`
    attempts at a time. The first probe that ends closes the breaker or opens it again. If no probe ends for `cooldown`
    seconds, because readers are slow or answers are long, one more is admitted.
    """

    def __init__(
        self,
        target: Target,
        settings: BreakerSettings,
        clock: Callable[[], float],
        notify: Notify = write,
        route: str = "",
    ) -> None:
        self._target = target
        self._route = f", for the route {route}" if route else ""
        self._settings = settings
        self._clock = clock
        self._notify = notify
        self._attempts = SlidingWindow(settings.window, clock)
        self._failures = SlidingWindow(settings.window, clock)
        self._in_a_row = 0
        self._state: BreakerState = "closed"
        self._until = 0.0
        self._probes = 0
        self._era = 0

    def adopt(self, settings: BreakerSettings) -> None:
        """Use other settings from now on. If the window has another length, counting begins again."""
        if settings.window != self._settings.window:
            self._attempts = SlidingWindow(settings.window, self._clock)
            self._failures = SlidingWindow(settings.window, self._clock)
        self._settings = settings

    @property
    def state(self) -> BreakerState:
        """The state that the next attempt will meet."""
        return "half_open" if self._state == "open" and self._clock() >= self._until else self._state

    @property
    def is_closed(self) -> bool:
        """Whether every attempt is admitted."""
        return self._state == "closed"

    @property
    def opens_in(self) -> float | None:
        """Seconds until an attempt is admitted; `None` if one is admitted now; 0.0 if unknown, while probes run."""
        match self.state:
            case "open":
                return self._until - self._clock()
            case "half_open" if self._probes >= self._settings.probes and self._clock() < self._until:
                return 0.0
            case _:
                return None

    def enter(self) -> int | None:
        """Admit an attempt: the number of the era, or `None` if it is not admitted now."""
        if self.opens_in is not None:
            return None
        if self._state == "open":
            self._change("half_open", "the next attempt is a probe")
        if self._state == "half_open":
            self._probes += 1
            self._until = self._clock() + self._settings.cooldown
        return self._era

    def leave(self, era: int) -> None:
        """An attempt that was admitted in this era is over, or was not made."""
        if era == self._era and self._state == "half_open":
            self._probes -= 1

    def note(self, era: int, *, failed: bool) -> None:
        """Count an attempt that says something about the target. `leave` follows."""
        if era != self._era:
            return
        if self._state == "half_open":
            if failed:
                self._open("a probe failed")
            else:
                self._change("closed", "a probe was answered")
            return
        self._attempts.add()
        self._in_a_row = self._in_a_row + 1 if failed else 0
        if failed:
            self._failures.add()
            self._open_if_unhealthy()

    def _open_if_unhealthy(self) -> None:
        most, failures, attempts = self._settings.failures, self._failures.total, self._attempts.total
        if most is not None and failures >= most and (self._in_a_row >= most or 2 * failures >= attempts):
            self._open(f"{failures} of {attempts} attempts failed within {in_seconds(self._settings.window)}")

    def _open(self, reason: str) -> None:
        self._until = self._clock() + self._settings.cooldown
        self._change("open", f"{reason}; it stays so for {in_seconds(self._settings.cooldown)}")

    def _change(self, state: BreakerState, reason: str) -> None:
        self._state = state
        self._era += 1
        self._probes = 0
        self._attempts.clear()
        self._failures.clear()
        self._in_a_row = 0
        self._notify(BreakerChanged(self._target, state, f"{reason}{self._route}"))
