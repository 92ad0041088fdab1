"""A small part of HTTP/1.1, written by hand: a test decides about every byte of an answer and every close."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from msgspec import Struct

END_OF_BODY: Final = b"0\r\n\r\n"
MAX_HEAD: Final = 1 << 16


class NotHttpError(ValueError):
    """The bytes are not an HTTP request."""


class HttpRequest(Struct, frozen=True):
    """A whole request. The names of its headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class RequestReader:
    """Parses requests from bytes in pieces of any size. It looks at each byte once, however long the body is."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._body = bytearray()
        self._head: HttpRequest | None = None

    def feed(self, data: bytes) -> None:
        self._data += data

    def next(self) -> HttpRequest | None:
        """The next request, or `None` until all of it has arrived."""
        if self._head is None and not self._take_head():
            return None
        head = self._head
        assert head is not None
        chunked = "chunked" in head.headers.get("transfer-encoding", "").lower()
        if not (self._take_chunks() if chunked else self._take_body(head.headers.get("content-length", "0"))):
            return None
        body = bytes(self._body)
        self._body.clear()
        self._head = None
        return HttpRequest(head.method, head.path, head.headers, body)

    def _take_head(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            if len(self._data) > MAX_HEAD:
                raise NotHttpError(f"a head of more than {MAX_HEAD} bytes")
            return False
        first, *lines = self._data[:end].decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise NotHttpError(f"a request that begins with {first[:80]!r}")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self._head = HttpRequest(words[0], words[1], headers, b"")
        del self._data[: end + 4]
        return True

    def _take_body(self, length: str) -> bool:
        if not length.isdecimal():
            raise NotHttpError(f"a content-length of {length!r}")
        if len(self._data) < int(length):
            return False
        self._body += self._data[: int(length)]
        del self._data[: int(length)]
        return True

    def _take_chunks(self) -> bool:
        while (end := self._data.find(b"\r\n")) >= 0:
            size_text = self._data[:end].partition(b";")[0]
            try:
                size = int(size_text, 16)
            except ValueError:
                raise NotHttpError(f"a chunk whose size is {bytes(size_text)!r}") from None
            after = end + 2 + size + 2
            if len(self._data) < after:
                return False
            self._body += self._data[end + 2 : after - 2]
            del self._data[:after]
            if size == 0:
                return True
        return False


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """The head of an answer."""
    reason = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Simulated"
    lines = (f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {reason}\r\n{''.join(lines)}\r\n".encode("latin-1")


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body. Empty for no bytes, because an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
