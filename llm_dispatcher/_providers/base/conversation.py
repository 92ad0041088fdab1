"""The conversation of a request as a wire gets it: only what this model may have, in an order that vendors take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ..._messages import misplaced_part
from ...exceptions import InvalidRequestError
from ...tasks import (
    CachePoint,
    Message,
    Part,
    ReasoningPart,
    Target,
    TaskRequest,
    ToolCallPart,
    ToolResultPart,
)
from .call_ids import ANY_ID, IdForm, with_ids

NOT_JSON: Final = "invalid_json"
"""The name under which a model sees arguments of its own that are not a JSON object. Some wires take nothing else."""


def conversation(request: TaskRequest, target: Target, ids: IdForm = ANY_ID) -> list[Message]:
    """The turns to send. A part that its role cannot have is refused.

    Reasoning goes to the model that wrote it only. The results of a turn's calls follow it in one message. Ids are
    those of the wire.
    """
    if "stream" in request.extra:
        raise InvalidRequestError("extra holds 'stream', but every answer is streamed: leave it out")
    turns = request.conversation
    for turn in turns:
        if (problem := misplaced_part(turn)) is not None:
            raise InvalidRequestError(problem)
    own = [_own(turn, target) for turn in turns]
    if any(isinstance(part, (ToolCallPart, ToolResultPart)) for turn in own for part in turn.parts):
        return with_ids(_paired(own), ids)
    return own


def split_system(request: TaskRequest, target: Target, ids: IdForm = ANY_ID) -> tuple[list[Message], list[Message]]:
    """The system prompt and the system messages, and the other turns in order."""
    system = [Message("system", request.system)] if request.system is not None else []
    turns: list[Message] = []
    for message in conversation(request, target, ids):
        (system if message.role == "system" else turns).append(message)
    return system, turns


def text_of(messages: list[Message]) -> str | None:
    """The text of system messages; `None` if there are none."""
    return "\n\n".join(message.text for message in messages) if messages else None


def has_thoughts(request: TaskRequest) -> bool:
    """Whether a request has reasoning with a signature."""
    return any(_is_signed(part) for turn in request.messages for part in turn.parts)


def without_thoughts(request: TaskRequest) -> TaskRequest:
    """The request without reasoning that has a signature."""
    turns = (
        replace(turn, parts=tuple(part for part in turn.parts if not _is_signed(part))) for turn in request.messages
    )
    return replace(request, messages=tuple(turns))


def _is_signed(part: Part) -> bool:
    return isinstance(part, ReasoningPart) and part.signature is not None


def arguments_of(call: ToolCallPart) -> dict[str, Any]:
    """A call's arguments as a JSON object. Those that the model wrote wrongly are text in an object."""
    try:
        arguments = msgspec.json.decode(call.arguments) if call.arguments.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    return arguments if isinstance(arguments, dict) else {NOT_JSON: call.arguments}


def written_arguments(call: ToolCallPart) -> str:
    """A call's arguments as JSON text, unchanged if they are an object."""
    arguments = arguments_of(call)
    is_whole = arguments.keys() != {NOT_JSON} and call.arguments.strip()
    return call.arguments if is_whole else msgspec.json.encode(arguments).decode()


def error_text(result: ToolResultPart) -> str:
    """The text of a result, for wires without a mark for errors."""
    if not result.error or result.result[:5].lower() == "error":
        return result.result
    return f"Error: {result.result}" if result.result else "Error"


def _own(turn: Message, target: Target) -> Message:
    """A turn without the reasoning of other models."""
    parts = tuple(part for part in turn.parts if not isinstance(part, ReasoningPart) or _is_own(part, target))
    return replace(turn, parts=parts) if len(parts) < len(turn.parts) else turn


def _is_own(part: ReasoningPart, target: Target) -> bool:
    return part.provider in (None, target.provider) and part.model in (None, target.model)


def _paired(turns: Iterable[Message]) -> Iterable[Message]:
    """The results of a turn's calls right behind it, as one message in the order of the calls. No vendor takes another
    message between them, and some match them by their place. Cache points come last.
    """
    paired: list[tuple[Message, list[Part]]] = []
    waiting: dict[str, list[list[Part]]] = {}
    for turn in turns:
        rest: list[Part] = []
        latest: list[Part] | None = None
        for part in turn.parts:
            if isinstance(part, ToolResultPart) and waiting.get(part.id):
                latest = waiting[part.id].pop()
                latest.append(part)
            elif isinstance(part, CachePoint) and turn.role == "tool" and latest is not None:
                latest.append(part)
            else:
                rest.append(part)
        if rest:
            results: list[Part] = []
            paired.append((turn if len(rest) == len(turn.parts) else replace(turn, parts=tuple(rest)), results))
            for part in rest:
                if isinstance(part, ToolCallPart):
                    waiting.setdefault(part.id, []).append(results)
    for turn, results in paired:
        yield turn
        if results:
            yield Message(
                "tool", _in_order(results, [part.id for part in turn.parts if isinstance(part, ToolCallPart)])
            )


def _in_order(results: list[Part], calls: list[str]) -> list[Part]:
    return sorted(results, key=lambda part: calls.index(part.id) if isinstance(part, ToolResultPart) else len(calls))
