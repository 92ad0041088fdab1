"""How each target has been doing, as seen from here, and whether it may be asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from msgspec.structs import replace

from ..config.policy import BreakerSettings
from ..events import Attempt
from ..tasks import Target
from .breaker import Breaker, counts
from .pulse import Pulse, TargetHealth


class Health:
    """The ledger's rows of all streams, folded into one pulse a target, and one breaker a target."""

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._pulses: dict[Target, Pulse] = {}
        self._breakers: dict[Target, Breaker] = {}
        self._lock = Lock()  # a switch may be used from several threads, each with its loop

    def adopt(self, settings: BreakerSettings) -> None:
        """Other breakers from now on."""
        with self._lock:
            self._settings = settings
            for breaker in self._breakers.values():
                breaker.adopt(settings)

    def enter(self, target: Target) -> int | None:
        """The breaker's pass for an attempt at a target, or `None`: not now. Each pass goes back with its `note`."""
        with self._lock:
            breaker = self._breakers.get(target)
            if breaker is None:
                breaker = self._breakers[target] = Breaker(target, self._settings, self._clock)
            return breaker.enter()

    def release(self, target: Target, era: int) -> None:
        """A pass that was not used."""
        with self._lock:
            self._breakers[target].leave(era, None)

    def note(self, attempt: Attempt, era: int) -> None:
        """Take in an attempt that is over. One that the reader left says nothing about the target."""
        with self._lock:
            if attempt.outcome == "completed" or attempt.failure is not None:
                pulse = self._pulses.get(attempt.target)
                if pulse is None:
                    pulse = self._pulses[attempt.target] = Pulse(self._clock)
                pulse.note(attempt)
            self._breakers[attempt.target].leave(era, _told(attempt))

    def is_well(self, target: Target) -> bool:
        """Whether the last attempt at a target was a success."""
        pulse = self._pulses.get(target)
        return pulse is not None and pulse.seen.failures_in_a_row == 0

    def is_new(self, target: Target) -> bool:
        """Whether nothing is known of a target yet."""
        return target not in self._pulses

    def snapshot(self) -> dict[Target, TargetHealth]:
        with self._lock:
            known = {target: pulse.seen for target, pulse in self._pulses.items()}
            for target, breaker in self._breakers.items():
                if not breaker.is_closed and target in known:
                    known[target] = replace(known[target], breaker=breaker.state, opens_in=breaker.opens_in)
        return known


def _told(attempt: Attempt) -> bool | None:
    """Whether the target failed, if the attempt says anything about that."""
    if attempt.failure is None:
        return False if attempt.outcome == "completed" else None
    return True if counts(attempt.failure) else None
