"""Asking a model to continue an answer that another attempt has begun."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from .._join.join import Join, anchor_of
from .._policy import Continues
from .._tokens import MOST_CHARACTERS_A_TOKEN, estimated_tokens
from ..tasks import Message, Target, TaskRequest, TextPart, ToolCallPart
from .course import Course
from .row import Row

CONTINUE_PROMPT: Final = (
    "Your answer was cut off. Its last words were:\n<<<{anchor}>>>\n"
    "Begin by repeating exactly the words between <<< and >>>, without the marks, and go straight on from there "
    "to the end of your answer. Do not comment on the interruption."
)
"""The user turn of an anchored continuation. It is a turn, not a system prompt: that slot is the application's."""

A_FEW_TOKENS: Final = 8
"""Enough for one sensible word, in any language, and for the end of a sentence."""


def obstacle_to_continuing(request: TaskRequest, course: Course) -> str | None:
    """The reason why a broken answer to this request cannot be continued soundly, or `None` if it can.

    A tool call is no obstacle: the reader has fragments of it at most. They are dropped, and the model is asked again.
    """
    if request.response_format is not None and course.text:
        return "the answer has to follow a schema"
    return None


def continuation_request(
    request: TaskRequest,
    delivered: str,
    style: Continues,
    prompt: str = CONTINUE_PROMPT,
    *,
    delivered_tokens: int | None = None,
    is_counted: bool = False,
    repeats_all: bool = False,
) -> TaskRequest:
    """The request for the rest of an answer, of which the reader has the `delivered` text.

    Args:
        request: The request that was answered in part.
        delivered: The text that the reader has.
        style: How the model continues: after an open assistant turn (`prefill`), or asked by a user turn (`anchored`).
        prompt: That user turn. `{anchor}` in it stands for the last delivered words.
        delivered_tokens: How many tokens of `max_tokens` the delivered text has used; estimated if not given.
        is_counted: Whether that is their exact number. If so, the model gets what is left, even if it is one token.
        repeats_all: Whether the model is known to begin the answer again, so that it needs room for all of it.
    """
    if not delivered.strip():
        return request
    turns, open_turn = _with_open_turn(request, delivered.rstrip() if style == "prefill" else delivered)
    anchor = anchor_of(open_turn) if style == "anchored" else ""
    if style == "anchored":
        turns = (*turns, Message("user", prompt.replace("{anchor}", anchor)))
    limit = request.max_tokens
    if limit is not None:
        used = estimated_tokens(delivered) if delivered_tokens is None else delivered_tokens
        repeated = used if repeats_all else estimated_tokens(anchor)
        limit = _remaining_tokens(limit, used, repeated, fewest=1 if is_counted else A_FEW_TOKENS)
    return replace(request, prompt=None, images=(), audio=(), messages=turns, max_tokens=limit)


def continuation_join(
    request: TaskRequest, delivered: str, style: Continues, prompt: str = CONTINUE_PROMPT, *, is_certain: bool = True
) -> Join:
    """The filter that finds where the continuation meets the delivered text.

    If the application has begun the answer itself, a model may repeat that as well, so the join knows it too. It knows
    the `prompt`, too, because a model may quote it. `is_certain` says that the host is known to continue open turns.
    """
    whole = _with_open_turn(request, delivered)[1] if delivered.strip() else delivered
    return Join(whole, style, prompt=prompt, is_certain=is_certain)


def count_delivered_tokens(course: Course, chunk_is_token: Callable[[Target], bool] = lambda target: False) -> int:
    """How many tokens the delivered text of this turn has, so that the rest of a limit can be calculated."""
    text = course.text
    tokens = at = 0
    for row in course.answer_rows:
        delivered = text[at : at + row.delivered]
        at += row.delivered
        if delivered:
            tokens += tokens_in(delivered, row, is_exact=chunk_is_token(row.target))
    return tokens


def is_counted(course: Course, chunk_is_token: Callable[[Target], bool]) -> bool:
    """Whether `count_delivered_tokens` is the exact number: the vendors gave ids, or each chunk is a token."""
    return all(_counted_ids(row) or chunk_is_token(row.target) for row in course.rows if row.delivered)


def count_tokens_left_out(course: Course) -> int:
    """How many tokens of the delivered text an open turn leaves out: those of the line breaks at its end.

    The model writes them again, and the join removes them. So they must not be charged twice. A blank is different: the
    model writes it in one token with the next word.
    """
    text = course.text
    space = text[len(text.rstrip()) :]
    row = next((row for row in reversed(course.answer_rows) if row.delivered), None)
    if "\n" not in space or row is None or not "".join(row.output).endswith(space):
        return 0
    count = length = 0
    while length < len(space):
        count += 1
        length += len(row.output[-count])
    return count


def tokens_in(delivered: str, row: Row, *, is_exact: bool = False) -> int:
    """How many tokens this text, which the reader has of an attempt, has cost.

    The vendor's ids are counted if it gave them and the reader has all of their text. `is_exact` says that each of
    its chunks is one token. A busy host may put several tokens into a chunk, so a higher report of its usage counts.
    Otherwise a chunk is often one token, and rarely less. So an attempt has written no more
    tokens than its bytes suggest, and no more than it has sent chunks. If a vendor sends long chunks, an eighth of
    the characters is counted at least. Some vendors report their usage on the way. Their number is taken if it is
    not less than that, and if it does not count a run which several attempts have read. Only the chunks that the
    reader has are counted: the others were cut off, or were reasoning.
    """
    if counted := _counted_ids(row):
        return counted
    written = sum(map(len, row.output))
    chunks = -(-len(row.output) * len(delivered) // max(1, written))
    least = -(-len(delivered) // MOST_CHARACTERS_A_TOKEN)
    reported = 0
    if row.usage is not None and row.usage.source == "reported" and row.rung != "reattached":
        reported = row.usage.output_tokens - row.usage.reasoning_tokens
    if reported < least or len(delivered) != written:
        reported = 0
    if is_exact:
        return max(chunks, reported)
    if reported:
        return reported
    return min(estimated_tokens(delivered), max(chunks, least))


def _counted_ids(row: Row) -> int | None:
    """How many ids the vendor gave for the text of an attempt, unless a part of that text was cut off."""
    return None if row.trimmed.strip() else row.tokens


def _with_open_turn(request: TaskRequest, delivered: str) -> tuple[tuple[Message, ...], str]:
    """The conversation with the delivered text in its last turn, and the whole text of that turn.

    If the application left an assistant turn open, the model has continued it, so both are one turn. Vendors refuse two
    assistant turns at the end, or show the model two answers.
    """
    turns = request.conversation
    open_turn = turns[-1] if turns and turns[-1].role == "assistant" else None
    if open_turn is None or any(isinstance(part, ToolCallPart) for part in open_turn.parts):
        return (*turns, Message("assistant", delivered)), delivered
    *before, last = open_turn.parts or (TextPart(""),)
    parts = (*before, TextPart(last.text + delivered)) if isinstance(last, TextPart) else (*open_turn.parts, delivered)
    return (*turns[:-1], Message("assistant", parts)), open_turn.text + delivered


def _remaining_tokens(limit: int, used: int, repeated: int, *, fewest: int) -> int:
    """The limit for a continuation: at least the `fewest` tokens, and the words that the model is to repeat.

    It is no more than the whole limit, which the target is known to accept, unless the whole limit is tiny.
    """
    return min(max(limit - used, fewest) + repeated, max(limit, fewest + repeated))
