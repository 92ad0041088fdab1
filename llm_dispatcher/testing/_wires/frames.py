"""Code that the wires share: frames, rejections and JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from .._received import ReceivedRequest, Turn
from .._script import SaidToolCall
from .turns import chat_turns


class Frame(msgspec.Struct, frozen=True):
    """Bytes that are sent together. `content` says whether they count as a piece of the answer."""

    data: bytes
    content: bool = False


class Rejection(msgspec.Struct, frozen=True):
    """The HTTP error for a request that the service refuses."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None


def dumps(value: Any) -> bytes:
    """JSON on one line."""
    return msgspec.json.encode(value)


def arguments_of(call: SaidToolCall) -> Any:
    """A tool call's arguments as an object, for a wire that does not send them as text."""
    try:
        arguments: Any = msgspec.json.decode(call.arguments or "{}")
    except msgspec.DecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise ValueError(  # noqa: TRY004 - the type is right, the script is not
            f"this wire cannot send the arguments {call.arguments!r}: write them as a JSON object"
        )
    return arguments


def bearer(request: ReceivedRequest) -> str | None:
    """The key in the header `Authorization`."""
    return request.headers.get("authorization", "").removeprefix("Bearer ") or None


def take_messages(request: ReceivedRequest, read: Callable[[Any], list[Turn]] = chat_turns) -> Rejection | None:
    """Read `model` and `messages`. Messages of the system and the developer become `request.system`."""
    model = request.body.get("model")
    if not isinstance(model, str) or not model:
        return Rejection(400, "you must provide a model parameter")
    request.model = model
    if request.body.get("stream") is False:
        return Rejection(400, "this simulation only streams: send stream=true")
    turns = read(request.body.get("messages"))
    if not turns:
        return Rejection(400, "messages: at least one message is required")
    system = [turn.text for turn in turns if turn.role in ("system", "developer")]
    request.system = "\n".join(system) or request.system
    request.turns = [turn for turn in turns if turn.role not in ("system", "developer")]
    return None if request.turns else Rejection(400, "messages: at least one message is required")
