"""Connections that are used again: which are, which are not, and what happens where one was closed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher.exceptions import ProviderConnectionError, ProviderError
from llm_dispatcher.provider import Finished, Provider
from llm_dispatcher.testing import HangUp, Linger, Refuse, Reply, SimulatedVendor, UnaskedAnswer, Wire
from tests.conftest import KINDS
from tests.faults.leaping_loop import leap_through
from tests.providers.raw_server import TEXT, Came, beginning, raw_server, whole, without_its_end
from tests.providers.test_connections import ASK, provider_at

Start = Callable[..., SimulatedVendor]
wires = pytest.mark.parametrize("wire", list(Wire))


def switch_over(wire: Wire, base_url: str, **resilience: Any) -> LLMSwitch:
    entry = {"api_key": "test-key", "base_url": base_url, "models": ["m"], **KINDS[wire]}
    return LLMSwitch({"providers": {"a": entry}, "resilience": resilience})


async def text_of(provider: Provider) -> str:
    return "".join([piece async for piece in provider.stream(ASK) if isinstance(piece, str)])


# ── a connection that the server has closed ────────────────────────────────────────────────────────────────────────


@pytest.mark.found("S-D2", "R-1")
@wires
async def test_a_server_that_closes_after_each_answer_is_not_ill(wire: Wire, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply(TEXT, fault=HangUp()))
    async with switch_over(wire, vendor.base_url) as switch:
        for _ in range(60):
            stream = switch.stream_request(TaskRequest("hi"))
            assert await stream.text() == TEXT
            assert [row.outcome for row in stream.response.attempts] == ["completed"]
        (seen,) = switch.health().values()
        assert (seen.breaker, seen.attempts, seen.failures) == ("closed", 60, 0)


@pytest.mark.found("S-D2", "R-1")
@wires
async def test_a_server_behind_tls_that_closes_after_each_answer_is_not_ill(
    wire: Wire,
    simulated_vendor: Start,
    encrypted: Callable[[SimulatedVendor], AbstractAsyncContextManager[str]],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    vendor = simulated_vendor(wire, Reply(TEXT, fault=HangUp()))
    async with encrypted(vendor) as base_url, switch_over(wire, base_url, max_retries=0) as switch:
        for _ in range(10):
            assert await switch.stream_request(TaskRequest("hi")).text() == TEXT
        (seen,) = switch.health().values()
        assert seen.failures == 0


@pytest.mark.found("S-D2", "R-1")
@wires
async def test_a_request_on_a_closed_connection_is_sent_again_in_full(wire: Wire, simulated_vendor: Start) -> None:
    """The server takes the request on the old connection, and closes it without a word."""
    vendor = simulated_vendor(wire, [Reply(TEXT), Reply(fault=Refuse()), Reply(TEXT)])
    async with switch_over(wire, vendor.base_url, max_retries=0) as switch:
        await switch.stream_request(TaskRequest("first")).text()
        stream = switch.stream_request(TaskRequest("second"))
        assert await stream.text() == TEXT
        assert [row.number for row in stream.response.attempts] == [1]
    _, dead, again = vendor.requests
    assert dead.text == again.text == "second"
    assert dead.body == again.body


@wires
async def test_a_request_is_sent_again_only_once(wire: Wire, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, [Reply(TEXT), Reply(fault=Refuse())])
    provider = provider_at(wire, vendor.base_url)
    await text_of(provider)
    with pytest.raises(ProviderConnectionError):
        await text_of(provider)
    assert len(vendor.requests) == 3
    await provider.aclose()


@wires
async def test_a_new_connection_that_breaks_is_the_vendors_failure(wire: Wire, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply(fault=Refuse()))
    provider = provider_at(wire, vendor.base_url)
    with pytest.raises(ProviderConnectionError):
        await text_of(provider)
    assert len(vendor.requests) == 1
    await provider.aclose()


@pytest.mark.found("S-D2")
@wires
async def test_several_dead_connections_in_the_pool_cost_one_more_request(wire: Wire) -> None:
    together = asyncio.Barrier(5)

    async def answer(came: Came) -> None:
        if came.on_connection > 1:
            came.reset()
            return
        if came.number <= 5:
            await together.wait()
        await came.send(whole(wire))

    async with raw_server(wire, answer) as server:
        provider = provider_at(wire, server.base_url)
        await asyncio.gather(*(text_of(provider) for _ in range(5)))
        assert server.connections == 5
        assert await text_of(provider) == TEXT
        assert (server.requests, server.connections) == (7, 6)
        await provider.aclose()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("much", [1, 12, 40])
@wires
async def test_a_connection_that_breaks_once_the_answer_has_begun_is_the_vendors_failure(
    wire: Wire, much: int, how: str
) -> None:
    """A vendor that has begun to answer had the request: it is not sent a second time in secret."""

    async def answer(came: Came) -> None:
        if came.number == 1:
            await came.send(whole(wire))
            return
        await came.send(whole(wire)[:much])
        await heard.wait()  # (a reset overtakes what was sent before)
        getattr(came, how)()

    heard = asyncio.Event()
    async with raw_server(wire, answer) as server:
        provider = provider_at(wire, server.base_url)
        await text_of(provider)
        asking = asyncio.create_task(text_of(provider))
        while server.requests < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0.02)
        heard.set()
        with pytest.raises(ProviderError):
            await asking
        assert server.requests == 2
        await provider.aclose()


# ── what came when nobody had asked ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.found("B-17")
@wires
async def test_an_unrequested_answer_is_never_served(wire: Wire, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, [Reply("First.", fault=UnaskedAnswer()), Reply("Second.")])
    provider = provider_at(wire, vendor.base_url)
    assert await text_of(provider) == "First."
    assert await vendor.until_unconnected(timeout=2) == 0
    assert await text_of(provider) == "Second."
    await provider.aclose()


@wires
async def test_an_answer_appended_to_the_previous_one_is_never_served(wire: Wire) -> None:
    async def answer(came: Came) -> None:
        await came.send(whole(wire, "First.") + whole(wire, "Unasked.") if came.number == 1 else whole(wire, "Second."))

    async with raw_server(wire, answer) as server:
        provider = provider_at(wire, server.base_url)
        assert [await text_of(provider), await text_of(provider)] == ["First.", "Second."]
        assert server.connections == 2
        await provider.aclose()


@wires
async def test_a_single_byte_is_enough_to_give_a_connection_up(wire: Wire) -> None:
    async def answer(came: Came) -> None:
        await came.send(whole(wire))
        if came.number == 1:
            await idle.wait()
            await came.send(b"H")
            assert await came.reader.read(1) == b""  # (the connection is closed)
            gone.set()

    idle, gone = asyncio.Event(), asyncio.Event()
    async with raw_server(wire, answer) as server:
        provider = provider_at(wire, server.base_url)
        assert await text_of(provider) == TEXT
        idle.set()
        async with asyncio.timeout(10):
            await gone.wait()
        assert await text_of(provider) == TEXT
        assert server.connections == 2
        await provider.aclose()


# ── an answer that is over before its body is ──────────────────────────────────────────────────────────────────────


@pytest.mark.found("B-11")
@wires
def test_an_answer_is_complete_when_the_vendor_says_so(wire: Wire) -> None:
    async def read() -> tuple[str, float, Any, int]:
        loop = asyncio.get_running_loop()
        vendor = SimulatedVendor(wire, Reply(TEXT, fault=Linger()))
        async with vendor, switch_over(wire, vendor.base_url, max_retries=0) as switch:
            began = loop.time()
            stream = switch.stream_request(TaskRequest("hi"))
            text, took = await stream.text(), loop.time() - began
            await asyncio.sleep(5)
            return text, took, stream.response.usage, vendor.open_connections

    text, took, usage, still_open = leap_through(read)
    assert text == TEXT
    assert took <= (1.5 if wire == "google" else 0.5), (
        "Google's wire has no last word: a moment is given to what follows"
    )
    assert (usage.source, usage.output_tokens) == ("reported", 12)
    assert still_open == 0, "a connection whose body does not end is closed"


@pytest.mark.found("B-11")
@wires
def test_bytes_after_the_end_delay_no_reader(wire: Wire) -> None:
    """A proxy's keep-alives go on after the answer is complete."""

    async def read() -> tuple[str, float]:
        loop = asyncio.get_running_loop()

        async def answer(came: Came) -> None:
            await came.send(without_its_end(wire))
            while True:
                await asyncio.sleep(0.3)
                await came.send(b"1\r\n\n\r\n" if wire == "ollama" else b"3\r\n:\n\n\r\n")

        async with raw_server(wire, answer) as server, switch_over(wire, server.base_url, max_retries=0) as switch:
            began = loop.time()
            async with asyncio.timeout(60):
                text = await switch.stream_request(TaskRequest("hi")).text()
            return text, loop.time() - began

    text, took = leap_through(read)
    assert text == TEXT
    assert took <= (1.5 if wire == "google" else 0.5)


@pytest.mark.found("B-11")
@wires
def test_a_connection_with_bytes_after_the_end_frees_its_slot(wire: Wire) -> None:
    async def read() -> float:
        loop = asyncio.get_running_loop()
        async with SimulatedVendor(wire, Reply(TEXT, fault=Linger())) as vendor:
            policy = {"providers": {"a": {"api_key": "test-key", "base_url": vendor.base_url, "models": ["m"],
                                          "limits": {"concurrent_streams": 1}, **KINDS[wire]}}}  # fmt: skip
            async with LLMSwitch(policy) as switch:
                began = loop.time()
                for _ in range(3):
                    assert await switch.stream_request(TaskRequest("hi")).text() == TEXT
                return loop.time() - began

    assert leap_through(read) < 5


@wires
def test_a_body_that_ends_a_moment_later_leaves_its_connection_to_the_next(wire: Wire) -> None:
    async def read() -> int:
        async def answer(came: Came) -> None:
            said = without_its_end(wire)
            await came.send(said)
            await asyncio.sleep(0.2)
            await came.send(whole(wire).removeprefix(said))

        async with raw_server(wire, answer) as server:
            provider = provider_at(wire, server.base_url)
            for _ in range(3):
                assert [piece async for piece in provider.stream(ASK) if isinstance(piece, Finished)]
                await asyncio.sleep(0.5)
            await provider.aclose()
            return server.connections

    assert leap_through(read) == 1


# ── framing ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.found("B-10")
@pytest.mark.parametrize("bad", [b"zz\r\nhello\r\n", b"5\r\nabcdeXX\r\n", b"\r\n\r\n"])
@wires
def test_framing_that_makes_no_sense_is_seen_at_once(wire: Wire, bad: bytes) -> None:
    async def read() -> float:
        loop = asyncio.get_running_loop()

        async def answer(came: Came) -> None:
            await came.send(beginning(wire))
            await asyncio.sleep(0.1)
            await came.send(bad)

        async with raw_server(wire, answer) as server:
            provider = provider_at(wire, server.base_url)
            with pytest.raises(ProviderConnectionError):
                async with asyncio.timeout(60):
                    await text_of(provider)
            await provider.aclose()
            return loop.time()

    assert leap_through(read) < 1
