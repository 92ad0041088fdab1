"""Clients and their connections: whose loop they belong to, when they close, and what stands in for a key."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from llm_dispatcher._providers import make
from llm_dispatcher.exceptions import (
    ConfigurationError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderRateLimitError,
    ProviderTimeoutError,
)
from llm_dispatcher.provider import Ask, Finished, Opened, Provider, ProviderSettings, Secret
from llm_dispatcher.provider._clients import PerLoop
from llm_dispatcher.tasks import Target, TaskRequest
from llm_dispatcher.testing import CleanEnd, Cut, ErrorFrame, HttpError, Reply, SimulatedVendor, Stall, Wire
from tests.conftest import KINDS
from tests.faults.leaping_loop import leap_through

Start = Callable[..., SimulatedVendor]
ASK = Ask(TaskRequest("hi"), Target("a", "m"), 60.0)

wires = pytest.mark.parametrize("wire", list(Wire))


def provider_at(wire: str, base_url: str) -> Provider:
    return make(ProviderSettings(name="a", api_key=Secret("test-key"), base_url=base_url, **KINDS[wire]))


@pytest.fixture
async def provider_of() -> AsyncIterator[Callable[[SimulatedVendor], Provider]]:
    made: list[Provider] = []

    def make_one(vendor: SimulatedVendor) -> Provider:
        made.append(provider_at(vendor.wire, vendor.base_url))
        return made[-1]

    yield make_one
    for provider in made:
        await provider.aclose()


# ── loops ──────────────────────────────────────────────────────────────────────────────────────────────────────────

TWO_LOOPS = """
import asyncio, gc, sys, threading
from llm_dispatcher.provider import Ask, ProviderSettings, Secret
from llm_dispatcher._providers import make
from llm_dispatcher.provider._clients import PerLoop
from llm_dispatcher.tasks import Target, TaskRequest

settings = ProviderSettings(name="a", api_key=Secret("test-key"), **{settings})
provider = make(settings)
said = []

async def main():
    stream = provider.stream(Ask(TaskRequest("hi"), Target("a", "m"), 5.0))
    said.append("".join([piece async for piece in stream if isinstance(piece, str)]))

asyncio.run(main())
asyncio.run(main())
threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
del provider
gc.collect()
assert said == ["Hello!"] * 4, said
"""


@pytest.mark.slow
@wires
def test_clients_go_with_their_loops_without_a_warning(wire: str, simulated_vendor: Start) -> None:
    """One loop after the other, and two at once, nothing closed by hand."""
    settings = {**KINDS[wire], "base_url": simulated_vendor(wire, Reply("Hello!")).base_url}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TWO_LOOPS.replace("{settings}", repr(settings))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


IMPORTED_WHERE = """
import asyncio, sys, threading
seen = {}
def note(event, args):
    if event == "import":
        seen.setdefault(args[0], threading.current_thread() is threading.main_thread())
sys.addaudithook(note)
from llm_dispatcher.provider import ProviderSettings, Secret
from llm_dispatcher._providers import make
from llm_dispatcher.provider._clients import PerLoop
provider = make(ProviderSettings(name="a", kind="{kind}", api_key=Secret("test-key")))
assert "{module}" not in sys.modules
async def main():
    await provider.prepare()
asyncio.run(main())
assert seen["{module}"] is False
"""


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("openai", "openai"),
        pytest.param("anthropic", "anthropic", marks=pytest.mark.slow),
        pytest.param("google", "google.genai.client", marks=pytest.mark.slow),
    ],
)
def test_an_sdk_is_loaded_when_it_is_needed_and_not_in_the_loops_thread(kind: str, module: str) -> None:
    code = IMPORTED_WHERE.replace("{kind}", kind).replace("{module}", module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ── connections ────────────────────────────────────────────────────────────────────────────────────────────────────


@wires
async def test_closing_a_stream_closes_its_connection(
    wire: str, simulated_vendor: Start, provider_of: Callable[[SimulatedVendor], Provider]
) -> None:
    vendor = simulated_vendor(wire, Reply("One two three four.", fault=Stall(after=2)))
    async with aclosing(provider_of(vendor).stream(ASK)) as stream:
        async for piece in stream:
            if isinstance(piece, str) and piece:
                break
    assert await vendor.requests[0].until_over() == "left"
    assert await vendor.until_unconnected() == 0


@wires
async def test_cancelling_a_reader_closes_the_connection(
    wire: str, simulated_vendor: Start, provider_of: Callable[[SimulatedVendor], Provider]
) -> None:
    vendor = simulated_vendor(wire, Reply("One two three four.", fault=Stall(after=2)))
    begun = asyncio.Event()

    async def read() -> None:
        async with aclosing(provider_of(vendor).stream(ASK)) as stream:
            async for piece in stream:
                if isinstance(piece, str) and piece:
                    begun.set()

    reader = asyncio.create_task(read())
    await begun.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await vendor.until_unconnected() == 0


@wires
async def test_a_whole_answer_leaves_its_connection_to_the_next(
    wire: str, simulated_vendor: Start, provider_of: Callable[[SimulatedVendor], Provider]
) -> None:
    vendor = simulated_vendor(wire, Reply("One two three four."))
    provider = provider_of(vendor)
    for _ in range(3):
        assert [piece async for piece in provider.stream(ASK) if isinstance(piece, Finished)]
        assert vendor.open_connections == 1


@wires
def test_data_received_before_a_broken_connection_is_read(wire: str) -> None:
    async def read() -> str:
        text = ""
        async with SimulatedVendor(wire, Reply("One two three four.", fault=Cut(after=2))) as vendor:
            provider = provider_at(wire, vendor.base_url)
            async with aclosing(provider.stream(ASK)) as stream:
                assert isinstance(await anext(stream), Opened)
                await asyncio.sleep(30)  # (the connection has long been reset)
                assert vendor.open_connections == 0
                with pytest.raises(ProviderConnectionError):
                    async for piece in stream:
                        text += piece if isinstance(piece, str) else ""
            await provider.aclose()
        return text

    assert leap_through(read) == "One two"


@wires
async def test_a_clean_end_without_terminal_evidence_is_not_a_finish(
    wire: str, simulated_vendor: Start, provider_of: Callable[[SimulatedVendor], Provider]
) -> None:
    vendor = simulated_vendor(wire, Reply("One two three four.", fault=CleanEnd(after=2)))
    pieces = [piece async for piece in provider_of(vendor).stream(ASK)]
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == "One two"
    assert not any(isinstance(piece, Finished) for piece in pieces)


@pytest.fixture
def deaf_port() -> Any:
    """A port that takes no more connections and refuses none: whoever connects waits."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
            waiting.append(one)
        yield listener.getsockname()[1]
        for one in waiting:
            one.close()


@wires
async def test_the_connect_clock_is_the_transports(wire: str, deaf_port: int) -> None:
    provider = provider_at(wire, f"http://127.0.0.1:{deaf_port}")
    with pytest.raises(ProviderTimeoutError) as raised:
        async with asyncio.timeout(60):  # (the system gives up as well, after two minutes)
            async for _ in provider.stream(Ask(TaskRequest("hi"), Target("a", "m"), 0.05)):
                pass
    assert raised.value.clock == "connect"
    await provider.aclose()


# ── what errors tell ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", [Cut(2), ErrorFrame(2)], ids=["cut", "error frame"])
@pytest.mark.parametrize("wire", ["openai-chat", "openai-responses", "anthropic"])
async def test_an_error_in_the_stream_bears_its_answers_id(
    wire: str, fault: Any, simulated_vendor: Start, provider_of: Callable[[SimulatedVendor], Provider]
) -> None:
    vendor = simulated_vendor(wire, Reply("One two three four.", fault=fault))
    with pytest.raises(ProviderConnectionError if isinstance(fault, Cut) else Exception) as raised:
        async for _ in provider_of(vendor).stream(ASK):
            pass
    assert getattr(raised.value, "request_id", None) == vendor.requests[0].request_id != ""


@wires
async def test_an_error_under_way_elsewhere_is_not_the_cause(
    wire: str, simulated_vendor: Start, provider_of: Callable[[SimulatedVendor], Provider]
) -> None:
    """Who asks us while handling another failure has that one chained to ours by Python; it says nothing of ours."""
    vendor = simulated_vendor(wire, Reply(fault=HttpError(429)))
    with vendor.down():
        gone = provider_of(vendor)
    limited = provider_of(vendor)
    try:
        raise ConnectionResetError("elsewhere")
    except ConnectionResetError:
        with pytest.raises(ProviderRateLimitError):
            async for _ in limited.stream(ASK):
                pass
    try:
        import openai

        raise openai.OpenAIError("elsewhere") from TimeoutError()
    except openai.OpenAIError:
        with vendor.down(), pytest.raises(ProviderConnectionError):
            async for _ in gone.stream(ASK):
                pass


# ── keys and options ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["openai", "anthropic", "google"])
async def test_no_key_is_an_authentication_error_and_none_is_taken_from_the_environment(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{kind.upper()}_API_KEY", "test-key")
    provider = make(ProviderSettings(name="a", kind=kind, base_url="http://127.0.0.1:9"))
    with pytest.raises(ProviderAuthenticationError, match="a: no API key is configured"):
        await provider.prepare()


async def test_a_host_that_wants_no_key_is_sent_none() -> None:
    with SimulatedVendor("openai-chat", Reply("Hello!"), api_key=None) as vendor:
        provider = make(ProviderSettings(name="a", kind="openai_compatible", base_url=vendor.base_url))
        assert [piece async for piece in provider.stream(ASK) if isinstance(piece, Finished)]
        await provider.aclose()
        assert "authorization" not in {name.lower() for name in vendor.requests[0].headers}


@pytest.mark.parametrize("kind", ["openai", "anthropic", "google", "ollama"])
def test_an_unread_option_is_refused(kind: str) -> None:
    with pytest.raises(ConfigurationError, match="is not an option of a provider of the kind") as raised:
        make(ProviderSettings(name="x", kind=kind, options={"max_tokenz": 5}))
    assert raised.value.key == "providers.x.options.max_tokenz"


@pytest.mark.parametrize("limit", [0, -1, 1.5, "5", True])
def test_anthropics_own_limit_is_a_whole_number(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="is an int of 1 or more"):
        make(ProviderSettings(name="x", kind="anthropic", options={"max_tokens": limit}))


# ── one client for all who ask at once ─────────────────────────────────────────────────────────────────────────────


class SlowLife:
    """A client that is made when told so."""

    def __init__(self) -> None:
        self.may_be_made = asyncio.Event()
        self.begun = 0

    async def __call__(self) -> AsyncGenerator[str, None]:
        self.begun += 1
        await self.may_be_made.wait()
        yield f"client {self.begun}"


async def test_a_task_waiting_for_a_client_is_not_cancelled_with_its_maker() -> None:
    life = SlowLife()
    clients = PerLoop(life)
    maker, waiter = asyncio.create_task(clients.get()), asyncio.create_task(clients.get())
    while not life.begun:
        await asyncio.sleep(0)
    maker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await maker
    life.may_be_made.set()
    assert await waiter == await clients.get() == "client 2"
    await clients.aclose()


async def test_a_waiter_that_is_cancelled_leaves_the_client_to_its_maker() -> None:
    life = SlowLife()
    clients = PerLoop(life)
    maker, waiter = asyncio.create_task(clients.get()), asyncio.create_task(clients.get())
    while not life.begun:
        await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    life.may_be_made.set()
    assert await maker == "client 1"
    await clients.aclose()


def test_a_client_that_is_dropped_as_its_loop_ends_is_closed_in_it(collect_garbage: Callable[[], object]) -> None:
    """A function that makes a provider, reads an answer and returns leaves the loop no turn to close the client in."""
    closed: list[str] = []
    complaints: list[dict[str, Any]] = []

    async def life() -> AsyncGenerator[object, None]:
        try:
            yield object()
        finally:
            closed.append("begun")
            for _ in range(5):  # (as long as a connection takes to close)
                await asyncio.sleep(0)
            closed.append("done")

    async def use() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await PerLoop(life).get()

    asyncio.run(use())
    collect_garbage()
    assert (closed, complaints) == (["begun", "done"], [])


def test_release_closes_each_client_in_its_own_loop() -> None:
    made, closed = threading.Barrier(3), list[int]()
    over: dict[int, asyncio.Event] = {}

    async def life() -> AsyncGenerator[object, None]:
        here = over[threading.get_ident()] = asyncio.Event()
        try:
            yield object()
        finally:
            closed.append(threading.get_ident())
            here.set()

    async def use() -> None:
        await clients.get()
        await asyncio.to_thread(made.wait)
        async with asyncio.timeout(60):
            await over[threading.get_ident()].wait()

    clients = PerLoop(life)
    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    made.wait()
    clients.release()
    for thread in threads:
        thread.join()
    assert sorted(closed) == sorted(thread.ident or 0 for thread in threads)


def test_loops_that_are_closed_are_forgotten(collect_garbage: Callable[[], object]) -> None:
    async def life() -> AsyncGenerator[object, None]:
        yield object()

    async def use() -> weakref.ref[asyncio.AbstractEventLoop]:
        await clients.get()
        return weakref.ref(asyncio.get_running_loop())

    clients = PerLoop(life)
    loops = [asyncio.run(use()) for _ in range(4)]
    collect_garbage()
    assert sum(loop() is not None for loop in loops) <= 1


@wires
async def test_a_proxy_that_the_environment_names_is_asked(
    wire: Wire, simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = simulated_vendor(wire, Reply("All is well."))
    here = vendor.base_url.split("/")[2]
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode()
        asked.append(line.split()[1])
        behind_reader, behind = await asyncio.open_connection(*here.split(":"))
        behind.write(line.replace("http://vendor.invalid", "").encode())
        answering = asyncio.create_task(pass_on(behind_reader, writer))
        await pass_on(reader, behind)
        await answering

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        provider = provider_at(wire, vendor.base_url.replace(here, "vendor.invalid"))
        assert "".join([piece async for piece in provider.stream(ASK) if isinstance(piece, str)]) == "All is well."
        await provider.aclose()
    assert len(asked) == 1 and asked[0].startswith("http://vendor.invalid/")


AT_EXIT = """
import asyncio, threading
from llm_dispatcher.provider.kit import PerLoop
async def open_client():
    yield object()
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
clients = PerLoop(open_client)
asyncio.run_coroutine_threadsafe(clients.get(), loop).result()
loop.call_soon_threadsafe = lambda *args, **kwargs: print("the loop was called", flush=True)
"""


def test_no_client_is_closed_by_a_finalizer_at_the_end_of_the_process() -> None:
    """A daemon thread's loop runs until the very end, and nothing may be handed to it that late."""
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
