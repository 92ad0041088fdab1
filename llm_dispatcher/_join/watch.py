"""The watch after the seam: it looks for our marks and our wording in the first text that is new.

Theory of operation
-------------------
A model may repeat the words that it was asked for and then quote the request, or write the marks of the request around
other words. The watch reads `WATCH` characters after the seam, holds back what may become a quotation, and lets
everything else pass.

- **Invariant.** What was fed in is what came out, with each of `taken` put back at its place, and then what is held
  back. After a leak nothing comes out.
- **Independence.** Each decision depends on the text, not on the pieces in which it came.
- **Limits.** What begins after `WATCH` characters passes. At most `ANYWHERE` words or one run of marks is held back.
- **Who may write.** The join that owns the watch. Nothing here waits, so a cancelled stream leaves nothing to clean up.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .wording import Quotation, Wording

WATCH: Final = 1_000
"""So many characters after the seam are looked at."""

_OPENING: Final = re.compile(r"<{2,}(?=[^\s<=]|\Z)")
_CLOSING: Final = re.compile(r"(?<=[^\s>])>{2,}(?=[\s<]|\Z)|^>{2,}[^\S\n]*(?=\n|\Z)", re.MULTILINE)

_BEFORE_WORDING: Final = re.compile(r"\s{0,8}(?:[<>]{1,8}\s{0,8})?\Z")
"""Marks and white space before a sentence of the request are a part of it."""
_UNFINISHED: Final = re.compile(r"[<>]+\Z")


class Mark(NamedTuple):
    """A mark that was taken out of the new text: the number of characters that came out before it, and the mark."""

    place: int
    text: str


class Watch:
    """Takes what follows the seam and returns the text that may be shown.

    Args:
        wording: The words of the request.
        delivered: The delivered text. What it has is its own.
        opened: Whether the model has opened our marks, so that others may be ours as well.
        owed: Whether it has not closed them yet. Then the first mark that closes them is taken out.
    """

    def __init__(self, wording: Wording, delivered: str, *, opened: bool, owed: bool) -> None:
        self._wording = wording
        self._delivered = delivered
        self._marks = opened and "<<" not in delivered and ">>" not in delivered
        self._owed = owed and self._marks
        self._text = ""
        self._passed = 0  # this much of the text has come out, or was taken
        self._shown = 0
        self.taken: list[Mark] = []
        self.leak: str | None = None
        """What of our own came when text was out already, or at the beginning."""
        self.is_over = False
        self._hit_limit = False

    def feed(self, text: str) -> str:
        """Take a piece, and return what may be shown of it and of what was held back."""
        if self.leak is not None:
            return ""
        if self.is_over:
            return text
        room = WATCH - len(self._text)
        if 0 < room < len(text):
            return self.feed(text[:room]) + self.feed(text[room:])
        self._text += text
        return self._look(ended=False)

    def close(self, hit_limit: bool = False) -> str:
        """Decide now, because no more text will come. `hit_limit` says that a token limit ended it."""
        if self.leak is not None or self.is_over:
            return ""
        self._hit_limit = hit_limit
        shown = self._look(ended=True)
        self.is_over = True
        return shown

    def _look(self, ended: bool) -> str:
        shown = ""
        while True:
            mark = self._mark(ended) if self._marks else None
            quotation = self._quotation(ended)
            if mark is not None and (quotation is None or mark.start() <= quotation.start):
                shown += self._pass(mark.start())
                if mark.end() == len(self._text) and not ended:
                    break  # it may grow
                if not self._takes(mark):
                    self.leak = "it wrote a mark of the request"
                    break
                continue
            if quotation is None:
                shown += self._pass(len(self._text))
                self.is_over = len(self._text) >= WATCH
            else:
                shown += self._pass(quotation.start)
                if quotation.is_proven:
                    self.leak = "it wrote a sentence of the request"
            break
        return shown

    def _quotation(self, ended: bool) -> Quotation | None:
        """The first quotation of the request, with the marks before it. Marks at the end may be followed by one."""
        quotation = self._wording.quotation(
            self._text, self._passed, WATCH, ended, self._delivered, hit_limit=self._hit_limit
        )
        if quotation is None and not ended:
            quotation = Quotation(len(self._text), False)
        if quotation is None or quotation.start >= WATCH:
            return None
        before = _BEFORE_WORDING.search(self._text, self._passed, quotation.start)
        start = quotation.start if before is None else before.start()
        return quotation._replace(start=start) if start < len(self._text) else None

    def _mark(self, ended: bool) -> re.Match[str] | None:
        """The first mark that is not the text's own."""
        patterns = (_OPENING, _CLOSING) if ended else (_OPENING, _CLOSING, _UNFINISHED)
        found = [pattern.search(self._text, self._passed) for pattern in patterns]
        return min((mark for mark in found if mark is not None and mark.start() < WATCH), key=_start, default=None)

    def _takes(self, mark: re.Match[str]) -> bool:
        """Take out a mark that closes what the model has opened, if this is the first one."""
        if not self._owed or mark.group().startswith("<"):
            return False
        self._owed = False
        self.taken.append(Mark(self._shown, mark.group()))
        self._passed = mark.end()
        return True

    def _pass(self, end: int) -> str:
        text = self._text[self._passed : end]
        self._passed = max(self._passed, end)
        self._shown += len(text)
        return text


def _start(mark: re.Match[str]) -> int:
    return mark.start()
