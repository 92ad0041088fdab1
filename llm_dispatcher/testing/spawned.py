"""A simulated vendor in a process of its own, for loads that one process cannot both make and serve."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import msgspec

from .continuing import Continuing
from .script import Reply, Wire

WrittenScript: TypeAlias = Reply | list[Reply] | Continuing
"""A script that can be written down: any but a function."""


def script_to_json(script: WrittenScript) -> bytes:
    """A script as JSON, for `llm-dispatcher simulate --script`."""
    return msgspec.json.encode(script)


def script_from_json(data: bytes) -> WrittenScript:
    """The script that `script_to_json` wrote; a `ValueError` says what is wrong with it."""
    if data.lstrip().startswith(b"["):
        return msgspec.json.decode(data, type=list[Reply])
    is_continuing = b'"continuing"' in data[:40]
    return msgspec.json.decode(data, type=Continuing) if is_continuing else msgspec.json.decode(data, type=Reply)


class SpawnedVendor:
    """`with SpawnedVendor("openai-chat", Reply("Hello!")) as vendor:` serves it from another process."""

    def __init__(self, wire: Wire | str, script: WrittenScript, *, api_key: str | None = "test-key") -> None:
        self.wire = Wire(wire)
        self.base_url = ""
        self._script = script
        self._api_key = api_key
        self._process: subprocess.Popen[bytes]
        self._folder: tempfile.TemporaryDirectory[str]

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "script.json"
        path.write_bytes(script_to_json(self._script))
        command = [sys.executable, "-m", "llm_dispatcher.cli", "simulate", "--wire", self.wire, "--script", str(path)]
        self._process = subprocess.Popen([*command, "--api-key", self._api_key or ""], stdout=subprocess.PIPE)  # noqa: S603 - this very program
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.__exit__(None, None, None)
            raise RuntimeError("the simulated vendor did not start; its words are on standard error")
        self.base_url = msgspec.json.decode(line)["base_url"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._folder.cleanup()

    def requests(self) -> list[dict[str, Any]]:
        """What it has received, as plain dicts."""
        root = self.base_url.removesuffix("/v1")
        with urllib.request.urlopen(f"{root}/_simulated/requests") as answer:  # noqa: S310 - our own server
            recorded: list[dict[str, Any]] = msgspec.json.decode(answer.read())
        return recorded
