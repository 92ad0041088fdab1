"""The demo's last screen: what other libraries deliver under the same faults, and what to type next.

The figures are read from the table of docs/survival.md, which `python benchmarks/fault_matrix.py` writes.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Final

from msgspec import Struct

from ..show import Show

FAULTS: Final = {
    "cut after 5 words": "cut off (scene 3)",
    "stall after 5 words": "silent (scene 4)",
    "HTTP 429": "429 (scene 5)",
    "clean end after 5 words": "ends early",
}
"""Rows of the table, in the demo's words."""
LIBRARIES: Final = ("llm_dispatcher", "LiteLLM", "pydantic-ai", "LangChain")
"""Columns of the table, by the first word of their titles: the libraries that have a fallback."""


class Comparison(Struct, frozen=True):
    """What docs/survival.md says: a heading, a row for each fault, and the versions that were measured."""

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    versions: str


def comparison(page: str) -> Comparison:
    """Read the measured table of docs/survival.md."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    titles = [title.partition(" ")[0] for title in lines[0]]
    columns = [titles.index(library) for library in LIBRARIES]
    measured = {line[0]: line for line in lines}
    rows = [(words, *(_in_short(measured[fault][column]) for column in columns)) for fault, words in FAULTS.items()]
    rows.append(("faults survived", *(measured["all of it"][column] for column in columns)))
    versions = re.search(r"^Versions: (.*)\.$", page, re.MULTILINE)
    return Comparison(("the vendor", "ours", *LIBRARIES[1:]), tuple(rows), versions[1] if versions else "")


def _in_short(cell: str) -> str:
    """`5 of 40; APIConnectionError` is `5/40 error`."""
    delivered, _, ending = cell.partition("; ")
    if delivered == "all":
        return "all"
    return f"{delivered.replace(' of ', '/')} {'“complete”' if 'complete' in ending else 'error'}"


def show_the_end(show: Show, survival: Path) -> None:
    """Show the last screen; the heading of what the demo itself counted comes last."""
    found = comparison(survival.read_text(encoding="utf-8"))
    show.title("What others deliver when the same happens")
    show.note(
        "Words that reach the reader of a 40-word answer, while a second vendor is in good health. “Ends early” is a "
        "vendor that closes the connection without saying that the answer is complete; “complete” is what the reader "
        "is told of it."
    )
    show.table(found.heading, found.rows)
    show.note(
        f"Measured by `python benchmarks/fault_matrix.py`; docs/survival.md has the whole table ({found.versions})."
    )
    command = _command()
    show.title("What to type next")
    show.note("With a key of your own (OPENAI_API_KEY, ANTHROPIC_API_KEY or GOOGLE_API_KEY):")
    show.command("export OPENAI_API_KEY=…")
    show.command(f'{command} stream "Tell a short story about a fox."')
    show.note("This demo with your own vendors, by a policy of yours (config/ has some to copy):")
    show.command(f"{command} demo --config my.yaml")
    show.title("What came of it")


def _command() -> str:
    """How this command is called from here."""
    installed = Path(sys.executable).with_name("llm-dispatcher")
    if shutil.which("llm-dispatcher") == str(installed) or not installed.exists():
        return "llm-dispatcher"
    return os.path.relpath(installed)
