"""Retries and their backoff: how often a target is tried, and how long the loop waits between two tries.

The rules for both are tenacity's: a `wait` strategy says how long, a `stop` strategy says when to give the target up.
The policy makes them of its settings, and an application may hand its own to the switch. The loop around them is ours,
because tenacity calls a function again, and a stream that has begun cannot be called again. Each strategy is asked with
a `RetryCallState` that holds what tenacity's own loop would have put there, measured on the loop's clock.

What no strategy changes: an error that is not `retryable` is never retried, a vendor's `Retry-After` is honoured, and
a wait ends before the time of the request does. Nothing here has state; a strategy that has some is the application's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from inspect import iscoroutinefunction
from math import isfinite
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from .. import _clock
from .._resilience import Resilience
from ..exceptions import ConfigurationError, LLMDispatcherError, ProviderError

if TYPE_CHECKING:
    from tenacity import RetryCallState

RetryWait: TypeAlias = "Callable[[RetryCallState], float]"
"""Seconds to wait before the next try: one of tenacity's `wait_…` objects, or a function like them."""

RetryStop: TypeAlias = "Callable[[RetryCallState], bool]"
"""Whether to give the target up: one of tenacity's `stop_…` objects, or a function like them."""


def load_what_failures_need() -> None:
    """Import now what is needed only later: a process that has run out of file descriptors cannot import. Python itself
    loads the codec `idna` when it looks up the first host name.
    """
    for module in ("tenacity", "encodings.idna"):
        import_module(module)


def check_strategies(retry_wait: object, retry_stop: object) -> None:
    """Raise a `TypeError` if one of these cannot be a strategy. `None` stands for the policy's own."""
    for name, strategy, example in (
        ("retry_wait", retry_wait, "wait_exponential(max=8)"),
        ("retry_stop", retry_stop, "stop_after_attempt(3)"),
    ):
        if isinstance(strategy, type):
            raise TypeError(f"{name} is a strategy of tenacity's, got the class {strategy.__name__}; write {example}")
        if strategy is not None and (not callable(strategy) or _is_async(strategy)):
            kind = "a coroutine function" if _is_async(strategy) else type(strategy).__name__
            raise TypeError(f"{name} is a strategy of tenacity's, such as {example}, got {kind}")


class Retrying(Struct, frozen=True):
    """Decides whether a target is tried again, and when. A strategy that is not given is the policy's."""

    resilience: Resilience
    wait: RetryWait | None = None
    stop: RetryStop | None = None

    def seconds_to_wait(
        self,
        error: LLMDispatcherError,
        tries: int,
        left: float | None,
        *,
        elapsed: float = 0.0,
        slept: float = 0.0,
        once_more: bool = False,
    ) -> float | None:
        """Seconds until another try of the same target, or `None` if the target is given up.

        Args:
            error: The error in which the last try ended.
            tries: How many tries there were.
            left: Seconds that a wait may take at most; `None` does not bound it.
            elapsed: Seconds since the first try began.
            slept: Seconds of these in which the loop waited between tries.
            once_more: Whether another try is worth while even if the strategy for giving up says otherwise. The
                backoff before it is shortened, rather than give the target up for lack of time.

        Raises:
            ConfigurationError: A strategy of the application's raised, or returned a value of the wrong type.
        """
        if not (isinstance(error, ProviderError) and error.retryable):
            return None
        state = self._state(error, tries, elapsed, slept)
        if error.retry_after is None:
            seconds = _checked_seconds(_ask("retry_wait", self.wait or policy_wait(self.resilience), state))
        elif error.retry_after > self.resilience.max_retry_after:
            return None
        else:
            seconds = self._after(error.retry_after, left)
        state.upcoming_sleep = seconds
        if _ask("retry_stop", self.stop or policy_stop(self.resilience), state) and not once_more:
            return None
        if left is None or seconds < left:
            return seconds
        return left / 2 if once_more and error.retry_after is None and left > 0 else None

    def may_retry(self, tries: int) -> bool:
        """Whether another try may follow after this many, as far as this is known before one fails."""
        return self.stop is not None or tries <= self.resilience.max_retries

    def _state(self, error: LLMDispatcherError, tries: int, elapsed: float, slept: float) -> RetryCallState:
        import tenacity

        state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
        state.attempt_number = tries
        state.set_exception((type(error), error, error.__traceback__))
        state.start_time, state.outcome_timestamp = 0.0, elapsed
        state.idle_for = slept
        return state

    def _after(self, seconds: float, left: float | None) -> float:
        """The time that the vendor asked for, and a random time more: it may have told a hundred clients the same.

        The addition is as long as the vendor's time at most, but at least `backoff` and at most `max_backoff`, and no
        more than half of what would be left of the request.
        """
        settings = self.resilience
        spread = min(max(seconds, settings.backoff), settings.max_backoff)
        if left is not None:
            spread = max(0.0, min(spread, (left - seconds) / 2))
        return seconds + _clock.uniform(0.0, spread)


def policy_wait(resilience: Resilience) -> RetryWait:
    """The wait strategy that a policy makes of `backoff` and `max_backoff`: exponential backoff with full jitter.

    The bound doubles with each try. The time is random below it, so that clients that failed together come back apart.
    (Tenacity's `wait_random_exponential` is the same, but takes its random numbers from elsewhere than `_clock`.)
    """
    from tenacity import wait_exponential

    bound = wait_exponential(multiplier=resilience.backoff, max=resilience.max_backoff)
    return lambda state: _clock.uniform(0.0, bound(state))


def policy_stop(resilience: Resilience) -> RetryStop:
    """The stop strategy that a policy makes of `max_retries`."""
    from tenacity import stop_after_attempt

    return stop_after_attempt(resilience.max_retries + 1)


def _ask(name: str, strategy: Callable[[RetryCallState], object], state: RetryCallState) -> object:
    try:
        answer = strategy(state)
    except Exception as error:
        raise ConfigurationError(f"it raised {type(error).__name__}: {error}", key=name) from error
    if isinstance(answer, Awaitable):
        getattr(answer, "close", lambda: None)()  # a coroutine that is dropped would warn
        raise ConfigurationError(f"it has to answer at once, got {answer!r}", key=name)
    return answer


def _checked_seconds(seconds: object) -> float:
    if isinstance(seconds, (int, float)) and isfinite(seconds) and seconds >= 0:
        return float(seconds)
    raise ConfigurationError(f"it has to return seconds, a finite number from 0 on, got {seconds!r}", key="retry_wait")


def _is_async(strategy: object) -> bool:
    return iscoroutinefunction(strategy) or iscoroutinefunction(getattr(strategy, "__call__", None))  # noqa: B004
