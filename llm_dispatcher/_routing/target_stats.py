"""Statistics of the attempts at one target: counts, speeds and failures.

The whole is one frozen `TargetHealth`, rebuilt when an attempt is noted; only the age of the last failure is computed
when it is read. What is older than its window is dropped on the first read after that. `Health` holds its lock around
every call.
"""

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
"""Attempts from which speeds are calculated."""

FRESH: Final = 600.0
"""Seconds after which a sample is dropped, so that a target that was slow gets another chance."""

FAILING: Final = 60.0
"""Seconds in which failures are counted against a target's speed."""

TAIL: Final = 0.9
"""The share of attempts that are faster than the tail."""


class TargetHealth(Struct, frozen=True):
    """How a target has been doing. Counts begin with the switch; `first_token_after` is a running mean.

    `first_token_tail` (nine attempts in ten were faster) and `tokens_a_second` are those of the last ten minutes.
    `failing` is the share of attempts that failed in the last minute. `failed_ago` is how many seconds ago the last
    failure was. `opens_in` is for how many seconds the breaker admits nobody, `None` if it admits attempts.
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
        """The last failure in a sentence, without the vendor's words, which may quote anything."""
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
    """The samples and counts of one target."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[_Sample] = deque(maxlen=KEPT)
        self._attempts = SlidingWindow(FAILING, clock)
        self._failures = SlidingWindow(FAILING, clock)
        self._health = TargetHealth()
        self._fresh_until = 0.0
        self._failing_until = 0.0
        self._failed_at = 0.0

    def note(self, attempt: Attempt, *, is_counted: bool) -> None:
        """Record an attempt. If `is_counted` is true, it counts as a failure of the target."""
        now, health, failure = self._clock(), self._health, attempt.failure
        sample = _sample(attempt, now)
        self._attempts.add()
        if failure is not None:
            self._failed_at = now
        if is_counted:
            self._failures.add()
            self._failing_until = now + FAILING
        if sample is not None:
            self._samples.append(sample)
            self._fresh_until = now + FRESH
        first, mean = attempt.first_token_after, health.first_token_after
        if first is not None:
            mean = first if mean is None else mean + (first - mean) / 8
        self._health = replace(
            health,
            attempts=health.attempts + 1,
            failures=health.failures + (failure is not None),
            failures_in_a_row=0 if failure is None else health.failures_in_a_row + 1,
            last_failure=failure or health.last_failure,
            first_token_after=mean,
            failing=self._failures.total / self._attempts.total,
            **self._speeds(now),
        )

    @property
    def health(self) -> TargetHealth:
        """The health of the target, without its breaker."""
        now, health = self._clock(), self._health
        if health.first_token_tail is not None and now > self._fresh_until:
            health = self._health = replace(health, first_token_tail=None, tokens_a_second=None)
        if health.failing and now > self._failing_until:
            health = self._health = replace(health, failing=0.0)
        return health if health.last_failure is None else replace(health, failed_ago=now - self._failed_at)

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
    """What an attempt says of speed. If the first token never came, it takes at least as long as was waited for it."""
    first = attempt.first_token_after
    if first is None:
        timed_out = attempt.failure is not None and attempt.failure.kind == "ProviderTimeoutError"
        return _Sample(now, attempt.elapsed, 0, 0.0) if timed_out else None
    if attempt.outcome != "completed":
        return _Sample(now, first, 0, 0.0)
    # A float, so that sums of samples cannot overflow. A count that is too large for one fails here, and is not kept.
    return _Sample(now, first, float(attempt.usage.output_tokens), attempt.elapsed - first)
