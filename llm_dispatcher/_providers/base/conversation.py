"""The conversation of a request as a wire gets it: only what this model may have, in an order that vendors take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ...exceptions import InvalidRequestError
from ...tasks import (
    AudioPart,
    CachePoint,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    Target,
    TaskRequest,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from .call_ids import ANY_ID, IdForm, with_ids

_PARTS: Final[Mapping[Role, tuple[type[Part], ...]]] = {
    "system": (TextPart, CachePoint),
    "user": (TextPart, ImagePart, AudioPart, ToolResultPart, CachePoint),
    "assistant": (TextPart, ReasoningPart, ToolCallPart, CachePoint),
    "tool": (ToolResultPart, CachePoint),
}

NOT_JSON: Final = "INVALID_JSON"
"""The name under which a model sees arguments of its own that are not a JSON object. Some wires take nothing else."""


def conversation(request: TaskRequest, target: Target, ids: IdForm = ANY_ID) -> list[Message]:
    """The turns to send. A part that its role cannot have is refused.

    Reasoning goes to the model that wrote it only. The results of a turn's calls are one message, in the order of the
    calls. Ids are those of the wire.
    """
    if "stream" in request.extra:
        raise InvalidRequestError("extra holds 'stream', but every answer is streamed: leave it out")
    turns = request.conversation
    for turn in turns:
        for part in turn.parts:
            if not isinstance(part, _PARTS[turn.role]):
                holds = ", ".join(f"{kind.__name__}s" for kind in _PARTS[turn.role])
                raise InvalidRequestError(f"a message of role {turn.role!r} holds {holds}, not {type(part).__name__}")
    own = [_own(turn, target) for turn in turns]
    if any(isinstance(part, (ToolCallPart, ToolResultPart)) for turn in own for part in turn.parts):
        return with_ids(_ordered(_joined(own)), ids)
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


def _joined(turns: Iterable[Message]) -> list[Message]:
    """Adjacent results as one message. Results in a user's message come before the rest of it."""
    joined: list[Message] = []
    for turn in turns:
        if turn.role == "user" and any(isinstance(part, ToolResultPart) for part in turn.parts):
            results = [part for part in turn.parts if isinstance(part, ToolResultPart)]
            rest = [part for part in turn.parts if not isinstance(part, ToolResultPart)]
            split = [Message("tool", results), *([Message("user", rest)] if rest else [])]
        else:
            split = [turn]
        for each in split:
            if joined and each.role == joined[-1].role == "tool":
                joined[-1] = Message("tool", (*joined[-1].parts, *each.parts))
            else:
                joined.append(each)
    return joined


def _ordered(turns: Iterable[Message]) -> Iterable[Message]:
    """Results in the order of their calls, for wires that match them by their place. Cache points come last."""
    calls: list[str] = []
    for turn in turns:
        if turn.role == "assistant":
            calls = [part.id for part in turn.parts if isinstance(part, ToolCallPart)]
        yield replace(turn, parts=_sorted(turn.parts, calls)) if turn.role == "tool" else turn


def _sorted(parts: Sequence[Part], calls: list[str]) -> tuple[Part, ...]:
    def place_of(part: Part) -> int:
        if not isinstance(part, ToolResultPart):
            return len(calls) + 1
        return calls.index(part.id) if part.id in calls else len(calls)

    return tuple(sorted(parts, key=place_of))
