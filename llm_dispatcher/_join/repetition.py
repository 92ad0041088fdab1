"""Finding repetitions in a continuation: of the whole delivered text (`Restart`), or of a passage of it (`Passage`).

Both compare normal forms and read each character of the continuation once, however it is split into pieces. The stream
that owns the join calls `look` after it has added text. The join decides what is cut and whether a repetition is proof.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final
from unicodedata import category

from .normal_text import NormalText

LEAST_CHARACTERS: Final = 16
LEAST_WORDS: Final = 3
"""A shorter text is not proof of a repetition: "ha ha ha" may be the continuation itself."""
FAITHFUL: Final = 120
"""The first characters of a restart must be exact; only after this many may a word differ."""
DETOUR: Final = 40
"""At most this many characters may differ in one place."""
RETURN: Final = 32
"""This many characters must be exact after a difference."""
DEVIATION: Final = 10
"""At most one in this many characters may differ, over the whole restart."""

_AT_ONCE: Final = 4_096
WORD: Final = re.compile(r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])|\w+")
"""A word, or one character of a script that does not separate words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
_INSIDE_WORDS: Final = frozenset({"Mn", "Mc", "Me", "Cf"})
"""The categories of marks and joiners. What follows one of them is the rest of the word before it."""
_NUMBER: Final = re.compile(r"\d")


def is_proof(form: str) -> bool:
    """Whether a text is long enough that a model would not repeat it by chance."""
    return len(form) >= LEAST_CHARACTERS and sum(1 for _ in islice(_words(form), LEAST_WORDS)) == LEAST_WORDS


def _words(form: str) -> Iterator[re.Match[str]]:
    for word in WORD.finditer(form):
        if word[1] or not word.start() or category(form[word.start() - 1]) not in _INSIDE_WORDS:
            yield word


class Restart:
    """Compares a text, from a place on, with the whole delivered text.

    `end` is the place where the repetition is complete. If `lenient`, a few words may differ, because a model that
    writes its answer again rarely repeats every word.
    """

    def __init__(self, delivered: str, text: NormalText, start: int, *, lenient: bool) -> None:
        self._delivered = delivered
        self._text = text
        self._lenient = lenient
        self.start = start
        self._there = 0  # the place in the delivered text …
        self._here = start  # … and the place in the text that corresponds to it
        self._detour: int | None = None  # how many characters were skipped in search of the next match
        self._differing = 0
        self.failed = False
        self.end: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the text has matched up to its end, so far."""
        return not self.failed and self._detour is None

    @property
    def has_begun(self) -> bool:
        """Whether at least one character has matched."""
        return self._there > 0

    @property
    def is_proven(self) -> bool:
        """Whether the repetition is long enough to be proof."""
        return is_proof(self._delivered[: min(self._there, _AT_ONCE)])

    def look(self) -> None:
        """Compare the text that was added since the last call."""
        while self.end is None and not self.failed:
            if self._detour is not None and not self._find_next_match():
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
                    self._detour = 0
                else:
                    self.failed = True

    def _find_next_match(self) -> bool:
        """Find the nearest place from which both texts match again. Returns whether it was found."""
        assert self._detour is not None
        while self._detour <= DETOUR:
            here = self._here + self._detour
            probe = self._text.form(here, here + RETURN)
            if len(probe) < RETURN:
                return False
            there = self._delivered.find(probe, self._there, self._there + DETOUR + RETURN)
            if there >= 0 and is_proof(probe):
                self._continue_at(here, there)
                return not self.failed
            self._detour += 1
        self.failed = True
        return False

    def _continue_at(self, here: int, there: int) -> None:
        self._differing += max(here - self._here, there - self._there)
        skipped = self._text.form(max(0, self._here - 1), here)
        # A different number is new text: it tells one record, chapter or test from the next.
        self.failed = self._differing * DEVIATION > there or bool(_NUMBER.search(skipped))
        self._here, self._there, self._detour = here, there, None


class Passage:
    """Compares a text, from a place on, with every passage of the delivered text.

    `end` is the place where the text has repeated the end of the delivered text. The first such place counts, because
    it cuts the least. The first letter may be a capital, because a model begins a sentence with it.
    """

    def __init__(self, delivered: str, text: NormalText, start: int) -> None:
        self._delivered = delivered
        self._text = text
        self.start = start
        self._length = 0
        self._from = 0  # the first place in the delivered text where the passage may begin
        self._only = False
        self.failed = False
        self.end: int | None = None

    def look(self) -> None:
        """Compare the text that was added since the last call."""
        if self.failed or self.end is not None:
            return
        length_before = self._length
        new = self._text.form(self.start + length_before)
        self._length += len(new)
        self.end = self._end_in(new, length_before)
        if new and self.end is None and not self._stays(new, length_before):
            place = self._place(self._from + (length_before > 0))
            self.failed = place is None
            self._from = place or 0

    @property
    def is_the_only_one(self) -> bool:
        """Whether the passage so far is proof, and is in the delivered text only once."""
        if not self._only:  # if the text occurs at no other place, a longer text does not
            self._only = is_proof(self._passage()) and self._place(self._from + 1) is None
        return self._only and not self.failed

    @property
    def is_short(self) -> bool:
        """Whether the passage so far is in the delivered text, and too short to be proof."""
        return not self.failed and self.end is None and not is_proof(self._passage())

    def _passage(self) -> str:
        return self._text.form(self.start, self.start + self._length)

    def _stays(self, new: str, length_before: int) -> bool:
        return length_before > 0 and self._delivered.startswith(new, self._from + length_before)

    def _place(self, first: int) -> int | None:
        """The first place from here on where the delivered text has the passage so far."""
        passage = self._passage()
        while (place := self._delivered.find(passage[1:], first + 1)) > 0:
            if _same_letter(self._delivered[place - 1], passage[0]):
                return place - 1
            first = place
        return None

    def _end_in(self, new: str, length_before: int) -> int | None:
        """The first place in the new text at which the passage reaches the end of the delivered text."""
        at = new.find(self._delivered[-1:])
        while at >= 0:
            length = length_before + at + 1
            if length >= LEAST_CHARACTERS and self._is_end(length):
                return self.start + length
            at = new.find(self._delivered[-1:], at + 1)
        return None

    def _is_end(self, length: int) -> bool:
        if length > len(self._delivered):
            return False
        # Most places are excluded by their last or first words, which is cheap.
        last = self._text.form(self.start + max(1, length - RETURN), self.start + length)
        if not self._delivered.endswith(last):
            return False
        first = self._text.form(self.start + 1, self.start + min(length, RETURN))
        if not self._delivered.startswith(first, len(self._delivered) - length + 1):
            return False
        passage = self._text.form(self.start, self.start + length)
        is_same = self._delivered.endswith(passage[1:]) and _same_letter(self._delivered[-length], passage[0])
        return is_same and is_proof(passage)


def _same_letter(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def _in_common(new: str, delivered: str, at: int) -> int:
    """The number of equal characters from here on."""
    here = delivered[at : at + len(new)]
    if new.startswith(here):
        return len(here)
    return next(index for index, (one, other) in enumerate(zip(new, here, strict=False)) if one != other)
