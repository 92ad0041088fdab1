"""The live view: text coloured by who is speaking, what happens to it, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .._routing import Plan
from ..events import Attempt, Event, StreamStarted, TextDelta
from ..streaming import ProgressTracker
from .show import CACHE, WIDE, colour, in_words, ledger_rows


class LiveShow:
    """A panel a stream, redrawn while it grows."""

    def __init__(self) -> None:
        self._console = Console()
        self._text = Text()
        self._happened: list[str] = []
        self._colour, self._speaker = "white", ""
        self._tracker = ProgressTracker()
        self._live: Live | None = None

    def title(self, text: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{text}", align="left")

    def note(self, text: str) -> None:
        self._console.print(Padding(Text(text, style="dim"), (0, 0, 0, 2)))

    def command(self, line: str) -> None:
        self._console.print(Text(f"    {line}", style="bold"), soft_wrap=True)  # (so that it can be copied)

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
        self._text, self._happened, self._tracker = Text(), [], tracker
        self._colour, self._speaker = "white", "…"
        self._live = Live(get_renderable=self._picture, console=self._console, refresh_per_second=15)
        self._live.start()

    def event(self, event: Event) -> None:
        if isinstance(event, StreamStarted):
            self._speaker = f"{event.target}, from the cache" if event.cached else str(event.target)
            self._colour = colour(CACHE if event.cached else event.target.provider)
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
        if rows:
            columns = len(heading) if self._console.width >= WIDE else len(heading) - 1  # (tokens, if there is room)
            self.table(heading[:columns], [row[:columns] for row in rows])

    def _picture(self) -> Group:
        progress = self._tracker.get_progress()
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=100.0, completed=progress, width=40), f"{progress:5.1f} %")
        happened = Text("\n".join(self._happened), style="dim")
        return Group(
            Panel(self._text, title=self._speaker, title_align="left", border_style=self._colour), bar, happened
        )
