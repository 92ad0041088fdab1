"""The anchor: the last words of the delivered text, which a model is asked to repeat first."""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby
from typing import Final

from .normal_text import NormalText, normal_form, without_last_marks
from .repetition import is_proof

ANCHOR_WORDS: Final = 10
ANCHOR_CHARACTERS: Final = 120
UNSPACED_ANCHOR: Final = 40
"""The anchor of text without spaces has this many characters."""
_LOOKED_AT: Final = 1_200
"""The anchor is searched for in this many characters of a continuation."""

# Every prefix of a decoration matches, too, because the text comes in pieces.
_DECORATION: Final = re.compile(r"(?:```\w*|[\[(](?=\.|\Z)|(?<=\.)[\])]|[\s\"'*_`>.<#-])*")
_MARKS: Final = re.compile(r"[\"'*_`<“„«‘]*$")
_CLOSING: Final = {"<": ">", "“": "”", "„": "“", "«": "»", "‘": "’"}


def anchor_of(delivered: str) -> str:
    """The last words of a text, which a model is asked to repeat to prove the seam. Empty if the text is blank."""
    core = delivered.rstrip()
    words = [word.start() for word in re.finditer(r"\S+", core[-ANCHOR_CHARACTERS:])]
    if len(core) > ANCHOR_CHARACTERS and words and not core[-ANCHOR_CHARACTERS - 1].isspace() and words[0] == 0:
        words.pop(0)  # it may be only the end of a word
    first = words[-ANCHOR_WORDS:][0] if words else ANCHOR_CHARACTERS - UNSPACED_ANCHOR
    anchor = core[-ANCHOR_CHARACTERS:][first:]
    while anchor and unicodedata.combining(anchor[0]):
        anchor = anchor[1:]
    return anchor


class Anchor:
    """The words to find in a continuation. If they are long enough to be proof, capitals are ignored."""

    def __init__(self, words: str, delivered: str) -> None:
        self.form, self.marks = without_last_marks(normal_form(words))
        self._proves = is_proof(self.form)
        self._pattern = self._folded(self.form)
        # Words that the text has twice, or that repeat themselves, may come again: a refrain is not proof.
        shifts = range(1, 2 * len(self.form) // 3)
        repeats_itself = any(self._pattern.startswith(self._pattern[shift:]) for shift in shifts)
        self.is_unique = self._proves and not repeats_itself and self._folded(delivered).count(self._pattern) <= 1
        # Code such as `list<list<int` or `x -` may continue with a `>` of its own.
        self._takes_all = self.form.count("<") <= self.form.count(">") and not self.form.endswith(("-", "="))

    def place(self, text: NormalText, after: int = 0) -> int | None:
        """The place of the anchor after this place, if there is only decoration before it."""
        form = self._folded(text.form(0, _LOOKED_AT))
        start = form.find(self._pattern, after, _decorated(form, after) + len(self._pattern))
        return start if start >= 0 else None

    def place_within(self, text: NormalText, latest: int) -> int | None:
        """The first place of the anchor, if it is not later than `latest`."""
        start = self._folded(text.form(0, latest + len(self._pattern))).find(self._pattern)
        return start if start >= 0 else None

    def may_come(self, text: NormalText, after: int = 0) -> bool:
        """Whether the anchor may still come there, once there is more text."""
        form = self._folded(text.form(0, _LOOKED_AT))
        return may_come(self._pattern, form, after, _decorated(form, after))

    def may_come_within(self, text: NormalText, latest: int) -> bool:
        return may_come(self._pattern, self._folded(text.form(0, _LOOKED_AT)), 0, latest)

    def begun_within(self, text: NormalText, latest: int) -> int | None:
        """The place where the text ends in a prefix of the anchor, if it is not later than `latest`."""
        form = self._folded(text.form(0, _LOOKED_AT))
        places = range(max(1, len(form) - len(self._pattern)), min(latest, len(form) - 1) + 1)
        return next((start for start in places if self._pattern.startswith(form[start:])), None)

    def has_begun(self, text: NormalText) -> bool:
        """Whether the text ends in a prefix of the anchor, or of the marks that the request puts around it."""
        form = self._folded(text.form(0, _LOOKED_AT))
        latest = min(_decorated(form, 0), len(form) - 1)
        return may_come(self._pattern, form, 0, latest) or bool(re.fullmatch(r"\s*<+\s*", form))

    def closed(self, before: str, after: str, ended: bool) -> int | None:
        """The number of characters after the anchor that close the marks before it; `None` while more may come.

        A model that opens with the `<<<` of the request closes with any number of `>`. All of them are cut, unless the
        text itself may continue with one.
        """
        opening = _MARKS.search(before.rstrip() if before.endswith(("\n", " ")) else before)
        closing = "".join(_CLOSING.get(mark, mark) for mark in reversed(opening.group() if opening else ""))
        at = 0
        for mark, group in groupby(closing):
            length = len(list(group))
            there = len(after) - at - len(after[at:].lstrip(mark))
            takes_all = mark == ">" and self._takes_all
            at += there if takes_all else min(there, length)
            if at == len(after) and not ended and (takes_all or there < length):
                return None
            if there < (1 if takes_all else length):
                return 0
        return at

    def _folded(self, form: str) -> str:
        """The form in small letters, with the same length, if the anchor is long enough to ignore capitals."""
        return form.lower().replace("ς", "σ") if self._proves else form


def may_come(pattern: str, form: str, first: int, latest: int) -> bool:
    """Whether `pattern` may begin at one of these places, once the text has continued."""
    first = max(first, len(form) - len(pattern))
    return any(pattern.startswith(form[start:]) for start in range(first, min(latest, len(form)) + 1))


def _decorated(form: str, after: int) -> int:
    """The end of the decoration that begins at this place."""
    decoration = _DECORATION.match(form, after)
    return decoration.end() if decoration else after
