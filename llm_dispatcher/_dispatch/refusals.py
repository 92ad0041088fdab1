"""What follows a refusal: a model that refuses to answer, a filter that stops it, and a vendor that goes on by itself.

With `on_refusal: next`, a refusal leads to the next target as a broken stream does, as long as there is one that can be
asked. The refusal of the last one ends the stream: it completes with its finish reason, or raises the filter's error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .._redaction import loggable
from .._usage import Usage
from ..events import Event, Failure, ProviderEvent, StreamInterrupted
from ..exceptions import ContentFilterError
from ..notices import TargetGivenUp
from ..provider import Handover
from ..tasks import Target
from .continuation import obstacle_to_continuing
from .course import Course
from .job import Job
from .row import Row

_REFUSING: Final = frozenset(("refusal", "content_filter"))
"""The finish reasons of an answer that was refused."""
_LONGEST: Final = 1_000
"""At most this many characters are in a message, whatever the vendor has written."""
BY_THE_VENDOR: Final = "handed over by the vendor"
"""The proof of an attempt that continues what another model of its vendor has begun in the same answer."""


def leads_on(job: Job, course: Course, row: Row) -> bool:
    """Whether an attempt that is complete has ended in a refusal after which another target is asked."""
    if job.on_refusal == "stop" or row.finished is None or row.finished.finish_reason not in _REFUSING:
        return False
    if not course.is_committed_by(row):
        return row.others > 0
    if not row.successors:
        return False
    return job.may_begin_again or (job.on_break != "raise" and obstacle_to_continuing(job.request, course) is None)


def refusal_of(row: Row) -> ContentFilterError:
    """The error of an attempt that was refused. It has none of the model's own words, which may quote the prompt."""
    assert row.finished is not None  # `leads_on` has looked
    is_filter = row.finished.finish_reason == "content_filter"
    category = next((_category(event) for event in row.refusals), None)
    return _error(row, "a filter stopped the answer" if is_filter else "the model refused to answer", category)


def handed_over(job: Job, course: Course, row: Row, handover: Handover, now: float) -> Iterator[Event]:
    """The vendor goes on with another model: the row of the model before it ends, and this row begins anew."""
    error = _error(row, f"the model stopped ({handover.reason}), and {handover.to_model} continues", handover.category)
    earlier = row.hand_over(Target(row.target.provider, handover.to_model), error, now)
    course.end(earlier)
    course.failures.append(error)
    if earlier.is_shown and course.text:
        row.rung, row.proof = "prefill", BY_THE_VENDOR
    elif earlier.has_shown_a_tool_call:  # it is taken back: nothing is left to continue
        row.rung, row.proof = "restarted", BY_THE_VENDOR
    if not earlier.output and not earlier.has_tool_calls:  # not billed
        earlier.usage, earlier.usage_is_final = Usage(source="reported"), True
    job.notify(TargetGivenUp(earlier.target, Failure.of(error), earlier.delivered))
    if earlier.is_shown:
        yield StreamInterrupted(Failure.of(error), course.transcript.characters)


def _error(row: Row, message: str, category: str | None) -> ContentFilterError:
    target = row.target
    return ContentFilterError(
        loggable(f"{message} (category {category})" if category else message)[:_LONGEST],
        provider=target.provider,
        model=target.model,
        request_id=row.request_id,
    )


def _category(event: ProviderEvent) -> str | None:
    category = event.data.get("category")
    return category if isinstance(category, str) else None
