"""`SpawnedVendor`: a simulated vendor in another process, for loads that one process cannot both make and serve."""

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
    """A simulated vendor in another process: `with SpawnedVendor("openai-chat", Reply("Hello!")) as vendor:`.

    Args:
        wire: The API: `openai-chat`, `openai-responses`, `anthropic`, `google` or `ollama`.
        script: Its answers. A script in another process cannot have functions.
        models: The models that it has; by default it accepts any name.
        refuses_prefill: The models that refuse requests which end with an open assistant turn.
        api_key: The key that requests must have; `None` for none. By default `test-key`, and none for Ollama.
        port: The port; 0 takes a free one.
        remember: The number of requests that are kept.
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
            # Its standard input closes when this process ends in any way, and then the vendor ends too.
            self._process = subprocess.Popen(  # noqa: S603 - this program
                [*command, "--script", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
        if not line:
            self.__exit__(None, None, None)
            raise RuntimeError("the simulated vendor did not start; standard error says why")
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
        """The received requests, as dicts."""
        import urllib.request  # pytest imports this package in every project, so it must be light.

        root = self.base_url.removesuffix("/v1")
        with urllib.request.urlopen(f"{root}/_simulated/requests") as answer:  # noqa: S310 - our own server
            recorded: list[dict[str, Any]] = msgspec.json.decode(answer.read())
        return recorded
