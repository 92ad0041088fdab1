"""The bytes of a reply on each wire, before they are sent."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_dispatcher._wire import NDJSONDecoder, SSEDataDecoder
from llm_dispatcher.testing import (
    CleanEnd,
    Cut,
    ErrorFrame,
    Garbage,
    KeepAlives,
    MalformedJson,
    Reply,
    Resplit,
    SaidToolCall,
    Stall,
    Wire,
)
from llm_dispatcher.testing._answers import Answer, streamed
from llm_dispatcher.testing._http import END_OF_BODY
from tests.conftest import examples

all_wires = pytest.mark.parametrize("wire", list(Wire))
TEN = Reply("q0 q1 q2 q3 q4 q5 q6 q7 q8 q9")


def body(answer: Answer) -> bytes:
    """The bytes of the body, without the framing of chunks."""
    data = b"".join(write.data for write in answer.writes)
    found = b""
    while data and not data.startswith(END_OF_BODY):
        size, _, data = data.partition(b"\r\n")
        found, data = found + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return found


def pieces_in(answer: Answer) -> list[str]:
    """The pieces of content. Some wires repeat the whole text at the end, after them."""
    first = re.split(rb"output_text\.done", body(answer))[0]
    return [piece.decode() for piece in re.findall(rb"q\d", first)]


@all_wires
def test_a_stream_without_pauses_is_one_write(wire: Wire) -> None:
    answer = streamed(wire, TEN, "m")
    assert len(answer.writes) == 1
    assert answer.writes[0].data.endswith(END_OF_BODY)


@all_wires
def test_a_paced_stream_has_a_write_for_each_piece(wire: Wire) -> None:
    pauses = [write.pause for write in streamed(wire, Reply(TEN.text, pace=0.5), "m").writes]
    assert pauses == [0.5] * 10 + [0.0]


@all_wires
@pytest.mark.parametrize("after", range(11))
@pytest.mark.parametrize("fault", [Cut, CleanEnd, Stall, ErrorFrame, MalformedJson, Garbage, KeepAlives])
def test_a_fault_comes_after_its_number_of_pieces(wire: Wire, after: int, fault: type[Cut]) -> None:
    answer = streamed(wire, Reply(TEN.text, fault=fault(after)), "m")
    assert pieces_in(answer) == [f"q{place}" for place in range(after)]
    assert answer.ending == "broken"


@all_wires
def test_the_body_has_an_end_unless_the_fault_leaves_it_open(wire: Wire) -> None:
    for fault in (Cut(3), Stall(3), KeepAlives(3)):
        assert END_OF_BODY not in b"".join(
            write.data for write in streamed(wire, Reply(TEN.text, fault=fault), "m").writes
        )
    for ends in (CleanEnd(3), ErrorFrame(3), MalformedJson(3), Garbage(3), None):
        assert streamed(wire, Reply(TEN.text, fault=ends), "m").writes[-1].data.endswith(END_OF_BODY)


@all_wires
def test_a_stream_can_stop_inside_an_event(wire: Wire) -> None:
    whole = body(streamed(wire, TEN, "m"))
    at_event = body(streamed(wire, Reply(TEN.text, fault=Cut(3)), "m"))
    inside = body(streamed(wire, Reply(TEN.text, fault=Cut(3, into=7)), "m"))
    assert (at_event, inside) == (whole[: len(at_event)], whole[: len(at_event) + 7])


@settings(max_examples=examples(50))
@given(
    wire=st.sampled_from(list(Wire)),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    seed=st.none() | st.integers(0, 99),
    pace=st.sampled_from([0.0, 0.25]),
)
def test_a_resplit_keeps_every_byte_and_every_pause(
    wire: Wire, sizes: list[int], seed: int | None, pace: float
) -> None:
    reply = Reply("Grüße, 東京 🎌, und so weiter", pace=pace)
    anew = Reply(reply.text, pace=pace, resplit=Resplit(tuple(sizes), seed))
    answer, cut_anew = streamed(wire, reply, "m"), streamed(wire, anew, "m")
    assert body(cut_anew) == body(answer)
    assert sum(write.pause for write in cut_anew.writes) == pytest.approx(pace * len(reply.pieces))
    assert all(len(write.data) <= max(sizes) + 6 for write in cut_anew.writes)


def test_a_seed_splits_the_same_way_every_time() -> None:
    def cuts(seed: int) -> list[int]:
        reply = Reply("abc " * 50, resplit=Resplit((1, 2, 30), seed))
        return [len(write.data) for write in streamed(Wire.OPENAI_CHAT, reply, "m").writes]

    assert cuts(1) == cuts(1)
    assert cuts(1) != cuts(2)


@all_wires
def test_the_decoders_of_the_library_read_the_events(wire: Wire) -> None:
    reply = Reply("Grüße 東京", reasoning=("hm",), tool_calls=(SaidToolCall("look", '{"a": 1}'),))
    decoder = NDJSONDecoder() if wire is Wire.OLLAMA else SSEDataDecoder()
    whole = body(streamed(wire, reply, "m"))
    events = [*decoder.feed(whole), *decoder.close()]
    assert len(events) > 4
    assert b"Gr\xc3\xbc\xc3\x9fe" in whole


@pytest.mark.parametrize("wire", [Wire.GOOGLE, Wire.OLLAMA])
def test_a_wire_that_sends_arguments_as_an_object_refuses_broken_ones(wire: Wire) -> None:
    for arguments in ('{"a": ', "[1]"):
        with pytest.raises(ValueError, match="write them as a JSON object"):
            streamed(wire, Reply(tool_calls=(SaidToolCall("f", arguments),)), "m")


@all_wires
def test_a_raw_finish_reason_is_sent_unchanged(wire: Wire) -> None:
    assert b"bored_of_this" in body(streamed(wire, Reply("x", raw_finish_reason="bored_of_this"), "m"))


@pytest.mark.parametrize("wire", [Wire.OPENAI_CHAT, Wire.GOOGLE, Wire.OLLAMA])
def test_usage_can_be_left_out(wire: Wire) -> None:
    marks = rb"usage|eval_count"
    assert re.search(marks, body(streamed(wire, Reply("x"), "m")))
    assert not re.search(marks, body(streamed(wire, Reply("x", usage=None), "m")))


def test_pieces_follow_each_other_in_order() -> None:
    for one, other in pairwise(pieces_in(streamed(Wire.OPENAI_RESPONSES, TEN, "m"))):
        assert one < other
