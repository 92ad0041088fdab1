"""How each target has been doing, as seen from here, and whether it may be asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from msgspec import Struct
from msgspec.structs import replace

from ..config.policy import BreakerSettings
from ..events import Attempt, Failure
from ..tasks import Target
from .breaker import Breaker, State, counts


class TargetHealth(Struct, frozen=True):
    """Counts since the switch was made; `first_token_after` is a running mean in seconds.

    `opens_in` is how many seconds the breaker lets nobody in, `None` where it lets them in.
    """

    attempts: int = 0
    failures: int = 0
    failures_in_a_row: int = 0
    last_failure: Failure | None = None
    first_token_after: float | None = None
    breaker: State = "closed"
    opens_in: float | None = None


class Health:
    """The ledger's rows of all streams, folded into one value a target, and one breaker a target."""

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._targets: dict[Target, TargetHealth] = {}
        self._breakers: dict[Target, Breaker] = {}
        self._lock = Lock()  # a switch may be used from several threads, each with its loop

    def enter(self, target: Target) -> int | None:
        """The breaker's pass for an attempt at a target, or `None`: not now. Each pass goes back with its `note`."""
        with self._lock:
            breaker = self._breakers.get(target)
            if breaker is None:
                breaker = self._breakers[target] = Breaker(target, self._settings, self._clock)
            return breaker.enter()

    def note(self, attempt: Attempt, era: int) -> None:
        """Take in an attempt that is over. One that the reader left says nothing about the target."""
        failed = attempt.failure is not None
        with self._lock:
            if attempt.outcome == "completed" or failed:
                self._targets[attempt.target] = _folded(self._targets.get(attempt.target, TargetHealth()), attempt)
            self._breakers[attempt.target].leave(era, _told(attempt))

    def is_well(self, target: Target) -> bool:
        """Whether the last attempt at a target was a success."""
        known = self._targets.get(target)
        return known is not None and known.failures_in_a_row == 0

    def is_new(self, target: Target) -> bool:
        """Whether nothing is known of a target yet."""
        return target not in self._targets

    def snapshot(self) -> dict[Target, TargetHealth]:
        with self._lock:
            known = dict(self._targets)
            for target, breaker in self._breakers.items():
                if not breaker.is_closed and target in known:
                    known[target] = replace(known[target], breaker=breaker.state, opens_in=breaker.opens_in)
        return known


def _told(attempt: Attempt) -> bool | None:
    """Whether the target failed, if the attempt says anything about that."""
    if attempt.failure is None:
        return False if attempt.outcome == "completed" else None
    return True if counts(attempt.failure) else None


def _folded(known: TargetHealth, attempt: Attempt) -> TargetHealth:
    failed = attempt.failure is not None
    first = attempt.first_token_after
    mean = known.first_token_after
    if first is not None:
        mean = first if mean is None else mean + (first - mean) / 8
    return replace(
        known,
        attempts=known.attempts + 1,
        failures=known.failures + failed,
        failures_in_a_row=known.failures_in_a_row + 1 if failed else 0,
        last_failure=attempt.failure or known.last_failure,
        first_token_after=mean,
    )
