"""What the attempts at one target have shown of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from .._durations import in_seconds
from ..events import Attempt, Failure
from ..notices import BreakerState
from .sliding_window import SlidingWindow

KEPT: Final = 64
"""Samples that speeds are told from."""

FRESH: Final = 600.0
"""Seconds after which a sample says nothing more, so that a target that was slow is given another chance."""

FAILING: Final = 60.0
"""Seconds in which failures are counted against a target's speed."""

TAIL: Final = 0.9
"""The share of attempts that are faster than the tail."""


class TargetHealth(Struct, frozen=True):
    """How a target has been doing. Counts are since the switch was made; `first_token_after` is a running mean.

    `first_token_tail` (nine tries in ten were faster) and `tokens_a_second` are as observed in the last ten minutes,
    `failing` is the share of failures in the last one. `failed_ago` is how many seconds ago the last failure was, and
    `opens_in` how many the breaker lets nobody in, `None` where it lets them in.
    """

    attempts: int = 0
    failures: int = 0
    failures_in_a_row: int = 0
    last_failure: Failure | None = None
    failed_ago: float | None = None
    first_token_after: float | None = None
    first_token_tail: float | None = None
    tokens_a_second: float | None = None
    failing: float = 0.0
    breaker: BreakerState = "closed"
    opens_in: float | None = None

    @property
    def failed(self) -> str | None:
        """The last failure in words of ours: a vendor's own may quote anything."""
        if self.last_failure is None:
            return None
        status = "" if self.last_failure.status is None else f" (HTTP {self.last_failure.status})"
        since = "" if self.failures_in_a_row else ", and has answered since"
        return f"it failed {in_seconds(self.failed_ago or 0.0)} ago with {self.last_failure.kind}{status}{since}"


class _Sample(Struct, frozen=True):
    when: float
    first_token: float
    tokens: float
    seconds: float


class TargetStats:
    """One target's samples and counts, as one value that is made anew only when it changes; but for a failure's age."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[_Sample] = deque(maxlen=KEPT)
        self._attempts = SlidingWindow(FAILING, clock)
        self._failures = SlidingWindow(FAILING, clock)
        self._seen = TargetHealth()
        self._fresh_until = 0.0
        self._failing_until = 0.0
        self._failed_at = 0.0

    def note(self, attempt: Attempt, *, counted: bool) -> None:
        """An attempt that was not left by its reader is over; if `counted`, it tells that the target failed."""
        now, known, failure = self._clock(), self._seen, attempt.failure
        sample = _sample(attempt, now)
        self._attempts.add()
        if failure is not None:
            self._failed_at = now
        if counted:
            self._failures.add()
            self._failing_until = now + FAILING
        if sample is not None:
            self._samples.append(sample)
            self._fresh_until = now + FRESH
        first, mean = attempt.first_token_after, known.first_token_after
        if first is not None:
            mean = first if mean is None else mean + (first - mean) / 8
        self._seen = replace(
            known,
            attempts=known.attempts + 1,
            failures=known.failures + (failure is not None),
            failures_in_a_row=0 if failure is None else known.failures_in_a_row + 1,
            last_failure=failure or known.last_failure,
            first_token_after=mean,
            failing=self._failures.total / self._attempts.total,
            **self._speeds(now),
        )

    @property
    def seen(self) -> TargetHealth:
        """The target's health, breaker aside."""
        now, known = self._clock(), self._seen
        if known.first_token_tail is not None and now > self._fresh_until:
            known = self._seen = replace(known, first_token_tail=None, tokens_a_second=None)
        if known.failing and now > self._failing_until:
            known = self._seen = replace(known, failing=0.0)
        return known if known.last_failure is None else replace(known, failed_ago=now - self._failed_at)

    def _speeds(self, now: float) -> dict[str, float | None]:
        fresh = [sample for sample in self._samples if now - sample.when <= FRESH]
        if not fresh:
            return {"first_token_tail": None, "tokens_a_second": None}
        firsts = sorted(sample.first_token for sample in fresh)
        seconds = sum(sample.seconds for sample in fresh)
        return {
            "first_token_tail": firsts[min(int(TAIL * len(firsts)), len(firsts) - 1)],
            "tokens_a_second": sum(sample.tokens for sample in fresh) / seconds if seconds > 0 else None,
        }


def _sample(attempt: Attempt, now: float) -> _Sample | None:
    """What an attempt says of speed. One whose first token never came says that it takes longer than that."""
    first = attempt.first_token_after
    if first is None:
        timed_out = attempt.failure is not None and attempt.failure.kind == "ProviderTimeoutError"
        return _Sample(now, attempt.elapsed, 0, 0.0) if timed_out else None
    if attempt.outcome != "completed":
        return _Sample(now, first, 0, 0.0)
    # (A float, so that sums of samples cannot overflow: a count too large for one fails here, before it is kept.)
    return _Sample(now, first, float(attempt.usage.output_tokens), attempt.elapsed - first)
