"""The decorators: three honest forms, on functions and methods, bare and with arguments, read in four ways."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date
from typing import Annotated, Any

import msgspec
import pydantic
import pytest

from llm_dispatcher import (
    LLM,
    ChunkMetadata,
    LLMStream,
    LLMSwitch,
    Local,
    Message,
    ProgressTracker,
    StreamingCallbacks,
    TaskRequest,
    TaskType,
    llm_stream,
    llm_stream_with_metadata,
    set_global_switch,
    use_switch,
)
from llm_dispatcher.events import StreamStarted, check_order
from llm_dispatcher.exceptions import InvalidRequestError, NoProviderAvailableError, StreamingError
from llm_dispatcher.testing import Cut, HttpError, Reply, SaidUsage, SimulatedVendor

Start = Callable[..., SimulatedVendor]
TEXT = "One two three."


def policy(vendor: SimulatedVendor, **more: Any) -> dict[str, Any]:
    settings = {"kind": "openai", "api": "chat", "api_key": "test-key", "base_url": vendor.base_url, "models": ["m"]}
    return {"providers": {"a": settings}, "resilience": {"max_retries": 0}, **more}


@pytest.fixture
def vendor(simulated_vendor: Start) -> Iterator[SimulatedVendor]:
    """A vendor that says the text, behind the global switch."""
    started = simulated_vendor("openai-chat", Reply(TEXT))
    set_global_switch(LLMSwitch(policy(started)))
    yield started
    set_global_switch(None)


# ── forms × ways × bare and with arguments × functions and methods ─────────────────────────────────────────────────


BARE: Callable[[Any], Any] = llm_stream
WITH_ARGUMENTS: Callable[[Any], Any] = llm_stream(temperature=0.5)


def functions(decorate: Callable[[Any], Any]) -> list[Any]:
    """The three forms, the first one also without `async`."""

    @decorate
    async def says_it(topic: str) -> str:
        return f"About {topic}"

    @decorate
    def says_it_plainly(topic: str) -> str:
        return f"About {topic}"

    @decorate
    async def holds_it(llm: LLM, topic: str) -> AsyncIterator[str]:
        async for chunk in llm(f"About {topic}"):
            yield chunk

    @decorate
    async def stands_in(topic: str) -> AsyncIterator[str]:
        """Its body does not run."""
        yield "a rehearsal"

    return [says_it, says_it_plainly, holds_it, stands_in]


def methods(decorate: Callable[[Any], Any]) -> list[Any]:
    """The same as methods, and on what is no method of an object."""

    class Teller:
        @decorate
        async def says_it(self, topic: str) -> str:
            return f"About {topic}"

        @decorate
        async def holds_it(self, llm: LLM, topic: str) -> AsyncIterator[str]:
            async for chunk in llm(f"About {topic}"):
                yield chunk

        @decorate
        async def stands_in(self, topic: str) -> AsyncIterator[str]:
            yield "a rehearsal"

        @staticmethod
        @decorate
        async def static(topic: str) -> str:
            return f"About {topic}"

        @classmethod
        @decorate
        async def of_class(cls, topic: str) -> str:
            return f"About {topic}"

        @decorate
        @staticmethod
        def outside(topic: str) -> str:
            return f"About {topic}"

    teller: Any = Teller()
    bound = [teller.says_it, teller.holds_it, teller.stands_in, teller.static, teller.of_class, teller.outside]
    return [*bound, Teller.static, Teller.of_class]


FORMS: list[Any] = [
    *functions(BARE), *functions(WITH_ARGUMENTS), *methods(BARE), *methods(WITH_ARGUMENTS),
]  # fmt: skip
says_it, says_it_plainly, holds_it, stands_in = functions(BARE)


async def by_iterating(stream: LLMStream[str]) -> str:
    return "".join([chunk async for chunk in stream])


async def by_awaiting(stream: LLMStream[str]) -> str:
    return await stream


async def by_events(stream: LLMStream[str]) -> str:
    events = [event async for event in stream.events()]
    check_order(events)
    return stream.response.text


async def by_blocking(stream: LLMStream[str]) -> str:
    return await asyncio.to_thread(lambda: "".join(stream))


@pytest.mark.parametrize("read", [by_iterating, by_awaiting, by_events, by_blocking])
@pytest.mark.parametrize("function", FORMS, ids=lambda function: function.__qualname__)
async def test_every_form_can_be_read_in_every_way(
    function: Callable[[str], LLMStream[str]], read: Callable[[LLMStream[str]], Any], vendor: SimulatedVendor
) -> None:
    assert await read(function("foxes")) == TEXT
    assert vendor.requests[-1].text == ("foxes" if "stands_in" in function.__qualname__ else "About foxes")


def test_settings_are_a_decorators_own(vendor: SimulatedVendor) -> None:
    for function, temperature in ((says_it, None), (functions(WITH_ARGUMENTS)[0], 0.5)):
        "".join(function("foxes"))
        assert vendor.requests[-1].body.get("temperature") == temperature


@pytest.mark.parametrize("function", [says_it, holds_it, stands_in], ids=lambda function: function.__name__)
async def test_metadata_goes_with_every_form(function: Any, vendor: SimulatedVendor) -> None:
    @llm_stream_with_metadata
    async def says(topic: str) -> str:
        return topic

    @llm_stream_with_metadata
    async def holds(llm: LLM, topic: str) -> AsyncIterator[str]:
        async for chunk in llm(topic):
            yield chunk

    @llm_stream_with_metadata(task_type=TaskType.MATH)
    async def stands(topic: str) -> AsyncIterator[str]:
        yield ""

    told = {"says_it": says, "holds_it": holds, "stands_in": stands}[function.__name__]
    items: list[ChunkMetadata] = [item async for item in told("foxes")]
    assert "".join(item["chunk"] for item in items) == TEXT
    assert [item["chunk_index"] for item in items] == list(range(len(items)))
    assert {(item["provider"], item["model"]) for item in items} == {("a", "m")}
    assert [item["finish_reason"] for item in items] == [None] * 3 + ["stop"]
    assert [item["total_tokens"] for item in items] == [None] * 3 + [21]
    assert await told("foxes") == TEXT


def test_decorating_keeps_the_functions_face() -> None:
    assert says_it.__name__ == "says_it"
    assert stands_in.__doc__ == "Its body does not run."
    assert str(inspect.signature(holds_it)).startswith("(topic: 'str')")
    assert str(inspect.signature(methods(BARE)[1])).startswith("(topic: 'str')")
    assert not hasattr(holds_it, "__wrapped__"), "whoever unwraps would call the body"
    assert isinstance(says_it.progress_tracker, ProgressTracker)


@pytest.mark.parametrize("wrong", [(), ("a", "b"), {"subject": "x"}])
def test_a_wrong_call_is_refused_like_any_functions(wrong: Any) -> None:
    with pytest.raises(TypeError):
        says_it(**wrong) if isinstance(wrong, dict) else says_it(*wrong)


# ── what is refused at decoration ──────────────────────────────────────────────────────────────────────────────────


def test_an_unsupported_form_of_body_is_refused_with_the_fix() -> None:
    async def awaits(topic: str) -> AsyncIterator[str]:
        await asyncio.sleep(0)
        yield topic

    async def loops(topic: str) -> AsyncIterator[str]:
        async for chunk in says_it(topic):
            yield chunk

    def generates(topic: str) -> Iterator[str]:
        yield topic

    async def returns(llm: LLM, topic: str) -> str:
        return topic

    for function, words in (
        (awaits, 'make its first parameter `llm: LLM`; if the body stands in offline, pass body="stand-in"'),
        (loops, "awaits, but the body of such a function does not run"),
        (generates, "synchronous generator: write `async def generates`"),
        (returns, "has to be an async generator"),
        (Tone, "decorates functions and methods, got EnumType"),
        (3, "decorates functions and methods, got int"),
    ):
        with pytest.raises(TypeError, match=words.replace("(", r"\(")):
            llm_stream(function)  # type: ignore[arg-type]
    assert callable(llm_stream(body="stand-in")(awaits))


class Hero(pydantic.BaseModel):
    name: str


class Villain(msgspec.Struct):
    name: str


@pytest.mark.found("N-C17")
@pytest.mark.parametrize("model", [Hero, Villain, dataclasses.make_dataclass("Sidekick", ["name"])])
def test_a_model_as_a_return_annotation_is_refused_with_the_fix(model: Any) -> None:
    async def stands_in(topic: str) -> AsyncIterator[Any]:
        yield topic

    def says_it(topic: str) -> str:
        return topic

    for function, annotation in ((says_it, model), (says_it, list[model]), (stands_in, AsyncIterator[model])):
        function.__annotations__["return"] = annotation
        with pytest.raises(
            TypeError, match=rf"to return {model.__name__}, but its body returns or yields text: .*response_format="
        ):
            llm_stream(function)
    for allowed in (str, TaskRequest, list[Message], list[dict[str, Any]], AsyncIterator[str], Any, "Unknown"):
        says_it.__annotations__["return"] = allowed
        assert callable(llm_stream(says_it))


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"temprature": 0.5}, TypeError, "no setting 'temprature'; did you mean 'temperature'"),
        ({"temperature": "hot"}, TypeError, "temperature is a number"),
        ({"task_type": "poetry"}, ValueError, "task_type is one of"),
        ({"timeout": -1}, ValueError, "timeout is more than 0"),
        ({"body": "other"}, TypeError, 'body= is "stand-in"'),
        ({"max_retries": -1}, ValueError, "max_retries is 0 or more"),
    ],
)
def test_wrong_settings_are_refused_at_decoration(settings: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        llm_stream(**settings)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({}, "missing a required argument: 'topic'"), ({"topic": "x", "tone": "y"}, "unexpected keyword argument 'tone'")],
)
def test_a_wrong_call_is_refused_with_the_functions_name(arguments: dict[str, str], words: str) -> None:
    for function in functions(BARE):
        with pytest.raises(TypeError, match=rf"{function.__name__}\(\) .*{words}"):
            function(**arguments)


# ── the body is the prompt ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_body_may_return_text_messages_or_a_request(vendor: SimulatedVendor) -> None:
    @llm_stream(system="Be brief.", temperature=0.1)
    async def text(question: str, max_tokens: int = 7) -> str:
        return f"Q: {question}"

    @llm_stream
    def messages(question: str) -> list[dict[str, Any]]:
        return [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": question},
        ]

    @llm_stream(temperature=0.1, max_tokens=5)
    def request(question: str) -> TaskRequest:
        return TaskRequest(question, temperature=0.9)

    for function in (text, messages, request):
        assert await function("why?") == TEXT
    first, second, third = vendor.requests
    assert (first.text, first.system, first.body["max_completion_tokens"]) == ("Q: why?", "Be brief.", 7)
    assert [turn.text for turn in second.turns] == ["hi", "hello", "why?"]
    assert (third.body["temperature"], third.body["max_completion_tokens"]) == (0.9, 5)


async def test_an_empty_body_sends_nothing(vendor: SimulatedVendor) -> None:
    @llm_stream
    def empty(topic: str) -> str:
        return ""

    @llm_stream
    def nothing(topic: str) -> str:
        return None  # type: ignore[return-value]

    with pytest.raises(InvalidRequestError, match="the prompt is empty"):
        await empty("x")
    with pytest.raises(
        TypeError, match=r"has to return a str, a list of messages or a TaskRequest, it returned NoneType"
    ):
        await nothing("x")
    assert vendor.requests == []


# ── the body holds the stream ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_body_may_ask_twice_and_change_what_it_hears(vendor: SimulatedVendor) -> None:
    told: list[str] = []

    @llm_stream(temperature=0.3, callbacks=StreamingCallbacks(on_stream_end=lambda metadata: told.append("end")))
    async def twice(llm: LLM, topic: str) -> AsyncIterator[str]:
        plan = await llm(f"Plan {topic}")
        async for chunk in llm(f"Write {topic}", temperature=0.9):
            yield chunk.upper()
        yield f" ({plan})"

    stream = twice("foxes")
    events = [event async for event in stream.events()]
    check_order(events)
    response = stream.response
    assert response.text == f"{TEXT.upper()} ({TEXT})"
    assert [request.text for request in vendor.requests] == ["Plan foxes", "Write foxes"]
    assert [request.body["temperature"] for request in vendor.requests] == [0.3, 0.9]
    assert len(response.attempts) == 2
    assert (response.usage.input_tokens, response.usage.output_tokens) == (18, 24)
    assert isinstance(events[0], StreamStarted)
    assert str(events[0].target) == "a/m"
    assert told == ["end"], "the outer stream's callbacks are not the inner ones'"


async def test_a_body_that_asks_no_model_is_the_answer(vendor: SimulatedVendor) -> None:
    @llm_stream
    async def silent(llm: LLM, topic: str) -> AsyncIterator[str]:
        yield topic

    response = await silent("foxes").collect()
    assert (response.text, str(response.target), response.finish_reason) == ("foxes", "body/silent", "stop")
    assert vendor.requests == []


async def test_an_exception_of_the_body_is_the_streams_error(vendor: SimulatedVendor) -> None:
    @llm_stream
    async def wrong(llm: LLM, topic: str) -> AsyncIterator[str]:
        async for chunk in llm(topic):
            yield chunk
        raise KeyError(topic)

    stream = wrong("foxes")
    with pytest.raises(KeyError):
        await stream
    assert stream.partial == TEXT
    vendor.script = Reply(TEXT, fault=Cut(2))
    with pytest.raises(StreamingError):
        await wrong("foxes")


async def test_leaving_a_held_stream_closes_the_inner_one(simulated_vendor: Start) -> None:
    from llm_dispatcher.testing import Stall

    slow = simulated_vendor("openai-chat", Reply(TEXT, fault=Stall(2)))
    switch = LLMSwitch(policy(slow))
    with use_switch(switch):
        stream = holds_it("foxes")
        async for _ in stream:
            break
    assert await asyncio.to_thread(slow.requests[0].wait_until_over) == "left"
    await switch.aclose()


# ── the signature is the request ───────────────────────────────────────────────────────────────────────────────────


class Tone(enum.Enum):
    DRY = "dry"


class Database:
    """Cannot be put into words."""


@llm_stream
async def everything(
    question: str, text: str | None = None, tone: Tone = Tone.DRY, days: list[date] | None = None, strict: bool = False,
    depth: int = 2, extras: dict[str, int] | None = None, _trace: Any = None, db: Annotated[Any, Local] = None,
    **more: Any,
) -> AsyncIterator[str]:  # fmt: skip
    yield ""


@pytest.mark.parametrize(
    ("call", "prompt"),
    [
        ({"question": "Why?"}, "Why?\n\ntone: dry\nstrict: false\ndepth: 2"),
        ({"question": "Why?", "text": "The text."}, "The text.\n\nquestion: Why?\ntone: dry\nstrict: false\ndepth: 2"),
        (
            {"question": "Why?", "days": [date(2026, 1, 2)], "extras": {"ü": 1}, "_trace": 3, "db": Database()},
            'Why?\n\ntone: dry\ndays: ["2026-01-02"]\nstrict: false\ndepth: 2\nextras: {"ü": 1}',
        ),
        (
            {"question": "Why?", "audience": "children"},
            "Why?\n\ntone: dry\nstrict: false\ndepth: 2\naudience: children",
        ),
    ],
)
async def test_every_argument_reaches_the_request(call: dict[str, Any], prompt: str, vendor: SimulatedVendor) -> None:
    await everything(**call)
    assert vendor.requests[-1].text == prompt


def test_arguments_without_a_text_form_are_refused_by_name(vendor: SimulatedVendor) -> None:
    with pytest.raises(TypeError, match=r"the argument 'extras' is a Database, which cannot be written as text"):
        everything("Why?", extras=Database())  # type: ignore[arg-type]
    assert vendor.requests == []


async def test_arguments_named_like_a_requests_fields_are_those(vendor: SimulatedVendor) -> None:
    @llm_stream(temperature=0.9, max_tokens=5)
    async def chat(
        message: str, conversation_history: list[Message] | None = None, system: str | None = None,
        temperature: float | None = None, tools: list[Any] | None = None,
    ) -> AsyncIterator[str]:  # fmt: skip
        yield ""

    history = [Message("user", "hi"), Message("assistant", "hello")]
    tool = {"name": "look", "parameters": {"type": "object"}}
    await chat("more", history, system="Be kind.", temperature=0.2, tools=[tool])
    request = vendor.requests[-1]
    assert ([turn.text for turn in request.turns], request.system) == (["hi", "hello", "more"], "Be kind.")
    assert (request.body["temperature"], request.body["max_completion_tokens"]) == (0.2, 5)
    assert request.body["tools"][0]["function"]["name"] == "look"
    await chat("more")
    assert vendor.requests[-1].body["temperature"] == 0.9


async def test_blank_arguments_send_nothing(vendor: SimulatedVendor) -> None:
    @llm_stream
    async def nothing(topic: str | None = None) -> AsyncIterator[str]:
        yield ""

    with pytest.raises(InvalidRequestError, match="neither a prompt nor messages"):
        await nothing()
    assert vendor.requests == []


# ── the body as a stand-in ─────────────────────────────────────────────────────────────────────────────────────────


async def test_the_body_rehearses_offline_whatever_is_pinned(
    vendor: SimulatedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    @llm_stream(providers=["a"])
    async def rehearsed(topic: str) -> AsyncIterator[str]:
        for word in ("a ", "tale ", "of ", topic):
            yield word

    monkeypatch.setenv("LLM_DISPATCHER_OFFLINE", "1")
    response = await rehearsed("foxes").collect()
    assert (response.text, str(response.target), response.cost) == ("a tale of foxes", "body", 0.0)
    with pytest.raises(NoProviderAvailableError, match="only the body of an async generator that yields its answer"):
        await says_it("foxes")
    assert vendor.requests == []


async def test_the_body_is_the_last_answer_of_a_route_and_never_a_continuation(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply(fault=HttpError(500)))
    route = {"routing": {"default": ["a/m", "body"]}}
    async with LLMSwitch(policy(vendor, **route)) as switch:
        with use_switch(switch):
            assert await stands_in("foxes") == "a rehearsal"
            vendor.script = Reply(TEXT, fault=Cut(2))
            with pytest.raises(StreamingError) as raised:
                await stands_in("foxes")
            assert raised.value.partial == "One two"
            assert await llm_stream(providers=["body"])(_stand_in)("foxes") == "another rehearsal"
            assert [str(target) for target in switch.explain(TaskRequest("x")).rejected] == ["body"]


async def _stand_in(topic: str) -> AsyncIterator[str]:
    yield "another rehearsal"


# ── LLM, and which switch is used ──────────────────────────────────────────────────────────────────────────────────


async def test_an_llm_is_request_defaults_over_the_switch(vendor: SimulatedVendor) -> None:
    llm = LLM("a/other", temperature=0.7, system="Be brief.")
    assert await llm("hi") == TEXT
    assert await llm.with_options(temperature=0.1)(messages=[{"role": "user", "content": "hi"}], max_tokens=3) == TEXT
    first, second = vendor.requests
    assert (first.model, first.body["temperature"], first.system) == ("other", 0.7, "Be brief.")
    assert (second.model, second.body["temperature"], second.body["max_completion_tokens"]) == ("other", 0.1, 3)
    wrong: dict[str, Any]
    for wrong in ({"model": "b/m"}, {"temprature": 1}, {"temperature": "hot"}):
        with pytest.raises(TypeError):
            LLM("a/m", **wrong)


async def test_the_switch_is_looked_up_at_the_call(vendor: SimulatedVendor, simulated_vendor: Start) -> None:
    other = simulated_vendor("openai-chat", Reply("Other.", usage=SaidUsage(input=1, output=1)))
    async with LLMSwitch(policy(other)) as switch:
        with use_switch(switch):
            pinned = says_it("foxes")
            assert await asyncio.create_task(says_it("foxes").text()) == "Other."
        assert await says_it("foxes") == TEXT
        assert await pinned == "Other.", "the switch of the call, not of the reading"
