"""What vendors really sent, replayed over loopback: what we make of it is what the official SDKs make of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher.events import ReasoningDelta, ToolCall, Usage, UsageReport
from llm_dispatcher.exceptions import ContentFilterError, InvalidRequestError, ProviderError
from llm_dispatcher.provider import Ask, Finished, Provider, ProviderSettings, Secret
from llm_dispatcher.providers import make
from llm_dispatcher.tasks import Target, TaskRequest

RECORDED = Path(__file__).parents[3] / "shared" / "recorded"
FOLDERS = (
    "openai-chat", "openai-responses", "anthropic-messages", "google-generate-content", "groq-chat", "mistral-chat",
    "ollama", "other", "errors",
)  # fmt: skip
SERVED: dict[str, dict[str, Any]] = {
    "openai-chat": {"kind": "openai_compatible", "api": "chat"},
    "mistral-chat": {"kind": "openai_compatible", "api": "chat"},
    "openai-responses": {"kind": "openai", "api": "responses"},
    "anthropic-messages": {"kind": "anthropic"},
    "google-generate-content": {"kind": "google"},
    "ollama": {"kind": "ollama"},
}
"""The dialects that a provider speaks; recordings of others (Cohere, legacy completions …) are passed over."""


class Replay:
    """A server that answers every request with one recording."""

    def __init__(self) -> None:
        self.case: dict[str, Any] = {}
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                response = self.case["response"]
                body = response["body_text"].encode()
                kind = response["headers"].get("content-type", "text/event-stream")
                top = f"HTTP/1.1 {response['status']} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write(top.encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def replaying() -> AsyncIterator[Replay]:
    replay = Replay()
    async with await asyncio.start_server(replay.serve, "127.0.0.1", 0) as server:
        replay.port = server.sockets[0].getsockname()[1]
        yield replay


class Read:
    """What a provider made of a recording."""

    def __init__(self) -> None:
        self.text = self.reasoning = ""
        self.calls: list[tuple[str, Any]] = []
        self.usage: Usage | None = None
        self.finished: Finished | None = None
        self.error: ProviderError | InvalidRequestError | ContentFilterError | None = None


async def read(provider: Provider) -> Read:
    made = Read()
    try:
        async for piece in provider.stream(Ask(TaskRequest("hi"), Target("a", "m"), 5.0)):
            match piece:
                case str():
                    made.text += piece
                case ReasoningDelta():
                    made.reasoning += piece.text
                case ToolCall():
                    made.calls.append((piece.name, piece.arguments))
                case UsageReport():
                    made.usage = piece.usage
                case Finished():
                    made.finished = piece
                case _:
                    pass
    except (ProviderError, InvalidRequestError, ContentFilterError) as error:
        made.error = error
    return made


def differences(made: Read, case: dict[str, Any]) -> list[str]:
    expected = case["expected"]
    pairs: dict[str, tuple[object, object]] = {
        "text": (made.text, expected["text"] or ""),
        "reasoning": (made.reasoning, expected["reasoning"] or ""),
        "tool calls": (made.calls, [(call["name"], call["args"]) for call in expected["tool_calls"]]),
        "failed": (made.error is not None, expected["outcome"] == "exception"),
    }
    if made.error is None:
        finished = made.finished and made.finished.raw_finish_reason
        pairs["finish reason"] = (finished, expected["finish_reason"])
        pairs["usage"] = (counted(made.usage, case["wire_dialect"]), reported(expected["usage"]))
    elif case["response"]["status"] != 200:
        pairs["status"] = (made.error.status, case["response"]["status"])
    return [f"{what}: {got!r} is not {wanted!r}" for what, (got, wanted) in pairs.items() if got != wanted]


def counted(usage: Usage | None, dialect: str) -> tuple[int, int] | None:
    """Input and output as the vendor counts them; the recordings keep each vendor's own way."""
    if usage is None:
        return None
    given, written = usage.input_tokens, usage.output_tokens
    if dialect == "anthropic-messages":
        given -= usage.cache_read_tokens + usage.cache_write_tokens
    elif dialect == "google-generate-content":
        assert usage.raw is not None
        given -= usage.raw.get("toolUsePromptTokenCount", 0)
        written -= usage.reasoning_tokens
    return given, written


def reported(usage: dict[str, Any] | None) -> tuple[int, int] | None:
    return (usage["input_tokens"] or 0, usage["output_tokens"] or 0) if usage and usage.get("raw") else None


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recordings are not here")
@pytest.mark.parametrize("folder", FOLDERS)
async def test_recordings_are_read_as_the_official_sdks_read_them(folder: str) -> None:
    providers: dict[str, Provider] = {}
    wrong: dict[str, list[str]] = {}
    compared = 0
    async with replaying() as replay:
        for path in sorted((RECORDED / folder).glob("*.json")):
            replay.case = json.loads(path.read_text())
            dialect = replay.case["wire_dialect"]
            if dialect not in SERVED or str(replay.case["request"]["path"]).endswith("/api/generate"):
                continue
            if dialect not in providers:
                base_url = f"http://127.0.0.1:{replay.port}"
                providers[dialect] = make(
                    ProviderSettings(name="a", api_key=Secret("test-key"), base_url=base_url, **SERVED[dialect])
                )
            compared += 1
            if found := differences(await read(providers[dialect]), replay.case):
                wrong[path.name] = found
        for provider in providers.values():
            await provider.aclose()
    assert wrong == {}
    assert compared
