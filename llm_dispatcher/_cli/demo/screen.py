"""The screen of the demo: a live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TextIO

from ..._routing import Plan
from ...events import Attempt, Event
from ...streaming import ProgressTracker


class Screen(Protocol):
    """Shows scenes: titles, notes, plans, streams and ledgers."""

    def title(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...
    def command(self, line: str) -> None: ...
    def legend(self, speakers: Mapping[str, str]) -> None: ...
    def table(self, heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None: ...
    def plan(self, plan: Plan) -> None: ...
    def open(self, tracker: ProgressTracker) -> None: ...
    def event(self, event: Event) -> None: ...
    def close(self) -> None: ...
    def ledger(self, attempts: Iterable[Attempt]) -> None: ...


def screen_on(out: TextIO) -> Screen:
    """A live view if `out` is a terminal that can draw (not `TERM=dumb`), else plain lines."""
    if out.isatty() and os.environ.get("TERM") != "dumb":
        from .live_screen import LiveScreen

        return LiveScreen()
    from .plain_screen import PlainScreen

    return PlainScreen(out)
