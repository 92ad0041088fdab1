"""How the command is called: its names, its help, and Ctrl-C while it loads."""

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
    ("words", "shown"),
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
def test_what_people_type_first_is_there(words: list[str], shown: str, run: Any) -> None:
    done = run(*words)
    assert done.exit_code == 0
    assert shown in done.stdout


def test_help_for_what_is_no_command_says_so(run: Any) -> None:
    done = run("help", "strem")
    assert done.exit_code == 2
    assert "strem" in done.stderr


@pytest.mark.found("N-C17")
def test_the_package_is_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "llm_dispatcher", "--version"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, f"llm-dispatcher {__version__}\n", "")


@pytest.mark.found("N-C17")
@pytest.mark.parametrize("interrupted", ["typer", "msgspec"])
def test_ctrl_c_while_it_loads_ends_it_quietly(interrupted: str, tmp_path: Path) -> None:
    """Ctrl-C comes while one of the packages that the command needs is imported."""
    (tmp_path / f"{interrupted}.py").write_text(
        f"import os, signal, time\nos.kill(os.getpid(), {int(signal.SIGINT)})\ntime.sleep(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from llm_dispatcher._cli import main; sys.exit(main())", "stream", "hi"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
