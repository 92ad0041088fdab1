"""Anthropic's prompt cache: the blocks up to which a prompt is kept, in the order of tools, system and messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ...tasks import CachePoint, CacheTime, Message, TextPart
from ..base.conversation import text_of

MOST: Final = 4
"""Blocks with a mark in a request. The vendor refuses more."""
_UNMARKED: Final = frozenset({"thinking", "redacted_thinking"})
"""Kinds of blocks that take no mark."""


class Marks:
    """The marks of a request. A cache point is a mark on the last block before it that takes one.

    A point before everything else is a mark on the last tool. Of more points than the vendor takes, the first and the
    last ones count. A point before one of an hour is kept for an hour as well: the vendor refuses the other order.
    """

    def __init__(self, tools: Iterable[dict[str, Any]]) -> None:
        self._last: dict[str, Any] | None = None
        self._points: list[tuple[dict[str, Any], CacheTime]] = []
        for tool in tools:
            self.pass_by(tool)

    def pass_by(self, block: dict[str, Any]) -> None:
        """A block of the prompt, in its order."""
        if block.get("type") not in _UNMARKED:
            self._last = block

    def add(self, point: CachePoint) -> None:
        """A point after the blocks so far."""
        if self._last is None:
            return
        if self._points and self._points[-1][0] is self._last:
            ttl = self._points.pop()[1]
            point = point if ttl == "5m" else CachePoint(ttl)
        self._points.append((self._last, point.ttl))

    def set(self) -> None:
        """Write the marks on their blocks."""
        points = self._points
        if len(points) > MOST:
            points = [points[0], *points[1 - MOST :]]
        is_long = False
        for block, ttl in reversed(points):
            is_long = is_long or ttl == "1h"
            block["cache_control"] = {"type": "ephemeral", **({"ttl": "1h"} if is_long else {})}


def system_prompt(messages: list[Message], marks: Marks, *, is_marked: bool) -> str | list[dict[str, Any]] | None:
    """The system prompt: a text, or blocks if the request has cache points."""
    if not is_marked:
        return text_of(messages)
    blocks: list[dict[str, Any]] = []
    text = ""
    for number, message in enumerate(messages):
        text += "\n\n" if number else ""
        for part in message.parts:
            if isinstance(part, TextPart):
                text += part.text
            elif isinstance(part, CachePoint):
                text = _end_block(text, blocks, marks)
                marks.add(part)
    _end_block(text, blocks, marks)
    return blocks


def _end_block(text: str, blocks: list[dict[str, Any]], marks: Marks) -> str:
    """Make a block of a text. Returns what is left for the next one: the vendor takes none of white space alone."""
    if not text.strip():
        return text
    blocks.append({"type": "text", "text": text})
    marks.pass_by(blocks[-1])
    return ""
