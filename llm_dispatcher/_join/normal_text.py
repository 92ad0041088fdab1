"""The normal form in which the join compares texts, and the way back to places in the text itself.

Two texts that read alike have one normal form: runs of white space are one blank, quotes and dashes have one shape, and
characters are decomposed (Unicode's NFD), so that "é" and "e" with an accent are the same. NFD also sorts the marks of
a letter. People type vowelled Arabic and Hebrew in another order, so a text that grows cannot be normalised character
by character: the marks of its last letter can still change places. `NormalText` has a letter in its form at once, and
its marks only when the next letter has come. The form only grows, and does not depend on how the text was split.
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
"""No character below this code point is a mark that follows a letter."""
_STEP: Final = 512
"""This many characters are normalised at once. The way back from the form to the text walks through one step."""
_MOST_MARKS: Final = 256
"""After this many marks, the text is treated as if a new letter began, which limits the work per letter."""


def normal_form(text: str) -> str:
    """The form in which a whole text is compared."""
    return _SPACE.sub(" ", normalize("NFD", text).translate(_ALIKE))


def without_last_marks(form: str) -> tuple[str, str]:
    """Split a normal form into the part up to its last letter, and the marks of that letter."""
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
        self._settled = 0  # this much of the form is final; the last letter follows, without its marks
        self._pending = ""  # the text from the last letter on
        self._ended = False
        self._steps: list[tuple[int, int]] = [(0, 0)]  # pairs of a place in the form and the same place in the text

    def __len__(self) -> int:
        """The length of the text."""
        return self._raw_length

    @property
    def raw(self) -> str:
        """The text."""
        if len(self._raw) > 1:
            self._raw = ["".join(self._raw)]
        return self._raw[0] if self._raw else ""

    @property
    def form_length(self) -> int:
        """The length of the normal form."""
        return len(self._form)

    def form(self, start: int = 0, end: int | None = None) -> str:
        """A part of the normal form."""
        return "".join(self._form[start:end])

    def add(self, text: str) -> None:
        """Append text."""
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
        """No more text will come, so the last letter has all of its marks."""
        self._settle(self._pending)
        self._pending = ""
        self._ended = True

    def settled(self, index: int) -> bool:
        """Whether the letter before this place of the form has all its marks."""
        return self._ended or index <= self._settled

    def raw_start(self, index: int) -> int:
        """The place in the text of the character at this place of the form."""
        return self._walk(index + 1)[0]

    def raw_end(self, index: int, marks: str) -> int:
        """The place in the text that corresponds to this place of the form, if the last letter has these marks.

        Other marks belong to the following text. A character such as "é" may hold both the letter and another mark;
        then all of it belongs to the following text.
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
        """Make a part of the text final. It begins with a letter and ends before one."""
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
        """The character with which the form reaches this length: its beginning, its end, and the rest of its form."""
        step = bisect_right(self._steps, (index - 1, self._raw_length))  # the last step that begins before this place
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
    """The place where the last letter of the text begins. Only its marks follow it."""
    at = len(text) - 1
    while at > 0 and _is_mark(text[at]):
        at -= 1
    return max(at, 0)


def _is_mark(character: str) -> bool:
    return character >= _PLAIN_UNTIL and _first_is_mark(character)


@lru_cache(maxsize=4096)
def _first_is_mark(character: str) -> bool:
    return combining(normalize("NFD", character)[0]) != 0
