"""How often a target is tried, and how long is waited in between."""

from __future__ import annotations

from msgspec import Struct

from ..config.policy import Resilience
from ..exceptions import LLMDispatcherError, ProviderError


class Patience(Struct, frozen=True):
    """One target's patience: tenacity's stop and wait, asked by the loop rather than run by tenacity.

    Tenacity calls a function again; a stream that has begun is no function that can be called again.
    """

    resilience: Resilience

    def wait(self, error: LLMDispatcherError, tries: int, left: float | None) -> float | None:
        """Seconds until the same target is worth another try, after this many; `None` where it is not."""
        if not (isinstance(error, ProviderError) and error.retryable):
            return None
        from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_random_exponential  # when first needed

        settings = self.resilience
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = tries
        if stop_after_attempt(settings.max_retries + 1)(state):
            return None
        if error.retry_after is not None:
            if error.retry_after > settings.max_retry_after:
                return None
            seconds = error.retry_after
        else:
            seconds = wait_random_exponential(multiplier=settings.backoff, max=settings.max_backoff)(state)
        return None if left is not None and seconds >= left else seconds
