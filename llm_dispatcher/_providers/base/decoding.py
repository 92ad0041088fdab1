"""From a vendor's bytes to pieces: what every wire has in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from ... import _clock
from ...events import ToolCall, ToolCallDelta
from ...provider import Opened, Piece, RawEvent
from .errors import Exchange
from .rate_limit_headers import allowance
from .transport import for_a_moment, let_go

if TYPE_CHECKING:
    from aiohttp import ClientResponse

Decode: TypeAlias = Callable[[bytes], Iterable[Piece]]
"""The pieces in one event of the vendor's."""

DONE: Final = b"[DONE]"


class Splitter(Protocol):
    """Bytes to whole events."""

    def feed(self, data: bytes, /) -> Iterable[bytes]: ...
    def close(self) -> Iterable[bytes]: ...


class Decoder(Protocol):
    """The pieces in each event of one answer."""

    ended: bool
    """Whether an event has said that the answer is complete and that nothing follows it."""

    def pieces(self, data: bytes, /) -> Iterable[Piece]: ...


class Answering(Struct):
    """An answer whose headers have come. `read` gives the bytes as they come, and none at the end. Whoever has it
    closes its response, or lets it go.
    """

    request_id: str | None
    headers: dict[str, str]
    splitter: Splitter
    response: ClientResponse
    read: Callable[[], Awaitable[bytes]]
    may_trail: bool = False
    """Whether something may follow the event that ends an answer: Google's wire has no word for its very end."""


async def pieces_of(
    send: Callable[[], Awaitable[Answering]],
    decoder: Decoder,
    translating: AbstractContextManager[Exchange],
    *,
    raw: bool,
) -> AsyncGenerator[Piece, None]:
    """Send, and take the answer apart. Errors become ours, and leaving at any point closes the connection.

    The answer is over when the vendor says so, even where the connection stays open. Every token passes here, so this
    is one generator, and bytes are read without one. Closing it awaits nothing: where a loop ends and closes all its
    generators at once, this one and those around it do not meet half way.
    """
    decode = with_raw_events(decoder.pieces) if raw else decoder.pieces
    with translating as exchange:
        answering = await send()
        response = answering.response
        try:
            exchange.request_id = answering.request_id
            yield Opened(answering.request_id, allowance(answering.headers))
            read, splitter = answering.read, answering.splitter
            while data := await read():
                for event in splitter.feed(data):
                    for piece in decode(event):
                        yield piece
                if decoder.ended:
                    if not answering.may_trail:
                        break
                    if read is answering.read:
                        read = for_a_moment(read)
            else:
                for event in splitter.close():
                    for piece in decode(event):
                        yield piece
        except BaseException:
            response.close()
            raise
        let_go(response)


def with_raw_events(decode: Decode) -> Decode:
    """Each event of the vendor's before the pieces in it; what is no JSON object, such as `[DONE]`, is not shown."""

    def both(data: bytes) -> Iterable[Piece]:
        value = None if data == DONE or not data else msgspec.json.decode(data)
        if isinstance(value, dict):
            yield RawEvent(value)
        yield from decode(data)

    return both


def tokens(said: object, *path: str) -> int:
    """A count in a vendor's usage object: 0 if it is missing or is not an integer.

    An impossible count (negative, or absurdly large) is returned as it is; the loop refuses the whole report then.
    """
    for name in path:
        said = said.get(name) if isinstance(said, dict) else None
    return said if type(said) is int else 0


def written(value: object) -> str:
    """Text as it came; what a host sends as JSON where text is due, as the text of it; and nothing for nothing."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


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


DEEPEST: Final = 200
"""How deep the arguments of a tool call may be nested. Python's JSON, which a tool may well write them with, ends at
about a thousand, less the depth of its caller.
"""


def whole_call(id: str, name: str, raw_arguments: str) -> ToolCall:  # noqa: A002 - the event's own word
    """A whole call. A tool without parameters may come with no arguments at all; arguments that cannot be read, or are
    nested deeper than `DEEPEST`, are `None`.
    """
    try:
        arguments: Any = msgspec.json.decode(raw_arguments) if raw_arguments.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    if raw_arguments.count("{") + raw_arguments.count("[") > DEEPEST and _depth(arguments) > DEEPEST:
        arguments = None
    return ToolCall(id, name, arguments if isinstance(arguments, dict) else None, raw_arguments)


def _depth(value: object) -> int:
    """How deep a value is nested, level by level, so that no depth is too much for it."""
    depth, level = 0, [value]
    while level := [inner for each in level for inner in _inside(each)]:
        depth += 1
    return depth


def _inside(value: object) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def new_id() -> str:
    """An id for a call that its vendor gave none: results are told apart by it, here and at other vendors."""
    return f"call_{_clock.hex_id(24)}"


class Headers(Protocol):
    """What SDKs' and transports' headers have in common."""

    def get(self, key: str, default: Any = None, /) -> Any: ...
    def items(self) -> Iterable[tuple[str, str]]: ...


def lower(headers: Headers | Mapping[str, str] | None) -> dict[str, str]:
    """Headers with their names in lower case."""
    return {name.lower(): value for name, value in headers.items()} if headers is not None else {}
