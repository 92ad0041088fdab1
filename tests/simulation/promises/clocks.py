"""Deadlines hold in virtual time, and a clock blames only a vendor that was silent."""

from __future__ import annotations

import re
from math import inf
from typing import Final

from llm_dispatcher._policy import Policy
from llm_dispatcher.events import ReasoningDelta, ToolCall, ToolCallDelta
from llm_dispatcher.exceptions import RequestTimeoutError
from llm_dispatcher.notices import TargetSkipped
from llm_dispatcher.provider import LONGEST_WAIT, Handover
from tests.simulation.promises.kit import (
    TIMER,
    everyone,
    fail,
    finished,
    has_body,
    may_share,
    over_at,
    policies_of,
    resilience_of,
)
from tests.simulation.promises.matching import Request, asked_targets, requests
from tests.simulation.record import Reading, Run

CALLBACK: Final = 0.05
"""Seconds that the waiting callback of a reader may take at the end of its stream."""
LOADING: Final = 1.3
"""Seconds in which a thread reads the file of recorded spending, after one that is writing it."""
STORING: Final = 2 * LOADING
"""Seconds in which a session is stored: a write that is under way, and the one with the end of a stream."""
SOON: Final = 0.01
"""Waits for a rate limit of fewer seconds are skipped."""
_RAN_OUT: Final = re.compile(r"^nothing (?:more )?came within ([\d.]+) s \(the (first_token|idle) clock\)")


def a_stream_ends_by_its_deadline(run: Run) -> None:
    """A stream with a `total` clock ends by it. A reader that holds it longer gets the end when it asks next, and one
    whose callbacks take time at each chunk, when it waits for the vendor.
    """
    for reading in finished(run):
        if reading.total is None or reading.ended_at is None:
            continue
        if reading.plan.has_callbacks and reading.plan.waits_in_callbacks:
            continue
        asked = max(_begins(run, reading) + reading.total, reading.last_asked_at)
        latest = asked + run.stalled + TIMER + CALLBACK * reading.plan.has_callbacks + reading.plan.pause
        latest += STORING * (reading.plan.session is not None)
        if reading.ended_at > latest:
            fail(reading, f"an end by {latest:.3f}, with total={reading.total:g}", f"{reading.ended_at:.3f}")


def no_deadline_is_early(run: Run) -> None:
    """The `total` clock does not end a stream before its time."""
    for reading in finished(run):
        if isinstance(reading.error, RequestTimeoutError) and reading.ended_at is not None:
            earliest = reading.began_at + (inf if reading.total is None else reading.total) - TIMER
            if reading.ended_at < earliest:
                fail(reading, f"no timeout before {earliest:.3f}", f"{reading.ended_at:.3f}: {reading.error}")


def no_wait_is_longer_than_its_clock(run: Run) -> None:
    """Nobody waits for one piece of a vendor for longer than the clocks say.

    The last of several targets may use all the time that `total` leaves for its first piece.
    """
    for request in requests(run):
        if request.row is None:
            continue
        bound = max(_longest_wait(run, policy, request) for policy in policies_of(run, request.reading))
        if request.served.silence > bound + run.stalled + 2 * TIMER:
            what = f"a wait for {request.served.target} of at most {bound:g} s"
            fail(request.reading, what, f"{request.served.silence:.4f} s, asked at {request.served.asked_at:.3f}")


def a_clock_blames_only_a_silent_vendor(run: Run) -> None:
    """A clock runs out only if the vendor sent no content for that long while somebody waited for it. What a reader
    takes for a chunk counts only towards `total`.
    """
    for request in requests(run):
        failure = None if request.row is None else request.row.failure
        match = None if failure is None else _RAN_OUT.match(failure.message)
        if match is None:
            continue
        seconds, clock = float(match[1]) * 0.995 - TIMER, match[2]
        served = request.whole
        content = (str, ReasoningDelta, ToolCall, ToolCallDelta, Handover)
        came = any(piece and isinstance(piece, content) for piece in served.pieces)
        if clock == "first_token":
            waited = 0.0 if came else over_at(served) - request.began_at
        else:
            waited = served.silence if came or request.reads_on else 0.0  # the run has begun before
        if waited < seconds:
            fail(
                request.reading,
                f"a silence of {served.target} of at least {seconds:.3f} s",
                f"{waited:.4f} s: {failure}",
            )


def no_request_is_sent_after_the_deadline(run: Run) -> None:
    """No vendor is asked when the time of the request is over: waits for limits and retries end before.

    A stream that other readers share goes on for them, until the last of their deadlines.
    """
    ends: dict[str, float] = {}
    for reading in everyone(run):
        ends[reading.question] = max(ends.get(reading.question, 0.0), _deadline(run, reading))
    for request in requests(run):
        reading = request.reading
        end = ends[reading.question] if may_share(reading) else _deadline(run, reading)
        if request.served.asked_at > end + run.stalled + TIMER:
            fail(
                reading,
                f"no request after {end:.3f}",
                f"one to {request.served.target} at {request.served.asked_at:.3f}",
            )


def a_vendors_wait_is_honoured(run: Run) -> None:
    """A target that has said when to come back is not asked before, by the same reader."""
    last: dict[int, Request] = {}
    for request in requests(run):
        before = last.get(id(request.reading))
        last[id(request.reading)] = request
        failure = None if before is None or before.row is None else before.row.failure
        if before is None or failure is None or not failure.retry_after or before.row is None:
            continue
        if before.served.target != request.served.target or failure.retry_after > LONGEST_WAIT:
            continue
        earliest = over_at(before.served) + failure.retry_after - SOON
        if request.served.asked_at < earliest and not has_body(request.reading):
            what = f"no request to {request.served.target} before {earliest:.3f}, as it has asked"
            fail(request.reading, what, f"one at {request.served.asked_at:.3f}")


def a_closed_limit_keeps_everybody_away(run: Run) -> None:
    """Nobody that begins after a 429 with a `Retry-After` asks that target before the time is over, unless a reload
    makes the switch forget it. A time of more than a day is not believed.
    """
    closed: list[tuple[Request, float]] = []
    for request in requests(run):
        process = run.processes[request.reading.process]
        for before, until in closed:
            ended = over_at(before.served)
            if (
                before.served.target == request.served.target
                and before.reading.process == request.reading.process
                and ended < request.reading.began_at
                and request.served.asked_at < until - SOON
                and not any(ended <= at <= request.served.asked_at for at, _ in process.policies)
            ):
                what = f"no request to {request.served.target} before {until:.3f}, as it told {before.reading.name}"
                fail(request.reading, what, f"one at {request.served.asked_at:.3f}")
        failure = None if request.row is None else request.row.failure
        if failure is not None and failure.status == 429 and 0 < (failure.retry_after or 0.0) <= LONGEST_WAIT:
            closed.append((request, over_at(request.served) + (failure.retry_after or 0.0)))


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _deadline(run: Run, reading: Reading) -> float:
    """When the stream has to be over. A body's own timeout is not that of the stream inside, which may read ahead."""
    totals = [reading.total]
    if has_body(reading) and may_share(reading):
        totals = [resilience_of(policy, reading, None).timeouts.total for policy in policies_of(run, reading)]
    return _begins(run, reading) + max(inf if total is None else total for total in totals)


def _begins(run: Run, reading: Reading) -> float:
    """When the `total` clock of a call without a cache begins at the latest. The file of spending, and a watched
    configuration that has changed, are read before.
    """
    has_file = any(policy.budgets.path is not None for policy in policies_of(run, reading))
    is_stored = reading.plan.session is not None  # what the turn before has left to write is written first
    return reading.began_at + LOADING * has_file + LOADING * run.scenario.is_watched + LOADING * is_stored


def _longest_wait(run: Run, policy: Policy, request: Request) -> float:
    """The longest time for which the clocks let a reader wait for one piece of this attempt."""
    reading = request.reading
    clocks = resilience_of(policy, reading, request.served.target).timeouts
    first = inf if clocks.first_token is None else clocks.first_token
    if reading.total is not None and _may_be_last_of_several(run, request):
        first = inf
    idle = inf if clocks.idle is None else clocks.idle
    total = inf if reading.total is None or may_share(reading) else reading.total
    return min(max(first, idle), total)


def _may_be_last_of_several(run: Run, request: Request) -> bool:
    """Whether an attempt may be at the last of several targets: others were asked or skipped before, and none after."""
    reading, row = request.reading, request.row
    targets = asked_targets(run, reading)
    if row is None or any(later != request.served.target for later in targets[row.number :]):
        return False
    asked_before = any(before != request.served.target for before in targets)
    return asked_before or any(
        isinstance(notice, TargetSkipped) and reading.began_at <= at <= request.served.asked_at
        for at, notice in run.processes[reading.process].notices
    )
