"""Real applications in their own frameworks, each in a process of its own, over two simulated vendors."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from llm_dispatcher.testing import Reply, Script, SimulatedVendor
from tests.application.test_documents import ROOT, blocks_of

PAGE: Final = ROOT / "docs" / "frameworks.md"
TEXT: Final = "One two three four five six."
HERE: Final = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each starts a process, and often a server: `make test` leaves them out."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)


def needs(*modules: str) -> pytest.MarkDecorator:
    """Skips where a framework is not installed."""
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    return pytest.mark.skipif(
        bool(absent), reason=f"{', '.join(absent)} is not installed; `sh scripts/venv.sh apps` installs it"
    )


class Vendors:
    """Two simulated vendors: the second continues what the first breaks off."""

    def __init__(self, first: SimulatedVendor, second: SimulatedVendor) -> None:
        self.first, self.second = first, second

    def say(self, first: Script, second: Script = Reply("nobody should ask the second")) -> None:
        """Answer the next requests so, and forget those before."""
        self.first.script, self.second.script = first, second
        self.first.requests.clear()
        self.second.requests.clear()

    def policy(self) -> str:
        """A configuration over both; JSON is YAML."""
        providers = {
            "first": {"kind": "openai", "api": "chat", "base_url": self.first.base_url},
            "second": {"kind": "anthropic", "base_url": self.second.base_url},
        }
        return json.dumps(
            {
                "providers": {
                    name: {**provider, "api_key": "test-key", "models": ["m"]} for name, provider in providers.items()
                },
                "routing": {"default": ["first/m", "second/m"]},
                "resilience": {
                    "max_retries": 0,
                    "breaker": {"failures": None},
                    "retry_budget": {"share": None},
                    "timeouts": {"connect": 120, "first_token": 120, "idle": 120, "total": None},
                },
            }
        )


@pytest.fixture(scope="module")
def vendors() -> Iterator[Vendors]:
    with SimulatedVendor("openai-chat") as first, SimulatedVendor("anthropic") as second:
        yield Vendors(first, second)


@pytest.fixture(scope="module")
def folder(vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the applications of the documentation's page, and a configuration that asks the vendors."""
    made = tmp_path_factory.mktemp("applications")
    for block in blocks_of(PAGE):
        if block.title is not None:
            (made / block.title).write_text(block.body)
    (made / "llm_dispatcher.yaml").write_text(vendors.policy())
    return made


def environment() -> dict[str, str]:
    """The variables of a program under test: none of the developer's keys, and no word of the tests that run it."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LLM_DISPATCHER_", "PYTEST_"))
        and not name.endswith("_API_KEY")
        and not name.lower().endswith("_proxy")
    }


def run(folder: Path, *words: str) -> str:
    """Run a Python program to its end; what it has printed."""
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Server:
    """A server in a process of its own, that has begun to listen."""

    def __init__(self, folder: Path, *words: str) -> None:
        """`words` are those of the command after `python -m`; `PORT` stands for the port."""
        self.port = _free_port()
        self._log = folder / f"{self.port}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *(word.replace("PORT", str(self.port)) for word in words)],
                cwd=folder, env=environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        until = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < until, self.log
            time.sleep(0.05)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    # ── what a browser does ────────────────────────────────────────────────────────────────────────────────────────

    def get(self, path: str) -> bytes:
        """The whole body of an answer."""
        with self._asked(path) as answer:
            return answer.read()

    def leave(self, path: str) -> bytes:
        """Read the first bytes of an answer, and close the connection."""
        with self._asked(path) as answer:
            return answer.read1()

    @contextlib.contextmanager
    def _asked(self, path: str) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path, headers={"connection": "close"})
            answer = connection.getresponse()
            assert answer.status == 200, self.log
            with contextlib.closing(answer):
                yield answer
        finally:
            connection.close()


def _free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port: int = plug.getsockname()[1]
        return port
