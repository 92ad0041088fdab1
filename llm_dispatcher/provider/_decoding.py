"""Decoding: from the bytes of a vendor's answer to pieces.

How it works
------------
`pieces_of` sends the request and runs one loop for the whole answer: read bytes, split them into whole events, decode
each event into pieces. Every token passes through it, so it is one generator, and bytes are read without another one.

- The answer is over when the decoder says so (`ended`), even if the connection stays open. `pieces_of` does not judge
  what it means if the bytes end before that: the stream then has no `Finished`, and the loop above sees it.
- After a complete answer the connection is released for the next request. After any error, and if the reader leaves
  at any point, it is closed.
- Closing the generator awaits nothing. A loop that ends closes all its generators at once, and a generator that awaits
  while it is closed could meet its own consumer halfway.
- Errors are translated while the request is sent and the answer is read (see `_errors`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from .. import _clock
from ..events import ToolCall, ToolCallDelta
from . import Opened, Piece, RawEvent
from ._errors import ErrorContext
from ._rate_limit_headers import allowance

Decode: TypeAlias = Callable[[bytes], Iterable[Piece]]
"""Returns the pieces in one event of the vendor."""

Read: TypeAlias = Callable[[], Awaitable[bytes]]
"""Returns the next bytes of an answer as they arrive, and no bytes at its end."""

DONE: Final = b"[DONE]"
LINGER: Final = 1.0
"""Seconds that an answer may take to end after the vendor has said in it that it is complete."""


class Splitter(Protocol):
    """Splits bytes into whole events. `close` returns what is left when the bytes have ended."""

    def feed(self, data: bytes, /) -> Iterable[bytes]: ...
    def close(self) -> Iterable[bytes]: ...


class Decoder(Protocol):
    """Decodes the events of one answer."""

    @property
    def ended(self) -> bool:
        """Whether an event has said that the answer is complete and that nothing follows it."""
        ...

    def pieces(self, data: bytes, /) -> Iterable[Piece]: ...


class OpenResponse(Struct, kw_only=True):
    """An answer whose headers have arrived.

    `read` returns the bytes and `splitter` makes events of them. `close` closes the connection. `release` is called
    instead after a complete answer, and may keep the connection for another request; without it, `close` is called.
    Header names are in lower case. `may_trail` says that something may follow the event that ends an answer.
    """

    read: Read
    splitter: Splitter
    close: Callable[[], object]
    release: Callable[[], object] | None = None
    request_id: str | None = None
    headers: Mapping[str, str] = {}
    may_trail: bool = False


async def pieces_of(
    send: Callable[[], Awaitable[OpenResponse]],
    decoder: Decoder,
    translating: AbstractContextManager[ErrorContext],
    *,
    raw: bool = False,
) -> AsyncGenerator[Piece, None]:
    """Send a request and yield the pieces of its answer.

    `send` sends it when the generator is first iterated. `translating` is what `translated` returns. With `raw`, each
    event is yielded as a `RawEvent` before its pieces.
    """
    decode = with_raw_events(decoder.pieces) if raw else decoder.pieces
    with translating as context:
        response = await send()
        try:
            context.request_id = response.request_id
            yield Opened(response.request_id, allowance(response.headers))
            read, splitter = response.read, response.splitter
            while data := await read():
                for event in splitter.feed(data):
                    for piece in decode(event):
                        yield piece
                if decoder.ended:
                    if not response.may_trail:
                        break
                    if read is response.read:
                        read = for_a_moment(read)
            else:
                for event in splitter.close():
                    for piece in decode(event):
                        yield piece
        except BaseException:
            response.close()
            raise
        (response.release or response.close)()


def for_a_moment(read: Read) -> Read:
    """Read for `LINGER` seconds more, in all; after that the answer counts as ended."""
    until = asyncio.get_running_loop().time() + LINGER

    async def read_until_then() -> bytes:
        try:
            async with asyncio.timeout_at(until):
                return await read()
        except TimeoutError:
            return b""

    return read_until_then


def with_raw_events(decode: Decode) -> Decode:
    """Yield the vendor's event before its pieces; skip what is not a JSON object, such as `[DONE]`."""

    def both(data: bytes) -> Iterable[Piece]:
        value = None if data == DONE or not data else msgspec.json.decode(data)
        if isinstance(value, dict):
            yield RawEvent(value)
        yield from decode(data)

    return both


def tokens(usage: object, *path: str) -> int:
    """A count in a vendor's usage object: 0 if it is missing or is not an integer.

    An impossible count (negative, or absurdly large) is returned as it is; the loop refuses the whole report then.
    """
    value = usage
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if type(value) is int else 0


def as_text(value: object) -> str:
    """Strings unchanged, other values as JSON (some hosts send objects where text is due), and `None` as ""."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


class ToolCalls:
    """Assembles tool calls from their fragments. `key` is whatever the vendor tells the calls of an answer apart by."""

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
        """The finished call of this key; it is forgotten here."""
        call = self._calls.pop(key, None)
        return call.whole() if call is not None else None

    def all(self) -> list[ToolCall]:
        """All calls that are not finished yet, in the order in which they began. They are forgotten here."""
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


DEEPEST: Final = 200
"""How deep the arguments of a tool call may be nested. Python's `json` module, which a tool may write them with, fails
at about a thousand levels, less the depth of its caller.
"""


def whole_call(id: str, name: str, raw_arguments: str) -> ToolCall:  # noqa: A002 - the event's own word
    """A finished tool call. `arguments` is `None` if they cannot be parsed or are nested deeper than `DEEPEST`.

    No arguments at all are an empty object: some vendors send none for a tool without parameters.
    """
    try:
        arguments: Any = msgspec.json.decode(raw_arguments) if raw_arguments.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    if raw_arguments.count("{") + raw_arguments.count("[") > DEEPEST and _depth(arguments) > DEEPEST:
        arguments = None
    return ToolCall(id, name, arguments if isinstance(arguments, dict) else None, raw_arguments)


def _depth(value: object) -> int:
    """How deep a value is nested. It is counted level by level, without recursion."""
    depth, level = 0, [value]
    while level := [inner for each in level for inner in _inside(each)]:
        depth += 1
    return depth


def _inside(value: object) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def new_id() -> str:
    """An id for a call without one. Results refer to their calls by it, here and at other vendors."""
    return f"call_{_clock.hex_id(24)}"


class Headers(Protocol):
    """What the headers of SDKs and transports have in common."""

    def get(self, key: str, default: Any = None, /) -> Any: ...
    def items(self) -> Iterable[tuple[str, str]]: ...


def lower(headers: Headers | Mapping[str, str] | None) -> dict[str, str]:
    """Headers with their names in lower case."""
    return {name.lower(): value for name, value in headers.items()} if headers is not None else {}
