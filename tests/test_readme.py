"""What the README and the demo show is what runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llm_dispatcher._cli import app
from llm_dispatcher.testing import Reply, SimulatedVendor

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_readme_shows_the_example_that_the_demo_runs() -> None:
    assert (ROOT / "examples" / "first_stream.py").read_text() in BLOCKS


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "llm_dispatcher._cli", *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.measured
def test_the_demo_delivers_the_whole_text() -> None:
    done = run("demo")
    assert (done.returncode, done.stderr) == (0, "")
    *_, last = done.stdout.splitlines()
    counted = re.fullmatch(r"characters owed (\d+), read (\d+), repeated 0, attempts (\d+): all owed, each once", last)
    assert counted is not None
    assert counted[1] == counted[2]
    assert int(counted[3]) == 11
    for sight in (
        "These vendors are simulated",
        "1. openai/gpt-simulated",
        "continues for",
        "ProviderTimeoutError",
        "ProviderRateLimitError",
        "from the cache: an earlier answer of openai/gpt-simulated",
    ):
        assert sight in done.stdout


def test_the_demo_on_a_given_policy_says_what_it_may_cost(
    simulated_vendor: Callable[..., SimulatedVendor], tmp_path: Path
) -> None:
    vendor = simulated_vendor("openai-chat", Reply("An answer."))
    policy = tmp_path / "my.yaml"
    policy.write_text(
        f"providers:\n  openai: {{api_key: test-key, base_url: '{vendor.base_url}', api: chat, models: [gpt-5-mini]}}\n"
    )
    done = CliRunner().invoke(app, ["demo", "--config", str(policy), "--prompt", "Say it."])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "openai/gpt-5-mini may cost up to $0.0010 an attempt (500 tokens of answer at most)" in done.stdout
    assert "An answer." in done.stdout
    assert vendor.requests[0].text == "Say it."


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("demo", "--config", "nowhere.yaml"), 3, "nowhere.yaml"),
        (("simulate", "--wire", "telegraph"), 2, "a wire is one of openai-chat"),
    ],
)
def test_an_error_of_the_command_is_one_line(arguments: tuple[str, ...], code: int, words: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
