"""Showing streams to a person: what a screen has to offer, the words for events, and the screen of plain lines."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, TextIO

from .._policy import BODY
from .._routing import Plan
from .._vendors.table import vendor
from ..events import (
    Attempt,
    Event,
    StreamCompleted,
    StreamFailed,
    StreamInterrupted,
    StreamStarted,
    StreamSwitched,
    TextDelta,
)
from ..streaming import ProgressTracker

CACHE: Final = "cache"
_COLOURS: Final = {BODY: "magenta", CACHE: "cyan"}


def colour(speaker: str) -> str:
    """The colour of the words of a provider, of the decorated body or of the cache."""
    return _COLOURS.get(speaker) or vendor(speaker).colour or "white"


WIDE: Final = 96
"""The width of text where the output has none, such as a file."""


class Show(Protocol):
    """What a demo needs of its screen."""

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


class PlainShow:
    """Lines of text, for pipes and logs."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._in_text = False

    def title(self, text: str) -> None:
        self._line(f"\n── {text}")

    def note(self, text: str) -> None:
        for line in text.splitlines():
            for wrapped in textwrap.wrap(line, WIDE, break_long_words=False, break_on_hyphens=False):
                self._line(f"   {wrapped}")

    def command(self, line: str) -> None:
        self._line(f"     {line}")

    def legend(self, speakers: Mapping[str, str]) -> None:
        """There are no colours to explain."""

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
        elif (words := in_words(event)) is not None:
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


def in_words(event: Event) -> str | None:
    """What an operator would want to read; `None` for what speaks for itself."""
    match event:
        case StreamStarted() if event.cached:
            return f"from the cache: what {event.target} answered before"
        case StreamStarted():
            return f"{event.target} answers, attempt {event.attempt}"
        case StreamInterrupted():
            return f"broken after {event.delivered} characters: {event.failure.message}"
        case StreamSwitched():
            trimmed = f", {len(event.trimmed)} characters said again and trimmed" if event.trimmed else ""
            return f"{event.to_target} goes on for {event.from_target} (seam: {event.seam}{trimmed})"
        case StreamCompleted():
            return f"complete: {event.finish_reason}"
        case StreamFailed():
            return f"failed: {event.failure}"
        case _:
            return None


def ledger_rows(attempts: Iterable[Attempt]) -> list[tuple[str, ...]]:
    """The ledger as a table: a heading, and a row an attempt."""
    rows: list[tuple[str, ...]] = [("#", "target", "ended", "delivered", "trimmed", "tokens in/out")]
    for attempt in attempts:
        usage = attempt.usage
        counted = f"{usage.input_tokens}/{usage.output_tokens} {usage.source}" if usage.source != "unknown" else "none"
        ended = attempt.failure.kind if attempt.failure is not None else attempt.outcome
        trimmed = str(len(attempt.trimmed))
        rows.append((str(attempt.number), str(attempt.target), ended, str(attempt.delivered), trimmed, counted))
    return rows
