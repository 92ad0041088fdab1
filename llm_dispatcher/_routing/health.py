"""How each target has been doing, as seen from here, and whether it may be asked."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final

from msgspec.structs import replace

from .. import _clock
from .._log import write
from .._policy import Resilience
from ..events import Attempt, Failure
from ..exceptions import InvalidRequestError, LocalResourceError, ModelUnsupportedError, ProviderTimeoutError
from ..notices import Notify
from ..tasks import Target
from .breaker import Breaker, counts
from .target_stats import TargetHealth, TargetStats

KNOWN: Final = 1_000
"""Targets that are remembered. A request may name any model, and each that no vendor has is a target too."""

_REFUSED_HERE: Final = frozenset((ModelUnsupportedError.__name__, InvalidRequestError.__name__))
"""What a request that cannot be written on a vendor's wire ends in, as well as one that the vendor refuses."""

LOCAL: Final = LocalResourceError.__name__
"""What fails because of this machine says nothing about a target."""


class Health:
    """The ledger's rows of all streams, folded into one pulse a target, and one breaker a target."""

    def __init__(
        self, resilience: Resilience, clock: Callable[[], float] = _clock.monotonic, notify: Notify = write
    ) -> None:
        self._resilience = resilience
        self._clock = clock
        self._notify = notify
        self._pulses: dict[Target, TargetStats] = {}
        self._breakers: dict[Target, Breaker] = {}
        self._lock = Lock()  # a switch may be used from several threads, each with its loop

    def adopt(self, resilience: Resilience) -> None:
        """Other breakers and clocks from now on."""
        with self._lock:
            self._resilience = resilience
            for breaker in self._breakers.values():
                breaker.adopt(resilience.breaker)

    def enter(self, target: Target) -> int | None:
        """The breaker's pass for an attempt at a target, or `None`: not now. Each pass goes back by `leave`."""
        with self._lock:
            breaker = self._breakers.get(target)
            if breaker is None:
                self._make_room()
                breaker = self._breakers[target] = Breaker(target, self._resilience.breaker, self._clock, self._notify)
            return breaker.enter()

    def leave(self, target: Target, era: int) -> None:
        """Take back a pass: the attempt that had it is over, or was not made."""
        with self._lock:
            if (breaker := self._breakers.get(target)) is not None:
                breaker.leave(era)

    def note(self, attempt: Attempt, era: int) -> None:
        """Take in an attempt that is over. One that the reader left says nothing about the target, and
        neither does one of which the vendor never heard.
        """
        failed = self._failed(attempt)
        with self._lock:
            if failed is not None and (breaker := self._breakers.get(attempt.target)) is not None:
                breaker.note(era, failed=failed)
            if attempt.outcome == "completed" or (attempt.failure is not None and _was_sent(attempt, attempt.failure)):
                pulse = self._pulses.get(attempt.target)
                if pulse is None:
                    pulse = self._pulses[attempt.target] = TargetStats(self._clock)
                pulse.note(attempt, counted=failed is True)

    def _make_room(self) -> None:
        """Forget targets that never answered, the oldest first; one whose breaker keeps requests away is kept."""
        if len(self._breakers) < KNOWN:
            return
        for target, breaker in list(self._breakers.items()):
            pulse = self._pulses.get(target)
            if breaker.is_closed and (pulse is None or pulse.seen.attempts == pulse.seen.failures):
                del self._breakers[target]
                self._pulses.pop(target, None)

    def _failed(self, attempt: Attempt) -> bool | None:
        """Whether the target failed, if the attempt says anything about that. A first token that was late for an
        impatient caller, and not by the configured clock, does not.
        """
        failure = attempt.failure
        if failure is None:
            return False if attempt.outcome == "completed" else None
        if failure.kind == ProviderTimeoutError.__name__ and failure.status is None and not attempt.delivered:
            latest = self._resilience.timeouts.first_token
            if attempt.first_token_after is None and (latest is None or attempt.elapsed < latest):
                return None
        return True if counts(failure) else None

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


def _was_sent(attempt: Attempt, failure: Failure) -> bool:
    """Whether the vendor has seen the request: its refusals have a status, or are of an answer that had begun."""
    if failure.kind == LOCAL:
        return False
    return failure.kind not in _REFUSED_HERE or failure.status is not None or attempt.usage.source != "unknown"
