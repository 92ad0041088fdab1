"""The trials: one prompt, one cut, and what the reader got. Each is a line of `.seams/trials.jsonl`."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from llm_dispatcher import LLMSwitch, StreamingError, TaskRequest
from llm_dispatcher.exceptions import LLMDispatcherError

from .environment import HERE, HOME, python
from .prompts import PROMPTS
from .proxy import Cut, Proxy, proxy_before
from .rows import Row
from .servers import Server

TRIALS: Final = HOME / "trials.jsonl"
MAX_TOKENS: Final = 96


class Got(Struct):
    """What a reader got. `rung` and `seam` are this library's; `outcome` is `complete` or the name of the error."""

    text: str
    outcome: str
    rung: str = ""
    seam: str = ""
    proof: str = ""
    delivered: int = -1
    failures: tuple[str, ...] = ()


class Trial(Struct):
    """One trial. `whole` is the answer that the first server gave to the request that was cut."""

    row: str
    number: int
    source: str
    """The state of what was measured: of this library's source, or the peers' versions."""
    prompt: str
    cut: int
    whole: str
    delivered: str
    got: Got
    requests: tuple[str, ...] = ()

    @property
    def rest(self) -> str:
        """What the reader got after the cut."""
        return self.got.text[len(self.delivered) :]


Read: TypeAlias = Callable[[str], Awaitable[Got]]


def place_of(number: int) -> tuple[str, float]:
    """The prompt and the place of the cut: the same for every row."""
    return PROMPTS[number % len(PROMPTS)], random.Random(f"seams {number}").random()


@asynccontextmanager
async def reader_of(row: Row, first_url: str, second_url: str) -> AsyncIterator[Read]:
    """The row's reader, which stays for all its trials."""
    if row.peer:
        async with _peer(row, first_url, second_url) as read:
            yield read
        return
    async with LLMSwitch(row.config(first_url, second_url)) as switch:

        async def read_with_us(prompt: str) -> Got:
            stream = switch.stream_request(TaskRequest(prompt, temperature=0, max_tokens=MAX_TOKENS))
            text, outcome = "", "complete"
            failures: tuple[str, ...] = ()
            try:
                async for piece in stream:
                    text += piece
            except LLMDispatcherError as error:
                outcome = type(error).__name__
                if isinstance(error, StreamingError):
                    failures = tuple(f"{type(failure).__name__}: {failure}" for failure in error.failures)
            attempts = stream.response.attempts
            last = attempts[-1]
            return Got(
                text, outcome, last.rung or "", last.seam or "", last.proof or "", attempts[0].delivered, failures
            )

        yield read_with_us


@asynccontextmanager
async def _peer(row: Row, first_url: str, second_url: str) -> AsyncIterator[Read]:
    second = row.second or row.first
    process = await asyncio.create_subprocess_exec(
        python("peers"), HERE / "inside" / "readers.py", row.peer, first_url, row.first.model, second_url,
        second.model, second.kind,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=(HOME / "log" / f"{row.name}.log").open("wb"),
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    to, back = process.stdin, process.stdout

    async def lines() -> Any:
        while line := await back.readline():
            # A peer may print other things to standard output.
            try:
                return msgspec.json.decode(line)
            except msgspec.DecodeError:
                continue
        raise SystemExit(f"{row.peer} has ended: see .seams/log/{row.name}.log")

    async def read(prompt: str) -> Got:
        to.write(json.dumps({"prompt": prompt, "max_tokens": MAX_TOKENS}).encode() + b"\n")
        await to.drain()
        return msgspec.convert(await lines(), Got)

    await lines()
    try:
        yield read
    finally:
        to.close()
        await process.wait()


Recorded: TypeAlias = defaultdict[Server, dict[str, bytes]]
"""The answers of servers that are not asked again after the cut, by prompt."""


async def run_row(row: Row, ports: Mapping[Server, int], recorded: Recorded, source: str, left: Sequence[int]) -> None:
    """The trials of a row with these numbers, as many at the same time as the server that is cut takes well."""
    numbers = iter(left)

    async def lane() -> None:
        async with proxy_before(ports[row.first], recorded[row.first]) as proxy:
            first_url = f"http://127.0.0.1:{proxy.port}/v1"
            second_url = f"http://127.0.0.1:{ports[row.second or row.first]}/v1"
            async with reader_of(row, first_url, second_url) as read:
                for number in numbers:
                    trial = await _trial(row, number, source, proxy, read)
                    keep(TRIALS, trial)
                    print(f"· {row.name} {number}: {trial.got.outcome} {trial.got.rung}", flush=True)

    await asyncio.gather(*(lane() for _ in range(row.first.at_once)))


async def _trial(row: Row, number: int, source: str, proxy: Proxy, read: Read) -> Trial:
    prompt, place = place_of(number)
    asked_before = len(proxy.requests)
    cut = proxy.arm(place, dead_after=row.is_first_dead)
    got = await read(prompt)
    requests = tuple(body.decode() for body in proxy.requests[asked_before:])
    return Trial(row.name, number, source, prompt, cut.passed_on, cut.whole, _delivered(cut, got), got, requests)


def _delivered(cut: Cut, got: Got) -> str:
    """What the reader had at the cut. This library's ledger tells it; for a peer, the bytes that were passed on do."""
    return got.text[: got.delivered] if got.delivered >= 0 else got.text[: len(cut.delivered)]


def keep(path: Path, trial: Trial) -> None:
    with path.open("ab") as file:
        file.write(msgspec.json.encode(trial) + b"\n")


def kept(path: Path, sources: Mapping[str, str]) -> list[Trial]:
    """The trials of what is measured now: `sources` has the state of it by row."""
    if not path.exists():
        return []
    trials = [msgspec.json.decode(line, type=Trial) for line in path.read_bytes().splitlines()]
    return [trial for trial in trials if sources.get(trial.row) == trial.source]
