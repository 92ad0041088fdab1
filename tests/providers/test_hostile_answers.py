"""Answers that would lead a request elsewhere, fill the memory, or hold up the loop."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from llm_dispatcher._providers import make
from llm_dispatcher._providers.base import connections, transport
from llm_dispatcher.exceptions import (
    ProviderConnectionError,
    ProviderError,
    ProviderProtocolError,
    ProviderRateLimitError,
    ProviderServiceUnavailableError,
)
from llm_dispatcher.provider import ProviderSettings, Secret
from llm_dispatcher.testing import Cut, Redirect, Reply, SimulatedVendor, Wire
from llm_dispatcher.testing._wires import WIRES
from tests.conftest import KINDS, first_is_fast
from tests.faults.leaping_loop import leap_through
from tests.providers.raw_server import TEXT, Came, raw_server, whole
from tests.providers.test_connections import provider_at
from tests.providers.test_reuse import text_of

Start = Callable[..., SimulatedVendor]
wires = pytest.mark.parametrize("wire", list(Wire))


# ── redirects ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.found("B-05")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@wires
async def test_no_redirect_takes_anything_to_another_host(wire: Wire, status: int, simulated_vendor: Start) -> None:
    elsewhere = simulated_vendor(wire, Reply(TEXT))
    there = elsewhere.base_url.replace("127.0.0.1", "localhost") + "/some/path?key=secret-in-the-address"
    vendor = simulated_vendor(wire, Reply(fault=Redirect(there, status)))
    provider = make(
        ProviderSettings(
            name="a",
            api_key=Secret("test-key"),
            base_url=vendor.base_url,
            headers={"x-team-key": "ours"},
            **KINDS[wire],
        )
    )
    with pytest.raises(ProviderServiceUnavailableError) as raised:
        await text_of(provider)
    assert elsewhere.requests == []
    assert raised.value.status == status
    assert there.partition("?")[0] in str(raised.value), "the address is named"
    assert "secret-in-the-address" not in str(raised.value)
    assert "base_url" in str(raised.value), "and what to do about it"
    await provider.aclose()


@pytest.mark.parametrize("status", [307, 308])
@wires
async def test_a_redirect_on_the_same_host_takes_the_whole_request_along(
    wire: Wire, status: int, simulated_vendor: Start
) -> None:
    vendor = simulated_vendor(wire)
    vendor.script = [lambda request: Reply(fault=Redirect(request.path, status)), Reply(TEXT)]
    provider = provider_at(wire, vendor.base_url)
    assert await text_of(provider) == TEXT
    first, second = vendor.requests
    assert first.body == second.body and first.path == second.path
    await provider.aclose()


@pytest.mark.parametrize("status", [301, 302, 303])
@wires
async def test_a_redirect_that_drops_the_prompt_is_not_followed(
    wire: Wire, status: int, simulated_vendor: Start
) -> None:
    vendor = simulated_vendor(wire, lambda request: Reply(fault=Redirect(request.path, status)))
    provider = provider_at(wire, vendor.base_url)
    with pytest.raises(ProviderServiceUnavailableError, match="redirects to"):
        await text_of(provider)
    assert len(vendor.requests) == 1
    await provider.aclose()


@pytest.mark.found("B-05")
@wires
async def test_a_redirect_from_https_to_http_is_not_followed(
    wire: Wire,
    simulated_vendor: Start,
    encrypted: Callable[[SimulatedVendor], AbstractAsyncContextManager[str]],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    vendor = simulated_vendor(wire)
    vendor.script = lambda request: Reply(fault=Redirect(vendor.base_url.partition("/v1")[0] + request.path))
    async with encrypted(vendor) as base_url:
        provider = provider_at(wire, base_url)
        with pytest.raises(ProviderServiceUnavailableError, match="redirects to"):
            await text_of(provider)
        assert len(vendor.requests) == 1
        await provider.aclose()


@pytest.mark.parametrize(
    ("here", "there", "is_same"),
    [
        ("https://a.org/v1", "https://a.org/v2", True),
        ("https://a.org/v1", "https://a.org:443/v2", True),
        ("http://a.org/v1", "https://a.org/v1", True),
        ("https://a.org/v1", "http://a.org/v1", False),
        ("https://a.org/v1", "https://a.org.evil/v1", False),
        ("https://a.org/v1", "https://b.a.org/v1", False),
        ("https://a.org/v1", "https://a.org:8443/v1", False),
        ("http://a.org:8000/v1", "https://a.org:8443/v1", False),
        ("http://a.org/v1", "ftp://a.org/v1", False),
    ],
)
def test_which_addresses_are_the_same_host(here: str, there: str, is_same: bool) -> None:
    assert connections._is_same_host(URL(here), URL(there)) is is_same


@pytest.mark.parametrize("where", ["http://[", "mailto:x@y", "http://", "javascript:0"])
async def test_a_redirect_to_nowhere_is_a_typed_error(where: str, simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply(fault=Redirect(where)))
    provider = provider_at("openai-chat", vendor.base_url)
    with pytest.raises(ProviderError):
        await text_of(provider)
    assert len(vendor.requests) == 1
    await provider.aclose()


# ── errors whose body does not end ─────────────────────────────────────────────────────────────────────────────────


def refused(status: int, *headers: str) -> bytes:
    lines = "".join(
        f"{line}\r\n" for line in ("content-type: application/json", "transfer-encoding: chunked", *headers)
    )
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode()


@pytest.mark.found("B-14")
@wires
async def test_an_error_without_end_is_read_up_to_a_bound(wire: Wire) -> None:
    sent = 0

    async def answer(came: Came) -> None:
        nonlocal sent
        await came.send(refused(500))
        while True:
            await came.send(b"%x\r\n%b\r\n" % (65536, b"x" * 65536))
            sent += 65536

    async with raw_server(wire, answer) as server:
        provider = provider_at(wire, server.base_url)
        with pytest.raises(ProviderServiceUnavailableError) as raised:
            async with asyncio.timeout(30):
                await text_of(provider)
        assert raised.value.status == 500
        assert sent < 64 << 20, "what the system's buffers hold was sent, and no more"
        await provider.aclose()


@pytest.mark.found("B-14")
@wires
async def test_an_endless_redirect_is_read_up_to_a_bound(wire: Wire) -> None:
    async def answer(came: Came) -> None:
        if came.number > 1:
            await came.send(whole(wire))
            return
        await came.send(refused(307, "location: /elsewhere"))
        while True:
            await came.send(b"%x\r\n%b\r\n" % (65536, b"x" * 65536))

    async with raw_server(wire, answer) as server:
        provider = provider_at(wire, server.base_url)
        async with asyncio.timeout(30):
            assert await text_of(provider) == TEXT
        await provider.aclose()


@pytest.mark.found("B-14")
@pytest.mark.parametrize("began", [b"", b'{"error": {"message": "slow down"'])
@wires
def test_an_error_whose_body_does_not_come_is_told_by_its_status(wire: Wire, began: bytes) -> None:
    async def read() -> float:
        async def answer(came: Came) -> None:
            await came.send(refused(429) + (b"%x\r\n%b\r\n" % (len(began), began) if began else b""))
            await came.reader.read(1)

        async with raw_server(wire, answer) as server:
            provider = provider_at(wire, server.base_url)
            with pytest.raises(ProviderRateLimitError):
                async with asyncio.timeout(60):
                    await text_of(provider)
            await provider.aclose()
        return asyncio.get_running_loop().time()

    assert leap_through(read) <= connections.ERROR_PATIENCE + 1


@pytest.mark.parametrize("aiohttp_is", ["as we know it", "another"])
@wires
async def test_an_error_that_is_compressed_is_understood(
    wire: Wire, aiohttp_is: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if aiohttp_is == "another":
        monkeypatch.setattr(connections, "_RAW_HEADERS", "_moved")
    is_read = aiohttp_is == "as we know it" or wire not in (
        Wire.GOOGLE,
        Wire.OLLAMA,
    )  # (these two have no SDK that unpacks)
    body = gzip.compress(b'{"error": {"message": "the words of the vendor", "code": 429}}')

    async def answer(came: Came) -> None:
        await came.send(refused(429, "content-encoding: gzip") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    async with raw_server(wire, answer) as server:
        provider = provider_at(wire, server.base_url)
        with pytest.raises(ProviderRateLimitError, match="the words of the vendor" if is_read else None):
            await text_of(provider)
        await provider.aclose()


@wires
async def test_an_error_leaves_its_connection_to_the_next(wire: Wire) -> None:
    async def answer(came: Came) -> None:
        await came.send(refused(429) + b"2\r\n{}\r\n0\r\n\r\n" if came.number == 1 else whole(wire))

    async with raw_server(wire, answer) as server:
        provider = provider_at(wire, server.base_url)
        with pytest.raises(ProviderRateLimitError):
            await text_of(provider)
        assert await text_of(provider) == TEXT
        assert server.connections == 1
        await provider.aclose()


# ── a little that unpacks to a lot ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.found("B-14")
@pytest.mark.parametrize("wire", first_is_fast(*Wire))
@pytest.mark.slow
@pytest.mark.measured
async def test_the_loop_goes_on_while_a_bomb_is_unpacked(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 kB that unpack to 8 MB of nothing: what is taken apart between two turns of the loop stays small."""
    nothing = b"\n" * (1 << 20) if wire == "ollama" else b": \n\n" * (1 << 18)
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = [pack.compress(nothing) + pack.flush(zlib.Z_SYNC_FLUSH) for _ in range(8)]
    head = whole(wire).partition(b"\r\n\r\n")[0]

    async def answer(came: Came) -> None:
        await came.send(head + b"\r\ncontent-encoding: gzip\r\n\r\n")
        await came.send(b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in bomb))
        await came.send(b"0\r\n\r\n")

    turns, fed = 0, {0: 0}

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            fed[turns] = 0
            await asyncio.sleep(0)

    from llm_dispatcher import _wire as splitters

    for kind in (splitters.SSEDataDecoder, splitters.NDJSONDecoder):
        feed: Any = kind.feed

        def counted(self: Any, data: bytes, feed: Any = feed) -> Any:
            fed[turns] += len(data)
            return list(feed(self, data))

        monkeypatch.setattr(kind, "feed", counted)
    async with raw_server(wire, answer) as server:
        provider = provider_at(wire, server.base_url)
        await provider.prepare()
        ticking = asyncio.create_task(tick())
        assert await text_of(provider) == ""
        ticking.cancel()
        await provider.aclose()
    assert sum(fed.values()) == 8 << 20
    assert max(fed.values()) <= 1 << 20


@given(
    body=st.binary(max_size=3000).map(lambda some: some * 40),
    coding=st.sampled_from(["gzip", "x-gzip", "deflate", "raw deflate"]),
    cuts=st.lists(st.integers(1, 200), min_size=1, max_size=8),
    members=st.integers(1, 4),
    padding=st.sampled_from([b"", bytes(7)]),
)
def test_what_was_compressed_is_unpacked_to_the_same_bytes(
    body: bytes, coding: str, cuts: list[int], members: int, padding: bytes
) -> None:
    """A gzip body may have several members (RFC 1952, 2.2): some servers pack each event on its own."""
    bits = {"gzip": 31, "x-gzip": 31, "deflate": 15, "raw deflate": -15}[coding]

    def pack(part: bytes) -> bytes:
        packer = zlib.compressobj(9, zlib.DEFLATED, bits)
        return packer.compress(part) + packer.flush()

    size = len(body) // members + 1 if "gzip" in coding else len(body) + 1
    packed = b"".join(pack(body[start : start + size]) for start in range(0, len(body) or 1, size)) + padding
    sizes = iter(cuts * (len(packed) // sum(cuts) + 1))
    at = 0

    async def read() -> bytes:
        nonlocal at
        start, at = at, at + next(sizes, len(packed))
        return packed[start:at]

    async def unpacked() -> bytes:
        unpack, came = transport._unpacked(read, coding.removeprefix("raw ")), b""
        while data := await unpack():
            assert len(data) <= transport.UNPACKED_AT_ONCE
            came += data
        return came

    assert asyncio.run(unpacked()) == body


@pytest.mark.parametrize("coding", ["", "identity", "none", "utf-8", "identity, gzip"])
async def test_an_encoding_that_compresses_nothing_is_passed_over(coding: str) -> None:
    """Some servers write `none` or `utf-8` in this header, and send plain text."""
    framed, body = whole(Wire.OLLAMA).split(b"\r\n\r\n", 1)[1], b""
    while size := int((line := framed.partition(b"\r\n")[0]), 16):
        start = len(line) + 2
        body, framed = body + framed[start : start + size], framed[start + size + 2 :]
    data = gzip.compress(body) if "gzip" in coding else body

    async def answer(came: Came) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {len(data)}\r\n\r\n"
        await came.send(head.encode() + data)

    async with raw_server(Wire.OLLAMA, answer) as server:
        provider = provider_at(Wire.OLLAMA, server.base_url)
        assert await text_of(provider) == TEXT
        await provider.aclose()


@pytest.mark.parametrize("status", [b"201 Created", b"206 Partial Content"])
async def test_a_status_of_success_is_one_whichever_it_is(status: bytes) -> None:
    """google-genai raises an error of its own for any other than 200."""

    async def answer(came: Came) -> None:
        await came.send(whole(Wire.GOOGLE).replace(b"200 OK", status, 1))

    async with raw_server(Wire.GOOGLE, answer) as server:
        provider = provider_at(Wire.GOOGLE, server.base_url)
        assert await text_of(provider) == TEXT
        await provider.aclose()


@pytest.mark.parametrize("status", [b"300 Multiple Choices", b"304 Not Modified", b"307 No Location", b"399 Strange"])
@wires
async def test_a_redirect_that_says_not_where_to_is_a_typed_error(wire: Wire, status: bytes) -> None:
    async def answer(came: Came) -> None:
        await came.send(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")

    async with raw_server(wire, answer) as server:
        provider = provider_at(wire, server.base_url)
        with pytest.raises(ProviderError) as raised:
            await text_of(provider)
        assert raised.value.status == int(status[:3])
        await provider.aclose()


@pytest.mark.parametrize(("coding", "data"), [("gzip", b"not gzip at all"), ("br", b"\x8b\x01"), ("gzip, br", b"x")])
async def test_what_cannot_be_unpacked_is_a_typed_error(coding: str, data: bytes) -> None:
    async def answer(came: Came) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {len(data)}\r\n\r\n"
        await came.send(head.encode() + data)

    async with raw_server(Wire.OPENAI_CHAT, answer) as server:
        provider = provider_at("openai-chat", server.base_url)
        with pytest.raises(ProviderProtocolError):
            await text_of(provider)
        await provider.aclose()


# ── a connection that is never made ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.found("N-C17")
@wires
async def test_a_host_that_is_not_known_is_named(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(self: Any, host: str, port: int = 0, family: Any = 0) -> Any:
        raise OSError(None, "Name or service not known")

    monkeypatch.setattr(aiohttp.resolver.ThreadedResolver, "resolve", unknown)
    provider = provider_at(wire, "http://vendor.invalid:8080" + WIRES[wire].BASE_PATH)
    with pytest.raises(ProviderConnectionError) as raised:
        await text_of(provider)
    assert "no connection to vendor.invalid:8080 was made: Name or service not known" in str(raised.value)
    await provider.aclose()


@wires
async def test_an_answer_that_is_cut_off_is_said_to_be(wire: Wire, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply(TEXT, fault=Cut(after=2)))
    provider = provider_at(wire, vendor.base_url)
    with pytest.raises(ProviderConnectionError, match=r"the connection broke: .*(was cut off|without an answer|reset)"):
        await text_of(provider)
    await provider.aclose()


@pytest.mark.found("N-C17")
@wires
async def test_a_refused_connection_is_reported_as_refused(wire: Wire, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply(TEXT))
    provider = provider_at(wire, vendor.base_url)
    host = vendor.base_url.split("/")[2]
    async with vendor.down():
        with pytest.raises(ProviderConnectionError, match=f"no connection to {host} was made: ") as raised:
            await text_of(provider)
    assert "broke" not in str(raised.value)
    await provider.aclose()
