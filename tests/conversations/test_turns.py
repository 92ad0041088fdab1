"""The turns of one stream on one route: who is asked next, what the whole run may cost, and what a break leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from msgspec.structs import replace

from llm_dispatcher import LLMStream, LLMSwitch, TaskRequest, Tool, llm_stream, use_switch
from llm_dispatcher.events import (
    Event,
    StreamCompleted,
    StreamFailed,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
    ToolResult,
    check_order,
)
from llm_dispatcher.exceptions import StreamBudgetExceededError
from llm_dispatcher.tasks import Message, Target, ToolCallPart, ToolResultPart
from llm_dispatcher.testing import (
    Continuing,
    Cut,
    HttpError,
    Kind,
    ReceivedRequest,
    Reply,
    SaidToolCall,
    SaidUsage,
    SimulatedVendor,
    Wire,
)
from tests.conftest import policy_over
from tests.faults.leaping_loop import leap_through

Start = Callable[..., SimulatedVendor]
A, B = Target("a", "m"), Target("b", "m")
LOOK = SaidToolCall("look", '{"at": 1}')
WAIT = SaidToolCall("wait", '{"for": 2}')


async def look(at: int) -> str:
    """Look."""
    return f"seen {at}"


def turns_then(*replies: Reply, last: Reply) -> Callable[[ReceivedRequest], Reply]:
    """A vendor that answers by what it is told: each of these while so many results have come, then the last one."""
    return lambda request: replies[len(request.results)] if len(request.results) < len(replies) else last


async def events_of(stream: LLMStream[str]) -> list[Event]:
    events = [event async for event in stream.events()]
    check_order(events)
    return events


# ── who is asked next ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_next_turn_is_asked_of_the_target_that_has_answered(simulated_vendor: Start) -> None:
    down = simulated_vendor("openai-chat", [Reply(fault=HttpError(500)), Reply("Not asked.")])
    up = simulated_vendor("anthropic", turns_then(Reply(tool_calls=(LOOK,)), last=Reply("Seen.")))
    async with LLMSwitch(policy_over(down, up)) as switch:
        stream = switch.stream_request(TaskRequest("Look.", tools=[look]))
        assert await stream == "Seen."
        assert [attempt.target for attempt in stream.response.attempts] == [A, B, B]
        assert len(down.requests) == 1


async def test_a_target_that_fails_in_the_next_turn_is_followed_by_the_others(simulated_vendor: Start) -> None:
    first = simulated_vendor("openai-responses", [Reply(tool_calls=(LOOK,)), Reply(fault=HttpError(500))])
    second = simulated_vendor("google", Reply("Seen."))
    async with LLMSwitch(policy_over(first, second)) as switch:
        stream = switch.stream_request(TaskRequest("Look.", tools=[look]))
        assert await stream == "Seen."
        assert [attempt.target for attempt in stream.response.attempts] == [A, A, B]
    assert [result.result for result in second.requests[0].results] == ["seen 1"]


async def test_the_body_is_not_asked_for_a_later_turn(simulated_vendor: Start) -> None:
    """It stands in for the first turn only: it knows nothing of the results."""
    vendor = simulated_vendor("openai-chat", [Reply(tool_calls=(LOOK,)), Reply(fault=HttpError(500))])
    policy = policy_over(vendor) | {"routing": {"default": ["a/m", "body"]}}
    async with LLMSwitch(policy) as switch:
        with use_switch(switch):

            @llm_stream(tools=[look])
            async def story(topic: str) -> AsyncIterator[str]:
                yield "By hand."

            events = await events_of(story("foxes"))
    assert isinstance(events[-1], StreamFailed) and isinstance(events[-2], ToolResult)


# ── money ──────────────────────────────────────────────────────────────────────────────────────────────────────────

PRICES = {"input_price": 1.0, "output_price": 1.0}
"""A dollar for a million tokens."""
DEAR = SaidUsage(400_000, 100_000)


def priced(policy: dict[str, Any], *names: str) -> dict[str, Any]:
    catalog: Mapping[str, Any] = {f"{name}/m": PRICES | policy["catalog"].get(f"{name}/m", {}) for name in names}
    return policy | {"catalog": catalog}


async def test_max_cost_is_for_all_turns(simulated_vendor: Start) -> None:
    """Each turn is expected to cost next to nothing, and costs 50 cents."""
    call = Reply(tool_calls=(LOOK,), usage=DEAR)
    vendor = simulated_vendor("openai-chat", call)
    async with LLMSwitch(priced(policy_over(vendor), "a")) as switch:
        stream = switch.stream_request(TaskRequest("Look.", tools=[look]), max_cost=0.9)
        with pytest.raises(StreamBudgetExceededError, match=r"\$1.000000 spent already, it is over max_cost \(\$0.9\)"):
            await stream
        assert stream.response.cost == pytest.approx(1.0)
        assert [message.role for message in stream.response.messages] == ["assistant", "tool"] * 2
    assert len(vendor.requests) == 2


async def test_the_text_of_a_later_turn_counts_with_what_the_turns_before_have_cost(simulated_vendor: Start) -> None:
    text = "word " * 2_000
    vendor = simulated_vendor("openai-chat", [Reply(tool_calls=(LOOK,), usage=DEAR), Reply(text)])
    async with LLMSwitch(priced(policy_over(vendor), "a")) as switch:
        stream = switch.stream_request(TaskRequest("Look.", tools=[look]), max_cost=0.501)
        with pytest.raises(StreamBudgetExceededError, match="more than max_cost"):
            await stream
        assert 0 < len(stream.response.text) < len(text)


# ── a break at every place of a turn with calls ────────────────────────────────────────────────────────────────────

TEXT = "Let me look that up in the almanac of lighthouses, which lists every lamp and keeper since 1756."
FINAL = "It was lit in 1756, and has been ever since."
READERS = ("events", "chunks", "whole")


FRAGMENTED = ("openai-chat", "openai-responses", "anthropic")
"""The wires that send the arguments of a call in fragments. Faults count those."""


def has_results(request: ReceivedRequest) -> bool:
    return any(turn.results for turn in request.turns)


async def survive(wire: str, other: str, count: int, turn: int) -> int:
    """Break the first or the second turn at every place, before, in and after its calls. Every tool runs once."""
    calls = (LOOK, WAIT)[:count]
    first, last = Reply(TEXT, tool_calls=calls), Reply(FINAL)
    broken = first if turn == 1 else last
    length = broken.length if wire in FRAGMENTED else len(broken.pieces) + len(broken.tool_calls)
    async with AsyncExitStack() as stack:

        def begins(request: ReceivedRequest) -> Reply:
            reply = last if has_results(request) else first
            if reply is not broken:
                return reply
            return replace(reply, fault=Cut(int(request.turns[0].text.split()[1])))

        def continues(request: ReceivedRequest) -> Reply:
            if has_results(request):
                return Continuing(FINAL, Kind.ANCHOR)(request)
            return Continuing(TEXT, Kind.ANCHOR, first)(request)

        vendors = [
            await stack.enter_async_context(SimulatedVendor(each, script))
            for each, script in ((wire, begins), (other, continues))
        ]
        switch = await stack.enter_async_context(LLMSwitch(policy_over(*vendors)))
        for place in range(1, length + 1):
            for how in READERS:
                await read_one(switch, how, f"Look {place}", count)
    return length * len(READERS)


async def read_one(switch: LLMSwitch, how: str, prompt: str, count: int) -> None:
    ran: list[str] = []

    async def look(at: int) -> str:
        """Look."""
        ran.append(f"look {at}")
        return f"seen {at}"

    async def wait_for(name: str, value: int) -> str:
        ran.append(f"{name} {value}")
        return "waited"

    waiting = Tool("wait", "Wait.", {"type": "object"}, lambda **given: wait_for("wait", given["for"]))
    stream = switch.stream_request(TaskRequest(prompt, tools=[look, waiting]))
    if how == "events":
        check_events(await events_of(stream))
    elif how == "chunks":
        assert "".join([chunk async for chunk in stream]) == f"{TEXT}\n\n{FINAL}", prompt
    else:
        assert (await stream.collect()).text == f"{TEXT}\n\n{FINAL}", prompt
    assert ran == ["look 1", "wait 2"][:count], prompt
    said, results, final = stream.response.messages
    assert (said.text, final) == (TEXT, Message("assistant", FINAL)), prompt
    made = [part for part in said.parts if isinstance(part, ToolCallPart)]
    assert [part.name for part in made] == ["look", "wait"][:count], prompt
    answered = [part for part in results.parts if isinstance(part, ToolResultPart)]
    assert [(part.id, part.result) for part in answered] == [
        (part.id, result) for part, result in zip(made, ("seen 1", "waited"), strict=False)
    ], prompt


def check_events(events: list[Event]) -> None:
    """Fragments end in a whole call or in a drop, and no call comes twice."""
    assert isinstance(events[-1], StreamCompleted)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text == events[-1].text == f"{TEXT}\n\n{FINAL}"
    begun: set[str] = set()
    whole: list[str] = []
    for event in events:
        match event:
            case ToolCallDelta():
                begun.add(event.id)
            case ToolCallDropped():
                begun.remove(event.id)
            case ToolCall():
                begun.discard(event.id)
                whole.append(event.id)
            case _:
                pass
    assert not begun
    assert len(whole) == len(set(whole))


PAIRS = [
    pytest.param(
        wire, list(Wire)[(place + 1) % len(Wire)], count, turn, marks=[] if turn == count else pytest.mark.slow
    )
    for place, wire in enumerate(Wire)
    for count in (1, 2)
    for turn in (1, 2)
]


@pytest.mark.parametrize(("wire", "other", "count", "turn"), PAIRS)
def test_wherever_a_stream_with_tools_breaks_each_tool_runs_once(wire: str, other: str, count: int, turn: int) -> None:
    assert leap_through(lambda: survive(wire, other, count, turn)) > 0
