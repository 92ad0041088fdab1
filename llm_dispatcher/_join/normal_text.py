"""The form in which the join compares texts, with the way back to the text itself.

Two texts that read alike have one normal form: runs of white space are one blank, quotes and dashes have one shape, and
characters are decomposed (Unicode's NFD), so that "é" and "e" with an accent are the same. NFD also sorts the marks of
a letter. People type vowelled Arabic and Hebrew in another order, so a text that grows cannot be normalised character
by character: the marks of its last letter can still change places. `NormalText` shows a letter at once, and its marks
only when the next letter has come. What it shows never changes, however the text was split into pieces.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from functools import lru_cache
from typing import Final
from unicodedata import combining, normalize

_ALIKE: Final = str.maketrans(
    {**dict.fromkeys("“”„‟«»", '"'), **dict.fromkeys("‘’‚‛", "'"), **dict.fromkeys("‐‑‒–—−", "-"), "…": "..."}
)
_SPACE: Final = re.compile(r"\s+")
_PLAIN_UNTIL: Final = "\u0300"
"""No character before this one is a mark that follows a letter."""
_STEP: Final = 512
"""So many characters are normalised in one go. The way back from the form to the text leads through one such step."""
_MOST_MARKS: Final = 256
"""A letter with more marks than this is compared as if a new letter began there, which bounds the work for it."""


def normal_form(text: str) -> str:
    """The form in which a whole text is compared."""
    return _SPACE.sub(" ", normalize("NFD", text).translate(_ALIKE))


def without_last_marks(form: str) -> tuple[str, str]:
    """A normal form up to its last letter, and the marks of that letter."""
    end = len(form)
    while end and combining(form[end - 1]):
        end -= 1
    return form[:end], form[end:]


class NormalText:
    """A text that grows, and its normal form up to its last letter.

    Invariant: `form` only ever grows at its end, and `"".join` of what was added is `raw`. One stream writes it, and
    nothing here waits, so a cancelled stream leaves nothing behind.
    """

    def __init__(self) -> None:
        self._raw: list[str] = []
        self._raw_length = 0
        self._form: list[str] = []
        self._settled = 0  # so much of the form is final; after it stands the last letter, without its marks
        self._pending = ""  # what was added from the last letter on
        self._ended = False
        self._steps: list[tuple[int, int]] = [(0, 0)]  # places in the form and in the text that belong together

    def __len__(self) -> int:
        """How long the text is."""
        return self._raw_length

    @property
    def raw(self) -> str:
        if len(self._raw) > 1:
            self._raw = ["".join(self._raw)]
        return self._raw[0] if self._raw else ""

    @property
    def form_length(self) -> int:
        return len(self._form)

    def form(self, start: int = 0, end: int | None = None) -> str:
        """A part of the normal form."""
        return "".join(self._form[start:end])

    def add(self, text: str) -> None:
        self._raw.append(text)
        self._raw_length += len(text)
        for start in range(0, len(text), _STEP):
            self._add(text[start : start + _STEP])

    def _add(self, text: str) -> None:
        text = self._pending + text
        at = _last_letter(text)
        if len(text) - at > _MOST_MARKS:
            at = len(text)
        self._settle(text[:at])
        self._pending = text[at:]
        self._append(without_last_marks(normal_form(self._pending))[0])

    def end(self) -> None:
        """Nothing more will be added: the last letter has all of its marks."""
        self._settle(self._pending)
        self._pending = ""
        self._ended = True

    def settled(self, index: int) -> bool:
        """Whether the letter before this place of the form has all of its marks."""
        return self._ended or index <= self._settled

    def raw_start(self, index: int) -> int:
        """Where in the text the character begins that stands at this place of the form."""
        return self._walk(index + 1)[0]

    def raw_end(self, index: int, marks: str) -> int:
        """The place in the text that corresponds to this place of the form, if its last letter has these marks.

        Marks that are not among these belong to what follows. Where one character holds both, such as "é" where only
        "e" is meant, all of it belongs to what follows.
        """
        if index == 0:
            return 0
        start, end, inside = self._walk(index)
        left = Counter(marks)
        if inside:
            if Counter(inside) - left:
                return start
            left -= Counter(inside)
        raw = self.raw
        while end < len(raw):
            more = normal_form(raw[end])
            if not all(map(combining, more)) or Counter(more) - left:
                break
            left -= Counter(more)
            end += 1
        return end

    def _settle(self, text: str) -> None:
        """Take over what begins with a letter and ends before one."""
        del self._form[self._settled :]
        if not text:
            return
        self._append(normal_form(text))
        self._settled = len(self._form)
        self._steps.append((self._settled, self._steps[-1][1] + len(text)))

    def _append(self, form: str) -> None:
        if form.startswith(" ") and self._form and self._form[-1] == " ":
            form = form[1:]
        self._form.extend(form)

    def _walk(self, index: int) -> tuple[int, int, str]:
        """The character of the text that brings its form to this length: where it begins and ends, and the part of
        its form that goes beyond the length.
        """
        step = bisect_right(self._steps, (index - 1, self._raw_length))  # the last one that begins before this place
        formed, at = self._steps[max(0, step - 1)]
        raw = self.raw
        while at < len(raw):
            form = normal_form(raw[at])
            if not (form == " " and formed and self._form[formed - 1] == " "):
                formed += len(form)
            at += 1
            if formed >= index:
                return at - 1, at, form[len(form) - (formed - index) :]
        return at, at, ""


def _last_letter(text: str) -> int:
    """Where the last letter of the text begins, with its marks after it."""
    at = len(text) - 1
    while at > 0 and _is_mark(text[at]):
        at -= 1
    return max(at, 0)


def _is_mark(character: str) -> bool:
    return character >= _PLAIN_UNTIL and _first_is_mark(character)


@lru_cache(maxsize=4096)
def _first_is_mark(character: str) -> bool:
    return combining(normalize("NFD", character)[0]) != 0
