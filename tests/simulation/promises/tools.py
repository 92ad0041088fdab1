"""Tools: each call runs at most once, with whole arguments, after its turn; and the stream goes on from its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from llm_dispatcher._policy import BODY
from llm_dispatcher._serving.history import check_pairs
from llm_dispatcher.events import ToolCall, ToolResult
from llm_dispatcher.exceptions import InvalidRequestError
from llm_dispatcher.notices import BreakerChanged
from llm_dispatcher.tasks import Target, ToolResultPart
from tests.simulation.answers import looked_up, tool_turns_in, turns_of_tools
from tests.simulation.promises.kit import (
    attempts_of,
    everyone,
    fail,
    finished,
    has_body,
    option,
    outcome_of,
    process_of,
    task_of,
)
from tests.simulation.promises.matching import Request, of_reading, requests
from tests.simulation.record import Reading, Run

LIMITING: Final = ("limited", "lying")
"""The states in which a vendor says that its limits are used up."""


def no_tool_runs_twice_for_one_call(run: Run) -> None:
    """A tool runs at most once for one call, whatever breaks, and whichever vendor goes on."""
    for reading in everyone(run):
        for argument, count in Counter(str(each.argument) for each in reading.tool_runs).items():
            if count > 1:
                fail(reading, f"one run of the tool for {argument!r}", count)


def no_tool_runs_on_half_arguments(run: Run) -> None:
    """A tool runs only with the arguments that a model has written to their end."""
    for reading in everyone(run):
        known = {name for turn in range(_turns(reading)) for name in looked_up(_prompt(reading), turn)}
        for each in reading.tool_runs:
            if each.argument not in known:
                fail(reading, f"an argument of {sorted(known)}", each.argument)


def a_tool_runs_after_its_whole_turn(run: Run) -> None:
    """A tool runs only after a vendor has said that the turn with its call is complete."""
    for reading in everyone(run):
        sent = of_reading(run, reading)
        for each in reading.tool_runs:
            turn = next((at for at in range(_turns(reading)) if each.argument in looked_up(_prompt(reading), at)), 0)
            ended = [one.served.ended_at for one in sent if one.turn == turn and one.served.finished]
            if not any(at is None or at <= each.began_at for at in ended):
                fail(reading, f"a vendor has finished turn {turn} before the tool runs for {each.argument!r}", each)


def every_call_in_a_history_has_its_result(run: Run) -> None:
    """In every request that reaches a vendor, each call has one result, which comes after it: what the tool has
    returned, or an error. So has what a complete stream adds to its conversation.
    """
    returned = {each.returned for reading in everyone(run) for each in reading.tool_runs}
    for request in requests(run):
        try:
            check_pairs(request.served.request.messages)
        except InvalidRequestError as error:
            fail(request.reading, f"a request to {request.served.target} whose calls have results", error.message)
        for part in _results(request):
            if not part.error and part.result not in returned:
                fail(request.reading, f"a result that the tool has returned: {sorted(filter(None, returned))}", part)
    for reading in finished(run):
        reason = None if reading.response is None else reading.response.finish_reason
        if reading.response is None or outcome_of(reading) != "completed" or has_body(reading) or reason != "stop":
            continue
        try:
            check_pairs(reading.response.messages)
        except InvalidRequestError as error:
            fail(reading, "messages in which each call has its result", error.message)


def every_result_is_that_of_its_call(run: Run) -> None:
    """A `ToolResult` follows its `ToolCall`, once, and is what the tool has returned for the call's argument."""
    for reading in everyone(run):
        calls: dict[str, ToolCall] = {}
        for event in reading.watched:
            if isinstance(event, ToolCall):
                calls[event.id] = event
            elif isinstance(event, ToolResult):
                call = calls.pop(event.id, None)
                if call is None:
                    fail(reading, "one result for each call that was shown", event)
                runs = [each for each in reading.tool_runs if each.argument == (call.arguments or {}).get("name")]
                if event.error is None and [event.result] != [each.returned for each in runs]:
                    fail(reading, f"what the tool has returned for {call.arguments}, {runs}", event)


def a_complete_answer_has_run_its_tools(run: Run) -> None:
    """Before a model has given the last turn of its answer, every call of the turns before has run, or has an error as
    its result.
    """
    for reading in finished(run):
        turns, calls = tool_turns_in(_prompt(reading))
        reason = None if reading.response is None else reading.response.finish_reason
        if not turns or outcome_of(reading) != "completed" or reason != "stop" or has_body(reading):
            continue
        if any(row.target.provider == BODY for row in attempts_of(reading)):
            continue  # the function's own body has answered
        results = sum(isinstance(event, ToolResult) for event in reading.watched)
        if results != turns * calls:
            fail(reading, f"{turns * calls} results before the end of the answer", results)


def a_later_turn_goes_on_where_it_was(run: Run) -> None:
    """A turn with the results of tools is asked first of the target that made the calls, unless that target cannot
    serve, or the strategy is `weighted`.
    """
    for reading in everyone(run):
        if reading.plan.tool is None or _may_be_kept_away(run, reading):
            continue
        for before, after in pairwise(of_reading(run, reading)):
            if before.turn == after.turn or before.part or before.row is None:
                continue
            # A vendor may answer with another model than it was asked for. That one is asked next, if it can serve.
            target = before.row.target
            if not _is_in_plan(run, reading, target) or _has_failed(run, reading, target):
                continue
            if after.served.target not in (target, before.served.target):
                what = f"{target}, which has made the calls of turn {before.turn + 1}, is asked first for the next one"
                fail(reading, what, after.served.target)


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _prompt(reading: Reading) -> str:
    """The prompt of a reader, as far as it is about tools."""
    tool = reading.plan.tool
    return reading.question + ("" if tool is None else turns_of_tools(tool.turns, tool.calls))


def _turns(reading: Reading) -> int:
    """In how many turns a reader's tool is called."""
    return 0 if reading.plan.tool is None else reading.plan.tool.turns


def _results(request: Request) -> Iterator[ToolResultPart]:
    for message in request.served.request.messages:
        yield from (part for part in message.parts if isinstance(part, ToolResultPart))


def _may_be_kept_away(run: Run, reading: Reading) -> bool:
    """Whether a limit, money or the strategy may send a request of this reader somewhere else."""
    process = process_of(run, reading)
    if option(reading, "max_latency") is not None or option(reading, "max_cost") is not None:
        return True
    if any(phase.state in LIMITING for each in run.scenario.vendors for phase in each.phases):
        return True
    for _, policy in process.policies:
        route = policy.route(task_of(reading))
        if route.affinity == "off" or route.max_latency or route.max_cost or policy.budgets.are_set:
            return True
        if (option(reading, "optimization_strategy") or route.strategy) == "weighted":
            return True
        entries = policy.providers.values()
        if any(each.limits or any(model.limits for model in each.models.values()) for each in entries):
            return True
    return False


def _is_in_plan(run: Run, reading: Reading, target: Target) -> bool:
    """Whether the reader's route lists a target. A vendor may hand over to a model that is on no route."""
    pinned = reading.plan.request.get("model")
    routes = [policy.route(task_of(reading)) for _, policy in process_of(run, reading).policies]
    return pinned == str(target) or all(target in route.targets for route in routes)


def _has_failed(run: Run, reading: Reading, target: Target) -> bool:
    """Whether a breaker of a target has opened in this process."""
    notices = (notice for _, notice in process_of(run, reading).notices)
    return any(isinstance(notice, BreakerChanged) and notice.target == target for notice in notices)
