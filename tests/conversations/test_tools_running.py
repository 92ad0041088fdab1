"""Tools that run in the stream: in which order, within which time, and what the model is told."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from collections import UserDict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from llm_dispatcher import LLM, LLMStream, RunContext, StreamingCallbacks, TaskRequest, Tool, llm_stream
from llm_dispatcher.events import (
    Event,
    StreamCompleted,
    StreamFailed,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    check_order,
)
from llm_dispatcher.exceptions import InvalidRequestError, StreamBudgetExceededError, StreamingError, ToolLimitError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.tasks import Message, ToolCallPart, ToolResultPart
from llm_dispatcher.testing import HttpError, Reply, SaidToolCall

FINAL = "It rains in Rome."


def said(name: str, id: str = "call_1", /, **arguments: object) -> SaidToolCall:  # noqa: A002
    return SaidToolCall(name, json.dumps(arguments), id=id)


def calling(*calls: SaidToolCall, text: str = "") -> list[Reply]:
    """A vendor's answers: it makes these calls, and then answers."""
    return [Reply(text, tool_calls=calls), Reply(FINAL)]


async def events_of(stream: LLMStream[str]) -> list[Event]:
    events = [event async for event in stream.events()]
    check_order(events)
    return events


def results(events: Sequence[Event]) -> dict[str, str | None]:
    """What came back, by the ids of the calls: results, and errors that begin with "!"."""
    return {
        event.id: f"!{event.error}" if event.error is not None else event.result
        for event in events
        if isinstance(event, ToolResult)
    }


async def answered(simulated_switch: SimulatedSwitch, tool: object, **arguments: object) -> str | None:
    """The result of one call of a tool."""
    name = tool.name if isinstance(tool, Tool) else getattr(tool, "__name__", "")
    simulated_switch(openai=calling(said(name, **arguments)))
    return results(await events_of(LLM(tools=[tool])("Rain?")))["call_1"]


# ── the stream goes on ─────────────────────────────────────────────────────────────────────────────────────────────


async def weather(city: str) -> str:
    """Say the weather."""
    return f"rain in {city}"


async def test_the_results_go_back_and_the_stream_goes_on(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(openai=calling(said("weather", city="Rome"), text="Let me see."))["openai"]
    stream = LLM(tools=[weather])("Rain?")
    events = await events_of(stream)
    kinds = [type(event) for event in events if not isinstance(event, (TextDelta, ToolCallDelta))]
    assert [kind.__name__ for kind in kinds] == [
        "StreamStarted", "ToolCall", "UsageReport", "ToolResult", "StreamStarted", "UsageReport", "StreamCompleted",
    ]  # fmt: skip
    assert stream.response.text == f"Let me see.\n\n{FINAL}"
    assert isinstance(events[-1], StreamCompleted) and events[-1].text == stream.response.text
    assert stream.response.messages == (
        Message("assistant", ["Let me see.", ToolCallPart("call_1", "weather", '{"city": "Rome"}')]),
        Message("tool", ToolResultPart("call_1", "weather", "rain in Rome")),
        Message("assistant", FINAL),
    )
    assert [attempt.number for attempt in stream.response.attempts] == [1, 2]
    assert stream.response.usage.output_tokens == 24
    assert [turn.role for turn in vendor.requests[1].turns][:2] == ["user", "assistant"]


async def read_text(stream: LLMStream[str]) -> str:
    return "".join([chunk async for chunk in stream])


async def read_whole(stream: LLMStream[str]) -> str:
    return await stream


async def read_events(stream: LLMStream[str]) -> str:
    return "".join([event.text for event in await events_of(stream) if isinstance(event, TextDelta)])


async def read_in_a_thread(stream: LLMStream[str]) -> str:
    return await asyncio.to_thread(lambda: "".join(stream))


async def read_result(stream: LLMStream[str]) -> str:
    return (await asyncio.to_thread(stream.result)).text


@pytest.mark.parametrize("read", [read_text, read_whole, read_events, read_in_a_thread, read_result])
@pytest.mark.parametrize("text", ["Let me see.", "Let me see.\n", ""])
async def test_every_reader_gets_the_same_text(
    simulated_switch: SimulatedSwitch, read: Callable[[LLMStream[str]], Any], text: str
) -> None:
    simulated_switch(openai=calling(said("weather", city="Rome"), text=text))
    between = "" if not text or text[-1].isspace() else "\n\n"
    assert await read(LLM(tools=[weather])("Rain?")) == text + between + FINAL


async def test_decorated_functions_run_tools(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(openai=calling(said("weather", city="Rome")) * 2)["openai"]

    @llm_stream(tools=[weather])
    async def ask(question: str) -> str:
        return question

    assert await ask("Rain?") == FINAL

    @llm_stream(tools=[weather])
    async def body(llm: LLM, question: str) -> Any:
        async for chunk in llm(question):
            yield chunk

    assert await body("Rain?") == FINAL
    assert len(vendor.requests) == 4


async def test_a_stream_of_metadata_runs_tools(simulated_switch: SimulatedSwitch) -> None:
    from llm_dispatcher import llm_stream_with_metadata

    simulated_switch(openai=calling(said("weather", city="Rome"), text="One moment."))

    @llm_stream_with_metadata(tools=[weather])
    async def ask(question: str) -> str:
        return question

    chunks = [chunk async for chunk in ask("Rain?")]
    assert "".join(chunk["chunk"] for chunk in chunks) == f"One moment.\n\n{FINAL}"
    assert [chunk["chunk_index"] for chunk in chunks] == list(range(len(chunks)))
    assert (chunks[0]["attempt"], chunks[-2]["attempt"]) == (1, 2)
    assert chunks[-1]["total_tokens"] == 42 and chunks[-1]["finish_reason"] == "stop"


async def test_callbacks_hear_of_calls_and_results(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(openai=calling(said("weather", city="Rome")))
    heard: list[object] = []
    callbacks = StreamingCallbacks(
        on_tool_call=lambda call, metadata: heard.append(call.name),
        on_tool_result=lambda result, metadata: heard.append((result.result, metadata["model"])),
    )
    await LLM(tools=[weather], callbacks=callbacks)("Rain?")
    assert heard == ["weather", ("rain in Rome", "simulated")]


async def test_the_callbacks_of_a_body_hear_of_results(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(openai=calling(said("weather", city="Rome")))
    heard: list[object] = []
    callbacks = StreamingCallbacks(on_tool_result=lambda result, metadata: heard.append(result.result))

    @llm_stream(tools=[weather], callbacks=callbacks)
    async def body(llm: LLM, question: str) -> Any:
        async for chunk in llm(question):
            yield chunk

    await body("Rain?")
    assert heard == ["rain in Rome"]


# ── side by side ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_calls_run_side_by_side_and_stand_in_their_order(simulated_switch: SimulatedSwitch) -> None:
    """The first call waits for the second one, so they have to run together. Its result comes later."""
    second_ran = asyncio.Event()

    async def first() -> str:
        await second_ran.wait()
        return "1"

    async def second() -> str:
        second_ran.set()
        return "2"

    vendor = simulated_switch(openai=calling(said("first", "a"), said("second", "b")))["openai"]
    stream = LLM(tools=[first, second])("Go.")
    assert results(await events_of(stream)) == {"b": "2", "a": "1"}
    assert [part.id for part in stream.response.messages[1].parts if isinstance(part, ToolResultPart)] == ["a", "b"]
    outputs = [item for item in vendor.requests[1].body["input"] if item.get("type") == "function_call_output"]
    assert [item["call_id"] for item in outputs] == ["a", "b"]


async def test_results_are_shown_as_they_come(simulated_switch: SimulatedSwitch) -> None:
    may_end = asyncio.Event()

    async def slow() -> str:
        await may_end.wait()
        return "slow"

    async def fast() -> str:
        return "fast"

    simulated_switch(openai=calling(said("slow", "a"), said("fast", "b")))
    seen = []
    async for event in LLM(tools=[slow, fast])("Go.").events():
        if isinstance(event, ToolResult):
            seen.append(event.result)
            may_end.set()  # only after the reader has the other result
    assert seen == ["fast", "slow"]


WHERE: ContextVar[str] = ContextVar("where")


async def test_plain_functions_run_in_threads_with_the_context(simulated_switch: SimulatedSwitch) -> None:
    def where() -> list[object]:
        return [WHERE.get(), threading.current_thread() is threading.main_thread(), threading.current_thread().daemon]

    WHERE.set("here")
    assert await answered(simulated_switch, where) == '["here",false,true]'


async def test_two_plain_functions_run_side_by_side(simulated_switch: SimulatedSwitch) -> None:
    together = threading.Barrier(2, timeout=30)

    def meet(name: str) -> str:
        together.wait()
        return name

    simulated_switch(openai=calling(said("meet", "a", name="x"), said("meet", "b", name="y")))
    assert results(await events_of(LLM(tools=[meet])("Go."))) == {"a": "x", "b": "y"}


async def test_a_tool_gets_its_run(simulated_switch: SimulatedSwitch) -> None:
    runs: list[RunContext] = []

    def look(word: str, run: RunContext) -> None:
        runs.append(run)

    simulated_switch(openai=calling(said("look", word="fox")))
    await LLM(tools=[look], tool_context={"db": 1}, metadata={"user": "u"})("Go.")
    (run,) = runs
    assert (run.turn, run.session, run.context, run.metadata["user"]) == (1, None, {"db": 1}, "u")
    assert run.call.arguments == {"word": "fox"} and run.run_id.startswith("run_") and run.request.prompt == "Go."


async def test_a_stream_is_a_tool(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(openai=[Reply(tool_calls=(said("shorten", text="long"),)), Reply("short"), Reply(FINAL)])

    @llm_stream
    async def shorten(text: str) -> str:
        """Shorten a text."""
        return f"Shorten: {text}"

    assert results(await events_of(LLM(tools=[shorten])("Go."))) == {"call_1": "short"}


async def test_a_plain_function_may_read_a_stream_of_its_own(simulated_switch: SimulatedSwitch) -> None:
    def shorten(text: str) -> str:
        return "".join(LLM()(f"Shorten: {text}"))

    answers = [Reply(tool_calls=(said("shorten", text="long"),)), Reply("short"), Reply(FINAL)]
    simulated_switch(openai=answers * 2)
    assert results(await events_of(LLM(tools=[shorten])("Go."))) == {"call_1": "short"}
    assert await asyncio.to_thread(lambda: "".join(LLM(tools=[shorten])("Go."))) == FINAL


# ── what the model is told ─────────────────────────────────────────────────────────────────────────────────────────


class Sky(BaseModel):
    blue: bool


@dataclass
class Size:
    width: int


class Shade(str, Enum):  # noqa: UP042 - its `str` is not its value
    DARK = "dark"


class Degrees(float):
    pass


class Array:
    """As numpy's."""

    def tolist(self) -> list[float]:
        return [1.5, 2.5]


VALUES: list[tuple[object, str]] = [
    ("as it is", "as it is"),
    ("", ""),
    (None, "null"),
    (True, "true"),
    (1.5, "1.5"),
    ({"a": [1, "ü"]}, '{"a":[1,"ü"]}'),
    (Sky(blue=True), '{"blue":true}'),
    ([Sky(blue=False), Size(3)], '[{"blue":false},{"width":3}]'),
    ({"at": date(2026, 11, 29), "in": Path("/tmp"), "of": {3}}, '{"at":"2026-11-29","in":"/tmp","of":[3]}'),
    (deque([Shade.DARK]), '["dark"]'),
    (Shade.DARK, "dark"),
    (range(3), "[0,1,2]"),
    (UserDict(a=1), '{"a":1}'),
    (2**70, str(2**70)),
    ([Degrees(1.5)], "[1.5]"),
    (Array(), "[1.5,2.5]"),
]


@pytest.mark.parametrize(("value", "text"), VALUES)
async def test_values_become_text(simulated_switch: SimulatedSwitch, value: object, text: str) -> None:
    async def give() -> Any:
        return value

    assert await answered(simulated_switch, give) == text


LOOP: list[object] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (object(), "a object cannot be written as JSON"),
        (LOOP, "a list that contains itself"),
        ("half \ud83d", "half of a character"),
        ({"k": {1, object()}}, "a dict cannot be written as JSON"),
        ({(1, 2): 3}, "a key of a dict is text or a number"),
        ((n for n in (1, 2)), "a generator cannot be written as JSON"),
    ],
)
async def test_a_value_that_has_no_text_is_an_error(
    simulated_switch: SimulatedSwitch, value: object, error: str
) -> None:
    async def give() -> Any:
        return value

    said_back = await answered(simulated_switch, give)
    assert (
        said_back is not None and said_back.startswith("!it has run, but its result is lost: ") and error in said_back
    )


async def test_a_large_value_is_not_cut(simulated_switch: SimulatedSwitch) -> None:
    async def give() -> str:
        return "x" * 300_000

    assert await answered(simulated_switch, give) == "x" * 300_000


async def test_an_exception_goes_back_without_its_traceback(
    simulated_switch: SimulatedSwitch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(x: int) -> None:
        raise LookupError(f"no {x}")

    async def cancelled() -> None:
        raise asyncio.CancelledError

    def stops() -> None:
        raise StopIteration(3)

    def leaves() -> None:
        sys.exit("bye")

    async def leaves_too() -> None:
        sys.exit(2)

    def interrupts() -> None:
        raise KeyboardInterrupt

    assert await answered(simulated_switch, fail, x=3) == "!LookupError: no 3"
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.getMessage().startswith("the tool fail raised (run run_")
    assert record.exc_info is not None and isinstance(record.exc_info[1], LookupError)
    assert await answered(simulated_switch, cancelled) == "!CancelledError"
    assert await answered(simulated_switch, stops) == "!RuntimeError: coroutine raised StopIteration"
    assert await answered(simulated_switch, leaves) == "!SystemExit: bye"
    assert await answered(simulated_switch, leaves_too) == "!SystemExit: 2"
    assert await answered(simulated_switch, interrupts) == "!KeyboardInterrupt"


async def test_wrong_arguments_run_nothing(simulated_switch: SimulatedSwitch) -> None:
    ran: list[int] = []

    def count(n: int) -> None:
        ran.append(n)

    assert await answered(simulated_switch, count, n="many") == (
        "!the arguments are wrong, so nothing was run: n: Input should be a valid integer, unable to parse string as "
        "an integer, got 'many'"
    )
    assert await answered(simulated_switch, count) == "!the arguments are wrong, so nothing was run: n is missing"
    assert ran == []


@pytest.mark.parametrize("raw", ['{"n": 1', "[1]", "one", '{"n": NaN}'])
async def test_arguments_that_are_no_json_object_run_nothing(simulated_switch: SimulatedSwitch, raw: str) -> None:
    ran: list[int] = []

    def count(n: int = 0) -> None:
        ran.append(n)

    vendor = simulated_switch(openai=calling(SaidToolCall("count", raw)))["openai"]
    told = results(await events_of(LLM(tools=[count])("Go.")))
    assert told == {"call_1": f"!the arguments are not a JSON object, so nothing was run: {raw}"}
    assert ran == []
    (call,) = [item for item in vendor.requests[1].body["input"] if item.get("type") == "function_call"]
    assert json.loads(call["arguments"]) == {"invalid_json": raw}  # vendors take back objects only


async def test_no_arguments_at_all_are_an_empty_object(simulated_switch: SimulatedSwitch) -> None:
    async def now() -> str:
        return "noon"

    simulated_switch(openai=calling(SaidToolCall("now", "")))
    assert results(await events_of(LLM(tools=[now])("Go."))) == {"call_1": "noon"}


async def test_an_unknown_tool_is_named_with_the_known_ones(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(openai=calling(said("wether", city="Rome")))
    told = results(await events_of(LLM(tools=[weather, {"type": "web_search"}])("Go.")))
    assert told == {"call_1": "!there is no tool 'wether'; the tools are weather"}


async def test_a_tool_of_ones_own_check(simulated_switch: SimulatedSwitch) -> None:
    def check(arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["n"] > 3:
            raise ValueError("at most 3")
        return {"number": arguments["n"] * 10}

    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    tool = Tool("times", "Count.", schema, lambda number: number, check=check)
    assert await answered(simulated_switch, tool, n=2) == "20"
    assert await answered(simulated_switch, tool, n=4) == "!the arguments are wrong, so nothing was run: at most 3"
    assert await answered(simulated_switch, tool) == "!KeyError: 'n'"


# ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_slow_coroutine_is_cancelled(
    simulated_switch: SimulatedSwitch, caplog: pytest.LogCaptureFixture
) -> None:
    was_cancelled = False

    async def sleep() -> None:
        nonlocal was_cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled = True
            raise

    tool = Tool("sleep", function=sleep, timeout=0.01)
    assert await answered(simulated_switch, tool) == "!it took longer than 0.01 s: it was stopped"
    assert was_cancelled
    assert any("is not waited for, because it took longer than 0.01 s" in each.message for each in caplog.records)


async def test_a_slow_thread_is_left_and_its_result_dropped(
    simulated_switch: SimulatedSwitch, caplog: pytest.LogCaptureFixture
) -> None:
    may_end = threading.Event()

    def sleep() -> str:
        may_end.wait(30)
        return "late"

    simulated_switch(openai=calling(said("sleep")))
    try:
        told = results(await events_of(LLM(tools=[sleep], tool_timeout=0.01)("Go.")))
    finally:
        may_end.set()
    assert told == {"call_1": "!it took longer than 0.01 s: it may still be at work, and its result is not known"}
    assert any("its thread still runs, and its result will be dropped" in each.message for each in caplog.records)


@pytest.mark.simulated(seeds=5)
async def test_the_total_clock_ends_a_tool(simulated_switch: SimulatedSwitch) -> None:
    ended: list[str] = []

    async def sleep() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("sleep")

    simulated_switch(openai=calling(said("sleep"), text="One moment."))
    stream = LLM(tools=[sleep], timeout=30)("Go.")
    with pytest.raises(
        StreamingError, match=r"not complete within 30 s \(the total clock\), while tools ran"
    ) as caught:
        await stream
    assert caught.value.partial == "One moment.\n\n" and ended == ["sleep"]
    assert isinstance(caught.value, TimeoutError) and caught.value.usage.output_tokens == 12


async def test_closing_the_switch_ends_a_tool(simulated_switch: SimulatedSwitch) -> None:
    from llm_dispatcher import get_global_switch

    begun, ended = asyncio.Event(), asyncio.Event()

    async def sleep() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    simulated_switch(openai=calling(said("sleep")))
    reading = asyncio.create_task(LLM(tools=[sleep])("Go.").collect())
    await begun.wait()
    await get_global_switch().aclose()
    assert ended.is_set()  # closing waits for the tool
    with pytest.raises(StreamingError, match="the switch was closed"):
        await reading


async def test_a_reader_who_leaves_cancels_the_tools(simulated_switch: SimulatedSwitch) -> None:
    ended: list[str] = []

    async def sleep() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("sleep")

    simulated_switch(openai=calling(said("weather", "a", city="Rome"), said("sleep", "b")))
    stream = LLM(tools=[sleep, weather])("Go.")
    async for event in stream.events():
        if isinstance(event, ToolResult):
            break
    await stream.aclose()
    assert ended == ["sleep"]


async def test_a_cancelled_reader_cancels_the_tools_and_waits_for_them(simulated_switch: SimulatedSwitch) -> None:
    begun, ended = asyncio.Event(), []

    async def sleep() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            ended.append("sleep")

    simulated_switch(openai=calling(said("sleep")))
    reading = asyncio.create_task(LLM(tools=[sleep])("Go.").collect())
    await begun.wait()
    reading.cancel()
    await asyncio.sleep(0)
    reading.cancel()  # a second time, while it waits for the tool
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert ended == ["sleep"]


@pytest.mark.simulated(seeds=5)
async def test_a_slow_tool_costs_no_clock_of_a_vendor(simulated_switch: SimulatedSwitch) -> None:
    async def think() -> str:
        await asyncio.sleep(50)
        return "done"

    config = {
        "providers": {"openai": {"models": ["m"]}},
        "resilience": {"max_retries": 0, "timeouts": {"first_token": 20, "idle": 20, "total": 90}},
    }
    simulated_switch(config, openai=calling(said("think"), text="Hm."))
    assert await LLM(tools=[think])("Go.") == f"Hm.\n\n{FINAL}"


# ── limits and what never runs ─────────────────────────────────────────────────────────────────────────────────────


class Counter:
    """A tool that counts its runs."""

    def __init__(self) -> None:
        self.ran: list[int] = []

    async def count(self, n: int = 0) -> int:
        self.ran.append(n)
        return n


async def test_max_turns_ends_a_model_that_calls_for_ever(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(openai=lambda request: Reply("More.", tool_calls=(said("count"),)))["openai"]
    counter = Counter()
    with pytest.raises(ToolLimitError, match=r"still calls tools after 3 turns, .*: raise max_turns") as caught:
        await LLM(tools=[counter.count], max_turns=3)("Go.")
    assert (len(vendor.requests), len(counter.ran)) == (3, 2)
    assert caught.value.partial == "More.\n\nMore.\n\nMore." and caught.value.usage.output_tokens == 36


async def test_the_default_limit_of_turns_is_8(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(openai=lambda request: Reply(tool_calls=(said("count"),)))["openai"]
    with pytest.raises(ToolLimitError):
        await LLM(tools=[Counter().count])("Go.")
    assert len(vendor.requests) == 8


async def test_max_tool_calls_counts_the_calls_of_all_turns(simulated_switch: SimulatedSwitch) -> None:
    calls = (said("count", "a"), said("count", "b"))
    simulated_switch(openai=lambda request: Reply(tool_calls=calls))
    counter = Counter()
    with pytest.raises(
        ToolLimitError, match=r"has made 4 tool calls, and max_tool_calls is 3, .*those of its last turn were not run"
    ):
        await LLM(tools=[counter.count], max_tool_calls=3)("Go.")
    assert len(counter.ran) == 2


@pytest.mark.parametrize("finish", ["length", "content_filter"])
async def test_a_turn_that_was_cut_off_runs_nothing(simulated_switch: SimulatedSwitch, finish: str) -> None:
    vendor = simulated_switch(openai=Reply("Hm.", tool_calls=(said("count"),), finish_reason=finish))["openai"]
    counter = Counter()
    stream = LLM("openai/simulated", tools=[counter.count])("Go.")
    events = await events_of(stream)
    assert counter.ran == [] and results(events) == {} and len(vendor.requests) == 1
    assert isinstance(events[-1], (StreamCompleted, StreamFailed))


async def test_calls_of_a_turn_that_only_stops_run(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(openai=[Reply(tool_calls=(said("count", n=1),), finish_reason="stop"), Reply(FINAL)])
    counter = Counter()
    assert await LLM(tools=[counter.count])("Go.") == FINAL
    assert counter.ran == [1]


async def test_a_tool_without_a_function_is_reported_and_nothing_runs(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(openai=calling(said("count", "a"), said("ask", "b")))["openai"]
    counter = Counter()
    response = await LLM(tools=[counter.count, {"name": "ask", "parameters": {"type": "object"}}])("Go.").collect()
    assert [call.name for call in response.tool_calls] == ["count", "ask"]
    assert counter.ran == [] and len(vendor.requests) == 1 and response.finish_reason == "tool_calls"


async def test_two_calls_of_one_id_get_ids_of_their_own(simulated_switch: SimulatedSwitch) -> None:
    calls = (said("count", "x", n=1), said("count", "x", n=2), said("count", "x", n=2))
    vendor = simulated_switch(openai=calling(*calls))["openai"]
    counter = Counter()
    stream = LLM(tools=[counter.count])("Go.")
    events = await events_of(stream)
    assert [event.id for event in events if isinstance(event, ToolCall)] == ["x", "x_2"]  # one was said twice
    assert results(events) == {"x": "1", "x_2": "2"} and sorted(counter.ran) == [1, 2]
    items = vendor.requests[1].body["input"]
    assert [item["call_id"] for item in items if item.get("type") == "function_call"] == ["x", "x_2"]
    assert [call.id for call in stream.response.tool_calls] == ["x", "x_2"]


async def test_the_same_id_in_another_turn_is_another_call(simulated_switch: SimulatedSwitch) -> None:
    call = Reply(tool_calls=(said("count", "x", n=1),))
    simulated_switch(openai=[call, call, Reply(FINAL)])
    counter = Counter()
    events = await events_of(LLM(tools=[counter.count])("Go."))
    assert results(events) == {"x": "1", "x_2": "1"} and counter.ran == [1, 1]
    fragments = [event.id for event in events if isinstance(event, ToolCallDelta)]
    assert fragments == ["x", "x", "x_2", "x_2"]  # a fragment has the id of its call


async def test_an_id_of_the_history_is_not_used_again(simulated_switch: SimulatedSwitch) -> None:
    history = [
        Message("user", "Go."),
        Message("assistant", ToolCallPart("x", "count", "{}")),
        Message("tool", ToolResultPart("x", "count", "0")),
    ]
    simulated_switch(openai=calling(said("count", "x", n=1)))
    counter = Counter()
    assert results(await events_of(LLM(tools=[counter.count])("Again.", messages=history))) == {"x_2": "1"}


async def test_a_tool_whose_task_somebody_cancels_is_an_error(simulated_switch: SimulatedSwitch) -> None:
    async def leave() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    assert await answered(simulated_switch, leave) == "!it was cancelled"


async def test_a_tool_choice_holds_for_the_first_turn(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(openai=calling(said("count")))["openai"]
    await LLM(tools=[Counter().count], tool_choice="required")("Go.")
    assert [request.body["tool_choice"] for request in vendor.requests] == ["required", "auto"]


async def test_a_call_with_tools_is_not_cached(simulated_switch: SimulatedSwitch) -> None:
    class Cache:
        asked: ClassVar[list[TaskRequest]] = []

        def stream(self, request: TaskRequest, targets: Any, upstream: Any, apart: Any = ()) -> Any:
            self.asked.append(request)
            return upstream()

    vendor = simulated_switch(openai=calling(said("count")) * 2)["openai"]
    llm = LLM(tools=[Counter().count], cache=Cache())
    assert await llm("Go.") == FINAL
    assert Cache.asked == []
    await llm("Go.", tool_policy="report")
    assert len(Cache.asked) == 1 and len(vendor.requests) == 3


async def test_a_tool_without_a_check_is_checked_by_its_schema(simulated_switch: SimulatedSwitch) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 3}}, "required": ["n"]}
    tool = Tool("times", "Count.", schema, lambda n: n * 10)
    assert await answered(simulated_switch, tool, n=2) == "20"
    told = await answered(simulated_switch, tool, n=4)
    assert told is not None and told.startswith("!the arguments are wrong, so nothing was run: n")
    told = await answered(simulated_switch, tool)
    assert told is not None and told.startswith("!the arguments are wrong, so nothing was run: ")


# ── a later turn that fails ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_later_turn_that_no_vendor_answers_ends_with_what_was_delivered(
    simulated_switch: SimulatedSwitch,
) -> None:
    counter = Counter()
    simulated_switch(openai=[Reply("Hm.", tool_calls=(said("count"),)), Reply(fault=HttpError(400))])
    with pytest.raises(StreamingError) as caught:
        await LLM(tools=[counter.count])("Go.")
    assert caught.value.partial == "Hm.\n\n" and caught.value.usage.output_tokens == 12 and counter.ran == [0]
    assert isinstance(caught.value.failures[-1], InvalidRequestError)


async def test_a_later_turn_that_no_target_may_answer_is_a_budget_error(simulated_switch: SimulatedSwitch) -> None:
    """The first turn costs 2.1 dollars, and a request is expected to cost 50.1: the second one does not fit."""
    counter = Counter()
    config = {
        "providers": {"openai": {"models": ["m"]}},
        "catalog": {"openai/m": {"input_price": 100_000, "output_price": 100_000}},
        "budgets": {"daily": 51},
    }
    vendor = simulated_switch(config, openai=calling(said("count"), text="Hm."))["openai"]
    with pytest.raises(StreamBudgetExceededError, match="over budget") as caught:
        await LLM("openai/m", tools=[counter.count])("Go.")
    assert caught.value.partial == "Hm.\n\n" and caught.value.usage.cost == pytest.approx(2.1)
    assert counter.ran == [0] and len(vendor.requests) == 1


# ── with an answer that is an object ───────────────────────────────────────────────────────────────────────────────


async def test_a_repair_may_call_tools_again(simulated_switch: SimulatedSwitch) -> None:
    """The answer is wrong, is asked for again, and the model calls another tool before it writes the right one."""
    counter = Counter()
    answers = [
        Reply(tool_calls=(said("count", "a", n=1),)),
        Reply('{"blue": "who knows"}'),
        Reply(tool_calls=(said("count", "b", n=2),)),
        Reply('{"blue": true}'),
    ]
    vendor = simulated_switch(openai=answers)["openai"]
    stream = LLM(tools=[counter.count]).into(Sky)("Is it blue?")
    assert await stream.parsed() == Sky(blue=True)
    assert counter.ran == [1, 2]
    sent = [(turn.role, [call.id for call in turn.calls]) for turn in vendor.requests[-1].turns]
    assert [calls for _, calls in sent if calls] == [["a"], ["b"]]
    results = [result.id for turn in vendor.requests[-1].turns for result in turn.results]
    assert results == ["a", "b"]


# ── what holds for all turns together ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.simulated(seeds=5)
async def test_all_turns_have_one_deadline(simulated_switch: SimulatedSwitch) -> None:
    async def work() -> None:
        await asyncio.sleep(20)

    config = {
        "providers": {"openai": {"models": ["m"]}},
        "resilience": {"max_retries": 0, "timeouts": {"first_token": 60, "idle": 60, "total": 30}},
    }
    simulated_switch(config, openai=[Reply("Hm.", tool_calls=(said("work"),)), Reply("One two three.", pace=6)])
    with pytest.raises(StreamingError, match="the total clock") as caught:
        await LLM("openai/m", tools=[work])("Go.")
    assert caught.value.partial.startswith("Hm.\n\nOne")


async def test_the_runtime_is_in_use_while_tools_run(simulated_switch: SimulatedSwitch) -> None:
    from llm_dispatcher import get_global_switch

    seen: list[bool] = []

    async def look() -> None:
        seen.append(get_global_switch()._runtime.open_streams.is_empty)

    simulated_switch(openai=calling(said("look")))
    await LLM(tools=[look])("Go.")
    assert seen == [False]
    assert get_global_switch()._runtime.open_streams.is_empty


async def test_a_stand_in_does_not_answer_a_later_turn(simulated_switch: SimulatedSwitch) -> None:
    counter = Counter()
    config = {"providers": {"openai": {"models": ["m"]}}, "routing": {"default": ["openai/m", "body"]}}
    simulated_switch(config, openai=[Reply("Hm.", tool_calls=(said("count"),)), Reply(fault=HttpError(500))])

    @llm_stream(tools=[counter.count], body="stand-in")
    async def ask(question: str) -> Any:
        yield "I am only the stand-in."

    with pytest.raises(StreamingError) as caught:
        await ask("Go.")
    assert caught.value.partial == "Hm.\n\n" and counter.ran == [0]


async def test_a_parameter_tool_context_of_a_decorated_function_is_for_its_tools(
    simulated_switch: SimulatedSwitch,
) -> None:
    found: list[object] = []

    def look(run: RunContext) -> None:
        found.append(run.context)

    @llm_stream(tools=[look], tool_context="the decorator's")
    def prompt(question: str, tool_context: object = None) -> str:
        return question

    @llm_stream(tools=[look])
    def reads_it(question: str, tool_context: dict[str, bytes]) -> str:
        return f"{question} {len(tool_context)}"

    @llm_stream(tools=[look])
    async def stand_in(question: str, **others: object) -> AsyncIterator[str]:
        yield question

    @llm_stream(tools=[look])
    async def body(llm: LLM, question: str, tool_context: object) -> AsyncIterator[str]:
        async for chunk in llm(question):
            yield chunk

    shop = {"picture": b"\x89PNG\r\n\x1a\n", "key": b"secret"}
    calls: list[Callable[[], LLMStream[str]]] = [
        lambda: prompt("Go."),
        lambda: prompt("Go.", shop),
        lambda: reads_it("Go.", shop),
        lambda: stand_in("Go.", tool_context=shop),
        lambda: body("Go.", shop),
    ]
    for call in calls:
        vendors = simulated_switch(openai=calling(said("look")))
        await call()
        sent = str([request.body for request in vendors["openai"].requests])
        assert "image" not in sent, "no part of it is sent"
        assert "secret" not in sent, "no part of it is sent"
    assert found == ["the decorator's", shop, shop, shop, shop]


async def test_an_option_that_a_function_does_not_take_is_refused_with_the_way_to_set_it() -> None:
    @llm_stream(tools=[])
    def story(question: str) -> str:
        return question

    with pytest.raises(TypeError, match=r"'tool_context': give the function a parameter 'tool_context'"):
        story("Go.", tool_context=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match=r"'max_cost': set this option in the decorator, @llm_stream\(max_cost=…\)"):
        story("Go.", max_cost=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
