"""Whether a continuation says again what the reader already has: all of it from the beginning, or a passage of it.

Both look at each character of the continuation once, however it comes in pieces. They compare normal forms. The join
says what is cut, and whether a repetition proves anything.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from .normal_text import NormalText

LEAST_CHARACTERS: Final = 16
LEAST_WORDS: Final = 3
"""Less than this is no proof of repetition: "ha ha ha" may well go on."""
FAITHFUL: Final = 120
"""So many characters of a restart have to be exact before a word in it may differ."""
DETOUR: Final = 40
"""So many characters may differ in one place …"""
RETURN: Final = 32
"""… and so many have to be exact after it."""
DEVIATION: Final = 10
"""Of this many characters, one may differ."""

_AT_ONCE: Final = 4_096
_WORD: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")
_NUMBER: Final = re.compile(r"\d")


def is_proof(form: str) -> bool:
    """Whether a text is so long that a model would not repeat it by chance."""
    return len(form) >= LEAST_CHARACTERS and sum(1 for _ in islice(_WORD.finditer(form), LEAST_WORDS)) == LEAST_WORDS


class Restart:
    """Compares a text, from a place on, with all that was delivered, from its beginning on.

    `end` is where the text has said all of it again. If `lenient`, a few words may differ: a model that writes its
    answer again rarely finds every word of it.
    """

    def __init__(self, delivered: str, text: NormalText, start: int, *, lenient: bool) -> None:
        self._delivered = delivered
        self._text = text
        self._lenient = lenient
        self.start = start
        self._there = 0  # the place in what was delivered …
        self._here = start  # … and the place in the text that corresponds to it
        self._lost: int | None = None  # how many characters of the text were passed over in search of a way back
        self._differing = 0
        self.failed = False
        self.end: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether all that has come so far belongs to the restart."""
        return not self.failed and self._lost is None

    @property
    def has_begun(self) -> bool:
        return self._there > 0

    @property
    def is_proven(self) -> bool:
        """Whether enough was said again to be no accident."""
        return is_proof(self._delivered[: min(self._there, _AT_ONCE)])

    def look(self) -> None:
        """Compare what is new in the text."""
        while self.end is None and not self.failed:
            if self._lost is not None and not self._found_back():
                return
            new = self._text.form(self._here, self._here + _AT_ONCE)
            same = _in_common(new, self._delivered, self._there)
            self._here += same
            self._there += same
            if self._there == len(self._delivered):
                self.end = self._here
            elif not new:
                return
            elif same < len(new):
                if self._lenient and self._there >= FAITHFUL:
                    self._lost = 0
                else:
                    self.failed = True

    def _found_back(self) -> bool:
        """Look for the nearest place from which on both are the same again, as far as the text has come."""
        assert self._lost is not None
        while self._lost <= DETOUR:
            here = self._here + self._lost
            probe = self._text.form(here, here + RETURN)
            if len(probe) < RETURN:
                return False
            there = self._delivered.find(probe, self._there, self._there + DETOUR + RETURN)
            if there >= 0 and is_proof(probe):
                self._return_at(here, there)
                return not self.failed
            self._lost += 1
        self.failed = True
        return False

    def _return_at(self, here: int, there: int) -> None:
        self._differing += max(here - self._here, there - self._there)
        said = self._text.form(max(0, self._here - 1), here)
        # A number that differs is news: it tells one record, chapter or test from the next.
        self.failed = self._differing * DEVIATION > there or bool(_NUMBER.search(said))
        self._here, self._there, self._lost = here, there, None


class Passage:
    """Compares a text, from a place on, with every passage of what was delivered.

    `end` is where the text has said the end of what was delivered. Of several such places the first counts, because
    it cuts the least. The first letter may be a capital, since a model begins a sentence with it.
    """

    def __init__(self, delivered: str, text: NormalText, start: int) -> None:
        self._delivered = delivered
        self._text = text
        self.start = start
        self._looked = 0
        self._from = 0  # the first place of what was delivered at which the text may have begun
        self._only = False
        self.failed = False
        self.end: int | None = None

    def look(self) -> None:
        """Compare what is new in the text."""
        if self.failed or self.end is not None:
            return
        looked = self._looked
        new = self._text.form(self.start + looked)
        self._looked += len(new)
        self.end = self._end_in(new, looked)
        if new and self.end is None and not self._stays(new, looked):
            place = self._place(self._from + (looked > 0))
            self.failed = place is None
            self._from = place or 0

    @property
    def is_the_only_one(self) -> bool:
        """Whether what has come so far is proof, and was said in one place only."""
        if not self._only:  # (once there is no other place, none will be found for a longer text)
            self._only = is_proof(self._said()) and self._place(self._from + 1) is None
        return self._only and not self.failed

    def _said(self) -> str:
        return self._text.form(self.start, self.start + self._looked)

    def _stays(self, new: str, looked: int) -> bool:
        return looked > 0 and self._delivered.startswith(new, self._from + looked)

    def _place(self, first: int) -> int | None:
        """The first place from here on where the text so far was said."""
        said = self._said()
        while (place := self._delivered.find(said[1:], first + 1)) > 0:
            if _same_letter(self._delivered[place - 1], said[0]):
                return place - 1
            first = place
        return None

    def _end_in(self, new: str, looked: int) -> int | None:
        """The first place in what is new at which the text has come to the end of what was delivered."""
        at = new.find(self._delivered[-1:])
        while at >= 0:
            length = looked + at + 1
            if length >= LEAST_CHARACTERS and self._is_end(length):
                return self.start + length
            at = new.find(self._delivered[-1:], at + 1)
        return None

    def _is_end(self, length: int) -> bool:
        if length > len(self._delivered):
            return False
        # Most places are ruled out by their last or first words, which costs little.
        last = self._text.form(self.start + max(1, length - RETURN), self.start + length)
        if not self._delivered.endswith(last):
            return False
        first = self._text.form(self.start + 1, self.start + min(length, RETURN))
        if not self._delivered.startswith(first, len(self._delivered) - length + 1):
            return False
        said = self._text.form(self.start, self.start + length)
        alike = self._delivered.endswith(said[1:]) and _same_letter(self._delivered[-length], said[0])
        return alike and is_proof(said)


def _same_letter(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def _in_common(new: str, delivered: str, at: int) -> int:
    """How many characters are the same from here on."""
    here = delivered[at : at + len(new)]
    if new.startswith(here):
        return len(here)
    return next(index for index, (one, other) in enumerate(zip(new, here, strict=False)) if one != other)
