"""The operator's page holds every kind of line that is logged, and no other."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
import sqlite3
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, closing, suppress
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from msgspec import Struct
from msgspec.structs import force_setattr

import llm_dispatcher
from llm_dispatcher import (
    LLM,
    LLMSwitch,
    MemorySessions,
    Session,
    StreamingCache,
    StreamingCallbacks,
    TaskRequest,
    use_switch,
)
from llm_dispatcher import _catalog as catalog
from llm_dispatcher._dispatch import Job, Ledger, OpenStreams, attempts
from llm_dispatcher._resilience import Resilience
from llm_dispatcher.cache._sqlite import SQLiteStore
from llm_dispatcher.events import StreamCompleted, TextDelta
from llm_dispatcher.exceptions import LLMDispatcherError, ProviderConnectionError
from llm_dispatcher.notices import Notice
from llm_dispatcher.provider import Ask, Finished, KeptRun, Piece, ProviderSettings
from llm_dispatcher.provider.kit import BaseProvider
from llm_dispatcher.streaming import Account, ObservedCall, Observer, Watcher
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import (
    CleanEnd,
    Continuing,
    Cut,
    ErrorFrame,
    Garbage,
    HttpError,
    MalformedJson,
    Refuse,
    Reply,
    SaidToolCall,
    SaidUsage,
    SimulatedVendor,
    SlowHeaders,
    Stall,
)
from tests.conftest import first_is_fast, policy_over

PACKAGE: Final = Path(llm_dispatcher.__file__).parent
PAGE: Final = Path(__file__).parents[2] / "docs" / "operations.md"
METHODS: Final = {"debug", "info", "warning", "error", "exception", "critical", "log"}
ASK: Final = TaskRequest("My secret wish.")
TEXT: Final = "One two three four."
Start = Callable[..., SimulatedVendor]


class Line(Struct, frozen=True):
    """A row of the table: a kind of line, and the levels that it may have."""

    levels: frozenset[str]
    words: str

    def is_of(self, said: str) -> bool:
        pattern = "(?:.+?)".join(re.escape(part) for part in re.split(r"<\w+>", self.words))
        return re.fullmatch(pattern, said, re.DOTALL) is not None


class Call(Struct, frozen=True):
    """A call of the logger in the package; no level where it is told only when it runs."""

    place: str
    level: str | None
    template: str

    def makes(self, line: Line) -> bool:
        pattern = "(?:.+?)".join(re.escape(part) for part in re.split(r"%[\w.]*[a-z]", self.template))
        return re.fullmatch(pattern, line.words) is not None


def lines_of_the_page() -> list[Line]:
    rows = re.findall(r"^\| ([A-Z]+(?:, then [A-Z]+)*) \| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)
    return [Line(frozenset(levels.split(", then ")), words) for levels, words in rows]


def calls_in_the_package() -> Iterator[Call]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if "logger" not in (code := path.read_text()):
            continue  # parsing each file takes half a second
        for node in ast.walk(ast.parse(code)):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=method), args=args):
                    assert method in METHODS, f"{path.name}:{node.lineno}"
                    template = args[method == "log"]
                    assert isinstance(template, ast.Constant) and isinstance(template.value, str), path
                    level = {"log": None, "exception": "ERROR"}.get(method, method.upper())
                    yield Call(f"{path.name}:{node.lineno}", level, template.value)
                case _:
                    pass


LINES: Final = lines_of_the_page()
CALLS: Final = list(calls_in_the_package())


# ── what is written ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.place)
def test_every_line_that_can_be_logged_is_in_the_table(call: Call) -> None:
    rows = [line for line in LINES if call.makes(line)]
    assert rows, f"{call.template!r} is missing"
    if call.level is not None:
        assert {level for line in rows for level in line.levels} == {call.level}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.words)
def test_every_line_of_the_table_is_logged_in_one_place(line: Line) -> None:
    assert len([call for call in CALLS if call.makes(line)]) == 1


def test_only_the_log_calls_the_logger() -> None:
    named = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^import logging|^from logging", path.read_text(), re.MULTILINE)
    }
    assert named == {"_log.py", "__init__.py"}, "the package's own __init__ has the NullHandler"
    assert {call.place.partition(":")[0] for call in CALLS} == {"_log.py"}


def test_each_notice_has_one_line() -> None:
    cases = [
        node for node in ast.walk(ast.parse((PACKAGE / "_log.py").read_text())) if isinstance(node, ast.match_case)
    ]
    names = [ast.unparse(case.pattern).partition("(")[0] for case in cases]
    assert sorted(names) == sorted(kind.__name__ for kind in get_args(Notice))
    assert len(CALLS) == len(names)


# ── what happens ───────────────────────────────────────────────────────────────────────────────────────────────────


def told(caplog: pytest.LogCaptureFixture) -> set[str]:
    """The kinds of the lines that were logged; each of them has one, and none holds the prompt."""
    kinds: set[str] = set()
    for record in caplog.records:
        if record.name != "llm_dispatcher":
            continue
        said = record.getMessage()
        kind = [line for line in LINES if line.is_of(said)]
        assert len(kind) == 1, said
        assert record.levelname in kind[0].levels, said
        assert "secret wish" not in said
        kinds.add(kind[0].words)
    return kinds


async def ask(switch: LLMSwitch, times: int = 1, **settings: Any) -> None:
    for _ in range(times):
        with suppress(LLMDispatcherError):
            await switch.stream_request(ASK, **settings)


FAULTS: Final[list[Any]] = [
    *(HttpError(status) for status in (400, 401, 402, 403, 404, 408, 413, 415, 422, 429, 500, 503, 529)),
    Refuse(), SlowHeaders(5), Cut(0), Cut(2), CleanEnd(0), CleanEnd(2), Stall(0),
    Stall(2), ErrorFrame(0), ErrorFrame(2, message="one\ntwo"), MalformedJson(2), Garbage(2),
    HttpError(429, retry_after=99),  # (after that nobody asks it)
]  # fmt: skip


@pytest.mark.parametrize("on_break", ["continue", "raise"])
@pytest.mark.parametrize("wire", first_is_fast("openai-responses", "openai-chat", "anthropic", "google", "ollama"))
async def test_every_logged_line_is_in_the_table_whatever_the_fault(
    wire: str, on_break: str, simulated_vendor: Start, switch_over: Callable[..., LLMSwitch],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG, "llm_dispatcher")
    ill = simulated_vendor(wire)
    clocks = {"first_token": 0.05, "idle": 0.05}
    switch = switch_over(ill, simulated_vendor(wire, Continuing(TEXT)), max_retries=1, timeouts=clocks)
    for fault in FAULTS:
        ill.script = Reply(TEXT, fault=fault)
        await ask(switch, on_break=on_break)
    assert len(ill.requests) > len(FAULTS), "it has met them all, and some twice"
    assert "<target>: gave up after <error>" in told(caplog)


async def breakers(start: Start) -> None:
    """One opens, is in the way, lets a probe through, and closes."""
    vendor = start("openai-chat", Reply(fault=HttpError(503)))
    async with LLMSwitch(policy_over(vendor, breaker={"failures": 1, "cooldown": 60}, max_retries=1)) as switch:
        await ask(switch)
    vendor = start("openai-chat", [Reply(fault=HttpError(503)), Reply()])
    async with LLMSwitch(policy_over(vendor, breaker={"failures": 1, "cooldown": 1e-9})) as switch:
        await ask(switch, times=2)


async def money(start: Start, folder: Path) -> None:
    """A budget's alert, whose callback raises, and a file that can be read and not written."""

    def alert(alert: object) -> None:
        raise RuntimeError("out of paper")

    kept = folder / "spending.sqlite3"
    policy = {
        **policy_over(start("openai-chat")),
        "catalog": {"a/m": {"input_price": 1, "output_price": 1}},
        "budgets": {"daily": 1, "alert_at": 1e-9, "path": str(kept)},
    }
    with closing(sqlite3.connect(kept)) as file:
        file.execute("CREATE VIEW spending AS SELECT '' AS namespace, '2026-11-21' AS period, 0.0 AS dollars")
    async with LLMSwitch(policy, on_budget_alert=alert) as switch:
        await ask(switch)


async def configurations(start: Start, folder: Path) -> None:
    file = folder / "policy.yaml"
    sound = f"providers:\n  ollama: {{base_url: '{start('ollama').base_url}', models: [m]}}\n"
    file.write_text(sound)
    async with LLMSwitch(file, watch=True) as switch:
        file.write_text("rooting: {}")
        await ask(switch)
        file.write_text(sound)
        switch.reload()


async def callbacks(start: Start) -> None:
    def on_chunk(text: str, metadata: object) -> None:
        raise RuntimeError("no paper")

    class Broken(Observer):
        def begin(self, call: ObservedCall | None, account: Account) -> Watcher | None:
            raise RuntimeError("no paper here either")

    async with LLMSwitch(policy_over(start("openai-chat")), observers=[Broken()]) as switch:
        await ask(switch, callbacks=StreamingCallbacks(on_chunk_received=on_chunk))


async def caches(start: Start, folder: Path) -> None:
    """A file that is no cache, one that goes away, and a store that breaks."""
    damaged = folder / "damaged.sqlite3"
    made = SQLiteStore(damaged)
    made.open()
    made.close()
    damaged.write_bytes(damaged.read_bytes()[:100] + bytes(5000))
    async with LLMSwitch(policy_over(start("openai-chat"))) as switch:
        cache = StreamingCache(store=damaged)
        await ask(switch, cache=cache)
        cache.flush()
        with closing(sqlite3.connect(damaged)) as file:
            file.execute("DROP TABLE entries")
        await ask(switch, cache=cache)
        await switch.stream_request(TaskRequest("Another wish."), cache=cache)
        cache.close()
        gone = StreamingCache(store=SQLiteStore(folder / "policy.yaml" / "no folder"))
        await ask(switch, cache=gone)
        gone.close()


async def unprepared(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vendor whose SDK cannot be imported."""
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "anthropic", None)
        async with LLMSwitch(policy_over(start("anthropic"))) as switch:
            await switch.warm()


async def impossible_numbers(start: Start) -> None:
    """A vendor that reports a negative count, and an account that fails to take an attempt."""
    usage = SaidUsage()
    force_setattr(usage, "output", -1)
    async with LLMSwitch(policy_over(start("openai-chat", Reply(usage=usage)))) as switch:
        await ask(switch)
        switch._shared.traffic.health.note = None  # type: ignore[method-assign, assignment]
        await ask(switch)


async def unloadable_prices(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot read the list of prices."""
    with monkeypatch.context() as patched:
        patched.setattr(catalog, "load_prices", lambda: 1 // 0)
        patched.setattr(catalog, "are_prices_loaded", lambda: False)
        async with LLMSwitch(policy_over(start("openai-chat"))) as switch:
            await ask(switch)
            async with asyncio.timeout(60):
                while switch._shared.knowledge.is_asked_for:
                    await asyncio.sleep(0.001)


async def late_trouble() -> None:
    """A vendor that says an error when it has said all."""
    said = (
        b'data: {"choices": [{"index": 0, "delta": {"content": "Hello!"}, "finish_reason": "stop"}]}\n\n'
        b'data: {"error": {"message": "simulated", "code": 500}}\n\n'
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(said)}\r\n\r\n"
        writer.write(head.encode() + said)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    entry = {"kind": "openai", "api": "chat", "api_key": "test-key", "models": ["m"]}
    async with server, LLMSwitch({"providers": {"a": {**entry, "base_url": f"http://{host}:{port}/v1"}}}) as switch:
        assert await switch.stream_request(ASK) == "Hello!"


async def closed_connections(simulated_vendor: Start) -> None:
    """A vendor that closes a connection when the next request comes on it."""
    vendor = simulated_vendor("openai-chat", [Reply("Hello!"), Reply(fault=Refuse()), Reply("Hello!")])
    entry = {"kind": "openai", "api": "chat", "api_key": "test-key", "models": ["m"], "base_url": vendor.base_url}
    async with LLMSwitch({"providers": {"a": entry}}) as switch:
        for _ in range(2):
            assert await switch.stream_request(ASK) == "Hello!"


async def runs_that_break() -> None:
    """A vendor that keeps the runs that it was asked for. Each breaks; one is read on, and one cannot be stopped."""

    class KeptForEver:
        id, position, is_over = "run_1", "event 1", False

        async def read_on(self) -> AsyncGenerator[Piece, None]:
            yield Finished("stop", "stop")

        async def cancel(self) -> None:
            raise ProviderConnectionError("simulated")

    class Keeps(BaseProvider[None]):
        async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
            yield KeptRun(KeptForEver())
            yield "Hello"
            yield "!"

    job = Job(
        request=ASK,
        targets=(Target("a", "m"),),
        provider=lambda target: Keeps(ProviderSettings(name="a", kind="of a third party")),
        style=lambda target: "anchored",
        resilience=Resilience(),
        ledger=Ledger(),
        open_streams=OpenStreams(),
    )
    assert isinstance([event async for event in attempts(job)][-1], StreamCompleted)
    async with aclosing(attempts(job)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    assert job.open_streams is not None
    await job.open_streams.end()


async def tools(start: Start) -> None:
    """A tool that raises, and one that is too slow."""

    async def sleep() -> None:
        await asyncio.Event().wait()

    def fail() -> None:
        raise RuntimeError("no paper")

    calls = (SaidToolCall("sleep", id="a"), SaidToolCall("fail", id="b"))
    vendor = start("openai-chat", [Reply(tool_calls=calls), Reply()])
    async with LLMSwitch(policy_over(vendor)) as switch:
        await switch.stream_request(TaskRequest("Go.", tools=[sleep, fail]), tool_timeout=0.01)


async def sessions(start: Start) -> None:
    """A stream of a session that breaks, and whose store is full."""

    class Full(MemorySessions):
        async def write(self, *args: Any) -> bool:
            raise OSError("no paper")

    async with LLMSwitch(policy_over(start("openai-chat", Reply(TEXT, fault=Cut(2))))) as switch:
        with use_switch(switch), suppress(LLMDispatcherError):
            await Session(LLM(on_break="raise"), store=Full()).stream("My secret wish.")


async def test_every_line_of_the_table_is_met(
    simulated_vendor: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("llm_dispatcher._config.files.CHECK_INTERVAL", 0.0)
    caplog.set_level(logging.DEBUG, "llm_dispatcher")
    await breakers(simulated_vendor)
    await money(simulated_vendor, tmp_path)
    await configurations(simulated_vendor, tmp_path)
    await callbacks(simulated_vendor)
    await caches(simulated_vendor, tmp_path)
    await impossible_numbers(simulated_vendor)
    await unloadable_prices(simulated_vendor, monkeypatch)
    await late_trouble()
    await unprepared(simulated_vendor, monkeypatch)
    await closed_connections(simulated_vendor)
    await runs_that_break()
    await tools(simulated_vendor)
    await sessions(simulated_vendor)
    assert told(caplog) == {line.words for line in LINES}
