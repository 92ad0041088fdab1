"""`Scanner`: finds the structure of a JSON text that comes in pieces.

It knows whether it is inside a string, whether the last character was a backslash, and how deep it is. So a character
that stands for structure is found wherever the text was cut. It checks nothing: a wrong text has wrong marks, and the
parser that gets the text refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

Mark: TypeAlias = tuple[str, int, int]
"""A character of structure, its place in the piece, and the depth after it."""

_OUTSIDE: Final = re.compile(r'["{}\[\],]')
_INSIDE: Final = re.compile(r'["\\]')


class Scanner:
    """The state between two pieces of a text. Only the reader of that text feeds it."""

    __slots__ = ("_is_escaped", "_is_inside", "depth")

    def __init__(self) -> None:
        self.depth = 0
        self._is_inside = False
        self._is_escaped = False

    def marks(self, piece: str) -> Iterator[Mark]:
        """Each bracket and comma of the next piece that stands outside a string. It has to be read to its end."""
        at, end = 0, len(piece)
        while at < end:
            if self._is_escaped:
                self._is_escaped = False
                at += 1
                continue
            found = (_INSIDE if self._is_inside else _OUTSIDE).search(piece, at)
            if found is None:
                return
            char, at = found.group(), found.end()
            if char == "\\":
                self._is_escaped = True
            elif char == '"':
                self._is_inside = not self._is_inside
            else:
                if char in "{[":
                    self.depth += 1
                elif char in "}]":
                    self.depth -= 1
                yield char, at - 1, self.depth


class Opening:
    """Takes the blanks and the fence off the beginning of a text that comes in pieces.

    `feed` returns what follows them. A text that begins with anything but a bracket or a fence has no parts to show, so
    nothing of it is returned.
    """

    __slots__ = ("_begun", "_is_prose", "_waiting")

    def __init__(self) -> None:
        self._waiting = ""
        self._begun = False
        self._is_prose = False

    def feed(self, piece: str) -> str:
        """What of the next piece belongs to the JSON text."""
        if self._begun:
            return piece
        if self._is_prose:
            return ""
        text = (self._waiting + piece).lstrip()
        if text.startswith("`"):
            line, newline, after = text.partition("\n")
            if not newline:
                self._waiting = text
                self._is_prose = not "```json".startswith(line.strip().lower()[:7])
                return ""
            self._is_prose = line.strip().lower() not in ("```", "```json")
            text = after.lstrip()
        self._begun = text[:1] in ("{", "[") and not self._is_prose
        self._is_prose = self._is_prose or (text != "" and not self._begun)
        self._waiting = text
        return text if self._begun else ""
