"""Asking a model to go on with what another had begun."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from msgspec.structs import replace

from ..join import Join, anchor_of
from ..tasks import Message, TaskRequest
from .ledger import Row, estimated_tokens

Continuation: TypeAlias = Literal["prefill", "anchored"]

GO_ON: Final = (
    "Your answer was cut off. Its last words were:\n<<<{anchor}>>>\n"
    "Begin by repeating exactly the words between <<< and >>>, without the marks, and go straight on from there "
    "to the end of your answer. Do not comment on the interruption."
)
"""The user turn of an anchored continuation. It is a turn, not a system prompt: that slot is the application's."""


def why_not(request: TaskRequest, rows: list[Row]) -> str | None:
    """The reason why a broken stream of this request cannot be continued soundly, or `None` if it can."""
    if any(row.tool_calls for row in rows):
        return "a tool call had begun"
    if request.response_format is not None:
        return "the answer has to follow a schema"
    return None


def continued(request: TaskRequest, delivered: str, style: Continuation, wording: str = GO_ON) -> TaskRequest:
    """The request for the rest, given what the reader already has."""
    if not delivered.strip():
        return request
    turns = [Message("assistant", delivered.rstrip() if style == "prefill" else delivered)]
    if style == "anchored":
        turns.append(Message("user", wording.replace("{anchor}", anchor_of(delivered))))
    left = request.max_tokens and max(1, request.max_tokens - estimated_tokens(delivered))
    return replace(request, prompt=None, images=(), audio=(), messages=(*request.conversation, *turns), max_tokens=left)


def joined(delivered: str, style: Continuation) -> Join:
    """The filter that finds where the continuation meets what was delivered."""
    return Join(delivered, style)
