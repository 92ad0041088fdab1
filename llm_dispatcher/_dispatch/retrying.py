"""How often a target is tried, and how long the loop waits between two tries."""

from __future__ import annotations

from importlib import import_module

from msgspec import Struct

from .. import _clock
from .._policy import Resilience
from ..exceptions import LLMDispatcherError, ProviderError


def load_what_failures_need() -> None:
    """Import now what is needed only later: a process that has run out of file descriptors cannot import. Python itself
    loads the codec `idna` when it looks up the first host name.
    """
    for module in ("tenacity", "encodings.idna"):
        import_module(module)


class Retrying(Struct, frozen=True):
    """Decides whether a target is tried again, and when. The backoff is tenacity's; the loop around it is ours, because
    tenacity calls a function again, and a stream that has begun cannot be called again.
    """

    resilience: Resilience

    def seconds_to_wait(self, error: LLMDispatcherError, tries: int, left: float | None) -> float | None:
        """Seconds until the same target is worth another try, after this many; `None` where it is not."""
        if not (isinstance(error, ProviderError) and error.retryable):
            return None
        if tries > self.resilience.max_retries:
            return None
        seconds = self._backoff(tries) if error.retry_after is None else self._asked_for(error.retry_after, left)
        return None if seconds is None or (left is not None and seconds >= left) else seconds

    def _backoff(self, tries: int) -> float:
        """A random time, up to a bound that doubles with each try: clients that failed together come back apart."""
        from tenacity import RetryCallState, Retrying, wait_random_exponential

        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = tries
        return wait_random_exponential(multiplier=self.resilience.backoff, max=self.resilience.max_backoff)(state)

    def _asked_for(self, seconds: float, left: float | None) -> float | None:
        """The time that the vendor asked for, and a random time more: it may have told a hundred clients the same.

        The addition is as long as the vendor's time at most, but at least `backoff` and at most `max_backoff`, and no
        more than half of what would be left of the request.
        """
        settings = self.resilience
        if seconds > settings.max_retry_after:
            return None
        spread = min(max(seconds, settings.backoff), settings.max_backoff)
        if left is not None:
            spread = max(0.0, min(spread, (left - seconds) / 2))
        return seconds + _clock.uniform(0.0, spread)
