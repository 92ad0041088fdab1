"""Jupyter and marimo: a cell awaits or blocks, whether or not the notebook's loop runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from llm_dispatcher.testing import Continuing, Cut, Reply, Stall
from tests.application.test_documents import ROOT, blocks_of

from .conftest import TEXT, Vendors, needs, run

CELLS: Final = [
    """from llm_dispatcher import llm_stream
@llm_stream
def story(topic: str) -> str:
    return f"Tell a short story about {topic}."
""",
    "'|'.join(chunk for chunk in story('foxes'))",
    "await story('foxes')",
    "story('foxes').result().attempts[0].outcome",
    "left = story('foxes')\nfor chunk in left:\n    break\nleft.response.finish_reason",
]
EXECUTE: Final = """
import json, sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in json.loads(sys.argv[1])])
NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
shown = [output["data"]["text/plain"] for cell in notebook.cells for output in cell.outputs if "data" in output]
print(json.dumps(shown))
"""


@needs("nbclient", "ipykernel")
def test_a_jupyter_notebook_blocks_and_awaits(folder: Path, vendors: Vendors) -> None:
    vendors.say(Reply(TEXT, fault=Cut(3)), Continuing(TEXT))
    shown = json.loads(run(folder, "-c", EXECUTE, json.dumps(CELLS[:-1])).splitlines()[-1])
    chunks, awaited, outcome = (value.strip("'") for value in shown)
    assert (chunks.replace("|", ""), awaited, outcome) == (TEXT, TEXT, "failed")
    assert chunks.startswith("One| two| three|")
    assert [request.wait_until_over() for request in vendors.first.requests] == ["broken"] * 3


@needs("nbclient", "ipykernel")
def test_a_jupyter_cell_that_breaks_off_closes_the_connection(folder: Path, vendors: Vendors) -> None:
    vendors.say(Reply(TEXT, fault=Stall(3)))
    shown = json.loads(run(folder, "-c", EXECUTE, json.dumps([CELLS[0], CELLS[-1]])).splitlines()[-1])
    assert shown == ["'cancelled'"]
    assert vendors.first.requests[0].wait_until_over() == "left"


IN_MARIMOS_KERNEL: Final = ("-m", "marimo", "-q", "export", "html", "marimo_notebook.py", "-o", "out.html", "-f")


@needs("marimo")
@pytest.mark.found("N-A7")
@pytest.mark.parametrize("words", [("marimo_notebook.py",), IN_MARIMOS_KERNEL], ids=["as-a-script", "in-its-kernel"])
def test_a_marimo_notebook_blocks_and_awaits(words: tuple[str, ...], folder: Path, vendors: Vendors) -> None:
    vendors.say(Reply(TEXT, fault=Cut(3)), Continuing(TEXT))
    out = run(folder, *words)
    page = folder / "out.html"
    shown = page.read_text() if page.exists() else out
    assert f"{TEXT}|One| two| three|" in shown
    assert [request.wait_until_over() for request in vendors.second.requests] == ["served"] * 2


LEAVING: Final = """
import marimo
app = marimo.App()
@app.cell
async def _():
    import asyncio
    await asyncio.sleep(0)
    return ()
@app.cell
def _():
    from llm_dispatcher import LLM
    stream = LLM()("Tell a story.")
    for chunk in stream:
        break
    print(stream.response.finish_reason)
    return ()
app.run()
"""


@needs("marimo")
def test_a_marimo_cell_that_breaks_off_closes_the_connection(folder: Path, vendors: Vendors) -> None:
    vendors.say(Reply(TEXT, fault=Stall(3)))
    (folder / "leaving.py").write_text(LEAVING)  # marimo reads the source of its cells from their file
    assert "cancelled" in run(folder, "leaving.py")
    assert vendors.first.requests[0].wait_until_over() == "left"


PAGES_AS_NOTEBOOKS: Final = ["README.md", "docs/index.md", "docs/reading-a-stream.md"]
"""The pages that a newcomer types in. How the cells of every page run, tests/application/test_documents.py emulates."""


@needs("nbclient", "ipykernel")
@pytest.mark.parametrize("page", PAGES_AS_NOTEBOOKS)
def test_the_code_of_a_page_runs_in_a_real_kernel(page: str, folder: Path, vendors: Vendors) -> None:
    cells = [
        block.as_a_cell()
        for block in blocks_of(ROOT / page)
        if block.language == "python" and block.title is None and block.is_a_cell
    ]
    vendors.say(Reply(TEXT), Continuing(TEXT))
    run(folder, "-c", EXECUTE, json.dumps(cells))  # a cell that raises ends it with an error
    assert len(vendors.first.requests) >= 2
