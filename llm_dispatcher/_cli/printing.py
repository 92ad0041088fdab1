"""Prints the results of commands: lines, JSON and tables, without characters that control a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

_CONTROLS: Final = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "␡",
    **dict.fromkeys(range(0x80, 0xA0), "�"),
    # These reverse the direction of text, so that a line is displayed with another meaning.
    **dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "�"),
}


def say(text: str, file: TextIO | None = None) -> None:
    """Print lines on standard output, or on another stream."""
    print(text, file=file)


def say_json(value: object) -> None:
    """Print JSON on standard output, indented if it is a terminal."""
    say(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def say_table(heading: Sequence[str], rows: Iterable[Sequence[str]], file: TextIO | None = None) -> None:
    """Print a table on standard output, or on another stream: drawn by rich in a terminal, as text elsewhere."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    if (file or sys.stdout).isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*heading, box=None, header_style="bold", pad_edge=False)
        for row in cells:
            table.add_row(*(Text(cell, overflow="fold") for cell in row))
        Console(file=file).print(table)
        return
    lines = [list(heading), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), file)


def one_line(text: str) -> str:
    """The text in one line, without characters that control a terminal."""
    return harmless(" ".join(text.split()))


def harmless(text: str) -> str:
    """The text with control characters replaced by visible ones: a model or a vendor may send any of them."""
    return text.translate(_CONTROLS)
