"""A reader may leave a stream that runs tools at any moment: nothing is left running, and nothing runs later."""

from __future__ import annotations

import asyncio
import json

import pytest

from llm_dispatcher import LLM, Deny, MemorySessions, Session, Tool
from llm_dispatcher.events import ToolResult, check_order
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.tasks import ToolResultPart
from llm_dispatcher.testing import Reply, SaidToolCall

CALLS = tuple(SaidToolCall("work", json.dumps({"n": n}), id=f"c{n}") for n in range(3))
ANSWERS = [Reply("Let me see.", tool_calls=CALLS), Reply("More.", tool_calls=CALLS[:1]), Reply("Done, I think.")]


class Worker:
    """A tool that notes which of its runs have begun and ended."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []

    async def work(self, n: int) -> int:
        self.begun.append(n)
        try:
            await asyncio.sleep(n)
        finally:
            await asyncio.sleep(0)  # it tidies up
            self.ended.append(n)
        return n


def others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize("how", ["close", "cancel", "drop"])
@pytest.mark.parametrize("place", range(0, 44, 2))
@pytest.mark.simulated(seeds=2)
async def test_nothing_is_left_wherever_a_reader_leaves(
    simulated_switch: SimulatedSwitch, place: int, how: str
) -> None:
    simulated_switch(openai=ANSWERS)
    worker = Worker()
    stream = LLM(tools=[worker.work])("Go.")
    before, seen, results = others(), 0, 0

    async def read() -> None:
        nonlocal seen, results
        async for event in stream.events():
            results += isinstance(event, ToolResult)
            seen += 1
            if seen == place and how == "drop":
                break
            if seen == place and how == "close":
                await stream.aclose()
            if seen == place and how == "cancel":
                reading.cancel()

    reading = asyncio.create_task(read())
    await asyncio.wait([reading])
    if how == "drop":
        await stream.aclose()
    assert others() - before - {reading} == set()
    begun = len(worker.begun)
    assert len(worker.ended) == begun and results <= begun <= 4
    await asyncio.sleep(60)
    assert len(worker.begun) == begun, "nothing begins later"


@pytest.mark.parametrize("kind", [GeneratorExit, BaseException])
@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_tool_cannot_end_the_stream_by_what_it_raises(
    simulated_switch: SimulatedSwitch, caplog: pytest.LogCaptureFixture, kind: type[BaseException], in_thread: bool
) -> None:
    async def tool() -> str:
        raise kind("enough")

    def plain() -> str:
        raise kind("enough")

    call = SaidToolCall("tool", "{}", id="call_1")
    simulated_switch(openai=[Reply(tool_calls=(call,)), "Done."])
    stream = LLM(tools=[Tool("tool", function=plain if in_thread else tool)])("Go.")
    events = [event async for event in stream.events()]
    check_order(events)
    [result] = [event for event in events if isinstance(event, ToolResult)]
    assert result.error == f"{kind.__name__}: enough"
    assert stream.partial == "Done."
    assert "the tool tool raised" in caplog.text


@pytest.mark.parametrize("is_refused", [False, True])
async def test_half_of_a_character_in_an_error_does_not_spoil_the_session(
    simulated_switch: SimulatedSwitch, *, is_refused: bool
) -> None:
    """Names of files that are no UTF-8 have such halves, and errors name files."""

    def remove() -> None:
        raise FileNotFoundError("no file caf\udce9")

    def policy(call: object, context: object) -> Deny | str:
        return Deny("not caf\udce9") if is_refused else "run"

    simulated_switch(openai=[Reply(tool_calls=(SaidToolCall("remove", "{}", id="call_1"),)), "Done.", "Again."])
    store = MemorySessions()
    session = Session(LLM(tools=[remove], tool_policy=policy), store=store)
    assert await session.stream("Go.") == "Done."
    assert await session.stream("More.") == "Again."
    [result] = [part for turn in session.messages for part in turn.parts if isinstance(part, ToolResultPart)]
    assert result.result == ("not caf?" if is_refused else "FileNotFoundError: no file caf?")
    assert (await Session.open(session.id, LLM(), store)).messages == session.messages
