"""Asking a model to go on with what another had begun."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from .._join.join import Join, anchor_of
from .._policy import Continues
from .._tokens import MOST_CHARACTERS_A_TOKEN, estimated_tokens
from ..tasks import Message, TaskRequest, TextPart, ToolCallPart
from .ledger import Row

GO_ON: Final = (
    "Your answer was cut off. Its last words were:\n<<<{anchor}>>>\n"
    "Begin by repeating exactly the words between <<< and >>>, without the marks, and go straight on from there "
    "to the end of your answer. Do not comment on the interruption."
)
"""The user turn of an anchored continuation. It is a turn, not a system prompt: that slot is the application's."""

A_FEW_TOKENS: Final = 8
"""Enough for one sensible word, in any language, and for the end of a sentence."""


def why_not(request: TaskRequest, rows: list[Row]) -> str | None:
    """The reason why a broken stream of this request cannot be continued soundly, or `None` if it can."""
    if any(row.has_shown_a_tool_call for row in rows):
        return "a tool call had begun"
    if request.response_format is not None:
        return "the answer has to follow a schema"
    return None


def continued(
    request: TaskRequest, delivered: str, style: Continues, wording: str = GO_ON, *, tokens: int | None = None
) -> TaskRequest:
    """The request for the rest, given what the reader already has, and how many tokens that was."""
    if not delivered.strip():
        return request
    turns, written = _with_open_turn(request, delivered.rstrip() if style == "prefill" else delivered)
    anchor = anchor_of(written) if style == "anchored" else ""
    if style == "anchored":
        turns = (*turns, Message("user", wording.replace("{anchor}", anchor)))
    limit = request.max_tokens
    if limit is not None:
        limit = _what_is_left(limit, estimated_tokens(delivered) if tokens is None else tokens, anchor)
    return replace(request, prompt=None, images=(), audio=(), messages=turns, max_tokens=limit)


def joined(request: TaskRequest, delivered: str, style: Continues) -> Join:
    """The filter that finds where the continuation meets what was delivered.

    Where the application began the answer itself, a model may repeat that as well, so the join knows it, too.
    """
    return Join(_with_open_turn(request, delivered)[1] if delivered.strip() else delivered, style)


def tokens_delivered(rows: list[Row], delivered: str) -> int:
    """How many tokens the delivered text had, for a limit of which the rest is to be left.

    A vendor's chunk is often one token, and rarely less. So an attempt has said no more tokens than its bytes suggest,
    and no more than it sent chunks. Where a vendor sends long chunks, an eighth of the characters is counted at least.
    Of an attempt's chunks those count of which the reader has the text: the others were cut off, or were reasoning.
    """
    tokens = at = 0
    for row in rows:
        text = delivered[at : at + row.delivered]
        at += row.delivered
        if text:
            chunks = -(-len(row.produced) * len(text) // max(1, sum(map(len, row.produced))))
            tokens += min(estimated_tokens(text), max(chunks, -(-len(text) // MOST_CHARACTERS_A_TOKEN)))
    return tokens


def _with_open_turn(request: TaskRequest, delivered: str) -> tuple[tuple[Message, ...], str]:
    """The conversation with what was delivered, and all that its last turn says.

    Where the application left an assistant turn open, the model went on with it, so both are one turn. Vendors refuse
    two assistant turns at the end, or show the model two answers.
    """
    turns = request.conversation
    open_turn = turns[-1] if turns and turns[-1].role == "assistant" else None
    if open_turn is None or any(isinstance(part, ToolCallPart) for part in open_turn.parts):
        return (*turns, Message("assistant", delivered)), delivered
    *before, last = open_turn.parts or (TextPart(""),)
    parts = (*before, TextPart(last.text + delivered)) if isinstance(last, TextPart) else (*open_turn.parts, delivered)
    return (*turns[:-1], Message("assistant", parts)), open_turn.text + delivered


def _what_is_left(limit: int, tokens: int, anchor: str) -> int:
    """What is left of a limit: at least enough for a word or two, and the words that are to be repeated on top.

    It is no more than the whole limit, which the target is known to take, unless that is next to nothing.
    """
    repeated = estimated_tokens(anchor)
    return min(max(limit - tokens, A_FEW_TOKENS) + repeated, max(limit, A_FEW_TOKENS + repeated))
