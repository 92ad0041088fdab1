"""`tool_policy`: which calls run, which are refused, and when the stream ends with the calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_dispatcher import LLM, Deny, LLMSwitch, RunContext, TaskRequest
from llm_dispatcher.events import Event, StreamCompleted, StreamFailed, ToolCall, ToolResult, check_order
from llm_dispatcher.exceptions import StreamingError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import ReceivedRequest, Reply, SaidToolCall, SimulatedVendor
from tests.conftest import examples, policy_over

FINAL = "Done."


def script(calls: tuple[SaidToolCall, ...]) -> Any:
    return lambda request: Reply(FINAL) if request.results else Reply("Hm.", tool_calls=calls)


class Counter:
    """A tool that counts its runs."""

    def __init__(self) -> None:
        self.ran: list[int] = []

    async def count(self, n: int) -> int:
        self.ran.append(n)
        return n


async def events_of(llm: LLM) -> list[Event]:
    events = [event async for event in llm("Go.").events()]
    check_order(events)
    return events


CALLS = tuple(SaidToolCall("count", json.dumps({"n": n}), id=f"c{n}") for n in (1, 2))


def told(events: Sequence[Event]) -> dict[str, str | None]:
    return {each.id: each.error or each.result for each in events if isinstance(each, ToolResult)}


async def test_report_ends_the_stream_with_the_calls(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(openai=script(CALLS))["openai"]
    counter = Counter()
    events = await events_of(LLM(tools=[counter.count], tool_policy="report"))
    assert [each.id for each in events if isinstance(each, ToolCall)] == ["c1", "c2"]
    assert isinstance(events[-1], StreamCompleted) and events[-1].finish_reason == "tool_calls"
    assert counter.ran == [] and len(vendor.requests) == 1


async def test_a_function_decides_each_call(simulated_switch: SimulatedSwitch) -> None:
    asked: list[tuple[str, object, int]] = []

    def policy(call: ToolCall, context: RunContext) -> str | Deny:
        asked.append((call.id, context.context, context.turn))
        return "run" if call.arguments == {"n": 1} else Deny("Ask the user first.")

    simulated_switch(openai=script(CALLS))
    counter = Counter()
    events = await events_of(LLM(tools=[counter.count], tool_policy=policy, tool_context="me"))
    assert told(events) == {"c1": "1", "c2": "Ask the user first."}
    assert asked == [("c1", "me", 1), ("c2", "me", 1)] and counter.ran == [1]
    (refused,) = [each for each in events if isinstance(each, ToolResult) and each.error is not None]
    assert refused.id == "c2" and refused.result is None


async def test_a_policy_may_wait_for_a_person(simulated_switch: SimulatedSwitch) -> None:
    asked, approved = asyncio.Event(), asyncio.Event()
    counter = Counter()

    async def policy(call: ToolCall, context: RunContext) -> str:
        asked.set()
        await approved.wait()
        return "run"

    simulated_switch(openai=script(CALLS))
    reading = asyncio.create_task(events_of(LLM(tools=[counter.count], tool_policy=policy)))
    await asked.wait()
    assert counter.ran == []
    approved.set()
    assert told(await reading) == {"c1": "1", "c2": "2"}


async def test_all_calls_are_decided_before_one_runs(simulated_switch: SimulatedSwitch) -> None:
    counter = Counter()

    async def policy(call: ToolCall, context: RunContext) -> str:
        await asyncio.sleep(0)
        assert counter.ran == []
        return "stop" if call.id == "c2" else "run"

    vendor = simulated_switch(openai=script(CALLS))["openai"]
    events = await events_of(LLM(tools=[counter.count], tool_policy=policy))
    assert isinstance(events[-1], StreamCompleted)
    assert told(events) == {} and counter.ran == [] and len(vendor.requests) == 1


async def test_the_run_of_the_policy_is_the_run_of_the_tool(simulated_switch: SimulatedSwitch) -> None:
    ids: list[str] = []

    def policy(call: ToolCall, context: RunContext) -> str:
        ids.append(context.run_id)
        return "run"

    def look(run: RunContext) -> None:
        ids.append(run.run_id)

    simulated_switch(openai=script((SaidToolCall("look"),)))
    await LLM(tools=[look], tool_policy=policy)("Go.")
    assert len(ids) == 2 and len(set(ids)) == 1


async def test_calls_that_cannot_run_are_not_asked_about(simulated_switch: SimulatedSwitch) -> None:
    asked: list[str] = []

    def policy(call: ToolCall, context: RunContext) -> str:
        asked.append(call.id)
        return "run"

    calls = (SaidToolCall("count", "{", id="a"), SaidToolCall("cuont", id="b"), SaidToolCall("count", "{}", id="c"))
    simulated_switch(openai=script((*calls, *CALLS)))
    events = await events_of(LLM(tools=[Counter().count], tool_policy=policy))
    assert asked == ["c1", "c2"] and sorted(told(events)) == ["a", "b", "c", "c1", "c2"]


class NotTodayError(Exception):
    pass


async def test_an_error_of_the_policy_ends_the_stream(simulated_switch: SimulatedSwitch) -> None:
    def policy(call: ToolCall, context: RunContext) -> str:
        if call.id == "c2":
            raise NotTodayError("no")
        return "run"

    simulated_switch(openai=script(CALLS))
    counter = Counter()
    llm = LLM(tools=[counter.count], tool_policy=policy)
    with pytest.raises(NotTodayError):
        await llm("Go.")
    events = await events_of(llm)
    assert isinstance(events[-1], StreamFailed) and events[-1].failure.kind == "NotTodayError"
    assert counter.ran == []


@pytest.mark.parametrize("wrong", [None, True, "yes", Deny])
async def test_a_policy_that_decides_nothing_is_named(simulated_switch: SimulatedSwitch, wrong: Any) -> None:
    simulated_switch(openai=script(CALLS))
    counter = Counter()
    with pytest.raises(TypeError, match=r'returns "run", "stop" or Deny\("reason"\); for the call of \'count\''):
        await LLM(tools=[counter.count], tool_policy=lambda call, context: wrong)("Go.")
    assert counter.ran == []


@pytest.mark.simulated(seeds=5)
async def test_total_ends_the_wait_for_a_person(simulated_switch: SimulatedSwitch) -> None:
    async def policy(call: ToolCall, context: RunContext) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "run"  # it takes the cancellation for an answer
        return "run"

    simulated_switch(openai=script(CALLS))
    counter = Counter()
    with pytest.raises(StreamingError, match="the total clock"):
        await LLM(tools=[counter.count], tool_policy=policy, timeout=30)("Go.")
    assert counter.ran == []


async def test_closing_the_switch_ends_the_wait_for_a_person(simulated_switch: SimulatedSwitch) -> None:
    from llm_dispatcher import get_global_switch

    asked = asyncio.Event()

    async def policy(call: ToolCall, context: RunContext) -> str:
        asked.set()
        await asyncio.Event().wait()
        return "run"

    simulated_switch(openai=script(CALLS))
    reading = asyncio.create_task(LLM(tools=[Counter().count], tool_policy=policy)("Go.").collect())
    await asked.wait()
    await get_global_switch().aclose()
    with pytest.raises(StreamingError, match="the switch was closed"):
        await reading


@pytest.mark.parametrize("wrong", ["ask", 3, True])
def test_a_wrong_policy_is_refused_where_it_is_written(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r'tool_policy is "run", "report" or a function'):
        LLM(tool_policy=wrong)


@pytest.mark.parametrize("reason", [None, 3, "", "  "])
def test_a_refusal_has_a_reason(reason: Any) -> None:
    with pytest.raises(TypeError, match="the reason of a Deny is text"):
        Deny(reason)


# ── properties ─────────────────────────────────────────────────────────────────────────────────────────────────────

DECISIONS = st.sampled_from(["run", "run", "refuse", "stop", "raise"])
KINDS = st.sampled_from(["good", "good", "bad", "broken", "unknown"])


def made(number: int, kind: str) -> SaidToolCall:
    name = "cuont" if kind == "unknown" else "count"
    arguments = {"bad": '{"n": "x"}', "broken": '{"n": '}.get(kind, json.dumps({"n": number}))
    return SaidToolCall(name, arguments, id=f"c{number}")


@settings(max_examples=examples(80), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=st.lists(st.tuples(KINDS, DECISIONS, st.booleans()), min_size=1, max_size=5))
def test_what_runs_is_what_was_decided(plans: list[tuple[str, str, bool]]) -> None:
    """Whatever is called and decided: a call runs once if it is good, allowed and nothing stops the turn; and every
    call of a turn that goes on has one result.
    """
    calls = [made(number, kind) for number, (kind, _, _) in enumerate(plans)]
    counter = Counter()

    async def policy(call: ToolCall, context: RunContext) -> str | Deny:
        _, decision, waits = plans[int(call.id[1:])]
        if waits:
            await asyncio.sleep(0)
        if decision == "raise":
            raise NotTodayError("no")
        return Deny("no") if decision == "refuse" else decision

    def answer(request: ReceivedRequest) -> Reply:
        return Reply(FINAL) if request.results else Reply(tool_calls=tuple(calls))

    async def run() -> list[Event]:
        async with SimulatedVendor("openai-chat", answer) as vendor, LLMSwitch(policy_over(vendor)) as switch:
            request = TaskRequest("Go.", tools=[counter.count])
            return [event async for event in switch.stream_request(request, tool_policy=policy).events()]

    events = asyncio.run(run())
    check_order(events)
    asked = [(number, decision) for number, (kind, decision, _) in enumerate(plans) if kind == "good"]
    results = [event for event in events if isinstance(event, ToolResult)]
    assert len([event for event in events if isinstance(event, ToolCall)]) == len(calls)
    if any(decision == "raise" for _, decision in asked):
        assert isinstance(events[-1], StreamFailed) and not results and not counter.ran
        return
    assert isinstance(events[-1], StreamCompleted)
    if any(decision == "stop" for _, decision in asked):
        assert not results and not counter.ran
        return
    assert sorted(each.id for each in results) == [f"c{number}" for number in range(len(calls))]
    should_run = [number for number, decision in asked if decision == "run"]
    assert sorted(counter.ran) == should_run
    assert {each.id for each in results if each.error is None} == {f"c{number}" for number in should_run}
    assert events[-1].text == FINAL


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_approval_that_was_cancelled_is_an_error_and_no_cancellation_of_the_reader(
    simulated_switch: SimulatedSwitch, *, is_async: bool
) -> None:
    counter = Counter()

    def policy(call: ToolCall, context: RunContext) -> Any:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        return wait(future) if is_async else future

    async def wait(future: asyncio.Future[str]) -> str:
        return await future

    simulated_switch(openai=script((SaidToolCall("count", '{"n": 1}'),)))
    with pytest.raises(RuntimeError, match="waited for something that was cancelled, so 'count' was not run"):
        await LLM(tools=[counter.count], tool_policy=policy)("Go.")
    assert counter.ran == []
