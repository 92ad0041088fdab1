"""The small HTTP parser of the simulated vendors."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher.testing._http import HttpRequest, NotHttpError, RequestReader, chunk

PLAIN = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
BODILESS = b"GET /c HTTP/1.1\r\n\r\n"


def read(*pieces: bytes) -> list[HttpRequest]:
    reader = RequestReader()
    requests: list[HttpRequest] = []
    for piece in pieces:
        reader.feed(piece)
        while (request := reader.next()) is not None:
            requests.append(request)
    return requests


@given(st.sets(st.integers(0, len(PLAIN + CHUNKED + BODILESS)), max_size=12))
def test_requests_are_the_same_in_any_pieces(cuts: set[int]) -> None:
    data = PLAIN + CHUNKED + BODILESS
    places = [0, *sorted(cuts), len(data)]
    requests = read(*(data[start:end] for start, end in pairwise(places)))
    assert [(each.method, each.path, each.body) for each in requests] == [
        ("POST", "/a", b"hello"),
        ("POST", "/b", b"hello"),
        ("GET", "/c", b""),
    ]
    assert requests[0].headers == {"host": "x", "content-length": "5"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello\r\n\r\n", "begins with 'hello'"),
        (b"GET / SMTP\r\n\r\n", "begins with"),
        (b"POST / HTTP/1.1\r\ncontent-length: many\r\n\r\n", "content-length of 'many'"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", "content-length of '-1'"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "chunk whose size"),
        (b"x" * 70_000, "a head of more than"),
    ],
)
def test_bytes_that_are_not_a_request_are_an_error(data: bytes, words: str) -> None:
    with pytest.raises(NotHttpError, match=words):
        read(data)


def test_no_bytes_make_no_chunk() -> None:
    """An empty chunk would end the body."""
    assert chunk(b"") == b""
    assert chunk(b"0123456789abcdef") == b"10\r\n0123456789abcdef\r\n"
