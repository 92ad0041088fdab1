"""The live view: text coloured by who is speaking, what happens to it, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..events import Attempt, Event, StreamStarted, TextDelta
from ..routing import Plan
from ..streaming import ProgressTracker
from .show import COLOURS, in_words, ledger_rows


class LiveShow:
    """A panel a stream, redrawn while it grows."""

    def __init__(self) -> None:
        self._console = Console()
        self._text = Text()
        self._happened: list[str] = []
        self._colour = "white"
        self._tracker = ProgressTracker()
        self._live: Live | None = None

    def title(self, text: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{text}", align="left")

    def note(self, text: str) -> None:
        self._console.print(f"  [dim]{text}")

    def plan(self, plan: Plan) -> None:
        for line in str(plan).splitlines():
            self._console.print(f"  [dim]{line}")

    def open(self, tracker: ProgressTracker) -> None:
        self._text, self._happened, self._tracker = Text(), [], tracker
        self._live = Live(get_renderable=self._picture, console=self._console, refresh_per_second=15)
        self._live.start()

    def event(self, event: Event) -> None:
        if isinstance(event, StreamStarted):
            self._colour = COLOURS.get(event.target.provider, "white")
        if isinstance(event, TextDelta):
            self._text.append(event.text, style=self._colour)
        elif (words := in_words(event)) is not None:
            self._happened.append(words)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def ledger(self, attempts: Iterable[Attempt]) -> None:
        heading, *rows = ledger_rows(attempts)
        table = Table(*heading, box=None, header_style="dim")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def _picture(self) -> Group:
        progress = self._tracker.get_progress()
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=100.0, completed=progress, width=40), f"{progress:5.1f} %")
        happened = Text("\n".join(self._happened), style="dim")
        return Group(Panel(self._text, border_style=self._colour), bar, happened)
