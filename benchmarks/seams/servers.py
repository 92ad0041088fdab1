"""The model servers, each in a process of its own: started for the trials, ended after them."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from .environment import GEMMA, HERE, HOME, LOGS, SMOLLM2, SMOLLM2_FLOAT32, python

PATIENCE: Final = 300.0
"""Seconds until a server has to answer. vLLM needs most of a minute on two idle cores."""


class Server(Struct, frozen=True):
    """A server as a row names it. `kind` is the library's name for it, `title` the table's.

    `at_once` is how many requests it gets at the same time. llama.cpp gets one, since its cache holds one answer.
    """

    name: str
    kind: str
    model: str
    title: str
    at_once: int = 1


LLAMA_A: Final = Server("llama-a", "llamacpp", "smollm2", "SmolLM2 on llama.cpp")
LLAMA_B: Final = Server("llama-b", "llamacpp", "smollm2", "SmolLM2 on another llama.cpp")
LLAMA_GEMMA: Final = Server("llama-gemma", "llamacpp", "gemma3", "Gemma 3 on llama.cpp")
VLLM: Final = Server("vllm", "vllm", "smollm2", "SmolLM2 on vLLM", at_once=4)


def _command(server: Server, port: int) -> tuple[list[str], dict[str, str]]:
    if server.kind == "vllm":
        command = [
            str(HOME / "vllm" / "bin" / "vllm"), "serve", str(SMOLLM2_FLOAT32), "--served-model-name", server.model,
            "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "2048",
            "--enforce-eager", "--max-num-seqs", "4",
        ]  # fmt: skip
        return command, {
            "HF_HUB_OFFLINE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
        }
    inside = HERE / "inside"
    # Gemma is the base model, whose file has no chat template. llama.cpp's default has marks that Gemma does not know.
    path, template = (GEMMA, [str(inside / "plain.jinja")]) if server.model == "gemma3" else (SMOLLM2, [])
    return [str(python("llama")), str(inside / "serve_llama.py"), str(path), server.model, str(port), *template], {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[int]:
    """The port of the server, once it is ready. The process ends with the block."""
    port = _free_port()
    command, variables = _command(server, port)
    nice = ["nice", "-n", "10"] if shutil.which("nice") else []
    log = LOGS / f"{server.name}.log"
    LOGS.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *nice, *command, stdout=output, stderr=output, env={**os.environ, **variables}
        )
    try:
        await _ready(server, port, process, log)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _ready(server: Server, port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not await asyncio.to_thread(_is_healthy, port):
        if process.returncode is not None or time.monotonic() > until:
            sys.exit(f"{server.title} did not start. The end of {log}:\n{_end_of(log)}")
        await asyncio.sleep(0.5)


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])


@asynccontextmanager
async def all_running(servers: Sequence[Server]) -> AsyncIterator[dict[Server, int]]:
    """Several servers, started at the same time."""
    async with AsyncExitStack() as stack:
        ports = await asyncio.gather(*(stack.enter_async_context(running(server)) for server in servers))
        yield dict(zip(servers, ports, strict=True))
