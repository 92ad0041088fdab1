"""Real streams, damaged at random, through each wire's decoder: pieces or typed errors, and nothing else."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from llm_dispatcher._providers.anthropic import messages as anthropic_messages
from llm_dispatcher._providers.google import content as google_content
from llm_dispatcher._providers.ollama import chat as ollama
from llm_dispatcher._providers.openai import chat as openai_chat
from llm_dispatcher._providers.openai import responses as openai_responses
from llm_dispatcher._wire import JSONArrayDecoder, NDJSONDecoder, SSEDataDecoder
from llm_dispatcher.exceptions import ContentFilterError, InvalidRequestError, ProviderError
from llm_dispatcher.provider import Ask, RawEvent
from llm_dispatcher.provider._decoding import Decode, Splitter, with_raw_events
from llm_dispatcher.provider._errors import translated
from llm_dispatcher.tasks import Target, TaskRequest
from tests.test_wire_recordings import LONGEST, MUTATIONS, RECORDED, damaged, in_pieces

TARGET = Target("a", "m")
DECODERS: dict[str, Callable[[], Decode]] = {
    "openai-chat": lambda: openai_chat.Decoder(TARGET).pieces,
    "openai-responses": lambda: openai_responses.Decoder(TARGET).pieces,
    "anthropic-messages": lambda: anthropic_messages.Decoder(TARGET).pieces,
    "google-generate-content": lambda: google_content.Decoder(TARGET).pieces,
    "ollama": lambda: ollama.Decoder(TARGET).pieces,
}
SPLITTERS: dict[str, Callable[[], Splitter]] = {
    "sse": SSEDataDecoder,
    "ndjson": NDJSONDecoder,
    "json-array": JSONArrayDecoder,
}
OTHERS = [("", b'{"choices":[{"delta":{"content":[]}}]}'), ("", b'{"type":"error"}'), ("", b"null"), ("", b"[[]]")]
"""What is put in the place of something else, beside pieces of the recordings."""
SLACK = 64 * 1024
"""Kilobytes that the process may grow by: far less than what 100,000 streams would leave."""


def recordings(wire: str) -> list[tuple[str, bytes]]:
    """The framing and the bytes of each recording of a wire."""
    found: list[tuple[str, bytes]] = []
    for path in sorted(RECORDED.glob("*/*.json")):
        case: dict[str, Any] = json.loads(path.read_text())
        dialect, framing = case["wire_dialect"], case["wire"].get("framing")
        if ("openai-chat" if dialect == "mistral-chat" else dialect) == wire and framing in SPLITTERS:
            found.append((framing, case["response"]["body_text"].encode("utf-8", "surrogatepass")[:LONGEST]))
    return found


def read(wire: str, framing: str, data: bytes, chance: random.Random) -> int:
    """How many pieces came before the end or the error, which is one of ours."""
    decode, splitter, count = DECODERS[wire](), SPLITTERS[framing](), 0
    if chance.random() < 0.3:
        decode = with_raw_events(decode)
    try:
        with translated(Ask(TaskRequest("x"), TARGET), lambda error: None, lambda: ()):
            for part in in_pieces(data, chance):
                for event in splitter.feed(part):
                    count += sum(not isinstance(piece, RawEvent) for piece in decode(event))
            for event in splitter.close():
                count += sum(not isinstance(piece, RawEvent) for piece in decode(event))
    except (ProviderError, InvalidRequestError, ContentFilterError):
        pass
    return count


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recordings (../shared/recorded) are not beside this project")
@pytest.mark.parametrize("wire", list(DECODERS))
def test_damaged_streams_give_pieces_or_typed_errors(wire: str) -> None:
    resource = pytest.importorskip("resource")  # Windows does not say how much memory was used
    cases = recordings(wire)
    chance = random.Random(wire)
    others = OTHERS + cases
    pieces = grown_from = 0
    for number in range(MUTATIONS):
        framing, data = cases[number % len(cases)]
        pieces += read(wire, framing, damaged(data, chance, others), chance)
        if number == MUTATIONS // 10:
            grown_from = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert pieces > MUTATIONS, "most of a damaged stream is still read"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown_from < SLACK
