"""Trimming: where a history may be cut, how long it is, and the summary in place of what is cut.

The caller holds the session, so nothing else changes the history while a summary is made. If that is cancelled or
fails, nothing has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from inspect import isawaitable, iscoroutinefunction
from itertools import accumulate
from typing import Final, TypeAlias

from .._tokens import bytes_in, tokens_in_bytes
from ..tasks import AudioPart, ImagePart, Message, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from .history import History, new_id
from .turns import SessionTurn, repaired

Summarize: TypeAlias = Callable[[tuple[Message, ...]], str | Awaitable[str]]
"""A function that gets the messages that are trimmed, and returns a text that stands for them."""

SUMMARY: Final = "Summarize our conversation so far."
"""What the user seems to have asked for before a summary. So the user and the model still take turns."""

MEDIA_TOKENS: Final = 1000
"""Tokens that an image or a sound counts for. Only the vendor knows the real number."""


def check_summarize(summarize: Summarize | None) -> Summarize | None:
    """Refuse what is not a function."""
    if summarize is not None and not callable(summarize):
        raise TypeError(f"summarize is a function of the trimmed messages, got {type(summarize).__name__}")
    return summarize


def tokens_in(messages: Iterable[Message]) -> int:
    """The estimated tokens of messages: a token for every four bytes of text, and 1000 for an image or a sound."""
    size = media = 0
    for message in messages:
        for part in message.parts:
            match part:
                case TextPart() | ReasoningPart():
                    size += bytes_in(part.text)
                case ToolCallPart():
                    size += bytes_in(part.name) + bytes_in(part.arguments)
                case ToolResultPart():
                    size += bytes_in(part.result)
                case ImagePart() | AudioPart():
                    media += 1
                case _:
                    pass
    return tokens_in_bytes(size) + MEDIA_TOKENS * media


def leading(turns: Sequence[SessionTurn]) -> int:
    """How many turns at the beginning hold nothing but system messages. They are never trimmed."""
    for place, turn in enumerate(turns):
        if any(message.role != "system" for message in turn.messages):
            return place
    return len(turns)


def place_to_cut(turns: Sequence[SessionTurn], *, tokens: int | None, turns_kept: int | None) -> int:
    """The place of the first turn to keep, after the leading system messages.

    It begins with a message of the user, so no call is parted from its result. The last turn of the user is always
    kept, however long it is.
    """
    first = leading(turns)
    cuts = [place for place in range(first, len(turns)) if turns[place].begins]
    if not cuts:
        return first
    fits = first  # everything fits
    if turns_kept is not None and len(cuts) > turns_kept:
        fits = cuts[-turns_kept]
    if tokens is not None:
        fits = max(fits, _first_that_fits(turns, first, cuts, tokens))
    return fits


def _first_that_fits(turns: Sequence[SessionTurn], first: int, cuts: Sequence[int], tokens: int) -> int:
    size = sum(tokens_in(turn.messages) for turn in turns[:first])
    sizes = [tokens_in(turn.messages) for turn in turns]
    ends = [*accumulate(reversed(sizes), initial=size)][::-1]  # the size of all turns from each place on
    for place in (first, *cuts):
        if ends[place] <= tokens:
            return place
    return cuts[-1]


async def trim_to_maximum(history: History, tokens: int | None, turns: int | None, summarize: Summarize | None) -> None:
    """Trim before a request, if the history is longer than this. With a summary, half of it is kept, so that a summary
    is not made at each turn.
    """
    all_turns = history.turns
    if tokens is None and turns is None:
        return
    if place_to_cut(all_turns, tokens=tokens, turns_kept=turns) <= leading(all_turns):
        return
    if summarize is not None:
        tokens, turns = _half(tokens), _half(turns)
    await trim(history, tokens, turns, summarize)


async def trim(
    history: History, tokens: int | None, turns: int | None, summarize: Summarize | None
) -> tuple[SessionTurn, ...]:
    """Take old turns out of the current branch, and return them.

    Args:
        history: The history.
        tokens: How many tokens may be left.
        turns: How many turns of the user may be left.
        summarize: Makes the text in their place, if there is to be one.
    """
    all_turns = history.turns
    first, cut = leading(all_turns), place_to_cut(all_turns, tokens=tokens, turns_kept=turns)
    gone = all_turns[first:cut]
    if not gone or (summarize is not None and all(turn.state == "summary" for turn in gone)):
        return ()
    instead: list[SessionTurn] = []
    if summarize is not None:
        text = await _summary(summarize, repaired([message for turn in gone for message in turn.messages]))
        pair = (Message("user", SUMMARY), Message("assistant", text))
        instead.append(SessionTurn(id=new_id(), messages=pair, state="summary"))
    return history.cut(first, cut, instead)


async def _summary(summarize: Summarize, messages: tuple[Message, ...]) -> str:
    if iscoroutinefunction(summarize):
        text: object = await summarize(messages)
    else:
        text = await asyncio.to_thread(summarize, messages)  # it may ask a model, and wait for the answer
        if isawaitable(text):
            text = await text
    if not isinstance(text, str) or not text.strip():
        raise TypeError(f"summarize has to return a text, got {text!r:.60}")
    return text


def _half(maximum: int | None) -> int | None:
    return None if maximum is None else max(1, maximum // 2)
