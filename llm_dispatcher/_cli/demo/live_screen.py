"""The demo in a terminal: text in the colour of its vendor, with remarks and a progress bar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..._policy import BODY
from ..._routing import Plan
from ..._vendors.table import vendor
from ...events import Attempt, Event, StreamReset, StreamStarted, TextDelta
from ...streaming import ProgressTracker
from ..describe import describe, ledger_rows
from . import CACHE

_COLOURS: Final = {BODY: "magenta", CACHE: "cyan"}

_MIN_WIDTH: Final = 106
"""In a narrower terminal, ledgers have no columns for rungs and tokens."""


class LiveScreen:
    """Draws a panel for each stream, and redraws it while the stream grows."""

    def __init__(self) -> None:
        self._console = Console()
        self._text = Text()
        self._remarks: list[str] = []
        self._colour, self._title = "white", ""
        self._tracker = ProgressTracker()
        self._live: Live | None = None

    def title(self, text: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{text}", align="left")

    def note(self, text: str) -> None:
        self._console.print(Padding(Text(text, style="dim"), (0, 0, 0, 2)))

    def command(self, line: str) -> None:
        self._console.print(Text(f"    {line}", style="bold"), soft_wrap=True)  # One line, so that it can be copied.

    def legend(self, speakers: Mapping[str, str]) -> None:
        words = Text("Colours: ")
        for name, title in speakers.items():
            words.append(f"■ {title}  ", style=colour(name))
        self._console.print(Padding(words, (0, 0, 0, 2)))

    def table(self, heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        table = Table(*heading, box=None, header_style="dim", padding=(0, 1))
        for row in rows:
            table.add_row(*(Text(cell, overflow="fold") for cell in row))
        self._console.print(table)

    def plan(self, plan: Plan) -> None:
        self.note(str(plan))

    def open(self, tracker: ProgressTracker) -> None:
        self._text, self._remarks, self._tracker = Text(), [], tracker
        self._colour, self._title = "white", "…"
        self._live = Live(get_renderable=self._picture, console=self._console, refresh_per_second=15)
        self._live.start()

    def event(self, event: Event) -> None:
        if isinstance(event, StreamStarted):
            self._title = f"{event.target}, from the cache" if event.cached else str(event.target)
            self._colour = colour(CACHE if event.cached else event.target.provider)
        if isinstance(event, StreamReset):
            self._text = Text()
        if isinstance(event, TextDelta):
            self._text.append(event.text, style=self._colour)
        elif (words := describe(event)) is not None:
            self._remarks.append(words)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def ledger(self, attempts: Iterable[Attempt]) -> None:
        heading, *rows = ledger_rows(attempts)
        if rows:
            columns = len(heading) if self._console.width >= _MIN_WIDTH else len(heading) - 2
            self.table(heading[:columns], [row[:columns] for row in rows])

    def _picture(self) -> Group:
        progress = self._tracker.get_progress()
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=100.0, completed=progress, width=40), f"{progress:5.1f} %")
        remarks = Text("\n".join(self._remarks), style="dim")
        return Group(Panel(self._text, title=self._title, title_align="left", border_style=self._colour), bar, remarks)


def colour(name: str) -> str:
    """The colour of the text of a provider, of the decorated body or of the cache."""
    return _COLOURS.get(name) or vendor(name).colour or "white"
