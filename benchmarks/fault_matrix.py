"""The same broken streams, read by this library, the raw SDKs and its peers: the delivered text and the report of each.

make peers                          once: the peers' own environment
python benchmarks/fault_matrix.py   writes the table of docs/survival.md

A simulated vendor breaks in the way that the prompt names; a second one works, and is the fallback if a client has
one. The answer has 40 chunks.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from msgspec import Struct

from llm_dispatcher.testing import (
    CleanEnd,
    Continuing,
    Cut,
    ErrorFrame,
    HttpError,
    MalformedJson,
    ReceivedRequest,
    Refuse,
    Reply,
    SimulatedVendor,
    Stall,
)

HERE = Path(__file__).parent
PEERS = HERE.parent / ".peers" / "bin" / "python"
PAGE = HERE.parent / "docs" / "survival.md"
BEGIN, END = "<!-- begin: python benchmarks/fault_matrix.py -->", "<!-- end -->"

TEXT = " ".join(f"word{number}" for number in range(39)) + " end."
CHUNKS = 40
FAULTS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "refused": Refuse,
    "HTTP 500": lambda: HttpError(500),
    "HTTP 429": lambda: HttpError(429),
    "cut before the first word": lambda: Cut(0),
    "stall before the first word": lambda: Stall(0),
    "cut after 5 words": lambda: Cut(5, moment=0.01),
    "stall after 5 words": lambda: Stall(5),
    "clean end after 5 words": lambda: CleanEnd(5),
    "clean end before the last word": lambda: CleanEnd(39),
    "error frame after 5 words": lambda: ErrorFrame(5),
    "malformed JSON after 5 words": lambda: MalformedJson(5),
}


class Client(Struct, frozen=True):
    """A column of the table. The page names the version of `package`."""

    title: str
    reader: str
    wire: str
    package: str
    is_peer: bool = False


CLIENTS = (
    Client("llm_dispatcher", "ours", "openai-chat", ""),
    Client("LiteLLM Router", "litellm", "openai-chat", "litellm", is_peer=True),
    Client("pydantic-ai FallbackModel", "pydantic-ai", "openai-chat", "pydantic-ai-slim", is_peer=True),
    Client("LangChain with_fallbacks", "langchain", "openai-chat", "langchain-openai", is_peer=True),
    Client("openai, chat", "openai-chat", "openai-chat", "openai"),
    Client("openai, responses", "openai-responses", "openai-responses", "openai"),
    Client("anthropic", "anthropic", "anthropic", "anthropic"),
    Client("google-genai", "google", "google", "google-genai"),
)


class Cell(Struct, frozen=True):
    """The result of one client with one fault."""

    text: str
    outcome: str
    seconds: float
    fallback_asked: int

    @property
    def delivered(self) -> str:
        if self.text == TEXT:
            return "all"
        if TEXT.startswith(self.text):
            return f"{len(self.text.split())} of {CHUNKS}"
        return "not the text"

    @property
    def is_lie(self) -> bool:
        """Told complete, and it was not."""
        return self.outcome == "complete" and self.text != TEXT

    def __str__(self) -> str:
        outcome = f"**“{self.outcome}”**" if self.is_lie else self.outcome.replace("error: ", "")
        fallback = ", fallback asked" if self.fallback_asked else ""
        return f"{self.delivered}; {outcome}{fallback}"


def fault_of(request: ReceivedRequest) -> Reply:
    """The prompt is the fault's name."""
    return Reply(TEXT, fault=FAULTS[request.turns[0].text]())


async def column(client: Client) -> list[Cell]:
    """One client's cells, fault by fault, in its own process."""
    python = str(PEERS) if client.is_peer else sys.executable
    async with AsyncExitStack() as stack:
        faulty = await stack.enter_async_context(SimulatedVendor(client.wire, fault_of))
        well = await stack.enter_async_context(SimulatedVendor(client.wire, Continuing(TEXT)))
        process = await asyncio.create_subprocess_exec(
            python, str(HERE / "peers" / "readers.py"), client.reader, faulty.base_url, well.base_url, client.wire,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise SystemExit(f"{client.title} did not start: {python}")
        cells: list[Cell] = []
        for fault in FAULTS:
            before = len(well.requests)
            process.stdin.write(json.dumps(fault).encode() + b"\n")
            answer = json.loads(await process.stdout.readline())
            cells.append(Cell(**answer, fallback_asked=len(well.requests) - before))
        process.stdin.close()
        await process.wait()
        return cells


def versions(clients: Sequence[Client]) -> str:
    """The compared packages with their installed versions."""
    installed: dict[str, str] = {}
    for client in clients:
        if client.package and not client.is_peer:
            installed[client.package] = version(client.package)
        elif client.is_peer:
            pattern = client.package.replace("-", "_") + "-*.dist-info"
            folder = next(iter(PEERS.parents[1].glob(f"lib/*/site-packages/{pattern}")))
            installed[client.package] = folder.name.split("-")[1]
    return ", ".join(f"{package} {installed[package].removesuffix('.dist')}" for package in installed)


def table(clients: Sequence[Client], columns: Sequence[Sequence[Cell]]) -> str:
    head = ["fault", *(client.title for client in clients)]
    lines = [head, ["---"] * len(head)]
    for place, fault in enumerate(FAULTS):
        lines.append([fault, *(str(cells[place]) for cells in columns)])
    whole = [
        "whole answers",
        *(f"{sum(cell.delivered == 'all' for cell in cells)} of {len(FAULTS)}" for cells in columns),
    ]
    lies = ["called complete, but was not", *(str(sum(cell.is_lie for cell in cells)) for cells in columns)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, whole, lies])


def write(page: Path, text: str) -> None:
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


async def main() -> None:
    clients = [client for client in CLIENTS if PEERS.exists() or not client.is_peer]
    if len(clients) < len(CLIENTS):
        print("the peers' environment is not there (make peers): comparing with the raw SDKs alone, writing nothing")
    columns = [await column(client) for client in clients]
    text = table(clients, columns)
    print(text)
    if len(clients) == len(CLIENTS):
        write(PAGE, f"{text}\n\nVersions: {versions(clients)}.")


if __name__ == "__main__":
    asyncio.run(main())
