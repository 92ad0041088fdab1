"""Answers that are read as objects: whole, in partial objects, and item by item, also when they break anywhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from llm_dispatcher import LLM, LLMSwitch, TaskRequest, llm_stream, use_switch
from llm_dispatcher.events import Event, StreamCompleted, StreamFailed, StreamReset, TextDelta, check_order
from llm_dispatcher.exceptions import EventLoopRunningError, StreamingError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.streaming import Account, ObservedCall, Observer, Watcher
from llm_dispatcher.testing import CleanEnd, Cut, Reply, SimulatedVendor, Wire
from tests.conftest import policy_over, thinned
from tests.conversations.test_objects_json import grows
from tests.faults.leaping_loop import leap_through


class Line(BaseModel):
    name: str
    price: float
    tags: list[str] = []


class Invoice(BaseModel):
    title: str
    lines: list[Line]
    note: str | None = None
    paid: bool


VALUE: dict[str, Any] = {
    "title": 'Lamps, "bright" {ones} \\',
    "lines": [
        {"name": "wick", "price": 1.25, "tags": ["a, b", "c]"]},
        {"name": "oil ☼", "price": 12, "tags": []},
        {"name": "glass", "price": 130, "tags": ["😀"]},
    ],
    "note": None,
    "paid": True,
}
TEXT = json.dumps(VALUE)
INVOICE = Invoice.model_validate(VALUE)


def is_valid_part(partial: dict[str, Any]) -> bool:
    """Whether each field that is there is valid for its type: only what is missing is missing."""
    fields: dict[str, Any] = {
        name: (field.annotation, ...) for name, field in Invoice.model_fields.items() if name in partial
    }
    if partial.get("lines"):
        lines = partial["lines"]
        if lines[-1].keys() != VALUE["lines"][0].keys():  # it is being written
            last = {name: (Line.model_fields[name].annotation, ...) for name in lines[-1]}
            create_model("Last", **last).model_validate(lines[-1], strict=True)  # type: ignore[call-overload]
            partial = {**partial, "lines": lines[:-1]}
    create_model("Partial", **fields).model_validate(partial, strict=False)
    return True


@asynccontextmanager
async def switch_over(*scripts: tuple[str, Any], **resilience: Any) -> AsyncGenerator[LLMSwitch, None]:
    async with AsyncExitStack() as stack:
        vendors = [await stack.enter_async_context(SimulatedVendor(wire, script)) for wire, script in scripts]
        switch = await stack.enter_async_context(LLMSwitch(policy_over(*vendors, **resilience)))
        stack.enter_context(use_switch(switch))
        yield switch


# ── every position ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", list(Wire))
async def test_a_model_cut_into_characters_grows_and_is_never_wrong(wire: str) -> None:
    async with switch_over((wire, Reply(TEXT, chunk_size=1))):
        partials = [each async for each in LLM().into(Invoice)("Read it.").partials()]
        assert partials[-1] == VALUE
        assert len(partials) == 13
        assert all(map(is_valid_part, partials))
        for before, after in pairwise(partials):
            assert grows(before, after)
            assert before != after
        items = [each async for each in LLM().into(Invoice)("Read it.").items()]
        assert items == INVOICE.lines
        assert await LLM().into(Invoice)("Read it.").parsed() == INVOICE


async def broken_everywhere(wire: str, other: str, fault: Callable[[int], Any]) -> int:
    """Break an answer after each piece, and read it in each way. The next target has to give the object."""
    whole = Reply(TEXT, chunk_size=3)
    places = thinned(range(whole.length + 1))

    def breaking(request: Any) -> Reply:
        return Reply(TEXT, chunk_size=3, fault=fault(int(request.turns[0].text.split()[1])))

    async def read(place: int) -> None:
        llm, prompt = LLM().into(Invoice), f"Read {place} again."
        assert await llm(prompt).parsed() == INVOICE
        assert [each async for each in llm(prompt).items()] == INVOICE.lines
        stream = llm(prompt)
        partials = [each async for each in stream.partials()]
        assert partials[-1] == VALUE
        assert all(map(is_valid_part, partials))
        shrinks = [not grows(before, after) for before, after in pairwise(partials)]
        assert sum(shrinks) <= 1
        assert [row.rung for row in stream.response.attempts][1:] in ([], [None], ["restarted"])
        assert stream.response.text == TEXT

    async with switch_over((wire, breaking), (other, whole)):
        await asyncio.gather(*map(read, places))
    return len(places)


WIRES = [
    pytest.param(wire, other, marks=[] if wire == "openai-chat" else pytest.mark.slow)
    for wire, other in [*((wire, "openai-chat") for wire in Wire), ("google", "ollama")]
]


@pytest.mark.parametrize(("wire", "other"), WIRES)
@pytest.mark.parametrize("fault", [Cut, CleanEnd])
def test_a_break_anywhere_is_no_end(wire: str, other: str, fault: Callable[[int], Any]) -> None:
    assert leap_through(lambda: broken_everywhere(wire, other, fault)) > 9


# ── partial objects ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_partial_object_replaces_the_one_before(simulated_switch: SimulatedSwitch) -> None:
    other = json.dumps({**VALUE, "title": "Other lamps"})
    simulated_switch(first=Reply(TEXT, fault=Cut(6)), second=Reply(other))
    titles = [each.get("title") async for each in LLM().into(Invoice)("x").partials()]
    assert titles[0] == VALUE["title"]
    assert titles[-1] == "Other lamps"
    assert titles == sorted(titles, key=lambda title: title == "Other lamps")


async def test_text_readers_get_the_error_of_a_break(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply(TEXT, fault=Cut(6)), second=Reply(TEXT))
    with pytest.raises(StreamingError, match="the answer has to follow a schema"):
        async for _ in LLM(response_format=Invoice)("x"):
            pass
    events = [event async for event in LLM(response_format=Invoice)("x").events()]
    assert isinstance(events[-1], StreamFailed)


async def test_on_break_raise_ends_objects_too(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply(TEXT, fault=Cut(6)), second=Reply(TEXT))
    with pytest.raises(StreamingError):
        await LLM(on_break="raise").into(Invoice)("x").parsed()


async def test_a_partial_of_a_list_is_a_list(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply('{"items": [1, 2, 34]}', chunk_size=1))
    partials = [each async for each in LLM().into(list[int])("Count.").partials()]
    assert partials == [[1], [1, 2], [1, 2, 34]]


async def test_a_single_value_is_given_when_it_is_complete(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply('{"value": 3}', chunk_size=1))
    assert [each async for each in LLM(response_format=int | str)("Count.").partials()] == [3]  # type: ignore[arg-type]


# ── items ──────────────────────────────────────────────────────────────────────────────────────────────────────────

LIST = json.dumps({"items": VALUE["lines"]})


async def test_items_come_before_the_answer_is_complete(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply(LIST, chunk_size=1))
    stream = LLM().into(list[Line])("Read.")
    seen = [(line.name, len(stream.partial)) async for line in stream.items()]
    assert [name for name, _ in seen] == ["wick", "oil ☼", "glass"]
    assert [characters < len(LIST) for _, characters in seen] == [True, True, True]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ([{"name": "wick", "price": 2}, {"name": "oil", "price": 12}], "its item 1 is another"),
        ([{"name": "wick", "price": 1.25, "tags": ["a, b", "c]"]}], None),
        ([], "it has only 0"),
    ],
)
async def test_items_that_were_given_have_to_agree(
    other: list[Any], why: str | None, simulated_switch: SimulatedSwitch
) -> None:
    simulated_switch(
        first=Reply(LIST, chunk_size=20, fault=Cut(4)), second=Reply(json.dumps({"items": other}), chunk_size=20)
    )
    stream = LLM().into(list[Line])("Read.")
    seen: list[Line] = []
    if why is None:
        async for line in stream.items():
            seen.append(line)
        assert stream.response.error is None
    else:
        with pytest.raises(StreamingError, match=f"does not agree with the 1 items that were given: {why}") as caught:
            async for line in stream.items():
                seen.append(line)
        assert stream.response.error is caught.value
    assert [line.name for line in seen] == ["wick"]


async def test_items_that_agree_in_another_spelling_are_the_same(simulated_switch: SimulatedSwitch) -> None:
    spelt = json.dumps({"items": [dict(reversed(line.items())) for line in VALUE["lines"]]}, indent=2)
    spelt = spelt.replace("12", "12.0").replace("1.25", "125e-2")
    simulated_switch(first=Reply(LIST, chunk_size=20, fault=Cut(6)), second=Reply(spelt))
    assert [line.name async for line in LLM().into(list[Line])("Read.").items()] == ["wick", "oil ☼", "glass"]


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_thread_that_may_block_reads_objects_too(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply(TEXT))
    llm = LLM().into(Invoice)
    assert llm("x").parse() == INVOICE
    assert list(llm("x").items()) == INVOICE.lines
    assert list(llm("x").partials())[-1] == VALUE


async def test_blocking_in_a_loop_is_refused(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply(TEXT))
    with pytest.raises(EventLoopRunningError, match=r"await stream\.parsed\(\)"):
        LLM().into(Invoice)("x").parse()
    with pytest.raises(EventLoopRunningError, match=r"async for value in stream\.items\(\)"):
        list(LLM().into(Invoice)("x").items())


async def test_a_stream_is_read_once(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply(TEXT))
    stream = LLM().into(Invoice)("x")
    await stream.parsed()
    with pytest.raises(RuntimeError, match=r"already read \(by parsed\(\)\)"):
        stream.__aiter__()


async def test_after_its_partials_a_stream_has_the_object(simulated_switch: SimulatedSwitch) -> None:
    vendors = simulated_switch(first=Reply(TEXT))
    stream = LLM().into(Invoice)("x")
    reading = aiter(stream.partials())
    await anext(reading)
    with pytest.raises(RuntimeError, match=r"already read \(by partials\(\)\)"):
        await stream.parsed()
    async for _ in reading:
        pass
    assert await stream.parsed() == INVOICE
    assert await stream.parsed() is await stream.parsed()
    assert len(vendors["first"].requests) == 1


def test_streams_of_objects_and_their_llms_say_what_they_are(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply(TEXT))
    llm = LLM("openai/m").into(Invoice)
    assert repr(llm) == "LLM(model='openai/m').into(Invoice)"
    assert repr(LLM(response_format=Invoice)) == "LLM(response_format=Invoice)"
    assert repr(llm("x")).startswith("<ObjectStream, unread")


async def test_leaving_partials_closes_the_stream(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply(TEXT, chunk_size=1, pace=0.001))
    stream = LLM().into(Invoice)("x")
    async for _ in stream.partials():
        break
    await stream.aclose()
    assert stream.response.finish_reason == "cancelled"
    async with LLM().into(Invoice)("x") as stream:
        reading = stream.items()
        async for _ in reading:
            await reading.aclose()
    assert stream.response.finish_reason == "cancelled"


@pytest.mark.parametrize("how", ["parsed", "partials", "items"])
async def test_a_stream_without_a_type_says_what_to_write(how: str, simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(first=Reply("Hello."))["first"]
    stream = LLM()("x")
    with pytest.raises(TypeError, match=r"LLM\(…\)\.into\(Invoice\)\(prompt\), or pass response_format=Invoice"):
        if how == "parsed":
            await stream.parsed()
        else:
            async for _ in getattr(stream, how)():
                pass
    assert vendor.requests == []


async def test_items_of_an_answer_without_a_list_say_what_to_write(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(first=Reply("{}"))["first"]
    with pytest.raises(TypeError, match=r"into\(list\[Invoice\]\)\(prompt\), or read partials\(\)"):
        async for _ in LLM().into(dict[str, int])("x").items():
            pass
    assert vendor.requests == []


async def test_a_decorated_function_and_a_request_have_objects_too(simulated_switch: SimulatedSwitch) -> None:
    from llm_dispatcher import get_global_switch

    simulated_switch(first=Reply(TEXT))

    @llm_stream(response_format=Invoice)
    async def read(scan: str) -> str:
        return f"Read {scan}."

    assert await read("a").parsed() == INVOICE
    request = TaskRequest("x", response_format=Invoice)
    assert await get_global_switch().stream_request(request).parsed() == INVOICE
    assert await LLM().into(Invoice).stream(TaskRequest("x")).parsed() == INVOICE


async def test_a_body_that_holds_its_stream_has_objects_too(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply(TEXT))

    @llm_stream(response_format=Invoice)
    async def read(llm: LLM, scan: str) -> AsyncGenerator[str, None]:
        async for chunk in llm(scan):
            yield chunk

    assert await read("a").parsed() == INVOICE
    assert [each async for each in read("a").items()] == INVOICE.lines


# ── what others see ────────────────────────────────────────────────────────────────────────────────────────────────


class Recorder(Observer):
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def begin(self, call: ObservedCall | None, account: Account) -> Watcher | None:
        events = self.events

        class Watching:
            @staticmethod
            def chunk(delta: TextDelta, account: Account) -> None:
                events.append(delta)

            @staticmethod
            def watch(event: Event, account: Account, /) -> None:
                events.append(event)

        return Watching()


@pytest.mark.parametrize("how", ["partials", "items"])
async def test_observers_see_every_event_in_a_legal_order(how: str) -> None:
    recorder = Recorder()
    async with AsyncExitStack() as stack:
        scripts = [Reply(TEXT, chunk_size=7, fault=Cut(9)), Reply('{"title": 1}'), Reply(TEXT, chunk_size=7)]
        vendor = await stack.enter_async_context(SimulatedVendor("openai-chat", scripts))
        policy = policy_over(vendor)
        policy["resilience"]["max_retries"] = 1
        switch = await stack.enter_async_context(LLMSwitch(policy, observers=[recorder]))
        stream = switch.stream_request(TaskRequest("x", response_format=Invoice))
        seen = [each async for each in (stream.items() if how == "items" else stream.partials())]
        assert seen == INVOICE.lines if how == "items" else seen[-1] == VALUE
    check_order(recorder.events)
    assert isinstance(recorder.events[-1], StreamCompleted)
    assert sum(isinstance(event, StreamReset) for event in recorder.events) == 2
    assert [event.sequence for event in recorder.events] == list(range(len(recorder.events)))


async def test_items_that_do_not_agree_fail_the_stream_for_its_observers_too() -> None:
    recorder = Recorder()
    async with AsyncExitStack() as stack:
        scripts = [Reply(LIST, chunk_size=20, fault=Cut(4)), Reply('{"items": []}')]
        vendors = [await stack.enter_async_context(SimulatedVendor("openai-chat", script)) for script in scripts]
        switch = await stack.enter_async_context(LLMSwitch(policy_over(*vendors), observers=[recorder]))
        with pytest.raises(StreamingError, match="it has only 0"):
            async for _ in switch.stream_request(TaskRequest("x", response_format=list[Line])).items():
                pass
    check_order(recorder.events)
    assert isinstance(recorder.events[-1], StreamFailed)
    assert [event.sequence for event in recorder.events] == list(range(len(recorder.events)))
