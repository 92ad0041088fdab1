"""The demo: its scenes on a busy machine and in a narrow terminal, and the figures of its last screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from llm_dispatcher._cli.demo.stories import LIGHTHOUSE

ROOT = Path(__file__).parents[2]
SURVIVAL = (ROOT / "docs" / "survival.md").read_text()


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Run programs that use as much of the processors as they can."""
    with ExitStack() as stack:
        for _ in range(loops):
            loop = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(loop.kill)
        yield


def drawn_in_a_terminal(columns: int, **environment: str) -> tuple[int, str]:
    """The exit code of the demo in a terminal, and its output without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    command = [sys.executable, "-W", "error", "-m", "llm_dispatcher._cli", "demo"]
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    output = b""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=ROOT,
        env={**environ, "TERM": "xterm-256color", **environment},
    ) as process:  # fmt: skip
        os.close(theirs)
        try:
            while data := os.read(ours, 65_536):
                output += data
        except OSError:  # The other side is closed.
            pass
        finally:
            os.close(ours)
    return process.returncode, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode()).replace("\r", "\n")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.found("S-D15", "N-C17")
def test_on_a_busy_machine_every_character_arrives_and_lines_fit_into_80_columns() -> None:
    with busy(4):
        code, output = drawn_in_a_terminal(80)
    assert code == 0, output[-2000:]
    lines = [line for line in output.splitlines() if line]
    assert re.fullmatch(r"characters owed (\d+), read \1, repeated 0, attempts \d+: all owed, each once", lines[-1])
    assert max(len(line) for line in lines if line != LIGHTHOUSE) <= 80, "the example prints it unwrapped"
    assert output.count("✓ all ") == 7
    ledgers = [line for line in lines if re.match(r" \d+  \w+/", line)]
    assert [line for line in ledgers if "…" in line] == []
    assert any(re.match(r" 1  openai/gpt-simulated +ProviderConnectionError +\d+ +0", line) for line in ledgers)
    assert "Colours: ■ OpenAI" in output
    assert "redacted" not in output


@pytest.mark.slow
def test_a_dumb_terminal_gets_plain_lines() -> None:
    code, output = drawn_in_a_terminal(80, TERM="dumb")
    assert code == 0
    assert "Colours" not in output
    assert "╭" not in output


@pytest.mark.found("N-C17")
def test_each_scene_has_its_own_text() -> None:
    from llm_dispatcher._cli.demo import stories as demo_stories

    texts = [value for name, value in vars(demo_stories).items() if name.isupper()]
    assert len(texts) == len(set(texts)) == 6, "the last scene repeats the one before it, from the cache"


@pytest.mark.found("N-C17")
def test_the_last_screen_shows_the_measured_figures() -> None:
    from llm_dispatcher._cli.demo.ending import FAULTS, comparison

    table = comparison(SURVIVAL)
    assert table.heading == ("the vendor", "ours", "LiteLLM", "pydantic-ai", "LangChain")
    assert [row[0] for row in table.rows] == [*FAULTS.values(), "faults survived"]
    cells_of = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:5] for line in SURVIVAL.splitlines()}
    for fault, row in zip(FAULTS, table.rows, strict=False):
        for cell, cell_shown in zip(cells_of[fault], row[1:], strict=True):
            assert cell_shown.partition(" ")[0].replace("/", " of ") == cell.partition(";")[0]
            assert ("complete" in cell_shown) == ("“complete”" in cell)
    assert table.rows[-1][1:] == tuple(cells_of["whole answers"])
    assert "litellm" in table.versions


def test_files_that_the_command_reads_are_packaged() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    packaged = {source: Path(target) for source, target in build["force-include"].items()}
    assert packaged.keys() == {
        "config/demo.yaml", "docs/configuration.md", "docs/survival.md", "examples/first_stream.py",
    }  # fmt: skip
    assert {target.name == Path(source).name for source, target in packaged.items()} == {True}
    assert {target.parent for target in packaged.values()} == {Path("llm_dispatcher/_cli/files")}
