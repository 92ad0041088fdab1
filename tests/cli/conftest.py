"""For tests of the command: a policy with simulated vendors, and the command in this process or in its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner, Result

from llm_dispatcher._cli import app
from llm_dispatcher.testing import Reply, SimulatedVendor
from tests.conftest import KINDS

ROOT = Path(__file__).parents[2]


class Run(Protocol):
    """The command, in this process."""

    def __call__(self, *words: str, stdin: bytes | None = None) -> Result: ...


class Write(Protocol):
    """Write `policy.yaml`, a policy with these vendors in order: a, b, c …"""

    def __call__(self, *vendors: SimulatedVendor, resilience: Mapping[str, Any] | None = None) -> str: ...


class Start(Protocol):
    """The command, in a process of its own."""

    def __call__(self, *words: str, **options: Any) -> subprocess.Popen[bytes]: ...


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


command = cache(get_command)
"""The parser of the command. Typer would make it again for each run, from the signatures of all its functions."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("typer.testing._get_command", command)

    def run_it(*words: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(words), input=stdin, prog_name="llm-dispatcher")

    return run_it


@pytest.fixture
def write() -> Write:
    def write_it(*vendors: SimulatedVendor, resilience: Mapping[str, Any] | None = None) -> str:
        names = "abcdefgh"[: len(vendors)]
        policy = {
            "providers": {
                name: {**KINDS[vendor.wire], "api_key": "test-key", "base_url": vendor.base_url, "models": ["m"]}
                for name, vendor in zip(names, vendors, strict=True)
            },
            "routing": {"default": [f"{name}/m" for name in names]},
            "resilience": {"max_retries": 0, "backoff": 0.0, **(resilience or {})},
        }
        Path("policy.yaml").write_text(yaml.safe_dump(policy))
        return "policy.yaml"

    return write_it


@pytest.fixture
def policy(write: Write, simulated_vendor: Callable[..., SimulatedVendor]) -> str:
    """A policy with one vendor, which answers hello."""
    return write(simulated_vendor("ollama", Reply("Hello, world!")))


@pytest.fixture
def start() -> Start:
    def start_it(*words: str, **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "error", "-m", "llm_dispatcher._cli", *words]
        # These tests run in another folder, so the path of the package is needed.
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, env={**environment, **options.pop("env", {})}, **options)

    return start_it
