"""Asking a provider for one turn, and writing the turn back: what the tests of the wires have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from llm_dispatcher._providers import make
from llm_dispatcher.events import ReasoningDelta, ToolCall, ToolCallDelta, UsageReport
from llm_dispatcher.provider import Ask, Piece, Provider, ProviderSettings, Secret
from llm_dispatcher.tasks import Message, ReasoningPart, Target, TaskRequest, TextPart, ToolCallPart, ToolResultPart
from llm_dispatcher.testing import SimulatedVendor
from tests.conftest import KINDS


@asynccontextmanager
async def provider_over(vendor: SimulatedVendor, **more: Any) -> AsyncGenerator[Provider, None]:
    """The real provider of a vendor's wire, called `p`."""
    fields = {**KINDS[vendor.wire], "name": "p", "base_url": vendor.base_url, "api_key": Secret("test-key"), **more}
    provider = make(ProviderSettings(**fields))
    try:
        yield provider
    finally:
        await provider.aclose()


async def turn_of(provider: Provider, request: TaskRequest, model: str = "m") -> list[Piece]:
    """The pieces of the answer to a request."""
    return [piece async for piece in provider.stream(Ask(request, Target("p", model)))]


def message_of(pieces: list[Piece], provider: str = "p") -> Message:
    """The assistant's turn in these pieces, as a later request has it."""
    parts: list[Any] = []
    for piece in pieces:
        match piece:
            case str():
                parts.append(TextPart(piece))
            case ReasoningDelta(text=text, signature=signature):
                parts.append(ReasoningPart(text, signature, provider))
            case ToolCall(id=id, name=name, raw_arguments=raw):
                parts.append(ToolCallPart(id, name, raw))
            case _:
                pass
    return Message("assistant", parts)


def results_of(turn: Message, **results: str) -> Message:
    """A result for each call of a turn: of this text by the name of the tool, or `done`."""
    calls = [part for part in turn.parts if isinstance(part, ToolCallPart)]
    return Message("tool", [ToolResultPart(call.id, call.name, results.get(call.name, "done")) for call in calls])


def calls_in(pieces: list[Piece]) -> list[ToolCall]:
    return [piece for piece in pieces if isinstance(piece, ToolCall)]


def fragments_in(pieces: list[Piece]) -> list[ToolCallDelta]:
    return [piece for piece in pieces if isinstance(piece, ToolCallDelta)]


def usage_in(pieces: list[Piece]) -> UsageReport:
    """The last report of usage."""
    return [piece for piece in pieces if isinstance(piece, UsageReport)][-1]


def text_in(pieces: list[Piece]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))
