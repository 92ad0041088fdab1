"""A broken stream goes on by the strongest way there is, names it and its proof, and shows nothing unproven."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import inf
from typing import Final

from llm_dispatcher._dispatch.continuation import A_FEW_TOKENS, CONTINUE_PROMPT
from llm_dispatcher._policy import BODY
from llm_dispatcher._tokens import CHARACTERS_A_TOKEN
from llm_dispatcher.events import (
    Attempt,
    Event,
    ProviderEvent,
    ReasoningDelta,
    StreamCancelled,
    StreamFailed,
    StreamReset,
    StreamStarted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
)
from llm_dispatcher.exceptions import BudgetExceededError, RequestTimeoutError, StreamBudgetExceededError
from llm_dispatcher.notices import BreakerChanged, RunNotCancelled, TargetSkipped
from llm_dispatcher.provider import Handover, KeptRun, Opened
from llm_dispatcher.tasks import Target
from tests.simulation.promises.kit import (
    TIMER,
    UNPROVEN,
    attempts_of,
    ended_with_its_switch,
    everyone,
    fail,
    finished,
    has_body,
    is_free,
    may_share,
    missed,
    outcome_of,
    over_at,
    policies_of,
    ran_to_its_end,
    resilience_of,
    segments,
    task_of,
)
from tests.simulation.promises.load import BROKE
from tests.simulation.promises.matching import Request, answers, of_reading, requests, turns_of_rows
from tests.simulation.record import Reading, Run
from tests.simulation.vendors import OUR_LAST_WORDS

CONTENT: Final = (str, ReasoningDelta, ToolCall, ToolCallDelta, ProviderEvent, Handover)
_DRIPS: Final = re.compile(r"^only \d+ of (\d+) characters came within ([\d.]+) s \(the flow clock\)")
OURS: Final = ("<<<", ">>>", OUR_LAST_WORDS, CONTINUE_PROMPT.partition("{")[0].strip("\n<"))
"""Marks and words of the request for a continuation."""


def a_run_is_read_on_as_if_nothing_had_broken(run: Run) -> None:
    """What a reader has of a run that its vendor keeps is what the run wrote, piece by piece and in one piece: also its
    thoughts and its tool calls, however often a connection broke.
    """
    for answer in answers(run):
        reading, rows = answer[0].reading, [each.row for each in answer]
        if answer[0].served.run is None or None in rows or missed(reading) or has_body(reading) or is_free(reading):
            continue
        numbers = {row.number for row in rows if row is not None}
        all_wrote = _without_text(piece for each in answer for piece in each.served.pieces)
        all_shown = _without_text(_of_attempts(reading.watched, numbers))
        for is_fragment in (True, False):  # what comes after a whole call waits for the end, but fragments do not
            wrote = [each for each in all_wrote if (each[0] == "fragment") is is_fragment]
            shown = [each for each in all_shown if (each[0] == "fragment") is is_fragment]
            if outcome_of(reading) == "completed" and rows[-1] is not None and rows[-1].outcome == "completed":
                if shown != wrote and not _is_taken_back(reading):
                    fail(reading, f"what the run wrote: {wrote}", shown)
            elif shown != wrote[: len(shown)]:
                fail(reading, f"a beginning of what the run wrote: {wrote}", shown)


def a_run_is_read_on_while_it_can_be(run: Run) -> None:
    """A run that broke and that its vendor still keeps is read on by the next attempt at its target, if any. It is not
    given up after a connection that has brought something, as long as there is time. A run is left if its
    text is refused, or if the switch is closed.
    """
    for reading in finished(run):
        own = [*of_reading(run, reading), None]
        for request, after in pairwise(own):
            assert request is not None
            kept, ended = request.served.run, over_at(request.served)
            if (
                kept is None
                or not kept.is_known
                or request.served.finished
                or _was_refused(request)
                or (kept.over_at is not None and kept.over_at <= ended)
            ):
                continue
            has_time = reading.total is None or 20.0 + 2 * (ended - reading.began_at) < reading.total
            is_worth_it = has_time and _brought_news(request) and ran_to_its_end(reading) and reading.plan.pause == 0.0
            is_worth_it = is_worth_it and not ended_with_its_switch(reading)
            if after is None or after.served.target != request.served.target:
                if is_worth_it and not isinstance(reading.error, (BudgetExceededError, StreamBudgetExceededError)):
                    fail(reading, f"{kept} is read on", "it is given up")
            elif after.served.run is not kept and (kept.over_at is None or kept.over_at > after.served.asked_at):
                fail(reading, f"{kept} is read on", f"{after.served.target} is asked anew")


def _has_shown_text(reading: Reading, row: Attempt) -> bool:
    """Whether an attempt has delivered text that needs a proof. White space before a tool call needs none."""
    part = next((each for each in segments(reading.watched) if each.number == row.number), None)
    return row.delivered > 0 and (part is None or part.text == "" or not part.text.isspace())


def _was_refused(request: Request) -> bool:
    failure = None if request.row is None else request.row.failure
    return failure is not None and failure.kind == UNPROVEN


def every_run_that_is_left_is_cancelled(run: Run) -> None:
    """A run that nobody reads to its end is cancelled, or a notice says why its vendor could not be told."""
    for process in run.processes:
        if process.was_killed:
            continue
        told = {notice.run for _, notice in process.notices if isinstance(notice, RunNotCancelled)}
        for vendors in process.vendors.values():
            for vendor in vendors:
                for kept in vendor.runs:
                    if not kept.is_over and kept.cancelled_at is None and kept.id not in told and kept.is_known:
                        fail(process, f"{kept} of {vendor.settings.name} is cancelled, or a notice names it", "neither")


def nothing_unproven_is_shown(run: Run) -> None:
    """A continuation that proves nothing is a failed attempt of which nothing was shown. Only with `on_unproven: show`
    it may be shown, and its row says so.
    """
    for reading in everyone(run):
        for row in attempts_of(reading):
            if row.rung == "anchored" and _has_shown_text(reading, row) and row.proof is None:
                fail(reading, f"a proof of attempt {row.number}, which was shown", row)
            if row.proof == "unproven":
                ways = {resilience_of(each, reading, row.target).on_unproven for each in policies_of(run, reading)}
                if "show" not in ways:
                    fail(reading, "nothing unproven, because on_unproven is 'next'", row)


def nothing_of_our_request_is_shown(run: Run) -> None:
    """No mark and no word of the request for a continuation reaches a reader."""
    for reading in everyone(run):
        for text in (reading.text, "".join(each.text for each in reading.watched if isinstance(each, TextDelta))):
            for ours in OURS:
                if ours in text:
                    fail(reading, f"a text without {ours!r}", text)


def each_attempt_names_its_rung(run: Run) -> None:
    """An attempt after the reader has content names the rung by which it continues, in its row and in its
    `StreamStarted`, and what it delivers has a proof. An attempt that continues nothing names none. One that reads
    on a run of which nothing was shown is announced as that run's request would be.
    """
    for reading in finished(run):
        has_content, rows, turns = False, attempts_of(reading), turns_of_rows(run, reading)
        for row in rows:
            has_content = has_content and turns[row.number] == turns.get(row.number - 1)
            if row.rung is None and has_content and not _is_of_a_body(reading):
                fail(reading, f"the rung of attempt {row.number}, which continues an answer", row)
            if row.rung not in (None, "reattached") and not has_content:
                fail(reading, f"no rung of attempt {row.number}, which continues nothing", row)
            if row.rung is not None and _has_shown_text(reading, row) and row.proof is None:
                fail(reading, f"the proof of attempt {row.number}", row)
            begins = row.rung == "restarted" and any(part.number == row.number for part in segments(reading.watched))
            has_content = (has_content and not begins) or bool(row.delivered) or _has_shown_a_call(reading, row.number)
        ways = {} if is_free(reading) or has_body(reading) else _ways(run, reading)
        for event in reading.watched:
            if isinstance(event, StreamStarted) and event.rung != ways.get(event.attempt, event.rung):
                fail(reading, f"the rung of attempt {event.attempt}, {ways[event.attempt]}", event)


def dropped_calls_are_those_that_never_complete(run: Run) -> None:
    """A tool call of which a reader saw fragments is completed, or dropped once before another attempt goes on without
    it. No other call is dropped, and none of a run that is read on.
    """
    for reading in everyone(run):
        begun: dict[str, str] = {}
        dropped: ToolCallDropped | None = None
        for event in reading.watched:
            match event:
                case ToolCallDelta():
                    begun[event.id] = event.name
                case ToolCall():
                    begun.pop(event.id if event.id in begun else next(iter(begun), ""), None)
                case ToolCallDropped():
                    if begun.pop(event.id, None) is None:
                        fail(reading, "no drop of a call without fragments", event)
                    dropped = event
                case StreamStarted() if dropped is not None and event.rung == "reattached":
                    fail(reading, f"the calls of the run of attempt {event.attempt} are not dropped", dropped)
                case StreamStarted() if begun and event.rung != "reattached":
                    fail(reading, f"the calls {list(begun)} are dropped before attempt {event.attempt}", "they are not")
                case StreamStarted():
                    dropped = None
                case _:
                    pass
        ends = reading.watched[-1:]
        is_broken = not ends or isinstance(ends[0], (StreamFailed, StreamCancelled)) or outcome_of(reading) == "open"
        if begun and not is_broken:
            fail(reading, f"the calls {list(begun)} are complete", "they are not")


def a_silent_vendor_leaves_time_for_others(run: Run) -> None:
    """While another target of an ordered route can still be asked, no vendor is waited for in silence until `total` is
    over: a silence ends after its share of the time. In the middle of an answer that is so unless `idle` is off.
    """
    for reading in finished(run):
        own = of_reading(run, reading)
        if not own or not isinstance(reading.error, RequestTimeoutError) or not has_others(run, reading, own[-1]):
            continue
        served, total = own[-1].whole, reading.total or inf
        content = [at for at, piece in enumerate(served.pieces) if piece and isinstance(piece, CONTENT)]
        silence = sum(served.waits[content[-1] + 1 if content else 0 :])
        if content and None in _all_idle(run, reading, served.target):
            continue
        most = min(1.0, total / 8) + run.stalled + 2 * TIMER
        if silence > most and own[-1].row is not None and own[-1].row.outcome == "failed":
            fail(reading, f"a silence of {served.target} of at most {most:.3f} s", f"{silence:.3f} s, and then the end")


def the_flow_clock_blames_only_a_slow_vendor(run: Run) -> None:
    """The `flow` clock runs out only if a vendor has sent fewer characters than it asks for, in the seconds
    for which somebody waited.
    """
    for request in requests(run):
        failure = None if request.row is None else request.row.failure
        match = None if failure is None else _DRIPS.match(failure.message)
        if match is None:
            continue
        needed, seconds, served = int(match[1]), float(match[2]), request.whole
        left, came = seconds * 0.995 - TIMER, 0
        for place in reversed(range(len(served.waits))):
            if place < len(served.pieces):
                came += _characters(served.pieces[place])
            left -= served.waits[place]
            if left <= 0:
                break
        if left > 0 or came > needed + _longest(served.pieces):
            what = f"fewer than {needed} characters of {served.target} in its last {seconds:g} s"
            fail(request.reading, what, f"{came}, in {seconds - left:.3f} s")


def a_limit_leaves_room_for_the_whole_answer(run: Run) -> None:
    """An answer that ended because of `max_tokens` is not shorter than that: what is repeated is never charged."""
    honest = {
        each.name
        for each in run.scenario.vendors
        if each.honours_limits
        and not any(phase.state in ("half", "lying") for phase in each.phases)
        and (each.chunk_size is None or each.chunk_size >= CHARACTERS_A_TOKEN)  # some hosts' chunks count as tokens
    }
    for reading in finished(run):
        asked = {row.target.provider for row in attempts_of(reading)}
        if not asked or not asked <= honest:
            continue
        limit = reading.plan.request.get("max_tokens")
        reason = None if reading.response is None else reading.response.finish_reason
        if outcome_of(reading) != "completed" or reason != "length" or limit is None:
            continue
        if len(reading.text) < CHARACTERS_A_TOKEN * (limit - A_FEW_TOKENS):
            fail(
                reading,
                f"about {CHARACTERS_A_TOKEN * limit} characters, as max_tokens={limit} allows",
                len(reading.text),
            )


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_CONTENT: Final = (TextDelta, ReasoningDelta, ToolCall, ToolCallDelta, ProviderEvent)


def _of_attempts(events: Sequence[Event], numbers: set[int]) -> Iterable[Event]:
    """The content that was shown of these attempts."""
    number = 0
    for event in events:
        if isinstance(event, StreamStarted):
            number = event.attempt
        elif number in numbers and isinstance(event, _CONTENT):
            yield event


def _without_text(pieces: Iterable[object]) -> list[tuple[str, ...]]:
    """What is no text: thoughts, tool calls and their fragments."""
    found: list[tuple[str, ...]] = []
    for piece in pieces:
        match piece:
            case ReasoningDelta():
                found.append(("thought", piece.text))
            case ToolCallDelta():
                found.append(("fragment", piece.id, piece.fragment))
            case ToolCall():
                found.append(("call", piece.id, str(piece.arguments)))
            case _:
                pass
    return found


def _ways(run: Run, reading: Reading) -> dict[int, str | None]:
    """How each attempt of a reader follows what the reader has, by its number."""
    shown = {event.attempt for event in reading.watched if isinstance(event, StreamStarted)}
    ways: dict[int, str | None] = {}
    of_run: dict[int, int] = {}
    for request in of_reading(run, reading):
        if request.row is None:
            continue
        number, kept = request.row.number, request.served.run
        first = number if kept is None else of_run.setdefault(id(kept), number)
        is_seen = any(each in shown for each in range(first, number))
        ways[number] = request.row.rung if number == first or is_seen else ways[first]
    return ways


def _brought_news(request: Request) -> bool:
    """Whether a connection that broke has brought something of its run."""
    failure = None if request.row is None else request.row.failure
    is_broken = failure is not None and failure.kind in BROKE and failure.retry_after is None
    return is_broken and any(not isinstance(piece, (Opened, KeptRun)) for piece in request.served.pieces)


def _is_taken_back(reading: Reading) -> bool:
    return any(isinstance(event, StreamReset) for event in reading.watched)


def _is_of_a_body(reading: Reading) -> bool:
    return any(row.target.provider == BODY for row in attempts_of(reading)) or has_body(reading)


def _has_shown_a_call(reading: Reading, number: int) -> bool:
    return any(isinstance(event, (ToolCall, ToolCallDelta)) for event in _of_attempts(reading.watched, {number}))


def _all_idle(run: Run, reading: Reading, target: Target) -> set[float | None]:
    """The `idle` clocks that a target may have had."""
    return {resilience_of(policy, reading, target).timeouts.idle for policy in policies_of(run, reading)}


def has_others(run: Run, reading: Reading, last: Request) -> bool:
    """Whether another target could certainly be asked after the last one, had there been time."""
    plan = reading.plan
    if has_body(reading) or plan.pause or plan.waits_in_callbacks or plan.wants_tools:
        return False
    asked = ("model", "providers", "response_format", "max_tokens")
    given = ("max_cost", "max_latency", "fallback_enabled", "optimization_strategy", "on_break")
    if any(name in plan.request for name in asked) or any(name in plan.options for name in given):
        return False
    process = run.processes[reading.process]
    for policy in policies_of(run, reading):
        route, resilience = policy.route(task_of(reading)), resilience_of(policy, reading, None)
        if policy.cache is not None and may_share(reading):
            return False
        is_plain = route.strategy == "ordered" and route.max_latency is None and not policy.budgets.are_set
        if not is_plain or resilience.on_break != "continue" or not resilience.fallback_enabled:
            return False
        if last.served.target not in route.targets:
            return False
        later = route.targets[route.targets.index(last.served.target) + 1 :]
        skipped = {each.target for _, each in process.notices if isinstance(each, (BreakerChanged, TargetSkipped))}
        may = [
            each
            for each in later
            if each.provider in policy.providers
            and policy.providers[each.provider].is_enabled(each.model)
            and each not in skipped
        ]
        if not may:
            return False
    return True


def _characters(piece: object) -> int:
    match piece:
        case str():
            return len(piece)
        case ReasoningDelta():
            return len(piece.text)
        case ToolCallDelta():
            return len(piece.fragment)
        case _:
            return 0


def _longest(pieces: Sequence[object]) -> int:
    """A stretch begins in the middle of a piece's wait, so one piece may count for two."""
    return max(map(_characters, pieces), default=0)
