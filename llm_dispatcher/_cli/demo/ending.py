"""The last screen of the demo: the results of other libraries with the same faults, and the next commands to type.

The figures come from the table in docs/survival.md, which `python benchmarks/fault_matrix.py` writes.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Final

from msgspec import Struct

from .screen import Screen

FAULTS: Final = {
    "cut after 5 words": "cut off (scene 3)",
    "stall after 5 words": "silent (scene 4)",
    "HTTP 429": "429 (scene 5)",
    "clean end after 5 words": "ends early",
}
"""Rows of the table, and their names in the demo."""
LIBRARIES: Final = ("llm_dispatcher", "LiteLLM", "pydantic-ai", "LangChain")
"""Columns of the table, by the first word of their titles: the libraries that can switch vendors."""


class Comparison(Struct, frozen=True):
    """The table of docs/survival.md: a heading, a row for each fault, and the measured versions."""

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    versions: str


def comparison(page: str) -> Comparison:
    """Read the table of docs/survival.md."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    titles = [title.partition(" ")[0] for title in lines[0]]
    columns = [titles.index(library) for library in LIBRARIES]
    cells = {line[0]: line for line in lines}
    rows = [(words, *(_short(cells[fault][column]) for column in columns)) for fault, words in FAULTS.items()]
    rows.append(("faults survived", *(cells["whole answers"][column] for column in columns)))
    versions = re.search(r"^Versions: (.*)\.$", page, re.MULTILINE)
    return Comparison(("the vendor", "ours", *LIBRARIES[1:]), tuple(rows), versions[1] if versions else "")


def _short(cell: str) -> str:
    """A cell of the table in short: `5 of 40; APIConnectionError` becomes `5/40 error`."""
    delivered, _, ending = cell.partition("; ")
    if delivered == "all":
        return "all"
    return f"{delivered.replace(' of ', '/')} {'“complete”' if 'complete' in ending else 'error'}"


def show_comparison(screen: Screen, survival: Path) -> None:
    """Show the last screen, up to the heading of the result."""
    table = comparison(survival.read_text(encoding="utf-8"))
    screen.title("What other libraries deliver with the same faults")
    screen.note(
        "The number of words that reach the reader of a 40-word answer, while a second vendor works. “Ends early”: the "
        "vendor closes the connection before the answer is complete. “complete”: the library reports such an answer as "
        "complete."
    )
    screen.table(table.heading, table.rows)
    screen.note(
        f"Measured with `python benchmarks/fault_matrix.py`; docs/survival.md has the whole table ({table.versions})."
    )
    command = _command()
    screen.title("What to type next")
    screen.note("With a key of your own (OPENAI_API_KEY, ANTHROPIC_API_KEY or GOOGLE_API_KEY):")
    screen.command("export OPENAI_API_KEY=…")
    screen.command(f'{command} stream "Tell a short story about a fox."')
    screen.note("This demo with your own vendors and policy (config/ has policies to copy):")
    screen.command(f"{command} demo --config my.yaml")
    screen.title("The result")


def _command() -> str:
    """The command as it can be typed here."""
    installed = Path(sys.executable).with_name("llm-dispatcher")
    if shutil.which("llm-dispatcher") == str(installed) or not installed.exists():
        return "llm-dispatcher"
    return os.path.relpath(installed)
