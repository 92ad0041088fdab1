"""Decoders from bytes to events: server-sent events (SSE), newline-delimited JSON, and a JSON array in pieces.

Theory of operation: a decoder does no I/O. The caller feeds it bytes in pieces of any size and gets the events that
they complete; the result does not depend on how the bytes were split. Each decoder belongs to one stream and keeps the
bytes of the incomplete event, up to a limit. Nothing here waits, so a cancelled stream leaves nothing to clean up.
Events stay bytes and are split only at ASCII characters, so no character is torn. The code that parses the JSON checks
the UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from .exceptions import ProviderProtocolError

LONGEST_EVENT: Final = 64 << 20
"""The most bytes of one event. Real events are large: OpenAI's responses interface repeats the whole answer in its last
event, and a generated image is one event. The limit keeps a vendor that never ends an event from filling the memory.
"""
_BOM: Final = b"\xef\xbb\xbf"
_CR: Final = 13
_LF: Final = 10
"""As integers, because `b"\\n" in data` is slower: CPython first tries it as an integer, and discards the error."""


class SSEDataDecoder:
    """Decodes the data of server-sent events. The event's name is ignored, because the data itself names its type.

    Lines may end with LF, CR or CRLF, and a BOM may come first. Comments are ignored, and data over several lines is
    joined. The last event is delivered even without its blank line, because some vendors leave it out. Whether it is
    complete shows when its JSON is parsed.
    """

    def __init__(self, *, cap: int = LONGEST_EVENT) -> None:
        self._cap = cap
        self._pending: list[bytes] = []  # the incomplete block, without a complete line end in its last piece
        self._size = 0
        self._head: bytes | None = b""  # the first bytes, while they may still be part of a BOM
        self._after_cr = False
        self._between = False  # whether no block is incomplete

    def feed(self, data: bytes) -> Iterable[bytes]:
        """The data of the events that these bytes complete."""
        # The common case: one whole event, with one line of data, with or without the line of the event's name.
        if self._between and len(data) <= self._cap:
            end = -2 if data[-2:] == b"\n\n" else -4 if data[-4:] == b"\r\n\r\n" else 0
            head, _, line = data[:end].rpartition(b"\n")
            if (
                line[:6] == b"data: "
                and _CR not in line
                and (not head or (head[:7] == b"event: " and _LF not in head and _CR not in head))
            ):
                return (line[6:],)
        return self._feed(data)

    def _feed(self, data: bytes) -> Iterator[bytes]:
        cap = self._cap
        for block in self._blocks(data):
            head, _, line = block.rpartition(b"\n")
            if (
                line[:6] == b"data: "
                and len(block) <= cap
                and (not head or (head[:7] == b"event: " and _LF not in head))
            ):
                yield line[6:]
            elif event := self._data(block):
                yield event
        self._check_rest()

    def close(self) -> Iterator[bytes]:
        """The data of the event that the end of the stream completes, if any."""
        if event := self._data(self._last_block()):
            yield event

    def _blocks(self, data: bytes) -> list[bytes]:
        """The blocks that these bytes complete. The rest is kept."""
        if self._head is not None:
            data = self._past_bom(data, self._head)
        if self._after_cr or _CR in data:
            data = self._in_lf(data)
        if _LF not in data:  # no block ends here, so a long line in many pieces is not searched again and again
            self._between = False
            self._keep(data)
            return []
        if self._pending:
            self._pending.append(data)
            data = b"".join(self._pending)
            self._pending.clear()
            self._size = 0
        blocks = data.split(b"\n\n")
        self._keep(blocks.pop())
        self._between = not self._pending and not self._after_cr and self._head is None
        return blocks

    def _last_block(self) -> bytes:
        block = b"".join(self._pending) + (self._head or b"")
        self._pending.clear()
        self._size = 0
        self._head = None
        return block.removesuffix(b"\n")

    def _past_bom(self, data: bytes, head: bytes) -> bytes:
        data = head + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._head = data
            return b""
        self._head = None
        return data.removeprefix(_BOM)

    def _in_lf(self, data: bytes) -> bytes:
        """Convert line ends to LF. A CR at the end of one piece and a LF at the start of the next are one line end."""
        if not data:
            return data
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
            if not data:
                return data
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if _CR in data else data

    def _keep(self, data: bytes) -> None:
        if data:
            self._pending.append(data)
            self._size += len(data)

    def _check_rest(self) -> None:
        """Raise an error if the incomplete block is longer than the limit. Complete events are delivered first."""
        # A line end at the very end may be the first half of the blank line, so it does not count.
        if self._size > self._cap and self._size - self._pending[-1].endswith(b"\n") > self._cap:
            raise _too_long(self._cap)

    def _data(self, block: bytes) -> bytes:
        """The data of one event. It is empty if the event has only a name or comments."""
        if len(block) > self._cap:
            raise _too_long(self._cap)
        fields = (line.partition(b":") for line in block.split(b"\n"))
        return b"\n".join(value.removeprefix(b" ") for field, _, value in fields if field == b"data")


class NDJSONDecoder:
    """Decodes one JSON value per line. Blank lines are ignored, and the last line may lack its line end."""

    def __init__(self, *, cap: int = LONGEST_EVENT) -> None:
        self._cap = cap
        self._pending: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that these bytes complete."""
        first, newline, rest = data.partition(b"\n")
        self._keep(first)
        if not newline:
            return
        yield from self.close()
        *lines, rest = rest.split(b"\n")
        for line in lines:
            self._keep(line)
            yield from self.close()
        self._keep(rest)

    def close(self) -> Iterator[bytes]:
        """The line that the end of the stream completes, if any."""
        line = b"".join(self._pending).strip()
        self._pending.clear()
        self._size = 0
        if line:
            yield line

    def _keep(self, data: bytes) -> None:
        self._pending.append(data)
        self._size += len(data)
        if self._size > self._cap:
            raise _too_long(self._cap)


_STRUCTURE: Final = re.compile(rb'["\[\]{},]')
_IN_STRING: Final = re.compile(rb'["\\]')


class JSONArrayDecoder:
    """Decodes the elements of one JSON array, each when it is complete."""

    def __init__(self, *, cap: int = LONGEST_EVENT) -> None:
        self._cap = cap
        self._element = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._has_begun = self._ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The elements that these bytes complete."""
        at = 0
        if not self._has_begun:
            data = data.lstrip()
            if not data:
                return
            if data[:1] != b"[":
                raise ProviderProtocolError("the vendor's answer is not a JSON array")
            self._has_begun, self._depth, at = True, 1, 1
        start = at
        while not self._ended:
            at = self._to_end_of_element(data, at)
            self._element += data[start:at]
            if len(self._element) > self._cap:
                raise _too_long(self._cap)
            if at == len(data):
                return
            self._ended = data[at : at + 1] == b"]"
            element = bytes(self._element.strip())
            self._element.clear()
            at = start = at + 1
            if element:
                yield element
        if data[at:].strip():
            raise ProviderProtocolError("the vendor sent data after the end of the JSON array")

    def close(self) -> Iterator[bytes]:
        """Nothing, because an element that the end of the stream cuts off is not complete."""
        return iter(())

    def _to_end_of_element(self, data: bytes, at: int) -> int:
        """The place of the comma or bracket that ends the current element, or the end of the data."""
        while at < len(data):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            match = (_IN_STRING if self._in_string else _STRUCTURE).search(data, at)
            if match is None:
                break
            at, sign = match.start(), match.group()
            if sign == b'"':
                self._in_string = not self._in_string
            elif sign == b"\\":
                self._escaped = True
            elif sign in b"[{":
                self._depth += 1
            elif self._depth == 1:
                return at
            elif sign in b"]}":
                self._depth -= 1
            at += 1
        return len(data)


def _too_long(cap: int) -> ProviderProtocolError:
    return ProviderProtocolError(
        f"the vendor sent an event longer than {cap} bytes (the provider's option max_event_bytes sets this limit)"
    )
