"""A chunk is taken for plain text only where it holds nothing else that would be told.

Whatever is read of whole chunks the plain ones have to know of, or it is dropped beside text.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from llm_dispatcher._providers.google import content as google_content
from llm_dispatcher._providers.openai import chat as openai_chat
from llm_dispatcher._providers.openai import chat_tokens, completions

CHAT = {"choices": [{"delta": {"content": "x"}}]}
WITH_IDS = {"choices": [{"delta": {"content": "x"}, "token_ids": [1]}]}
COMPLETION = {"choices": [{"text": "x", "token_ids": [1]}]}
GEMINI = {"candidates": [{"content": {"parts": [{"text": "x"}]}}]}
DECODES = [
    (CHAT, openai_chat._decode_plain),
    (WITH_IDS, chat_tokens._decode_plain),
    (COMPLETION, completions._decode_plain),
    (GEMINI, google_content._decode_plain),
]
LEVELS: list[tuple[type[Struct], type[Struct], dict[str, Any], tuple[str | int, ...], str, str]] = [
    # whole, plain, a plain event, where in it this level lies, what is text there, what is read of other events only
    (openai_chat.Chunk, openai_chat._PlainChunk, CHAT, (), "choices", "object message type code"),
    (openai_chat.Choice, openai_chat._PlainChoice, CHAT, ("choices", 0), "delta", ""),
    (openai_chat.Delta, openai_chat.PlainDelta, CHAT, ("choices", 0, "delta"), "content", ""),
    (chat_tokens._Chunk, chat_tokens._PlainChunk, WITH_IDS, (), "choices", "object message type code"),
    (chat_tokens._Choice, chat_tokens._PlainChoice, WITH_IDS, ("choices", 0), "delta token_ids", ""),
    (completions._Chunk, completions._PlainChunk, COMPLETION, (), "choices", ""),
    (completions._Choice, completions._PlainChoice, COMPLETION, ("choices", 0), "text token_ids", ""),
    (google_content._Chunk, google_content._PlainChunk, GEMINI, (), "candidates", "usageMetadata"),
    (google_content._Candidate, google_content._PlainCandidate, GEMINI, ("candidates", 0), "content", ""),
    (google_content._Content, google_content._PlainContent, GEMINI, ("candidates", 0, "content"), "parts", ""),
    (google_content._Part, google_content._PlainPart, GEMINI, ("candidates", 0, "content", "parts", 0), "text", ""),
]


@pytest.mark.parametrize(("whole", "plain", "event", "path", "text", "elsewhere"), LEVELS)
def test_a_chunk_with_more_than_text_is_not_plain(
    whole: type[Struct],
    plain: type[Struct],
    event: dict[str, Any],
    path: tuple[str | int, ...],
    text: str,
    elsewhere: str,
) -> None:
    (decode,) = [decode for each, decode in DECODES if each is event]
    decode(json.dumps(event).encode())
    told = {field.encode_name for field in msgspec.structs.fields(whole)} - {*text.split(), *elsewhere.split()}
    for name in told:
        for value in ("said", ["said"], [{"said": 1}], {"said": 1}, 7):
            changed: Any = json.loads(json.dumps(event))
            level: Any = changed
            for step in path:
                level = level[step]
            level[name] = value
            with pytest.raises(msgspec.ValidationError):
                decode(json.dumps(changed).encode())
    assert {field.encode_name for field in msgspec.structs.fields(plain)} == told | {*text.split()}
