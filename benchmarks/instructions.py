"""Instructions that a token takes if it arrives alone, from aiohttp's buffer to a reader with callbacks and progress.

python benchmarks/instructions.py        (needs valgrind, and takes three minutes)

They are counted and not timed, so that the figures stand on a noisy machine. They contain neither the
operating system's part nor aiohttp's parser. Each figure is the difference of two counts, of 200 tokens and of 1200.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
from typing import Any

FEW, MANY = 200, 1200
TOKENS: dict[str, Any] = {
    "openai-chat": {"choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]},
    "openai-responses": {"type": "response.output_text.delta", "output_index": 0, "delta": " word"},
    "anthropic": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " word"}},
    "google": {"candidates": [{"content": {"parts": [{"text": " word"}]}, "index": 0}]},
}
WAYS = ("from its buffer", "by readany")


async def feed(wire: str, way: str, tokens: int) -> None:
    """Feed a running stream with this many tokens, each in a turn of the loop, while valgrind counts."""
    from llm_dispatcher import LLMSwitch, ProgressTracker, StreamingCallbacks, TaskRequest
    from llm_dispatcher._providers.base import transport
    from llm_dispatcher.testing import Reply, SimulatedVendor, Stall

    contents: list[Any] = []
    ours = transport.all_that_came

    def intercept(response: Any) -> Any:
        contents.append(response.content)
        return response.content.readany if way == "by readany" else ours(response)

    transport.all_that_came = intercept
    came: list[str] = []
    started = asyncio.Event()
    options = {
        "callbacks": StreamingCallbacks(on_chunk_received=lambda chunk, metadata: None),
        "progress_tracker": ProgressTracker(),
    }

    async def read() -> None:
        async for text in switch.stream_request(TaskRequest("x"), **options):  # type: ignore[arg-type]
            came.append(text)
            if len(came) == 2:
                started.set()

    async with SimulatedVendor(wire, Reply("One two three", fault=Stall(2))) as vendor:
        kind, _, api = wire.partition("-")
        settings = {"kind": kind, "api_key": "test-key", "base_url": vendor.base_url, "models": ["m"]}
        if api:
            settings["api"] = api
        switch = LLMSwitch({"providers": {"a": settings}, "routing": {"default": ["a/m"]}})
        reading = asyncio.create_task(read())
        await started.wait()
        event = b"data: " + json.dumps(TOKENS[wire]).encode() + b"\n\n"
        gc.collect()
        gc.freeze()
        count("on")
        for _ in range(tokens):
            contents[0].feed_data(event)
            await asyncio.sleep(0)
        count("off")
        await asyncio.sleep(0)
        assert len(came) == tokens + 2, f"{len(came)} of {tokens + 2} came"
        reading.cancel()
        os._exit(0)


def count(state: str) -> None:
    """Tell valgrind to count, or to stop counting."""
    subprocess.run(["callgrind_control", "-i", state, str(os.getpid())], check=True, stdout=subprocess.DEVNULL)


def instructions(wire: str, way: str, tokens: int) -> int:
    """The instructions of one run, in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        counting = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/counts"]
        run = subprocess.run(
            [*counting, sys.executable, __file__, wire, way, str(tokens)],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            check=True,
            capture_output=True,
            text=True,
        )
    match = re.search(r"Collected : (\d+)", run.stderr)
    assert match, run.stderr
    return int(match[1])


def main() -> None:
    print("| wire | " + " | ".join(WAYS) + " |\n|---|---|---|")
    for wire in TOKENS:
        figures = [(instructions(wire, way, MANY) - instructions(wire, way, FEW)) // (MANY - FEW) for way in WAYS]
        print(f"| {wire} | " + " | ".join(f"{figure:,}" for figure in figures) + " |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        asyncio.run(feed(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    else:
        main()
