"""The fault matrix: wire × fault × place × way of going on × a second fault.

In every cell the reader gets the whole text, once.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher.events import StreamCompleted, TextDelta, check_order
from llm_dispatcher.testing import (
    CleanEnd,
    Continuing,
    Cut,
    ErrorFrame,
    Garbage,
    HttpError,
    KeepAlives,
    Kind,
    MalformedJson,
    ReceivedRequest,
    Refuse,
    Reply,
    SimulatedVendor,
    SlowHeaders,
    Stall,
    Wire,
)
from tests.conftest import policy_over
from tests.faults.leaping_loop import leap_through


def hurried(*vendors: SimulatedVendor) -> dict[str, Any]:
    """A configuration over these vendors whose clocks ring soon: in virtual time, this costs nothing."""
    return policy_over(*vendors, timeouts={"first_token": 1.0, "idle": 0.7})


CHUNKS = (
    "When the storm was over,", " the keeper wrote to her sister:", " “The light held, and so did I.”\n",
    "## What was lost\n\n", "| boats | nets | sleep |\n", "| boats | nets | sleep |\n", "Ha ha ha, said the gulls.",
    "\n```python\nprint('all well')\n", "```\nÜber die Klippen, na\u0308mlich", " 日本の灯台 🎌 too,",
    " word came in the morning", " that the bay was calm again.",
)  # fmt: skip
TEXT = "".join(CHUNKS)
"""Twelve chunks: quotes, a table with equal rows, a refrain, code, combining characters, a language without spaces."""

FAULTS: dict[str, Callable[[int], Any]] = {
    "cut": lambda after: Cut(after, moment=0.01),
    "cut inside an event": lambda after: (
        Cut(after, into=9, moment=0.01) if after < len(CHUNKS) else Cut(after, moment=0.01)
    ),
    "clean end": CleanEnd,
    "stall": Stall,
    "keep-alives": KeepAlives,
    "error frame": ErrorFrame,
    "malformed JSON": MalformedJson,
    "garbage": Garbage,
    # These come before the first chunk, and so in one place only.
    "refuse": lambda after: Refuse(),
    "slow headers": lambda after: SlowHeaders(60),
    "HTTP 500": lambda after: HttpError(500),
    "HTTP 429": lambda after: HttpError(429),
}
BEFORE_ALL = frozenset({"refuse", "slow headers", "HTTP 500", "HTTP 429"})


def places(fault: str, kind: Kind, second: str | None) -> list[int]:
    """Where the fault may be. An exact rest is left out where a second fault has no place: where it is empty, and where
    two readings fit (see `owed`), so that the second vendor was not given the script's own text.
    """
    every = [0] if fault in BEFORE_ALL else list(range(len(CHUNKS) + 1))
    return [place for place in every if second is None or kind is not Kind.EXACT or place not in (5, len(CHUNKS))]


class Cell(NamedTuple):
    """Where a stream breaks, how the next vendor goes on, and how that breaks in turn. The prompt says it all; so one
    set of vendors serves many cells at once.
    """

    fault: str
    place: int
    kind: Kind
    second: str | None

    @property
    def prompt(self) -> str:
        return json.dumps(self)

    @property
    def needs_a_third(self) -> bool:
        """Whether the second vendor does not bring it to an end: it breaks, or it goes on without a word that proves
        it. Where the rest begins with the row that was delivered last (place 5), that row is taken for the proof.
        """
        is_unproven = self.kind is Kind.EXACT and self.place not in (0, 5)
        return self.second is not None or is_unproven

    @classmethod
    def of(cls, request: ReceivedRequest) -> Cell:
        fault, place, kind, second = json.loads(request.turns[0].text)
        return cls(fault, place, Kind(kind), second)


def owed(kind: Kind, place: int) -> str:
    """The whole text; but where the exact rest, without an anchor, begins with the very row that was delivered last,
    two readings fit, and the minimum for an overlap decides: one of the two rows goes.
    """
    return TEXT.replace(CHUNKS[4], "", 1) if kind is Kind.EXACT and place == 5 else TEXT


CONTINUING = {kind: Continuing(TEXT, kind) for kind in Kind}


def speaker(request: ReceivedRequest) -> Reply:
    cell = Cell.of(request)
    return Reply(TEXT, chunks=CHUNKS, fault=FAULTS[cell.fault](cell.place))


def follower(request: ReceivedRequest) -> Reply:
    cell = Cell.of(request)
    reply = CONTINUING[cell.kind](request)
    return reply if cell.second is None else Reply(reply.text, fault=FAULTS[cell.second](len(reply.pieces) // 2))


async def run(switch: LLMSwitch, cell: Cell) -> None:
    vendors = 3 if cell.needs_a_third else 2
    stream = switch.stream_request(TaskRequest(cell.prompt))
    events = [event async for event in stream.events()]
    check_order(events)
    response = stream.response
    read = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert read == response.text == owed(cell.kind, cell.place), cell
    assert isinstance(events[-1], StreamCompleted), cell
    assert [attempt.outcome for attempt in response.attempts] == ["failed"] * (vendors - 1) + ["completed"], cell
    assert sum(attempt.delivered for attempt in response.attempts) == len(read), cell
    assert response.usage.output_tokens == sum(attempt.usage.output_tokens for attempt in response.attempts), cell


async def run_all(wire: str, cells: Sequence[Cell]) -> int:
    """All of them at the same time; how many there were."""
    async with AsyncExitStack() as stack:
        vendors = [
            await stack.enter_async_context(SimulatedVendor(wire, script))
            for script in (speaker, follower, Continuing(TEXT))
        ]
        switch = await stack.enter_async_context(LLMSwitch(hurried(*vendors)))
        await asyncio.gather(*(run(switch, cell) for cell in cells))
        asked = [Counter(Cell.of(request) for request in vendor.requests) for vendor in vendors]
        assert asked[0] == asked[1] == Counter(cells)
        assert asked[2] == Counter(cell for cell in cells if cell.needs_a_third)
    return len(cells)


@pytest.mark.parametrize("wire", list(Wire))
@pytest.mark.parametrize("fault", ["cut", "clean end", "HTTP 500"])
def test_the_readers_text_is_the_whole_text_once(wire: str, fault: str, count_cells: Callable[[int], None]) -> None:
    cells = [
        Cell(fault, place, kind, None) for kind in (Kind.ANCHOR, Kind.RESTART) for place in places(fault, kind, None)
    ]
    count_cells(leap_through(lambda: run_all(wire, cells)))


SECONDS = (None, "clean end", "stall")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("wire", list(Wire))
@pytest.mark.parametrize("fault", list(FAULTS))
def test_every_cell_of_the_matrix_gives_the_whole_text_once(
    wire: str, fault: str, count_cells: Callable[[int], None]
) -> None:
    """All ways of going on, and all second faults."""
    cells = [
        Cell(fault, place, kind, second) for kind in Kind for second in SECONDS for place in places(fault, kind, second)
    ]
    count_cells(leap_through(lambda: run_all(wire, cells)))
