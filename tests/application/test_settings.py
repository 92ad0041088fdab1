"""What a decorator may be given: each setting is known, checked, told by `settings_of`, and acts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from llm_dispatcher import (
    LLM,
    LLMStream,
    ProgressTracker,
    StreamingCallbacks,
    TaskType,
    llm_stream,
    llm_stream_with_metadata,
    settings_of,
)
from llm_dispatcher._serving.options import STREAM_OPTIONS
from llm_dispatcher._serving.settings import FunctionSettings
from llm_dispatcher.events import TextDelta
from llm_dispatcher.exceptions import ProviderServiceUnavailableError, StreamingError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import Continuing, Cut, HttpError, Reply

TEXT = "One two three four five six."
NAMED = {
    "task_type", "providers", "model", "optimization_strategy", "max_cost", "max_latency", "fallback_enabled",
    "max_retries", "timeout", "on_break", "callbacks", "progress_tracker", "cache", "buffer_size", "min_chunk_size",
    "temperature", "top_p", "max_tokens", "system", "metadata", "raw",
}  # fmt: skip


def test_every_setting_has_its_place() -> None:
    assert NAMED <= STREAM_OPTIONS
    assert set(FunctionSettings.__struct_fields__) == STREAM_OPTIONS


def test_settings_are_shown_as_they_are_stored() -> None:
    callbacks, tracker = StreamingCallbacks(), ProgressTracker()

    @llm_stream(
        task_type="math", providers="openai", temperature=0.2, timeout=3, callbacks=callbacks, stop="END",
        progress_tracker=tracker, buffer_size=2, metadata={"user": "u1"},
    )  # fmt: skip
    async def solve(question: str) -> str:
        return question

    @llm_stream_with_metadata
    def plain(question: str) -> str:
        return question

    told = settings_of(solve)
    assert (told.task_type, told.providers, told.temperature, told.timeout) == (TaskType.MATH, ("openai",), 0.2, 3)
    assert (told.callbacks, told.progress_tracker, told.buffer_size, told.stop) == (callbacks, tracker, 2, ("END",))
    assert told.metadata == {"user": "u1"}
    assert solve.progress_tracker is tracker
    told = settings_of(plain)
    assert (told.task_type, told.model, told.timeout, told.raw) == (TaskType.TEXT_GENERATION, None, None, False)
    assert told.progress_tracker is plain.progress_tracker
    with pytest.raises(AttributeError):
        told.timeout = 3  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"len is not decorated with llm_stream"):
        settings_of(len)  # type: ignore[arg-type]


def test_a_decorated_method_shows_its_settings() -> None:
    class Teller:
        @llm_stream(max_tokens=7)
        def story(self, topic: str) -> str:
            return topic

        @staticmethod
        @llm_stream(max_tokens=8)
        def joke(topic: str) -> str:
            return topic

    assert settings_of(Teller().story).max_tokens == settings_of(Teller.story).max_tokens == 7
    assert settings_of(Teller.joke).max_tokens == 8
    assert Teller().story.progress_tracker is Teller.story.progress_tracker


def test_functions_under_one_decorator_have_trackers_of_their_own() -> None:
    brief = llm_stream(max_tokens=5)

    @brief
    def one(topic: str) -> str:
        return topic

    @brief
    def two(topic: str) -> str:
        return topic

    assert one.progress_tracker is not two.progress_tracker


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"buffersize": 3}, TypeError, "there is no setting 'buffersize'; did you mean 'buffer_size'"),
        ({"image": "a.png"}, TypeError, "there is no setting 'image'; did you mean 'images'"),
        ({"on_refusal": "next"}, TypeError, "'on_refusal' here; write it in the policy, under routing"),
        ({"flow": {}}, TypeError, "'flow' here; write it in the policy, under resilience.timeouts"),
        ({"background": True}, TypeError, "here; write it in the policy, under the options of its provider"),
        ({"xyz": 1}, TypeError, r"there is no setting 'xyz' \(known: buffer_size, cache, "),
        ({"images": ["a.png"]}, TypeError, r"pass images in the call: llm\(prompt, images=…\)"),
        ({"buffer_size": 0}, ValueError, "buffer_size is 1 or more, got 0"),
        ({"min_chunk_size": "many"}, TypeError, "min_chunk_size is an int, got str"),
        ({"min_chunk_size": True}, TypeError, "min_chunk_size is an int, got bool"),
        ({"timeout": -1}, ValueError, "timeout is more than 0"),
        ({"max_retries": -1}, ValueError, "max_retries is 0 or more"),
        ({"fallback_enabled": "no"}, TypeError, "fallback_enabled is a bool"),
        ({"temperature": "hot"}, TypeError, "temperature is a number"),
        ({"task_type": "poetry"}, ValueError, "task_type is one of"),
        ({"body": "stand in"}, TypeError, 'body= is "stand-in" or left out'),
    ],
)
def test_a_wrong_setting_is_refused_where_it_is_written(
    wrong: dict[str, Any], error: type[Exception], words: str
) -> None:
    for decorator in (llm_stream, llm_stream_with_metadata):
        with pytest.raises(error, match=words):
            decorator(**wrong)


# ── each acts ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_requests_settings_reach_the_vendor(simulated_switch: SimulatedSwitch) -> None:
    vendors = simulated_switch(first=Reply(TEXT), second=Reply(TEXT))

    @llm_stream(model="second/gpt-x", temperature=0.2, top_p=0.9, max_tokens=9, system="Be brief.")
    def story(topic: str) -> str:
        return topic

    assert await story("foxes") == TEXT
    (request,) = vendors["second"].requests
    assert (request.model, request.system) == ("gpt-x", "Be brief.")
    assert {name: request.body[name] for name in ("temperature", "top_p", "max_tokens")} == {
        "temperature": 0.2,
        "top_p": 0.9,
        "max_tokens": 9,
    }
    assert vendors["first"].requests == []


def reading(**settings: Any) -> LLMStream[str]:
    """A stream by a function with these settings."""

    @llm_stream(**settings)
    def story(topic: str) -> str:
        return topic

    return story("foxes")


async def test_a_streams_settings_say_how_it_survives(simulated_switch: SimulatedSwitch) -> None:
    vendors = simulated_switch(first=Reply(fault=HttpError(503)), second=Reply(TEXT))
    with pytest.raises(ProviderServiceUnavailableError):
        await reading(fallback_enabled=False)
    assert await reading(providers=["second"]) == TEXT
    assert await reading(max_retries=2) == TEXT
    assert [len(vendor.requests) for vendor in vendors.values()] == [1 + 3, 2]

    simulated_switch(first=Reply(TEXT, fault=Cut(2)), second=Continuing(TEXT))
    assert await reading() == TEXT
    with pytest.raises(StreamingError, match="on_break is 'raise'"):
        await reading(on_break="raise")


async def test_raw_shows_the_vendors_own_events(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(ours=Reply("One two three."))
    raws = [event.raw async for event in reading(raw=True).events() if isinstance(event, TextDelta)]
    assert [raw and raw["choices"][0]["delta"]["content"] for raw in raws] == ["One", " two", " three."]
    stream = reading(raw=True, buffer_size=3)
    assert [event.raw async for event in stream.events() if isinstance(event, TextDelta)] == [{"events": raws}]


async def test_where_the_body_holds_the_stream_settings_are_those_of_the_whole(
    simulated_switch: SimulatedSwitch,
) -> None:
    simulated_switch(ours=Reply(TEXT))

    @llm_stream(buffer_size=4, temperature=0.1)
    async def twice(llm: LLM, topic: str) -> AsyncIterator[str]:
        async for chunk in llm(topic):
            yield chunk.upper()
        inner = [chunk async for chunk in llm(topic)]
        assert inner == list(Reply(TEXT).pieces), "what the body hears is as it came"
        yield f" {len(inner)}"

    assert [chunk async for chunk in twice("foxes")] == ["ONE TWO THREE FOUR", " FIVE SIX. 6"]
