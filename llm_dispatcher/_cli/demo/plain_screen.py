"""The demo as lines of text, for pipes and logs."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TextIO

from ..._routing import Plan
from ...events import Attempt, Event, TextDelta
from ...streaming import ProgressTracker
from ..describe import describe, ledger_rows

WIDTH: Final = 96
"""The width of lines, in characters."""


class PlainScreen:
    """Writes lines of text, for pipes and logs."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._in_text = False

    def title(self, text: str) -> None:
        self._line(f"\n── {text}")

    def note(self, text: str) -> None:
        for line in text.splitlines():
            for wrapped in textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False):
                self._line(f"   {wrapped}")

    def command(self, line: str) -> None:
        self._line(f"     {line}")

    def legend(self, speakers: Mapping[str, str]) -> None:
        """Plain text has no colours, so there is nothing to explain."""

    def table(self, heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        lines = [heading, *rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
        for line in lines:
            self._line("   " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def plan(self, plan: Plan) -> None:
        for line in str(plan).splitlines():
            self._line(f"   {line}")

    def open(self, tracker: ProgressTracker) -> None:
        pass

    def event(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self._out.write(event.text)
            self._out.flush()
            self._in_text = True
        elif (words := describe(event)) is not None:
            self._line(f"   [{words}]")

    def close(self) -> None:
        self._line("")

    def ledger(self, attempts: Iterable[Attempt]) -> None:
        heading, *rows = ledger_rows(attempts)
        if rows:
            self.table(heading, rows)

    def _line(self, text: str) -> None:
        if self._in_text:
            self._out.write("\n")
            self._in_text = False
        self._out.write(text + "\n")
        self._out.flush()
