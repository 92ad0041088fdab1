"""The fault matrix over the rungs that go on without an anchor: prefill, exact, reattached and restarted.

In every cell the reader gets the whole text, once, and each attempt is named by its rung. `test_matrix.py` has the
anchored ones.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher.events import StreamCompleted, StreamReset, StreamStarted, TextDelta, check_order
from llm_dispatcher.exceptions import StreamingError
from llm_dispatcher.testing import (
    Background,
    CutEach,
    HttpError,
    ReceivedRequest,
    Refuse,
    Reply,
    RunFails,
    RunIsLost,
    RunStalls,
    SimulatedVendor,
    Wire,
)
from llm_dispatcher.testing._continuing import delivered_in
from tests.faults.leaping_loop import leap_through
from tests.faults.test_matrix import BEFORE_ALL, CHUNKS, FAULTS, TEXT, hurried

WAYS = ("rest", "blank first", "from the beginning")
"""How a model continues an open turn: with the rest, with white space that it had already, or with all of it again."""

SECONDS = (None, "clean end", "cut", "stall", "garbage", "HTTP 500")


class Cell(NamedTuple):
    """Where a stream breaks, how the next attempt goes on, and how that breaks in turn."""

    fault: str
    place: int
    way: str
    second: str | None

    @property
    def request(self) -> TaskRequest:
        return TaskRequest(json.dumps(self))

    @classmethod
    def of(cls, request: ReceivedRequest) -> Cell:
        return cls(*json.loads(request.turns[0].text))


def cells_of(
    faults: Sequence[str], ways: Sequence[str] = ("rest",), seconds: Sequence[str | None] = (None,), step: int = 1
) -> list[Cell]:
    return [
        Cell(fault, place, way, second)
        for fault in faults
        for way in ways
        for second in seconds
        for place in ([0] if fault in BEFORE_ALL else range(0, len(CHUNKS) + 1, step))
    ]


def rest_of(request: ReceivedRequest, way: str) -> str:
    found = delivered_in(request)
    if found is None:
        return TEXT
    delivered, anchor = found
    assert anchor is None, "this is about continuations without an anchor"
    assert TEXT.startswith(delivered), delivered[-40:]
    rest = TEXT.removeprefix(delivered)
    if way == "from the beginning" and delivered.strip():
        return TEXT
    return f" {rest}" if way == "blank first" and delivered.endswith(" ") else rest


def one_script() -> Callable[[ReceivedRequest], Reply]:
    """For all vendors of a run: the first and the second request of a cell break as it says, and the third does not."""
    asked: Counter[Cell] = Counter()

    def script(request: ReceivedRequest) -> Reply:
        cell = Cell.of(request)
        asked[cell] += 1
        if asked[cell] == 1:
            return Reply(TEXT, chunks=CHUNKS, fault=FAULTS[cell.fault](cell.place))
        text = rest_of(request, cell.way)
        if asked[cell] > 2 or cell.second is None:
            return Reply(text)
        return Reply(text, fault=FAULTS[cell.second](len(Reply(text).pieces) // 2))

    return script


async def run(switch: LLMSwitch, cell: Cell, rung: str, **settings: Any) -> None:
    stream = switch.stream_request(cell.request, **settings)
    events = [event async for event in stream.events()]
    check_order(events)
    resets = [place for place, event in enumerate(events) if isinstance(event, StreamReset)]
    read = "".join(event.text for event in events[resets[-1] if resets else 0 :] if isinstance(event, TextDelta))
    response = stream.response
    assert isinstance(events[-1], StreamCompleted), (cell, response.error)
    assert read == response.text == TEXT, cell
    attempts = response.attempts
    assert [attempt.outcome for attempt in attempts[:-1]] == ["failed"] * (len(attempts) - 1), cell
    assert attempts[-1].outcome == "completed", cell
    delivered = 0
    for attempt in attempts:
        assert attempt.rung == (rung if delivered else None), (cell, attempt)
        assert bool(attempt.proof) == (attempt.rung is not None), (cell, attempt)
        delivered += attempt.delivered
    assert [event.rung for event in events if isinstance(event, StreamStarted)] == [
        attempt.rung for attempt in attempts if attempt.delivered or attempt is attempts[-1]
    ], cell
    if not resets:
        assert delivered == len(TEXT), cell
    assert response.usage.output_tokens == sum(attempt.usage.output_tokens for attempt in attempts), cell


SCHEMA = {"type": "object", "properties": {}}


async def run_object(switch: LLMSwitch, cell: Cell, how: str) -> None:
    """Read an answer that has to follow a schema: it is never continued."""
    stream = switch.stream_request(replace(cell.request, response_format=SCHEMA))
    if how == "whole":
        response = await stream.collect()
        assert response.text == TEXT, cell
        seen = list(accumulate(attempt.delivered for attempt in response.attempts))
        for before, attempt in zip(seen, response.attempts[1:], strict=False):
            assert attempt.rung == ("restarted" if before else None), (cell, attempt)
        return
    read = ""
    with suppress(StreamingError):
        async for chunk in stream:
            read += chunk
    error = stream.response.error
    assert read == stream.response.text, cell
    assert read == (TEXT if error is None else "".join(CHUNKS[: cell.place])), cell
    assert (error is None) == (cell.place == 0), cell
    assert error is None or "the answer has to follow a schema" in str(error), cell


async def run_objects(wire: str, how: str, cells: Sequence[Cell]) -> int:
    script = one_script()
    async with AsyncExitStack() as stack:
        vendors = [await stack.enter_async_context(SimulatedVendor(wire, script)) for _ in range(3)]
        switch = await stack.enter_async_context(LLMSwitch(hurried(*vendors)))
        await asyncio.gather(*(run_object(switch, cell, how) for cell in cells))
    return len(cells)


async def run_all(wire: str, rung: str, cells: Sequence[Cell], entry: dict[str, Any], **host: Any) -> int:
    """All cells at once, over three vendors with the same script."""
    script = one_script()
    async with AsyncExitStack() as stack:
        vendors = [await stack.enter_async_context(SimulatedVendor(wire, script, **host)) for _ in range(3)]
        policy = hurried(*vendors)
        for settings in policy["providers"].values():
            if entry:
                settings.pop("api")
                settings.update(entry)
        if rung == "prefill":
            policy["catalog"] = {f"{name}/m": {"continues": "prefill"} for name in policy["providers"]}
        more = {"on_break": "restart"} if rung == "restarted" else {}
        switch = await stack.enter_async_context(LLMSwitch(policy))
        await asyncio.gather(*(run(switch, cell, rung, **more) for cell in cells))
    return len(cells)


VLLM: dict[str, Any] = {"kind": "vllm", "api_key": None}

SOME = ("cut", "clean end", "stall", "HTTP 500")


@pytest.mark.parametrize("wire", list(Wire))
def test_an_open_turn_is_continued(wire: str, count_cells: Callable[[int], None]) -> None:
    cells = [
        *cells_of(SOME, step=2), *cells_of(["cut"], WAYS[1:], step=3), *cells_of(["stall"], ["rest"], ["cut"], step=4),
    ]  # fmt: skip
    count_cells(leap_through(lambda: run_all(wire, "prefill", cells, {})))


def test_the_tokens_are_gone_on_from(count_cells: Callable[[int], None]) -> None:
    cells = [*cells_of(SOME, step=2), *cells_of(["cut", "stall"], ["rest"], ["cut"], step=3)]
    count_cells(leap_through(lambda: run_all("openai-chat", "exact", cells, VLLM, host="vllm", api_key=None)))


@pytest.mark.parametrize("wire", list(Wire))
def test_the_answer_begins_again(wire: str, count_cells: Callable[[int], None]) -> None:
    cells = [*cells_of(["cut"], step=2), *cells_of(["clean end"], ["rest"], ["stall"], step=4)]
    count_cells(leap_through(lambda: run_all(wire, "restarted", cells, {})))


@pytest.mark.parametrize("how", ["whole", "chunks"])
@pytest.mark.parametrize("wire", list(Wire))
def test_an_object_is_never_continued(wire: str, how: str, count_cells: Callable[[int], None]) -> None:
    """A reader of the whole gets a new one; a reader of chunks keeps its error, with what was delivered."""
    seconds = [None, "stall"] if how == "whole" else [None]
    count_cells(leap_through(lambda: run_objects(wire, how, cells_of(["cut"], ["rest"], seconds, step=4))))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("rung", "wire"),
    [*((rung, wire) for rung in ("prefill", "restarted") for wire in Wire), ("exact", Wire.OPENAI_CHAT)],
)
def test_every_cell_of_the_rungs_gives_the_whole_text_once(
    rung: str, wire: str, count_cells: Callable[[int], None]
) -> None:
    """All faults, all ways of going on, all second faults."""
    ways = WAYS if rung == "prefill" else WAYS[:1]
    more = {"host": "vllm", "api_key": None} if rung == "exact" else {}
    for fault in FAULTS:
        cells = cells_of([fault], ways, SECONDS)
        entry = VLLM if rung == "exact" else {}
        count_cells(leap_through(partial(run_all, wire, rung, cells, entry, **more)))


# ── reattached ─────────────────────────────────────────────────────────────────────────────────────────────────────

READS: dict[str, tuple[Any, ...]] = {
    "at once": (),
    "HTTP 503": (HttpError(503),),
    "HTTP 429": (HttpError(429, retry_after=0.01),),
    "refused": (Refuse(), Refuse()),  # a connection that was open before may have been closed: one more is made
    "gone": (HttpError(404),),
}
"""What happens to the requests that read a run on."""


async def run_kept(reads: str, cells: Sequence[Cell], retries: int) -> list[tuple[str | None, ...]]:
    """Each cell has a vendor of its own, because its answers to readings are counted. Returns the rungs."""

    async def one(cell: Cell, stack: AsyncExitStack) -> tuple[str | None, ...]:
        a = SimulatedVendor(
            "openai-responses", Reply(TEXT, chunks=CHUNKS, fault=RUN_FAULTS[cell.fault](cell.place)),
            background=Background(reads=READS[reads]),
        )  # fmt: skip
        b = SimulatedVendor("openai-chat", lambda request: Reply(rest_of(request, cell.way)))
        for vendor in (a, b):
            await stack.enter_async_context(vendor)
        policy = hurried(a, b)
        policy["providers"]["a"]["options"] = {"background": True}
        policy["catalog"] = {f"{name}/m": {"continues": "prefill"} for name in "b"}
        policy["resilience"]["max_retries"] = retries
        switch = await stack.enter_async_context(LLMSwitch(policy))
        stream = switch.stream_request(cell.request)
        events = [event async for event in stream.events()]
        check_order(events)
        read = "".join(event.text for event in events if isinstance(event, TextDelta))
        assert isinstance(events[-1], StreamCompleted), (cell, stream.response.error)
        assert read == stream.response.text == TEXT, cell
        attempts = stream.response.attempts
        assert sum(attempt.delivered for attempt in attempts) == len(TEXT), cell
        return tuple(attempt.rung for attempt in attempts)

    async with AsyncExitStack() as stack:
        return list(await asyncio.gather(*(one(cell, stack) for cell in cells)))


RUN_FAULTS: dict[str, Callable[[int], Any]] = {
    **{name: make for name, make in FAULTS.items() if name not in BEFORE_ALL},
    "cut each": lambda after: CutEach(after + 1),
    "run fails": RunFails,
    "run stalls": RunStalls,
    "run is lost": RunIsLost,
}
KEPT = [name for name in RUN_FAULTS if name not in ("run fails", "run stalls", "run is lost")]


@pytest.mark.parametrize("fault", [*KEPT])
def test_a_run_is_read_on_after_every_fault(fault: str, count_cells: Callable[[int], None]) -> None:
    cells = [Cell(fault, place, "rest", None) for place in range(0, len(CHUNKS) + 1, 6)]
    rungs = leap_through(lambda: run_kept("at once", cells, 0))
    count_cells(len(cells))
    for cell, ways in zip(cells, rungs, strict=True):
        assert ways == (None, *["reattached"] * (len(ways) - 1)), (cell, ways)
        assert len(ways) > 1, cell


@pytest.mark.parametrize("fault", ["run fails", "run stalls", "run is lost"])
def test_a_run_that_is_no_more_leads_to_the_next_rung(fault: str, count_cells: Callable[[int], None]) -> None:
    cells = [Cell(fault, place, "rest", None) for place in range(0, len(CHUNKS) + 1, 6)]
    rungs = leap_through(lambda: run_kept("at once", cells, 0))
    count_cells(len(cells))
    for cell, ways in zip(cells, rungs, strict=True):
        assert ways[-1] == ("prefill" if cell.place else None), (cell, ways)


@pytest.mark.parametrize("reads", [name for name in READS if name != "at once"])
@pytest.mark.parametrize("retries", [0, 1])
def test_a_second_fault_while_a_run_is_read_on(reads: str, retries: int, count_cells: Callable[[int], None]) -> None:
    """A reading that fails is repeated if the policy retries. A run that is gone, or fails again, is left."""
    cells = [Cell("cut", place, "rest", None) for place in (1, 6, len(CHUNKS))]
    rungs = leap_through(lambda: run_kept(reads, cells, retries))
    count_cells(len(cells))
    third = "prefill" if not retries else "anchored" if reads == "gone" else "reattached"
    for ways in rungs:
        assert ways[:2] == (None, "reattached")
        assert ways[2] == third, ways


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("reads", list(READS))
@pytest.mark.parametrize("fault", list(RUN_FAULTS))
def test_every_cell_of_runs_gives_the_whole_text_once(
    fault: str, reads: str, count_cells: Callable[[int], None]
) -> None:
    cells = [Cell(fault, place, "rest", None) for place in range(len(CHUNKS) + 1)]
    for retries in (0, 2):
        leap_through(partial(run_kept, reads, cells, retries))
        count_cells(len(cells))
