"""`Trace`: what happened in a run, line by line, with the virtual second; and the digest that two equal runs share."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

LONGEST: Final = 160
"""Characters of a line. What is longer is cut, so that a long text does not hide the rest."""


class Line(Struct, frozen=True):
    """Who did what, and when."""

    time: float
    who: str
    what: str

    def __str__(self) -> str:
        what = self.what.replace("\n", " ")
        what = what if len(what) <= LONGEST else f"{what[: LONGEST - 1]}…"
        return f"{self.time:12.3f} s  {self.who:<24} {what}"


class Trace:
    """The lines of a run."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.lines: list[Line] = []
        self._now = now
        self._names: dict[str, str] = {}

    def call(self, real: str, name: str) -> None:
        """Write `name` for `real` in every later line: the path of a temporary folder is another one in each run."""
        self._names[real] = name

    def add(self, who: str, what: str) -> None:
        """Add a line at the present virtual second."""
        for real, name in self._names.items():
            what = what.replace(real, name)
        self.lines.append(Line(self._now(), who, what))

    def rename(self, before: str, now: str) -> None:
        """Change the name in the last line from `before` to `now`: a task group names a task after it has begun."""
        if self.lines and self.lines[-1].who == before:
            self.lines[-1] = replace(self.lines[-1], who=now)

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines))

    def digest(self, more: bytes = b"") -> str:
        """A hash of all lines, and of `more`."""
        hashed = sha256(more)
        for line in self.lines:
            hashed.update(f"{line.time!r}\0{line.who}\0{line.what}\n".encode("utf-8", "surrogatepass"))
        return hashed.hexdigest()
