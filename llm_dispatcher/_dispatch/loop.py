"""The loop: it decides which target is asked, whether a target is tried again, and when to give up.

It is a generator with local variables, and everything else only watches what comes out of it. For each target in order
it asks admission for a pass, makes an attempt, and writes the attempt's row. The rules:

- Before the reader has content of an answer (`Course.is_committed`), retries and switches are invisible. After that, an
  attempt continues the answer or begins it again, as the job's `on_break` says, or the stream ends.
- A run that the vendor keeps is read on where it broke, for as long as that brings something new. Only readings that
  bring nothing are counted, apart from the tries, which are requests. A run that is left is cancelled (`runs`).
- Every attempt gets exactly one row, also when the reader leaves or the switch is closed; its pass goes back even if
  the row could not be written.
- An error of a vendor moves on to the next try or target. So does a refusal, if the job's `on_refusal` says so
  (`refusals`). Any other error ends the stream at once.
- If the vendor itself continues with another model, each model gets a row (`Row.hand_over`).

A cancelled reader cancels the attempt, whose row has the outcome `cancelled`. Only the task that reads the stream runs
any of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from .._bookkeeping import reported_not_raised
from .._policy import BODY
from ..events import AttemptOutcome, Event, Failure, StreamInterrupted
from ..exceptions import (
    ConfigurationError,
    LLMDispatcherError,
    ProviderError,
    ProviderTimeoutError,
    UnprovenContinuationError,
)
from ..notices import RetryScheduled, RunReadOn, TargetGivenUp, TargetSkipped
from ..tasks import Target
from .attempt import attempt
from .continuation import obstacle_to_continuing
from .course import Course
from .ending import clock_error
from .job import Job, Pass
from .keeper import name_of
from .ladder import by_strength, is_worth_asking_again, offered_rung
from .ledger import attempt_of
from .row import Row
from .runs import leave_runs
from .stream_end import completion, exhaustion, final_error, interruption
from .turn import Turn
from .watchdog import SwitchClosedError, Watchdog


async def attempts(job: Job, course: Course | None = None) -> AsyncGenerator[Event, None]:
    """The events of one turn of a stream, up to its `StreamCompleted`. A failure is raised, not yielded.

    Args:
        job: The request and what serves it.
        course: How far the stream has come. The caller keeps it to read the text that was delivered, and passes
            `Course(earlier)` for the next turn of the same stream.
    """
    loop = asyncio.get_running_loop()
    if course is None:
        course = Course()
    watchdog = Watchdog(job.resilience.timeouts, job.deadline)
    if job.open_streams is not None:
        job.open_streams.add(watchdog)
    targets = list(job.targets)
    try:
        for place, target in enumerate(targets):
            turn = Turn(job, target, loop.time())
            watchdog.begin_target(turn.resilience.timeouts, _others(targets, place, course), is_first=place == 0)
            # The body does not continue a model's answer, so it is asked only before commit.
            while not (target.provider == BODY and course.is_committed):
                others = _others(targets, place, course)
                admitted = await _admission(job, course, target, watchdog, others)
                if isinstance(admitted, LLMDispatcherError):
                    job.notify(TargetSkipped(target, Failure.of(admitted)))
                    if not turn.tries or not isinstance(admitted, ProviderError):
                        course.failures.append(admitted)
                    if not isinstance(admitted, ProviderError):
                        raise final_error(job, course) or admitted
                    break
                turn.begin_attempt(reads_on=course.run is not None)
                row = Row(target, len(job.ledger) + 1, loop.time(), others, _successors(targets, place))
                row.holds_refusals = job.on_refusal == "next" and others > 0
                outcome: AttemptOutcome = "failed"
                try:
                    if course.run is not None:
                        row.read_on(course.rows[-1], job.ledger)
                    chances = _chances(job, targets, place, course, may_retry=turn.may_retry)
                    watchdog.begin_attempt(others, chances)
                    async with aclosing(attempt(job, course, row, admitted, watchdog)) as events:
                        async for event in events:
                            yield event
                    outcome = "completed"
                except (asyncio.CancelledError, GeneratorExit, SwitchClosedError):
                    outcome = "cancelled"  # nobody failed
                    raise
                except LLMDispatcherError as error:
                    row.error = error
                finally:
                    course.end(row)
                    _record(job, row, admitted, outcome, loop.time())
                if row.error is None:
                    yield completion(job, course, row)
                    return
                course.failures.append(row.error)
                if row.is_shown:
                    yield StreamInterrupted(Failure.of(row.error), course.transcript.characters)
                if isinstance(row.error, UnprovenContinuationError):
                    course.unproven.add(target)
                    leave_runs(job, course)  # the rest of a refused text is not read
                if row.has_news:
                    turn.silent = 0
                others = _others(targets, place, course)
                if (row.is_shown or row.has_news) and not isinstance(row.error, ProviderTimeoutError):
                    watchdog.renew_turn(others)
                if course.run is None or not isinstance(row.error, ProviderError):
                    _raise_if_final(job, course, others)
                left = watchdog.left_for_a_try(others)
                reads_on, continues_best = course.run is not None, _continues_best(job, course, target, row)
                try:
                    seconds = turn.seconds_to_wait(
                        row.error, left, loop.time(), reads_on=reads_on, continues_best=continues_best
                    )
                except ConfigurationError as error:
                    course.failures.append(error)
                    raise final_error(job, course) or error  # noqa: B904 - its cause is set
                if seconds is None or (others and _is_for_another(row.error)):
                    job.notify(TargetGivenUp(target, Failure.of(row.error), row.delivered))
                    leave_runs(job, course)
                    _raise_if_final(job, course, others)
                    is_unproven = isinstance(row.error, UnprovenContinuationError) and place < len(job.targets)
                    if is_unproven and job.may_begin_again:
                        targets.append(target)  # it begins again if nobody can continue
                    targets[place + 1 :] = by_strength(job, course, targets[place + 1 :])
                    break
                if course.run is None:
                    job.notify(RetryScheduled(target, Failure.of(row.error), seconds, row.delivered))
                else:
                    job.notify(RunReadOn(target, name_of(course.run), Failure.of(row.error), seconds, row.delivered))
                with watchdog.ends_with_the_switch():
                    await asyncio.sleep(seconds)
                turn.note_sleep(seconds)
    except SwitchClosedError as error:
        raise interruption(job, course, error) from error.__cause__
    finally:
        leave_runs(job, course)
        watchdog.close()
        if job.open_streams is not None:
            job.open_streams.remove(watchdog)
    raise exhaustion(job, course)


async def _admission(
    job: Job, course: Course, target: Target, watchdog: Watchdog, others: int
) -> Pass | LLMDispatcherError:
    """The pass of the next attempt at a target, or the reason why there is none."""
    admitted: Pass | LLMDispatcherError
    if watchdog.is_time_up:  # the reader has held a chunk for that long
        admitted = clock_error("total", target, watchdog)
    elif course.run is not None:
        admitted = job.admission.enter_again(target)
    else:
        with watchdog.ends_with_the_switch():
            admitted = await job.admission.enter(target, watchdog.left_for_a_try(others))
    is_late = isinstance(admitted, LLMDispatcherError) and watchdog.is_time_up
    return clock_error("total", target, watchdog) if is_late else admitted


def _others(targets: Sequence[Target], place: int, course: Course) -> int:
    """How many targets can still be asked after this one. The body does not continue what a model has begun."""
    return _successors(targets, place) if course.is_committed else len(targets) - place - 1


def _successors(targets: Sequence[Target], place: int) -> int:
    """How many targets after this one could continue its answer."""
    return sum(target.provider != BODY for target in targets[place + 1 :])


def _chances(job: Job, targets: Sequence[Target], place: int, course: Course, *, may_retry: bool) -> int:
    """How many attempts could continue the answer of this one, if it breaks after the reader has seen some of it."""
    target = targets[place]
    keeps_runs = offered_rung(job.request, job.provider(target), target, job.style) == "reattached"
    may_continue = job.on_break != "raise" and not obstacle_to_continuing(job.request, course)
    if not (may_continue or job.may_begin_again):
        return int(keeps_runs)
    return _successors(targets, place) or int(may_retry or keeps_runs)


def _continues_best(job: Job, course: Course, target: Target, row: Row) -> bool:
    """Whether the target of an attempt that failed continues best, so that it is tried once more in any case."""
    if isinstance(row.error, UnprovenContinuationError):
        return job.may_begin_again  # this time the answer begins again
    return course.run is not None or is_worth_asking_again(job, course, target, row)


def _is_for_another(error: LLMDispatcherError) -> bool:
    """Whether another target is asked at once: this one cannot continue the answer, or writes too slowly."""
    is_slow = isinstance(error, ProviderTimeoutError) and error.clock == "flow"
    return is_slow or isinstance(error, UnprovenContinuationError)


def _raise_if_final(job: Job, course: Course, others: int) -> None:
    """Raise the error of a stream that nothing can save after its last failure."""
    final = final_error(job, course, others)
    if final is not None:
        raise final


def _record(job: Job, row: Row, admitted: Pass, outcome: AttemptOutcome, now: float) -> None:
    """Write the row of an attempt that is over, with those of the models that have handed over in it, and give back its
    pass. This never raises: it runs where an answer may just have been completed.
    """
    row.ended = now
    try:
        for each in (*row.hops, row):
            with reported_not_raised(each.target, "outcome", job.notify):
                how = outcome if each is row else "failed"
                attempt = attempt_of(each, job.request, how, job.price, job.notify)
                job.ledger.add(attempt)
                admitted.note(attempt)
        with reported_not_raised(row.target, "outcome", job.notify):
            if surplus := job.ledger.settle(row, job.price, job.notify):
                admitted.take_back(surplus)
    finally:
        admitted.leave()
