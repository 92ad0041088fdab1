"""`Turn`: what one target has had of a stream, and how long the loop waits before it asks this target again.

Requests and readings of a run are counted apart: a run that the vendor keeps is read on for as long as that brings
something new, and nothing is asked for again. Only the loop's task uses a turn.
"""

from __future__ import annotations

from typing import Final

from ..exceptions import LLMDispatcherError
from ..tasks import Target
from .job import Job
from .retrying import Retrying


class Turn:
    """The turn of one target. `tries` are the requests that it got, `silent` the readings of a run since the last one
    that brought something new.
    """

    def __init__(self, job: Job, target: Target, now: float) -> None:
        self.resilience: Final = job.resilience_of(target)
        self.tries = self.silent = 0
        self._retrying: Final = Retrying(self.resilience, job.retry_wait, job.retry_stop)
        self._began: Final = now
        self._slept = 0.0

    def begin_attempt(self, *, reads_on: bool) -> None:
        """The target is asked once more, or its run is read on."""
        if reads_on:
            self.silent += 1
        else:
            self.tries += 1

    @property
    def may_retry(self) -> bool:
        """Whether another try may follow, as far as this is known before this one fails."""
        return self._retrying.may_retry(self.tries)

    def seconds_to_wait(
        self, error: LLMDispatcherError, left: float | None, now: float, *, reads_on: bool, continues_best: bool
    ) -> float | None:
        """Seconds until the target is asked again, or `None` if it is given up.

        Args:
            error: The error in which the last attempt ended.
            left: Seconds that a wait may take at most; `None` does not bound it.
            now: The time of the loop.
            reads_on: Whether a run is read on, instead of a new request.
            continues_best: Whether the first failure has one more attempt, although the policy may not retry.

        Raises:
            ConfigurationError: A strategy of the application's raised, or returned a value of the wrong type.
        """
        count = self.silent if reads_on else self.tries
        is_first = count == (0 if reads_on else 1)
        return self._retrying.seconds_to_wait(
            error,
            max(1, count),
            left,
            elapsed=now - self._began,
            slept=self._slept,
            once_more=is_first and continues_best,
        )

    def note_sleep(self, seconds: float) -> None:
        """The loop has waited for so long."""
        self._slept += seconds
