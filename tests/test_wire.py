"""Bytes to events, whatever the bytes and however they are split."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher import _wire as wire
from llm_dispatcher._wire import LONGEST_EVENT, JSONArrayDecoder, NDJSONDecoder, SSEDataDecoder
from llm_dispatcher.exceptions import ProviderProtocolError


class Decoder(Protocol):
    def feed(self, data: bytes) -> Iterable[object]: ...
    def close(self) -> Iterable[object]: ...


def read(decoder: Decoder, pieces: Iterable[bytes]) -> list[object]:
    """All events, with the error that ended them, if any, as the last one."""
    events: list[object] = []
    try:
        for piece in pieces:
            events.extend(decoder.feed(piece))
        events.extend(decoder.close())
    except ProviderProtocolError as error:
        # (extend() keeps what a generator yielded before it raised.)
        events.append(error.message)
    return events


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


def plain_sse(data: bytes) -> list[bytes]:
    """The rules, one line at a time: the data of each event."""
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[bytes] = []
    lines: list[bytes] = []
    for line in [*text.split(b"\n"), b""]:
        if not line:
            events.append(b"\n".join(lines))
            lines = []
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value[1:] if value.startswith(b" ") else value)
    return [event for event in events if event]


line = st.sampled_from(
    [
        b"data: {}", b'data: {"text":"gr\xc3\xbc\xc3\x9f \xf0\x9f\x8c\x8d"}', b"data:tight", b"data", b"data:",
        b"data:  two",
        b": comment", b":", b"event: ping", b"event:error", b"id: 7", b"id: a\0b", b"retry: 10", b"nonsense", b"",
        b"\xff\xfe", b"[DONE]", b"data: [DONE]", b"datax: no",
    ]
)  # fmt: skip
end = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
sse_stream = st.tuples(
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb"]), st.lists(st.tuples(line, end), max_size=12), line
).map(lambda parts: parts[0] + b"".join(one + two for one, two in parts[1]) + parts[2])
places = st.lists(st.integers(min_value=0, max_value=1 << 16), max_size=10)


@given(sse_stream, places)
def test_server_sent_events_are_decoded_the_same_however_they_are_split(data: bytes, places: list[int]) -> None:
    expected = plain_sse(data)
    assert read(SSEDataDecoder(), [data]) == expected
    assert read(SSEDataDecoder(), cut(data, places)) == expected
    assert read(SSEDataDecoder(), [bytes([byte]) for byte in data]) == expected


@given(sse_stream, places, st.integers(min_value=1, max_value=20))
def test_the_size_limit_does_not_depend_on_the_split(data: bytes, places: list[int], cap: int) -> None:
    assert read(SSEDataDecoder(cap=cap), cut(data, places)) == read(SSEDataDecoder(cap=cap), [data])


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(['"', "\\", "}{", "],[", '\\"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_value, max_size=6), st.sampled_from([b"\n", b"\r\n", b"\n\n"]), st.booleans(), places)
def test_json_lines_are_decoded_the_same_however_they_are_split(
    values: list[object], newline: bytes, ended: bool, places: list[int]
) -> None:
    data = newline.join(json.dumps(value).encode() for value in values) + (newline if ended else b"")
    for pieces in ([data], cut(data, places), [bytes([byte]) for byte in data]):
        assert [json.loads(str(got, "utf-8")) for got in read(NDJSONDecoder(), pieces)] == values  # type: ignore[call-overload]


@given(
    st.lists(json_value, max_size=6), st.sampled_from([",", ",\n", " ,\r\n "]), st.sampled_from([None, 1]),
    st.booleans(), places,
)  # fmt: skip
def test_a_json_array_is_decoded_the_same_however_it_is_split(
    values: list[object], comma: str, indent: int | None, ascii_only: bool, places: list[int]
) -> None:
    written = comma.join(json.dumps(value, indent=indent, ensure_ascii=ascii_only) for value in values)
    data = f" [{written}] \n".encode("utf-8", "surrogatepass")
    for pieces in ([data], cut(data, places), [bytes([byte]) for byte in data]):
        got = read(JSONArrayDecoder(), pieces)
        assert [json.loads(str(one, "utf-8", "surrogatepass")) for one in got] == values  # type: ignore[call-overload]


@pytest.mark.parametrize("data", [b"{}", b"x", b"[1] 2", b"[1]]"])
def test_a_body_that_is_not_a_json_array_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProviderProtocolError):
        list(JSONArrayDecoder().feed(data))


def test_a_truncated_array_gives_only_its_whole_elements() -> None:
    assert read(JSONArrayDecoder(), [b'[{"a": 1}, {"b": "]', b"}"]) == [b'{"a": 1}']


@pytest.mark.parametrize("decoder", [SSEDataDecoder(cap=100), NDJSONDecoder(cap=100), JSONArrayDecoder(cap=100)])
def test_a_line_longer_than_the_limit_is_refused(decoder: Decoder) -> None:
    with pytest.raises(ProviderProtocolError, match="longer than 100 bytes"):
        for _ in range(60):
            list(decoder.feed(b'["'))


def test_the_default_limit_is_64_mebibytes() -> None:
    assert len(list(SSEDataDecoder().feed(b"data: " + b"x" * (LONGEST_EVENT - 6) + b"\n\n"))) == 1
    with pytest.raises(ProviderProtocolError):
        list(SSEDataDecoder().feed(b"data: " + b"x" * LONGEST_EVENT + b"\n\n"))


@pytest.mark.found("H-7")
def test_there_is_only_one_decoder_of_server_sent_events() -> None:
    decoders = [name for name in vars(wire) if name.endswith("Decoder")]
    assert sorted(decoders) == ["JSONArrayDecoder", "NDJSONDecoder", "SSEDataDecoder"]
