"""What a model can do, as values, and the patterns by which a model's name tells it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from .._policy import Continues


class Traits(Struct, frozen=True, kw_only=True):
    """What a model takes and gives. `known` is false where these are only the defaults of its vendor.

    `may_prefill` says of a model that is asked `anchored` that it may continue an open assistant turn all the same: its
    host is not known. `chunk_is_token` says that each chunk of an answer is one token.
    """

    text: bool = True
    vision: bool = False
    audio: bool = False
    transcription: bool = False
    tools: bool = False
    structured_output: bool = False
    reasoning: bool = False
    continues: Continues = "anchored"
    may_prefill: bool = False
    chunk_is_token: bool = False
    known: bool = True


Patterns: TypeAlias = tuple[tuple[str, Traits], ...]
"""Regular expressions with the traits that they stand for. The first that matches the start of a name decides."""

UNKNOWN: Final = Traits(tools=True, structured_output=True, known=False)
"""A model that no pattern matches, of a vendor that serves the models of others."""
UNKNOWN_VISION: Final = replace(UNKNOWN, vision=True)
UNKNOWN_MULTIMODAL: Final = replace(UNKNOWN, vision=True, audio=True)

_CHAT: Final = Traits(vision=True, tools=True, structured_output=True)
_THINKS: Final = replace(_CHAT, reasoning=True)
_TEXT_ONLY: Final = Traits(tools=True, structured_output=True)

OPENAI: Final[Patterns] = (
    (r"gpt-4o(-mini)?-transcribe|gpt-transcribe|whisper-", Traits(text=False, transcription=True)),
    (r"gpt-audio|gpt-4o(-mini)?-audio", Traits(audio=True, tools=True)),
    (r"gpt-3\.5", Traits(tools=True)),
    (r"gpt-oss", replace(_TEXT_ONLY, reasoning=True)),
    (r"gpt-4o|gpt-4\.1|gpt-4-turbo", _CHAT),
    (r"gpt-4", Traits(tools=True)),
    (r"gpt-5|gpt-6|o1|o3|o4", _THINKS),
)
ANTHROPIC: Final[Patterns] = (
    # Claude models up to 4.5 continue an open assistant turn; later ones refuse a request that ends in one.
    (r"claude-3-7|claude-(opus|sonnet)-4-[0-5](?!\d)|claude-haiku-4-5", replace(_THINKS, continues="prefill")),
    (r"claude-3", replace(_CHAT, continues="prefill")),
    (r"claude-", _THINKS),
)
GOOGLE: Final[Patterns] = (
    (r"gemini-1|gemini-2\.0", replace(_CHAT, audio=True)),
    (r"gemini-", replace(_THINKS, audio=True)),
    (r"gemma-", _CHAT),
)
XAI: Final[Patterns] = (
    (r"grok-voice-transcribe", Traits(text=False, transcription=True)),
    (r"grok-imagine", Traits(text=False)),
    (r"grok-.*non-reasoning", _CHAT),
    (r"grok-[4-9]|grok-code|grok-build", _THINKS),
)
DEEPSEEK: Final[Patterns] = (
    (r"deepseek-(v4-)?flash", _THINKS),
    (r"deepseek-v4|deepseek-v3\.2", replace(_TEXT_ONLY, reasoning=True)),
    (r"deepseek-reasoner", Traits(structured_output=True, reasoning=True)),
    (r"deepseek-chat", _TEXT_ONLY),
)
MISTRAL: Final[Patterns] = (
    (r".*(-embed|-ocr|-moderation|-tts)", Traits(text=False)),
    (r"voxtral-mini", Traits(text=False, transcription=True)),
    (r"voxtral-", Traits(audio=True, tools=True, structured_output=True)),
    (r"magistral-|mistral-medium|mistral-large-4|mistral-small-(latest|26)", _THINKS),
    (r"ministral-|pixtral-|mistral-large", _CHAT),
    (r"codestral-|devstral-", _TEXT_ONLY),
)
PERPLEXITY: Final[Patterns] = (
    (r"sonar-(reasoning|deep-research)", Traits(reasoning=True)),
    (r"sonar", Traits()),
)
OPEN_MODELS: Final[Patterns] = (
    (r"(.*/)?whisper-", Traits(text=False, transcription=True)),
    (r"(.*/)?gpt-oss", replace(_TEXT_ONLY, reasoning=True)),
    (r"(.*/)?[a-z0-9.-]*-embed", Traits(text=False)),
)
"""Models that many hosts serve. These patterns are tried after a vendor's own."""


def matching(patterns: Sequence[tuple[str, Traits]], model: str) -> Traits | None:
    """The traits of the first pattern that matches a model's name."""
    return next((traits for pattern, traits in (*patterns, *OPEN_MODELS) if re.match(pattern, model)), None)
