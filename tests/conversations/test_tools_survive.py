"""Streams that run tools and break, at every place of every turn, on all wires over real sockets.

The tools count their runs. Wherever a vendor breaks, each call of the conversation runs once, with whole arguments, and
the stream ends with the whole text at another vendor, which has got the results.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Literal, NamedTuple

import pytest

from llm_dispatcher import LLMStream, LLMSwitch, RunContext, TaskRequest
from llm_dispatcher.events import (
    Event,
    StreamCompleted,
    StreamReset,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
    ToolResult,
    check_order,
)
from llm_dispatcher.streaming._transcript import Transcript
from llm_dispatcher.testing import (
    CleanEnd,
    Continuing,
    Cut,
    ReceivedRequest,
    Reply,
    SaidToolCall,
    SimulatedVendor,
    Wire,
)
from tests.conftest import policy_over

ASIDE = "Let me look that up in the almanac of lighthouses, which lists every lamp and keeper."
FINAL = "The Eddystone has one lamp, and it was first lit in 1698 by a man who sold everything that he had."
CALLS = (
    SaidToolCall("look_up", '{"name": "Eddystone"}', id="call_1"),
    SaidToolCall("count", '{"of": ["lamps"]}', id="call_2"),
)
TURNS = (Reply(ASIDE, tool_calls=CALLS), Reply(FINAL))
HOW = ("events", "chunks", "whole", "restarts")

ran: Counter[tuple[object, str, str]] = Counter()
"""How often each tool has run, by the cell and the arguments."""


def look_up(name: str, run: RunContext) -> str:
    ran[run.context, "look_up", name] += 1
    return f"{name}: lit in 1698"


async def count(of: list[str], run: RunContext) -> int:
    await asyncio.sleep(0)
    ran[run.context, "count", json.dumps(of)] += 1
    return 1


class Cell(NamedTuple):
    """The turn and the place in which a stream breaks, and who reads it."""

    wires: str
    turn: int
    place: int
    how: str

    @classmethod
    def of(cls, request: ReceivedRequest) -> Cell:
        wires, turn, place, how = json.loads(request.turns[0].text)
        return cls(wires, turn, place, how)


def turn_of(request: ReceivedRequest) -> int:
    return 2 if request.calls else 1


def speaker(fault: Callable[[int], Cut | CleanEnd]) -> Callable[[ReceivedRequest], Reply]:
    """It breaks in one turn."""

    def script(request: ReceivedRequest) -> Reply:
        cell, turn = Cell.of(request), turn_of(request)
        reply = TURNS[turn - 1]
        return Reply(reply.text, tool_calls=reply.tool_calls, fault=fault(cell.place) if turn == cell.turn else None)

    return script


def follower(request: ReceivedRequest) -> Reply:
    """It continues what is there, and makes the calls if they were not made."""
    reply = TURNS[turn_of(request) - 1]
    return Reply(Continuing(reply.text)(request).text, tool_calls=reply.tool_calls)


async def read(stream: LLMStream[str], cell: Cell) -> str:
    match cell.how:
        case "whole":
            return await stream
        case "events" | "restarts":
            events = [event async for event in stream.events()]
            check_events(events, cell)
            assert any(isinstance(event, StreamReset) for event in events) == (
                cell.how == "restarts" and cell.place > 0
            )
            return Transcript.of(events).text
        case _:
            return "".join([chunk async for chunk in stream])


def check_events(events: Sequence[Event], cell: Cell) -> None:
    """Each call is shown whole once, has one result, and no fragment is left open."""
    check_order(events)
    assert isinstance(events[-1], StreamCompleted), (cell, events[-1])
    assert [event.name for event in events if isinstance(event, ToolCall)] == ["look_up", "count"], cell
    results = {event.name: event.result for event in events if isinstance(event, ToolResult)}
    assert results == {"look_up": "Eddystone: lit in 1698", "count": "1"}, cell
    fragments: set[str] = set()
    for event in events:
        if isinstance(event, ToolCallDelta):
            fragments.add(event.id)
        elif isinstance(event, (ToolCallDropped, ToolCall)):
            fragments.discard(event.id)
    assert not fragments, cell


async def run(switch: LLMSwitch, cell: Cell) -> None:
    request = TaskRequest(json.dumps(cell), tools=[look_up, count])
    on_break: Literal["restart"] | None = "restart" if cell.how == "restarts" else None
    stream = switch.stream_request(request, tool_context=cell, on_break=on_break)
    assert await read(stream, cell) == f"{ASIDE}\n\n{FINAL}", cell
    assert ran[cell, "look_up", "Eddystone"] == 1 and ran[cell, "count", '["lamps"]'] == 1, cell
    assert sum(times for key, times in ran.items() if key[0] == cell) == 2, cell
    messages = stream.response.messages
    assert [message.role for message in messages] == ["assistant", "tool", "assistant"], cell
    assert (messages[0].text, messages[2].text) == (ASIDE, FINAL), cell
    assert len(stream.response.attempts) >= 3 and stream.response.attempts[-1].target.provider == "b"


FRAGMENTED = ("openai-chat", "openai-responses", "anthropic")
"""The wires that send the arguments of a call in fragments."""


def length(wire: str, reply: Reply) -> int:
    return reply.length if wire in FRAGMENTED else len(reply.pieces) + len(reply.tool_calls)


PAIRS = [
    pytest.param(wire, other, marks=[] if (place + at) % 5 == 1 else pytest.mark.slow)
    for place, wire in enumerate(Wire)
    for at, other in enumerate(Wire)
]
"""All pairs of wires. `make test` takes each wire once as the first, and once as the second."""


@pytest.mark.parametrize("fault", [Cut, pytest.param(CleanEnd, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("wire", "other"), PAIRS)
async def test_a_break_anywhere_runs_each_call_once(
    wire: str, other: str, fault: Callable[[int], Cut | CleanEnd]
) -> None:
    ran.clear()
    cells = [
        Cell(f"{wire} {other} {fault.__name__}", turn, place, how)
        for how in HOW
        for turn in (1, 2)
        for place in range(length(wire, TURNS[turn - 1]) + 1)
    ]
    async with AsyncExitStack() as stack:
        vendors = [
            await stack.enter_async_context(SimulatedVendor(each, script))
            for each, script in ((wire, speaker(fault)), (other, follower))
        ]
        switch = await stack.enter_async_context(LLMSwitch(policy_over(*vendors)))
        await asyncio.gather(*(run(switch, cell) for cell in cells))
        last = vendors[1].requests[-1]
        assert {call.name for call in last.calls} == {"look_up", "count"}
        results = [result.result for turn in last.turns for result in turn.results]
        assert results == ["Eddystone: lit in 1698", "1"]


@pytest.mark.parametrize("wire", list(Wire))
async def test_parallel_calls_on_one_wire(wire: str) -> None:
    ran.clear()
    cell = Cell(wire, 0, 0, "events")
    script = [*TURNS]
    async with SimulatedVendor(wire, script) as vendor, LLMSwitch(policy_over(vendor)) as switch:
        stream = switch.stream_request(TaskRequest("Go.", tools=[look_up, count]), tool_context=cell)
        assert await read(stream, cell) == f"{ASIDE}\n\n{FINAL}"
        assert [result.result for result in vendor.requests[1].results] == ["Eddystone: lit in 1698", "1"]
    assert sum(ran.values()) == 2
