"""A simulated vendor in a process of its own, for loads that one process cannot both make and serve."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from msgspec import UNSET, UnsetType

from ._script import Wire, key_of
from ._script_json import WrittenScript, script_to_json


class SpawnedVendor:
    """`with SpawnedVendor("openai-chat", Reply("Hello!")) as vendor:` serves it from another process.

    The arguments are those of `SimulatedVendor`, but the script is no function, and only the last requests are kept.
    """

    def __init__(
        self,
        wire: Wire | str,
        script: WrittenScript,
        *,
        models: Collection[str] | None = None,
        refuses_prefill: Collection[str] = (),
        api_key: str | UnsetType | None = UNSET,
        port: int = 0,
        remember: int = 1000,
    ) -> None:
        self.wire: Wire = Wire(wire)
        api_key = key_of(self.wire, api_key)
        self.api_key: str | None = api_key
        self.base_url: str = ""
        self._script = script
        self._options = [
            *("--wire", self.wire, "--api-key", api_key or "", "--port", str(port), "--remember", str(remember)),
            *(word for model in models or () for word in ("--model", model)),
            *(word for model in refuses_prefill for word in ("--refuses-prefill", model)),
        ]
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "llm_dispatcher._cli", "simulate", *self._options, "--until-stdin-closes"]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "script.json"
            path.write_bytes(script_to_json(self._script))
            # Its standard input is a life line: it closes with this process, however that ends.
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                [*command, "--script", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
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
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def requests(self) -> list[dict[str, Any]]:
        """What it has received, as plain dicts."""
        import urllib.request  # a plugin of pytest has to be light, and this is not

        root = self.base_url.removesuffix("/v1")
        with urllib.request.urlopen(f"{root}/_simulated/requests") as answer:  # noqa: S310 - our own server
            recorded: list[dict[str, Any]] = msgspec.json.decode(answer.read())
        return recorded
