"""How streams end: success only on terminal evidence, typed errors, and nothing more for a reader that left."""

from __future__ import annotations

import asyncio
from math import inf

from llm_dispatcher._policy import BODY
from llm_dispatcher.events import Failure, StreamCancelled, StreamCompleted, StreamFailed
from llm_dispatcher.exceptions import (
    AllProvidersFailedError,
    LLMDispatcherError,
    ProviderError,
    StreamingError,
)
from llm_dispatcher.provider import Finished
from tests.simulation.promises.kit import (
    TIMER,
    attempts_of,
    end_of,
    ended_with_its_switch,
    everyone,
    fail,
    finished,
    has_body,
    is_free,
    outcome_of,
)
from tests.simulation.promises.matching import Request, of_reading, requests
from tests.simulation.record import Reading, Run


def every_reader_comes_to_an_end(run: Run) -> None:
    """Every reader ends, and the run itself does not get stuck. Readers whose process was killed, or that were to begin
    after the end of the scenario, do not end.
    """
    if run.stuck:
        fail("the run", "an end", run.stuck)
    for reading in everyone(run):
        is_too_late = reading.plan.starts_at + run.stalled >= run.scenario.ends_at and reading in run.readings
        if outcome_of(reading) == "open" and not is_too_late and not run.processes[reading.process].was_killed:
            fail(reading, "an end, because its process was not killed", "none")


def errors_are_typed(run: Run) -> None:
    """Every error that ends a stream is one of the package's errors, and no bare base class of them."""
    for reading in finished(run):
        if outcome_of(reading) != "failed":
            continue
        error = reading.error
        if not isinstance(error, LLMDispatcherError) or type(error) in (LLMDispatcherError, ProviderError):
            fail(reading, "a typed error of the package", repr(error))


def errors_hold_typed_failures(run: Run) -> None:
    """The failures inside an error are typed as well, and there is one for each attempt that failed."""
    for reading in finished(run):
        if not isinstance(reading.error, (StreamingError, AllProvidersFailedError)):
            continue
        for failure in reading.error.failures:
            if not isinstance(failure, LLMDispatcherError):
                fail(reading, "typed failures", repr(failure))


def a_cancelled_reader_gets_its_cancellation(run: Run) -> None:
    """A cancelled reader raises `CancelledError` and nothing else; nobody else does."""
    for reading in everyone(run):
        is_cancellation = isinstance(reading.error, asyncio.CancelledError)
        if outcome_of(reading) == "cancelled" and reading.error is not None and not is_cancellation:
            fail(reading, "CancelledError", repr(reading.error))
        if is_cancellation and outcome_of(reading) != "cancelled":
            fail(reading, "no CancelledError, because nobody cancelled it", repr(reading.error))
        if reading.cancelled_at is not None and reading.outcome not in ("cancelled", "open"):
            fail(reading, f"its cancellation, because it was cancelled at {reading.cancelled_at:.3f}", reading.outcome)
        is_stopped = reading.plan.cancelled_after is not None or reading.cancelled_at is not None
        if outcome_of(reading) == "cancelled" and not is_stopped:
            fail(reading, "an outcome other than cancelled, because nobody cancelled it", repr(reading.error))


def cancellations_of_ours_are_taken_back(run: Run) -> None:
    """A reader that nobody else has cancelled has no cancellation left on its task, whatever clocks have done."""
    for reading in finished(run):
        is_stopped = reading.plan.cancelled_after is not None or reading.ended_by_other is not None
        if reading.cancellations and not is_stopped:
            fail(reading, "a task without open cancellations", reading.cancellations)


def only_a_closed_switch_ends_a_stream(run: Run) -> None:
    """A stream ends with the error of a closed switch only if its switch was closed."""
    for reading in finished(run):
        ended = inf if reading.ended_at is None else reading.ended_at  # `None`: killed while it held the error
        closed = [each for each in run.scenario.happenings if each.kind == "close" and each.at <= ended + TIMER]
        if ended_with_its_switch(reading) and not closed:
            fail(reading, "no error of a closed switch, because nobody has closed it", repr(reading.error))


def only_a_failure_has_an_error(run: Run) -> None:
    """A reader that completed or left has no error, and neither has its response."""
    for reading in finished(run):
        if outcome_of(reading) in ("completed", "left"):
            if reading.error is not None:
                fail(reading, "no error", repr(reading.error))
            if reading.response is not None and reading.response.error is not None:
                fail(reading, "response.error is None", repr(reading.response.error))


def the_last_event_tells_the_error(run: Run) -> None:
    """`StreamFailed` and `response.error` are about the very error that the reader got."""
    for reading in finished(run):
        if outcome_of(reading) != "failed" or reading.error is None or has_body(reading):
            continue
        end = end_of(reading.watched)
        if isinstance(end, StreamFailed) and end.failure != Failure.of(reading.error):
            fail(reading, f"StreamFailed with {Failure.of(reading.error)}", end.failure)
        if reading.response is not None and reading.response.error is not reading.error:
            fail(reading, f"response.error is {reading.error!r}", reading.response.error)


def a_reader_that_left_gets_nothing_more(run: Run) -> None:
    """After a reader has left, its stream is cancelled: it gets no event, no text and no error any more."""
    for reading in finished(run):
        if outcome_of(reading) != "left" or has_body(reading):
            continue
        end = end_of(reading.watched)
        is_told = not reading.watched or _had_the_end(reading)
        if not isinstance(end, StreamCancelled) and not is_told:
            fail(reading, "its stream ends with StreamCancelled", type(end).__name__)
        if reading.response is not None and not is_told and reading.response.finish_reason != "cancelled":
            fail(reading, "finish_reason 'cancelled'", reading.response.finish_reason)


def success_has_terminal_evidence(run: Run) -> None:
    """Every complete answer is backed by a vendor that has said so: one of its own attempts, or, if it was free, one of
    another reader's, with the same text and for the same reason.
    """
    for reading in everyone(run):
        end = end_of(reading.watched)
        if outcome_of(reading) == "completed" and not isinstance(end, StreamCompleted) and not has_body(reading):
            fail(reading, "a StreamCompleted, because its answer is complete", type(end).__name__)
        if not isinstance(end, StreamCompleted):
            continue
        own = of_reading(run, reading)
        rows = attempts_of(reading)
        if rows and rows[-1].target.provider == BODY and not is_free(reading):
            continue  # the function's own body has answered
        if not is_free(reading):
            last = own[-1] if own else None
            if last is None or not last.served.finished:
                fail(reading, "a Finished of its last vendor, because its answer is complete", last and last.served)
            if _reason(last) != end.finish_reason:
                fail(reading, f"the finish reason of {last.served.target}, {_reason(last)!r}", end.finish_reason)
        elif not any(_backs(each, reading, end) for each in requests(run)):
            fail(reading, f"another reader's vendor that finished the answer {end.text!r}", "none")


def _backs(request: Request, reading: Reading, end: StreamCompleted) -> bool:
    is_the_same = request.reading.question == reading.question or request.reading.truth == reading.truth
    return is_the_same and request.served.finished and _reason(request) == end.finish_reason


def _reason(request: Request) -> str | None:
    return next((piece.finish_reason for piece in request.served.pieces if isinstance(piece, Finished)), None)


def _had_the_end(reading: Reading) -> bool:
    """Whether the reader had got the end already when it left: the last event, or the closing item after the text; or
    whether another task has closed its stream just when it was complete.
    """
    if reading.plan.way == "events":
        return end_of(reading.events) is not None
    is_complete = isinstance(end_of(reading.watched), StreamCompleted)
    return is_complete and (reading.plan.way == "metadata" or reading.ended_by_other is not None)
