"""How a whole stream ends: with its completion, or with an error that has what was delivered.

The cause of an error that is made here is the last failure. The cause of a failure is the SDK's own error.
"""

from __future__ import annotations

from ..events import StreamCompleted
from ..exceptions import (
    AllProvidersFailedError,
    BudgetExceededError,
    ContentFilterError,
    LLMDispatcherError,
    LocalResourceError,
    ProviderError,
    RequestTimeoutError,
    StreamBudgetExceededError,
    StreamingError,
    StreamTimeoutError,
)
from .continuation import obstacle_to_continuing
from .course import Course
from .job import Job
from .row import Row
from .watchdog import SwitchClosedError


def completion(job: Job, course: Course, row: Row) -> StreamCompleted:
    """The event that ends the turn whose last attempt has this row."""
    finished = row.finished
    assert finished is not None  # an attempt returns on terminal evidence only
    return StreamCompleted(
        course.transcript.text, job.ledger.usage, finished.finish_reason, finished.raw_finish_reason, row.finished_raw
    )


def final_error(job: Job, course: Course, others: int = 0) -> LLMDispatcherError | None:
    """The error to end with at once, or `None` if another try or another target may still save the stream.

    `others` is how many targets can still be asked: with `on_refusal: next`, a refusal leads to them.
    """
    error = course.failures[-1]
    leads_on = isinstance(error, ContentFilterError) and job.on_refusal == "next" and others > 0
    if not isinstance(error, ProviderError) and not leads_on:
        return _streaming_error(job, course, str(error)) if course.is_committed or course.follows_content else error
    if not course.is_committed or job.may_begin_again:
        return None
    reason = "on_break is 'raise'" if job.on_break == "raise" else obstacle_to_continuing(job.request, course)
    if reason is None:
        return None
    if job.on_break == "continue":
        reason += " (await, collect(), result(), parsed(), partials() and items() begin the answer again instead)"
    return _streaming_error(job, course, f"the stream broke and is not continued, because {reason}: {error}")


def exhaustion(job: Job, course: Course) -> LLMDispatcherError:
    """The error to end with after every target has failed."""
    failures = course.failures_of_turn
    is_only_one = len(job.targets) == 1 or all(isinstance(failure, LocalResourceError) for failure in failures)
    if is_only_one and not course.has_text:
        return course.failures[-1]
    everyone = AllProvidersFailedError(
        [failure for failure in failures if isinstance(failure, (ProviderError, ContentFilterError))]
    )
    everyone.__cause__ = course.failures[-1]
    if not course.has_text:
        return everyone
    return _streaming_error(job, course, f"the stream broke and could not be continued: {everyone.message}")


def interruption(job: Job, course: Course, error: SwitchClosedError) -> StreamingError:
    """The error for a stream whose switch was closed."""
    return StreamingError(str(error), partial=course.transcript.text, usage=job.ledger.usage, failures=course.failures)


def _streaming_error(job: Job, course: Course, message: str) -> StreamingError:
    kind = StreamingError
    if isinstance(course.failures[-1], RequestTimeoutError):
        kind = StreamTimeoutError
    elif isinstance(course.failures[-1], BudgetExceededError):
        kind = StreamBudgetExceededError
    error = kind(message, partial=course.transcript.text, usage=job.ledger.usage, failures=course.failures)
    error.__cause__ = course.failures[-1]
    return error
