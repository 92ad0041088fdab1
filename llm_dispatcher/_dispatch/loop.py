"""The loop: which target, retry, switch, give up. Everything else in the house only watches what comes out of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from .._bookkeeping import reported_not_raised
from .._policy import BODY
from ..events import AttemptOutcome, Event, Failure, StreamCompleted, StreamInterrupted
from ..exceptions import (
    AllProvidersFailedError,
    BudgetExceededError,
    LLMDispatcherError,
    LocalResourceError,
    ProviderError,
    RequestTimeoutError,
    StreamBudgetExceededError,
    StreamingError,
    StreamTimeoutError,
)
from ..notices import RetryScheduled, TargetGivenUp, TargetSkipped
from .attempt import Delivered, attempt
from .continuation import why_not
from .ending import too_slow
from .job import Dispatch
from .ledger import Row, attempt_of, committed
from .retrying import Patience
from .watchdog import Clocks, SwitchClosedError


async def attempts(dispatch: Dispatch) -> AsyncGenerator[Event, None]:
    """The events of one stream: a legal order up to its `Failed` or `Cancelled`, which is raised here."""
    loop = asyncio.get_running_loop()
    clocks = Clocks(dispatch.resilience.timeouts, dispatch.deadline)
    if dispatch.under_way is not None:
        dispatch.under_way.add(clocks)
    patience = Patience(dispatch.resilience)
    delivered = Delivered()
    rows: list[Row] = []
    failures: list[LLMDispatcherError] = []
    try:
        for place, target in enumerate(dispatch.targets):
            tries = 0
            clocks.begin_target(_others(dispatch, place, rows))
            while not (target.provider == BODY and committed(rows)):
                # (A stand-in's answer is no continuation of a model's: it is asked before commit only.)
                with clocks.unless_closed():
                    refusal = await dispatch.admission.enter(target, clocks.left_for_a_try)
                if refusal is not None:
                    if clocks.are_over:  # all that was left went by in line
                        refusal = too_slow("total", target, clocks)
                    dispatch.notify(TargetSkipped(target, Failure.of(refusal)))
                    if not tries or not isinstance(refusal, ProviderError):
                        failures.append(refusal)
                    if not isinstance(refusal, ProviderError):
                        raise _final(dispatch, rows, delivered, failures) or refusal
                    break
                tries += 1
                clocks.begin_attempt(_chances(dispatch, place, tries, rows))
                row = Row(target, len(rows) + 1, loop.time())
                outcome: AttemptOutcome = "failed"
                try:
                    async with aclosing(attempt(dispatch, row, rows, delivered, clocks)) as events:
                        async for event in events:
                            yield event
                    outcome = "completed"
                except (asyncio.CancelledError, GeneratorExit, SwitchClosedError):
                    outcome = "cancelled"  # nobody failed
                    raise
                except LLMDispatcherError as error:
                    row.error = error
                finally:
                    rows.append(row)
                    _record(dispatch, row, outcome, loop.time())
                if row.error is None:
                    yield _completed(dispatch, row, delivered)
                    return
                failures.append(row.error)
                if row.shown:
                    yield StreamInterrupted(Failure.of(row.error), len(delivered.text))
                final = _final(dispatch, rows, delivered, failures)
                if final is row.error:
                    raise row.error  # (from what the SDK said, as it is already)
                if final is not None:
                    raise final from row.error
                clocks.others = _others(dispatch, place, rows)
                seconds = patience.wait(row.error, tries, clocks.left_for_a_try)
                if seconds is None:
                    dispatch.notify(TargetGivenUp(target, Failure.of(row.error), row.delivered))
                    break
                dispatch.notify(RetryScheduled(target, Failure.of(row.error), seconds, row.delivered))
                with clocks.unless_closed():
                    await asyncio.sleep(seconds)
    except SwitchClosedError as error:
        raise StreamingError(
            str(error), partial=delivered.text, usage=dispatch.ledger.usage, failures=failures
        ) from error.__cause__
    finally:
        clocks.close()
    alone = len(dispatch.targets) == 1 or all(isinstance(failure, LocalResourceError) for failure in failures)
    if alone and not delivered.chunks:
        raise failures[-1]
    raise _exhausted(dispatch, delivered, failures) from failures[-1]


def _others(dispatch: Dispatch, place: int, rows: list[Row]) -> int:
    """How many targets can still be asked after this one. A stand-in does not continue what a model has begun."""
    after = dispatch.targets[place + 1 :]
    return sum(target.provider != BODY for target in after) if committed(rows) else len(after)


def _chances(dispatch: Dispatch, place: int, tries: int, rows: list[Row]) -> int:
    """How many attempts could continue the answer of this one, if it breaks after the reader has seen some of it."""
    if dispatch.on_break == "raise" or (dispatch.on_break == "continue" and why_not(dispatch.request, rows)):
        return 0
    others = sum(target.provider != BODY for target in dispatch.targets[place + 1 :])
    return others or min(1, dispatch.resilience.max_retries + 1 - tries)


def _record(dispatch: Dispatch, row: Row, outcome: AttemptOutcome, now: float) -> None:
    """Write the row of an attempt that is over, and tell admission of it. This never raises: it runs where an answer
    may just have been completed. Whatever goes wrong here, admission gets back what the attempt held.
    """
    try:
        with reported_not_raised(row.target, "outcome", dispatch.notify):
            written = attempt_of(row, dispatch.request, outcome, now, dispatch.price, dispatch.notify)
            dispatch.ledger.add(written)
            dispatch.admission.note(written)
    finally:
        dispatch.admission.leave()


def _completed(dispatch: Dispatch, row: Row, delivered: Delivered) -> StreamCompleted:
    finished = row.finished
    assert finished is not None  # attempt returns on terminal evidence only
    return StreamCompleted(
        delivered.text, dispatch.ledger.usage, finished.finish_reason, finished.raw_finish_reason, row.finished_raw
    )


def _final(
    dispatch: Dispatch, rows: list[Row], delivered: Delivered, failures: list[LLMDispatcherError]
) -> LLMDispatcherError | None:
    """The error to end with at once, or `None` where another try or target may still save the stream."""
    error = failures[-1]
    if not isinstance(error, ProviderError):
        return _broken(dispatch, str(error), delivered, failures) if committed(rows) else error
    if not committed(rows) or dispatch.on_break == "restart":
        return None
    reason = "on_break is 'raise'" if dispatch.on_break == "raise" else why_not(dispatch.request, rows)
    if reason is None:
        return None
    return _broken(dispatch, f"the stream broke and is not continued, because {reason}: {error}", delivered, failures)


def _exhausted(dispatch: Dispatch, delivered: Delivered, failures: list[LLMDispatcherError]) -> LLMDispatcherError:
    everyone = AllProvidersFailedError([failure for failure in failures if isinstance(failure, ProviderError)])
    return _broken(dispatch, everyone.message, delivered, failures) if delivered.chunks else everyone


def _broken(
    dispatch: Dispatch, message: str, delivered: Delivered, failures: list[LLMDispatcherError]
) -> StreamingError:
    kind = StreamingError
    if isinstance(failures[-1], RequestTimeoutError):
        kind = StreamTimeoutError
    elif isinstance(failures[-1], BudgetExceededError):
        kind = StreamBudgetExceededError
    return kind(message, partial=delivered.text, usage=dispatch.ledger.usage, failures=failures)
