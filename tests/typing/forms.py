"""Read by mypy and pyright in strict mode, never run: what the decorators make of each form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, assert_type

from openai.types.chat import ChatCompletionMessageParam

from llm_dispatcher import (
    LLM,
    ChunkMetadata,
    LLMStream,
    Message,
    ProgressTracker,
    StreamingCallbacks,
    StreamMetadata,
    TaskRequest,
    TaskResponse,
    TaskType,
    Usage,
    llm_stream,
    llm_stream_with_metadata,
    settings_of,
)
from llm_dispatcher.events import Event


@llm_stream
async def says(topic: str, *, words: int = 10) -> str:
    return topic * words


@llm_stream(task_type=TaskType.MATH, temperature=0.2)
def says_plainly(topic: str) -> str:
    return topic


@llm_stream
def says_messages(topic: str) -> list[Message]:
    return [Message("user", topic)]


@llm_stream
def says_dicts(topic: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": topic}]


def goes_on_in_openais_form(told: list[ChatCompletionMessageParam]) -> TaskRequest:
    return TaskRequest(messages=told)


@llm_stream(timeout=3)
async def says_request(topic: str) -> TaskRequest:
    return TaskRequest(topic)


@llm_stream
async def holds(llm: LLM, topic: str) -> AsyncIterator[str]:
    async for chunk in llm(topic, temperature=0.1):
        yield chunk


@llm_stream(max_tokens=100)
async def holds_with_settings(llm: LLM, topic: str, depth: int = 1) -> AsyncIterator[str]:
    yield await llm(topic * depth)


@llm_stream
async def stands_in(topic: str) -> AsyncIterator[str]:
    yield topic


@llm_stream(temperature=0.1)
async def stands_in_with_settings(topic: str) -> AsyncIterator[str]:
    yield topic


@llm_stream_with_metadata
async def metadata(topic: str) -> AsyncIterator[str]:
    yield topic


@llm_stream_with_metadata(task_type="math")
async def metadata_with_settings(topic: str) -> str:
    return topic


class Teller:
    @llm_stream
    async def says(self, topic: str) -> str:
        return topic

    @llm_stream(temperature=0.1)
    async def says_with_settings(self, topic: str) -> str:
        return topic

    @llm_stream
    async def holds(self, llm: LLM, topic: str) -> AsyncIterator[str]:
        yield await llm(topic)

    @llm_stream(temperature=0.1)
    async def holds_with_settings(self, llm: LLM, topic: str) -> AsyncIterator[str]:
        yield await llm(topic)

    @llm_stream
    async def stands_in(self, topic: str) -> AsyncIterator[str]:
        yield topic

    @llm_stream(temperature=0.1)
    async def stands_in_with_settings(self, topic: str) -> AsyncIterator[str]:
        yield topic

    @llm_stream_with_metadata
    def metadata(self, topic: str) -> str:
        return topic

    @staticmethod
    @llm_stream
    async def static(topic: str) -> str:
        return topic


def told_of_the_stream(metadata: StreamMetadata) -> None:
    assert_type(metadata["usage"], Usage | None)


async def awaited_at_the_end(metadata: StreamMetadata) -> None:
    assert_type(metadata["cost"], float | None)


async def every_way_to_read() -> None:
    teller = Teller()
    assert_type(says("x", words=3), LLMStream[str])
    assert_type(says_plainly("x"), LLMStream[str])
    assert_type(says_messages("x"), LLMStream[str])
    assert_type(says_dicts("x"), LLMStream[str])
    assert_type(says_request("x"), LLMStream[str])
    assert_type(holds("x"), LLMStream[str])
    assert_type(holds_with_settings("x", depth=2), LLMStream[str])
    assert_type(stands_in("x"), LLMStream[str])
    assert_type(metadata("x"), LLMStream[ChunkMetadata])
    assert_type(metadata_with_settings("x"), LLMStream[ChunkMetadata])
    assert_type(stands_in_with_settings("x"), LLMStream[str])
    assert_type(teller.says("x"), LLMStream[str])
    assert_type(teller.says_with_settings("x"), LLMStream[str])
    assert_type(teller.holds("x"), LLMStream[str])
    assert_type(teller.holds_with_settings("x"), LLMStream[str])
    assert_type(teller.stands_in("x"), LLMStream[str])
    assert_type(teller.stands_in_with_settings("x"), LLMStream[str])
    assert_type(teller.metadata("x"), LLMStream[ChunkMetadata])
    assert_type(Teller.static("x"), LLMStream[str])
    # (mypy binds it to the object all the same: asked of the class, as above, both checkers know it.)
    assert_type(teller.static("x"), LLMStream[str])  # type: ignore[call-arg]
    assert_type(Teller.says(teller, "x"), LLMStream[str])
    assert_type(says.progress_tracker, ProgressTracker)
    assert_type(settings_of(says).temperature, float | None)
    StreamingCallbacks(on_stream_start=told_of_the_stream, on_stream_end=awaited_at_the_end)
    assert_type(settings_of(teller.metadata).task_type, TaskType)

    async for chunk in says("x"):
        assert_type(chunk, str)
    async for item in metadata("x"):
        assert_type(item, ChunkMetadata)
        assert_type(item["chunk_index"], int)
    assert_type(await says("x"), str)
    assert_type(await metadata("x"), str)
    async for event in says("x").events():
        assert_type(event, Event)
    for chunk in says("x"):
        assert_type(chunk, str)
    assert_type(await says("x").collect(), TaskResponse)
    assert_type(says("x").result(), TaskResponse)
    async with says("x") as stream:
        assert_type(stream, LLMStream[str])


def wrong_calls() -> None:
    # Each ignore is needed: a checker that stops complaining about one makes this file fail.
    says(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    says()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    holds("x", "y")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Teller().holds(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def wrong_settings() -> Any:
    return llm_stream(temprature=0.5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
