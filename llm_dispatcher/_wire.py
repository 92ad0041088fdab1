"""Bytes to events: server-sent events, newline-delimited JSON, and a JSON array that arrives in pieces.

Nothing here reads or waits: bytes go in as they come, in pieces of any size, and whole events come out. Data stays
bytes, cut only at ASCII characters, so that no character is ever torn; whether it is sound UTF-8 is for who decodes it
to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from .exceptions import ProviderProtocolError

LONGEST_EVENT: Final = 64 << 20
"""Bytes that one event may have. Real ones are large: a responses interface repeats the whole answer in its last event,
and a generated image is one event. Beyond this, a vendor that sends no end of an event would fill the memory.
"""
_BOM: Final = b"\xef\xbb\xbf"
_CR: Final = 13
_LF: Final = 10
"""As numbers, because `b"\\n" in data` makes an error and forgets it, each time, before it looks."""


class SSEDataDecoder:
    """The data of server-sent events and nothing else: the data of every wire says itself what it is.

    Lines may end in any of the three ways and follow a BOM; comments are left out, and data over several lines is
    joined. A last event that the end of the stream cuts off from its blank line is delivered all the same: vendors send
    such streams, and what is in it decides whether it was whole.
    """

    def __init__(self, *, cap: int = LONGEST_EVENT) -> None:
        self._cap = cap
        self._pending: list[bytes] = []  # the block under way, without a complete line end in its last piece
        self._size = 0
        self._head: bytes | None = b""  # what came while it may still be part of a BOM
        self._after_cr = False
        self._between = False  # whether nothing is under way

    def feed(self, data: bytes) -> Iterable[bytes]:
        """The data of the events that these bytes complete."""
        # What a model says comes an event at a time, each of one line of data, alone or under the event's name.
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
            elif found := self._data(block):
                yield found
        self._check_rest()

    def close(self) -> Iterator[bytes]:
        """The data of the event that the end of the stream completes, if any."""
        if found := self._data(self._last_block()):
            yield found

    def _blocks(self, data: bytes) -> list[bytes]:
        """The blocks that these bytes complete; the rest is kept."""
        if self._head is not None:
            data = self._past_bom(data, self._head)
        if self._after_cr or _CR in data:
            data = self._in_lf(data)
        if _LF not in data:  # no block can end here: long lines that come in many pieces are not searched again
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
        """The same with every line end as LF; a CR at the end of one read and an LF at the head of the next are one."""
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
        """What is kept must not grow without end. (This comes after the events that are whole.)"""
        # (A line end at the very end may be the first half of the blank line: it is no part of the block.)
        if self._size > self._cap and self._size - self._pending[-1].endswith(b"\n") > self._cap:
            raise _too_long(self._cap)

    def _data(self, block: bytes) -> bytes:
        """The data of one event; none if it has nothing but a name or a comment."""
        if len(block) > self._cap:
            raise _too_long(self._cap)
        fields = (line.partition(b":") for line in block.split(b"\n"))
        return b"\n".join(value.removeprefix(b" ") for field, _, value in fields if field == b"data")


class NDJSONDecoder:
    """One JSON value a line; blank lines are passed over, and the last line needs no end."""

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
    """The elements of one JSON array, each as soon as it is whole."""

    def __init__(self, *, cap: int = LONGEST_EVENT) -> None:
        self._cap = cap
        self._element = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._begun = self._ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The elements that these bytes complete."""
        at = 0
        if not self._begun:
            data = data.lstrip()
            if not data:
                return
            if data[:1] != b"[":
                raise ProviderProtocolError("the answer is not the JSON array that it should be")
            self._begun, self._depth, at = True, 1, 1
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
            raise ProviderProtocolError("something follows the end of the JSON array")

    def close(self) -> Iterator[bytes]:
        """Nothing: an element that the end of the stream cuts off is no element."""
        return iter(())

    def _to_end_of_element(self, data: bytes, at: int) -> int:
        """Where the comma or bracket is that ends the element under way, or the end of the data."""
        while at < len(data):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            found = (_IN_STRING if self._in_string else _STRUCTURE).search(data, at)
            if found is None:
                break
            at, sign = found.start(), found.group()
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
