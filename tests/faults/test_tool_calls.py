"""Streams that break in or before a tool call: no call is lost, completed by a guess, or made twice.

A call is shown as whole only when its answer is complete. So the turn is asked again with the delivered text behind it,
wherever it breaks. A reader of events who saw fragments is told that their call is dropped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher.events import (
    Event,
    StreamCompleted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
    check_order,
)
from llm_dispatcher.testing import (
    CleanEnd,
    Continuing,
    Cut,
    Kind,
    ReceivedRequest,
    Reply,
    SaidToolCall,
    SimulatedVendor,
    Wire,
)
from tests.conftest import policy_over
from tests.faults.leaping_loop import leap_through

TEXT = "Let me look that up in the almanac of lighthouses, which lists every lamp and keeper since 1756."
CALLS = (SaidToolCall("look_up", '{"name": "Eddystone"}'), SaidToolCall("count", '{"of": ["lamps"]}', id="call_2"))
TOOLS = [{"name": call.name, "parameters": {"type": "object"}} for call in CALLS]
HOW = ("events", "chunks", "whole")


class Cell(NamedTuple):
    """Where a stream breaks, and who reads it."""

    place: int
    how: str
    has_text: bool
    parallel: int

    @property
    def request(self) -> TaskRequest:
        return TaskRequest(repr(tuple(self)), tools=TOOLS)

    @property
    def text(self) -> str:
        return TEXT if self.has_text else ""

    @property
    def calls(self) -> tuple[SaidToolCall, ...]:
        return CALLS[: self.parallel]

    @property
    def made(self) -> list[tuple[str, object]]:
        return [(call.name, json.loads(call.arguments)) for call in self.calls]

    @classmethod
    def of(cls, request: ReceivedRequest) -> Cell:
        place, how, has_text, count = request.turns[0].text.strip("()").split(", ")
        return cls(int(place), how.strip("'"), has_text == "True", int(count))


def speaker(fault: Callable[[int], Cut | CleanEnd]) -> Callable[[ReceivedRequest], Reply]:
    def script(request: ReceivedRequest) -> Reply:
        cell = Cell.of(request)
        return Reply(cell.text, tool_calls=cell.calls, fault=fault(cell.place))

    return script


def follower(kind: Kind) -> Callable[[ReceivedRequest], Reply]:
    """It continues the text, and then makes all calls."""

    def script(request: ReceivedRequest) -> Reply:
        cell = Cell.of(request)
        return Reply(Continuing(cell.text, kind)(request).text, tool_calls=cell.calls)

    return script


async def run(switch: LLMSwitch, cell: Cell) -> str:
    """Read one stream, and check it. Returns how it ended."""
    stream = switch.stream_request(cell.request)
    if cell.how == "whole":
        response = await stream.collect()
        assert response.text == cell.text, cell
        assert [(call.name, call.arguments) for call in response.tool_calls] == cell.made, cell
        return "whole"
    if cell.how == "chunks":
        read = "".join([chunk async for chunk in stream])
        assert read == stream.response.text == cell.text, cell
        assert [(call.name, call.arguments) for call in stream.response.tool_calls] == cell.made, cell
        return "whole"
    return check([event async for event in stream.events()], cell)


def check(events: Sequence[Event], cell: Cell) -> str:
    """Every call of which fragments came is complete in the end, or was dropped; and no call comes twice."""
    check_order(events)
    calls = [event for event in events if isinstance(event, ToolCall)]
    dropped = [event for event in events if isinstance(event, ToolCallDropped)]
    assert isinstance(events[-1], StreamCompleted), cell
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == events[-1].text == cell.text, cell
    assert [(call.name, call.arguments) for call in calls] == cell.made, cell
    open_calls: dict[str, str] = {}
    for event in events:
        match event:
            case ToolCallDelta():
                open_calls[event.id] = event.name
            case ToolCallDropped():
                assert open_calls.pop(event.id) == event.name, cell
            case ToolCall():
                open_calls.pop(event.id, None)
            case _:
                pass
    assert not open_calls, cell
    return "dropped" if dropped else "whole"


FRAGMENTED = ("openai-chat", "openai-responses", "anthropic")
"""The wires that send the arguments of a call in fragments."""


def pieces(wire: str, text: str, count: int) -> int:
    reply = Reply(text, tool_calls=CALLS[:count])
    return reply.length if wire in FRAGMENTED else len(reply.pieces) + count


async def run_all(wire: str, other: str, kind: Kind, fault: Callable[[int], Cut | CleanEnd]) -> dict[str, int]:
    cells = [
        Cell(place, how, has_text, count)
        for count in (1, 2)
        for how in HOW
        for has_text in (True, False)
        # A remark before one delivered word is no proof.
        for place in range(
            5 if has_text and kind is Kind.REMARK else 1, pieces(wire, TEXT if has_text else "", count) + 1
        )
    ]
    async with AsyncExitStack() as stack:
        vendors = [
            await stack.enter_async_context(SimulatedVendor(each, script))
            for each, script in ((wire, speaker(fault)), (other, follower(kind)))
        ]
        switch = await stack.enter_async_context(LLMSwitch(policy_over(*vendors)))
        ended = await asyncio.gather(*(run(switch, cell) for cell in cells))
    return {"cells": len(cells), "dropped": ended.count("dropped")}


PAIRS = [
    pytest.param(wire, other, marks=[] if (place + at) % 5 == 1 else pytest.mark.slow)
    for place, wire in enumerate(Wire)
    for at, other in enumerate(Wire)
]
"""All pairs of wires. `make test` takes each wire once as the first, and once as the second."""


@pytest.mark.parametrize(("wire", "other"), PAIRS)
def test_a_break_in_a_call_is_no_end(wire: str, other: str, count_cells: Callable[[int], None]) -> None:
    ended = leap_through(lambda: run_all(wire, other, Kind.ANCHOR, Cut))
    count_cells(ended["cells"])
    assert ended["dropped"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind.RESTART, Kind.QUOTED, Kind.REMARK, Kind.OTHER_SPACE])
@pytest.mark.parametrize("wire", list(Wire))
def test_however_the_text_before_a_call_is_continued(wire: str, kind: Kind, count_cells: Callable[[int], None]) -> None:
    ended = leap_through(lambda: run_all(wire, "openai-chat", kind, CleanEnd))
    count_cells(ended["cells"])
