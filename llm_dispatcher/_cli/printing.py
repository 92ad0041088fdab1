"""What commands print: JSON, or tables: drawn in a terminal, and aligned text in a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

from .exit_codes import one_line


def say(text: str) -> None:
    """Lines of an answer on standard output."""
    print(text)  # noqa: T201 - the command's answer


def say_json(value: object) -> None:
    """An answer as JSON, laid out for people where a person looks at it."""
    say(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def say_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    cells = [[one_line(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*heading, box=None, header_style="bold", pad_edge=False)
        for row in cells:
            table.add_row(*(Text(cell, overflow="fold") for cell in row))
        Console().print(table)
        return
    lines = [list(heading), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
