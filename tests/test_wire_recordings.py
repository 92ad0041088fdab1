"""Real wires, damaged at random: events or typed errors, and nothing else."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from llm_dispatcher._wire import JSONArrayDecoder, NDJSONDecoder, SSEDataDecoder
from llm_dispatcher.exceptions import ProviderProtocolError

RECORDED = Path(__file__).parents[2] / "shared" / "recorded"
MUTATIONS = 100_000
LONGEST = 40_000
"""Recordings are cut to this many bytes: damage far in teaches no more than damage near, and takes longer."""


class Decoder(Protocol):
    def feed(self, data: bytes) -> Iterable[bytes]: ...
    def close(self) -> Iterable[bytes]: ...


DECODERS: dict[str, type[Decoder]] = {"sse": SSEDataDecoder, "ndjson": NDJSONDecoder, "json-array": JSONArrayDecoder}


def recordings() -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for path in sorted(RECORDED.glob("*/*.json")):
        case = json.loads(path.read_text())
        framing = case["wire"].get("framing")
        if framing in DECODERS:
            found.append((framing, case["response"]["body_text"].encode("utf-8", "surrogatepass")[:LONGEST]))
    return found


def damaged(data: bytes, chance: random.Random, others: list[tuple[str, bytes]]) -> bytes:
    made = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(made) + 1)
        end = min(len(made), at + chance.randint(1, 30))
        match chance.randrange(6):
            case 0:
                made[at:end] = chance.randbytes(end - at)
            case 1:
                del made[at:end]
            case 2:
                made[at:at] = chance.choice(
                    [b"\n", b"\r", b"\r\n\r\n", b"\xef\xbb\xbf", b"\0", b"data:", b'"', b"[", b"}", b"\\"]
                )
            case 3:
                made[at:at] = made[at:end] * chance.randint(1, 5)
            case 4:
                del made[at:]
            case _:
                other = chance.choice(others)[1]
                made[at:end] = other[: chance.randint(0, 60)]
    return bytes(made)


def in_pieces(data: bytes, chance: random.Random) -> Iterable[bytes]:
    at = 0
    while at < len(data):
        size = chance.choice([1, 3, 16, 200, 4096])
        yield data[at : at + size]
        at += size


def decoded(decoder: Decoder, pieces: Iterable[bytes]) -> int:
    """How many events come out; each is JSON, or is known not to be."""
    count = 0
    try:
        for piece in pieces:
            for event in decoder.feed(piece):
                count += _judged(event)
        for event in decoder.close():
            count += _judged(event)
    except ProviderProtocolError:
        pass
    return count


def _judged(data: bytes) -> int:
    try:
        msgspec.json.decode(data)
    except msgspec.DecodeError:
        pass  # what providers turn into the typed error
    except UnicodeDecodeError:
        pass  # and this too
    return 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recordings (../shared/recorded) are not beside this project")
def test_damaged_recordings_give_events_or_typed_errors() -> None:
    cases = recordings()
    assert len(cases) > 500
    chance = random.Random(20261121)
    events = 0
    for number in range(MUTATIONS):
        framing, data = cases[number % len(cases)]
        events += decoded(DECODERS[framing](), in_pieces(damaged(data, chance, cases), chance))
    assert events > MUTATIONS, "most of a damaged stream is still read"


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recordings (../shared/recorded) are not beside this project")
def test_whole_recordings_are_read_whole_however_they_are_split() -> None:
    chance = random.Random(7)
    for framing, data in recordings():
        whole = list(DECODERS[framing]().feed(data))
        decoder = DECODERS[framing]()
        assert [event for piece in in_pieces(data, chance) for event in decoder.feed(piece)] == whole
