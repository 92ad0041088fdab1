"""Values of a JSON text that is still being written: its beginning as one value, or the items of a list one by one.

The rule for a beginning: it ends before the last comma, or after the last closing bracket, outside a string. So every
string, number and literal in it is complete. An object or a list may still grow, and one that has nothing complete in
it yet is left out.

Only what is new is parsed. Two beginnings of one text are different objects, and share what was complete in the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .decoding import DEEPEST, decode
from .scanner import Opening, Scanner


class _WrongError(ValueError):
    """The text is no JSON. The check of the whole text says where."""


class _Open:
    """An object or a list that is being written, and the key under which it will stand in an object around it."""

    __slots__ = ("is_shown", "key", "value")

    def __init__(self, bracket: str, key: str | None) -> None:
        self.value: Any = {} if bracket == "{" else []
        self.key = key
        self.is_shown = False

    def add(self, key: str | None, value: Any) -> None:
        if key is None:
            self.value.append(value)
        elif key in self.value:
            raise _WrongError
        else:
            self.value[key] = value


class Beginnings:
    """The values of a text so far, each one more complete than the one before."""

    __slots__ = ("_follows_a_value", "_has_grown", "_is_over", "_open", "_opening", "_pieces", "_scanner")

    def __init__(self) -> None:
        self._opening = Opening()
        self._scanner = Scanner()
        self._pieces: list[str] = []  # since the last bracket or comma
        self._open: list[_Open] = []  # from the root inwards
        self._follows_a_value = False  # the last bracket has closed a value
        self._has_grown = False
        self._is_over = False

    def feed(self, piece: str) -> Iterator[Any]:
        """The value of the text so far, if the next piece has made it more complete."""
        piece = self._opening.feed(piece)
        if not piece or self._is_over:
            return
        start, root = 0, self._open[0] if self._open else None
        try:
            for char, at, _ in self._scanner.marks(piece):
                text = "".join([*self._pieces, piece[start:at]]).strip()
                self._pieces, start = [], at + 1
                self._take(char, text)
                root = root or self._open[0]
                if not self._open:
                    self._is_over = True
                    break
        except ValueError:
            self._is_over = True
        self._pieces.append(piece[start:])
        if self._has_grown and root is not None:
            self._has_grown = False
            yield self._snapshot(root)

    def _take(self, char: str, text: str) -> None:
        """Apply a bracket or a comma, and the text before it."""
        if char in "{[":
            self._begin(char, text)
            return
        top = self._open[-1]
        is_object = isinstance(top.value, dict)
        if text:
            if self._follows_a_value:
                raise _WrongError
            [(key, value)] = decode("{" + text + "}").items() if is_object else [(None, decode(text))]
            top.add(key, value)
            self._grow()
        elif not self._follows_a_value and (char == "," or top.value):
            raise _WrongError  # two commas, or one before a bracket
        self._follows_a_value = False
        if char != ",":
            if char != ("}" if is_object else "]"):
                raise _WrongError
            if not top.is_shown:
                self._grow()
            self._open.pop()
            self._follows_a_value = True

    def _begin(self, bracket: str, text: str) -> None:
        around = self._open[-1] if self._open else None
        key = None
        if self._follows_a_value or len(self._open) >= DEEPEST:
            raise _WrongError
        if around is not None and isinstance(around.value, dict):
            [key] = decode("{" + text + "[]}")
        elif text:
            raise _WrongError
        self._open.append(_Open(bracket, key))

    def _grow(self) -> None:
        """The innermost value has become more complete, so all around it are shown."""
        self._has_grown = True
        inner = len(self._open)
        while inner and not self._open[inner - 1].is_shown:
            inner -= 1
        for at in range(inner, len(self._open)):
            self._open[at].is_shown = True
            if at:
                self._open[at - 1].add(self._open[at].key, self._open[at].value)

    def _snapshot(self, root: _Open) -> Any:
        """A copy of the value so far, in which only what may still grow is copied."""
        value = around = root.value.copy()
        for each in self._open[1:]:
            if not each.is_shown:
                break
            inner = each.value.copy()
            around[-1 if each.key is None else each.key] = inner
            around = inner
        return value


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
            return bool(list(decode("{" + "".join([*self._pieces, end]) + "[]}")) == [self._key])
        except ValueError:
            return False
