"""Ten thousand streams at once in one process, against simulated vendors in another: all complete, and the memory of
each.

python benchmarks/many_streams.py [--streams 10000] [--wire openai-chat]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import sys
import time
from pathlib import Path

from llm_dispatcher import LLMSwitch, ProgressTracker, StreamingCallbacks, TaskRequest
from llm_dispatcher.testing import Reply, SpawnedVendor, Wire

WORDS = 12
TEXT = " ".join(f"word{number}" for number in range(WORDS))
PACE = 3.0
"""Seconds between two chunks: a stream must last longer than it takes to open all of them."""
SPARE = 200
"""Files that the process needs beside the streams' sockets."""
KINDS = {
    "openai-chat": {"kind": "openai", "api": "chat"},
    "openai-responses": {"kind": "openai", "api": "responses"},
    "anthropic": {"kind": "anthropic"},
    "google": {"kind": "google"},
    "ollama": {"kind": "ollama"},
}


class Tally:
    """How many streams are under way, and the most there were; `full` is set when all of them are."""

    def __init__(self, streams: int) -> None:
        self.streams = streams
        self.open = self.most = self.whole = self.chunks = 0
        self.full = asyncio.Event()

    def begin(self) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        if self.open == self.streams:
            self.full.set()


async def one(switch: LLMSwitch, tally: Tally, tracker: ProgressTracker) -> None:
    def chunk(*_: object) -> None:
        tally.chunks += 1

    stream = switch.stream_request(
        TaskRequest("Count."), callbacks=StreamingCallbacks(on_chunk_received=chunk), progress_tracker=tracker
    )
    text = ""
    async for piece in stream:
        if not text:
            tally.begin()
        text += piece
    tally.open -= 1
    tally.whole += text == TEXT


def megabytes() -> float:
    """The memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def permitted_streams(streams: int) -> int:
    """As many as the limit on open files lets; it is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and streams + SPARE > hard:
        print(f"the limit on open files is {hard} (soft {soft}): {hard - SPARE} streams instead of {streams}")
        return hard - SPARE
    return streams


async def run(streams: int, wire: Wire, base_url: str) -> bool:
    settings = {**KINDS[wire], "api_key": "test-key", "base_url": base_url, "models": ["m"]}
    timeouts = {"connect": 120, "first_token": 300, "idle": 300, "total": 900}
    async with LLMSwitch({"providers": {"a": settings}, "resilience": {"timeouts": timeouts}}) as switch:
        tally, tracker = Tally(streams), ProgressTracker()
        await one(switch, Tally(1), ProgressTracker())  # the SDK is loaded, the client made
        gc.collect()
        before, began, cpu = megabytes(), time.monotonic(), time.process_time()
        reading = asyncio.gather(*(one(switch, tally, tracker) for _ in range(streams)), return_exceptions=True)
        full = asyncio.create_task(tally.full.wait())
        await asyncio.wait((reading, full), return_when=asyncio.FIRST_COMPLETED)
        at_most = megabytes()
        full.cancel()
        results = await reading
        failed = [result for result in results if result is not None]
        for error in failed[:3]:
            print(f"failed: {error!r}")
        seconds = time.monotonic() - began
        print(
            f"{wire}: {streams} streams, {tally.most} of them at once, {tally.whole} whole, {len(failed)} failed, "
            f"{tally.chunks} chunks in {seconds:.1f} s ({time.process_time() - cpu:.1f} s of CPU)"
        )
        print(f"memory: {before:.0f} MB before, {at_most:.0f} MB with all open, ", end="")
        print(f"{(at_most - before) * 1e3 / max(1, tally.most):.1f} kB a stream")
        return tally.whole == streams


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--streams", type=int, default=10_000)
    options.add_argument("--wire", type=Wire, default=Wire.OPENAI_CHAT)
    arguments = options.parse_args()
    streams = permitted_streams(arguments.streams)
    with SpawnedVendor(arguments.wire, Reply(TEXT, pace=PACE), remember=1) as vendor:
        return 0 if asyncio.run(run(streams, arguments.wire, vendor.base_url)) else 1


if __name__ == "__main__":
    sys.exit(main())
