"""What a request demands of a model, and which of these demands a model cannot meet."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from .._answer_schema import may_instruct
from .._catalog import Capabilities
from .._tokens import bytes_in, tokens_in_bytes
from ..tasks import AudioPart, ImagePart, TaskRequest, TextPart, ToolCallPart, ToolResultPart

EXPECTED_OUTPUT: Final = 500
"""Tokens that an answer is expected to have, if `max_tokens` allows as many."""

SURE: Final = 0.8
"""The share of an estimate that is certain: a window is too small only if even this share does not fit."""


class Demands(Struct, frozen=True):
    """What one request demands, calculated once for all targets.

    `schema` is whether a vendor has to enforce one; a schema that may be told in words demands nothing. `reasoning` is
    whether it demands a model that reasons, `may_reason` whether a model may reason on its own.
    """

    vision: bool
    audio: bool
    tools: bool
    schema: bool
    reasoning: bool
    may_reason: bool
    input_tokens: int
    output_tokens: int
    most_output: int


def demands(request: TaskRequest) -> Demands:
    """What a request demands. Its tokens are estimated; those of images and sounds only the vendor knows."""
    size = bytes_in(request.system or "")
    vision = audio = False
    for message in request.conversation:
        for part in message.parts:
            match part:
                case TextPart():
                    size += bytes_in(part.text)
                case ImagePart():
                    vision = True
                case AudioPart():
                    audio = True
                case ToolCallPart():
                    size += bytes_in(part.arguments)
                case ToolResultPart():
                    size += bytes_in(part.result)
                case _:
                    pass
    most = request.max_tokens or 0
    return Demands(
        vision=vision,
        audio=audio,
        tools=bool(request.tools),
        schema=request.response_format is not None and not may_instruct(request.response_format),
        reasoning=request.reasoning_effort not in (None, "none"),
        may_reason=request.reasoning_effort != "none",
        input_tokens=tokens_in_bytes(size),
        output_tokens=min(most or EXPECTED_OUTPUT, EXPECTED_OUTPUT),
        most_output=most,
    )


def unmet_requirement(can: Capabilities, request: Demands) -> str | None:
    """Why a model cannot serve. What the catalog does not know of a model is left to its vendor."""
    window = can.context_window
    if window is not None and SURE * request.input_tokens + request.most_output > window:
        size = f"about {request.input_tokens} tokens" + (f" and {request.most_output} more" * bool(request.most_output))
        return f"its context window of {window} tokens is too small for {size}"
    if not can.known:
        return None
    if (reason := why_unusable(can)) is not None:
        return reason
    if request.vision and not can.vision:
        return "it cannot take images"
    if request.audio and not can.audio:
        return "it cannot take audio"
    if request.tools and not can.tools:
        return "it cannot call tools"
    if request.schema and not can.structured_output:
        return "it cannot follow a schema"
    if request.reasoning and not can.reasoning:
        return "it does not reason"
    return None


def why_unusable(can: Capabilities) -> str | None:
    """Why no request at all can go to a model, or `None`."""
    if can.text or not can.known:
        return None
    if can.transcription:
        # Such a model answers only at /audio/transcriptions, and a chat interface refuses it.
        return "it does nothing but transcribe, which is not supported yet; models that take audio in a chat can do it"
    return "it does not generate text"
