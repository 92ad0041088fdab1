"""From a vendor's bytes to pieces: what every wire has in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeAlias
from uuid import uuid4

import msgspec

from ..events import ToolCall, ToolCallDelta
from ..provider import Piece, RawEvent
from ..wire import SSEDecoder

Decode: TypeAlias = Callable[[bytes], Iterable[Piece]]
"""The pieces in one event of the vendor's."""

DONE: Final = b"[DONE]"


class Splitter(Protocol):
    """Bytes to whole JSON values."""

    def feed(self, data: bytes) -> Iterable[bytes]: ...
    def close(self) -> Iterable[bytes]: ...


async def sse_pieces(chunks: AsyncIterable[bytes], decode: Decode, *, raw: bool) -> AsyncGenerator[Piece, None]:
    """The pieces in a stream of server-sent events."""
    splitter = SSEDecoder()
    async for chunk in chunks:
        for event in splitter.feed(chunk):
            if raw and (shown := raw_event(event.data)) is not None:
                yield shown
            for piece in decode(event.data):
                yield piece
    for event in splitter.close():
        if raw and (shown := raw_event(event.data)) is not None:
            yield shown
        for piece in decode(event.data):
            yield piece


async def json_pieces(
    chunks: AsyncIterable[bytes], splitter: Splitter, decode: Decode, *, raw: bool
) -> AsyncGenerator[Piece, None]:
    """The pieces in a stream of JSON values."""
    async for chunk in chunks:
        for value in splitter.feed(chunk):
            if raw and (shown := raw_event(value)) is not None:
                yield shown
            for piece in decode(value):
                yield piece
    for value in splitter.close():
        if raw and (shown := raw_event(value)) is not None:
            yield shown
        for piece in decode(value):
            yield piece


def raw_event(data: bytes) -> RawEvent | None:
    """The vendor's event as a dict; what is none, such as `[DONE]`, is not shown."""
    value = None if data == DONE or not data else msgspec.json.decode(data)
    return RawEvent(value) if isinstance(value, dict) else None


class ToolCalls:
    """Puts tool calls together from their fragments, by whatever key the vendor tells them apart."""

    def __init__(self) -> None:
        self._calls: dict[object, _Call] = {}

    def fragment(self, key: object, id: str, name: str, fragment: str) -> ToolCallDelta:  # noqa: A002 - the event's own word
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call(id or new_id())
        elif id:
            call.id = id
        call.name = call.name or name
        call.fragments.append(fragment)
        return ToolCallDelta(call.id, call.name, fragment)

    def whole(self, key: object) -> ToolCall | None:
        """The call of this key, done."""
        call = self._calls.pop(key, None)
        return call.whole() if call is not None else None

    def all(self) -> list[ToolCall]:
        """All calls that are not yet done, in the order in which they began."""
        calls = [call.whole() for call in self._calls.values()]
        self._calls.clear()
        return calls

    def __contains__(self, key: object) -> bool:
        return key in self._calls

    def latest(self) -> object:
        return next(reversed(self._calls), None)


class _Call:
    __slots__ = ("fragments", "id", "name")

    def __init__(self, id: str) -> None:  # noqa: A002 - the event's own word
        self.id = id
        self.name = ""
        self.fragments: list[str] = []

    def whole(self) -> ToolCall:
        return whole_call(self.id, self.name, "".join(self.fragments))


def whole_call(id: str, name: str, raw_arguments: str) -> ToolCall:  # noqa: A002 - the event's own word
    """A whole call; a tool without parameters may come with no arguments at all."""
    try:
        arguments: Any = msgspec.json.decode(raw_arguments) if raw_arguments.strip() else {}
    except msgspec.DecodeError:
        arguments = None
    return ToolCall(id, name, arguments if isinstance(arguments, dict) else None, raw_arguments)


def new_id() -> str:
    """An id for a call that its vendor gave none: results are told apart by it, here and at other vendors."""
    return f"call_{uuid4().hex[:24]}"


class Headers(Protocol):
    """What SDKs' and transports' headers have in common."""

    def get(self, key: str, default: Any = None, /) -> Any: ...
    def items(self) -> Iterable[tuple[str, str]]: ...


def lower(headers: Headers | Mapping[str, str] | None) -> dict[str, str]:
    """Headers with their names in lower case."""
    return {name.lower(): value for name, value in headers.items()} if headers is not None else {}
