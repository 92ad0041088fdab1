"""Values of a JSON text that is still being written: its beginning as one value, or the items of a list one by one.

The rule for a beginning: it ends before the last comma, or after the last closing bracket, outside a string. So every
string, number and literal in it is complete. An object or a list may still grow, and one that has nothing complete in
it yet is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .decoding import decode, decode_beginning
from .scanner import Opening, Scanner

_NOTHING: Final = object()


class Beginnings:
    """The values of a text so far, each one more complete than the one before."""

    __slots__ = ("_after", "_before", "_is_wrong", "_last", "_opening", "_scanner")

    def __init__(self) -> None:
        self._opening = Opening()
        self._scanner = Scanner()
        self._before: list[str] = []  # up to the place where the text is complete
        self._after: list[str] = []  # behind that place
        self._last: Any = _NOTHING
        self._is_wrong = False

    def feed(self, piece: str) -> Iterator[Any]:
        """The value of the text so far, if the next piece has made it more complete."""
        piece = self._opening.feed(piece)
        if not piece or self._is_wrong:
            return
        end = -1
        for char, at, depth in self._scanner.marks(piece):
            if char == ",":
                end = at
            elif char in "}]":
                end = at + 1
                if depth <= 0:
                    self._is_wrong = True  # the value is over: what follows is no part of it
                    break
        if end < 0:
            self._after.append(piece)
            return
        self._before += [*self._after, piece[:end]]
        self._after = [piece[end:]]
        try:
            value = decode_beginning("".join(self._before))
        except ValueError:
            self._is_wrong = True  # the check of the whole text says what is wrong
            return
        if self._last is _NOTHING or value != self._last:
            self._last = value
            yield value


class Items:
    """The items of the list in a text: of the list that is its root, or that stands under a key of its root.

    An object or a list is given when its closing bracket has come, any other item when the comma or the bracket after
    it has come.
    """

    __slots__ = ("_depth", "_is_over", "_key", "_may_be_root", "_opening", "_pieces", "_scanner")

    def __init__(self, key: str | None, *, may_be_root: bool = True) -> None:
        """Look for a list.

        Args:
            key: The key of the list in an object that is the root.
            may_be_root: Whether the root may be the list.
        """
        self._key = key
        self._may_be_root = may_be_root
        self._opening = Opening()
        self._scanner = Scanner()
        self._pieces: list[str] = []  # since the last mark that parts two items, or two keys of the root
        self._depth = 0  # of the list; 0 until it has begun
        self._is_over = False

    def feed(self, piece: str) -> Iterator[str]:
        """The texts of the items that the next piece completes."""
        piece = self._opening.feed(piece)
        if not piece or self._is_over:
            return
        start = 0
        for char, at, depth in self._scanner.marks(piece):
            if self._depth:
                if char in "}]" and depth == self._depth:  # an item that is an object or a list
                    yield from self._item(piece[start : at + 1])
                    start = at + 1
                elif (char == "," and depth == self._depth) or depth < self._depth:
                    yield from self._item(piece[start:at])
                    start = at + 1
                    if depth < self._depth:
                        self._is_over = True
                        return
            elif char == "[" and self._is_the_list(piece[start:at], depth):
                self._depth = depth
                self._pieces, start = [], at + 1
            elif char in "{," and depth == 1:
                self._pieces, start = [], at + 1
        self._pieces.append(piece[start:])

    def _item(self, end: str) -> Iterator[str]:
        text = "".join([*self._pieces, end])
        self._pieces = []
        if text.strip():
            yield text

    def _is_the_list(self, end: str, depth: int) -> bool:
        """Whether a list that begins now is the one whose items are given."""
        if depth == 1:
            return self._may_be_root
        if depth != 2 or self._key is None:
            return False
        try:
            return bool(list(decode("{" + "".join([*self._pieces, end]) + "0}")) == [self._key])
        except ValueError:
            return False
