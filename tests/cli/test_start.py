"""Starting the command: its names, its help, and Ctrl-C while it loads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher import __version__

ROOT = Path(__file__).parents[2]


@pytest.mark.found("N-C17")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-h"], "Exit codes"),
        (["help"], "Exit codes"),
        (["stream", "-h"], "--max-latency"),
        (["help", "stream"], "--max-latency"),
        (["help", "config", "check"], "[FILE]"),
        (["version"], f"llm-dispatcher {__version__}"),
        (["version", "--json"], f'{{"version": "{__version__}"}}'),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_usual_words_for_help_and_version_work(words: list[str], expected: str, run: Any) -> None:
    result = run(*words)
    assert result.exit_code == 0
    assert expected in result.stdout


def test_help_for_an_unknown_command_is_an_error(run: Any) -> None:
    result = run("help", "strem")
    assert result.exit_code == 2
    assert "strem" in result.stderr


@pytest.mark.found("N-C17")
def test_python_m_llm_dispatcher_is_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "llm_dispatcher", "--version"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (0, f"llm-dispatcher {__version__}\n", "")


@pytest.mark.found("N-C17")
@pytest.mark.parametrize("interrupted", ["typer", "msgspec"])
def test_ctrl_c_while_it_loads_ends_it_quietly(interrupted: str, tmp_path: Path) -> None:
    """Ctrl-C arrives while a package that the command needs is imported."""
    (tmp_path / f"{interrupted}.py").write_text(
        f"import os, signal, time\nos.kill(os.getpid(), {int(signal.SIGINT)})\ntime.sleep(60)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", "import sys; from llm_dispatcher._cli import main; sys.exit(main())", "stream", "hi"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")
