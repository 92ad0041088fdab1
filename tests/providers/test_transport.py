"""The way past the SDKs, and past aiohttp's reader, to the bytes."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from hypothesis import example, given
from hypothesis import strategies as st

from llm_dispatcher._providers.base import connections, transport
from llm_dispatcher.exceptions import ProviderConnectionError
from llm_dispatcher.testing import Reply, SimulatedVendor, Wire
from tests.providers.test_connections import ASK, provider_at

wires = pytest.mark.parametrize("wire", list(Wire))
Read = Callable[[], Awaitable[bytes]]
End = Literal["whole", "closed", "reset"]


class _Transport(asyncio.Transport):
    """What a protocol tells its transport."""

    paused = was_paused = False

    def pause_reading(self) -> None:
        self.paused = self.was_paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


async def _all_of(
    reads: Callable[[aiohttp.StreamReader], Read], wire: list[tuple[bytes, int]], end: End, coding: bytes
) -> tuple[bytes, type[BaseException] | None, Any]:
    """What a way of reading makes of a response whose bytes come in these pieces, with so many turns in between; and
    what it leaves.
    """
    connection, protocol = _Transport(), ResponseHandler(asyncio.get_running_loop())
    protocol.connection_made(connection)
    protocol.set_response_params(read_bufsize=64, auto_decompress=True)  # (so that some bodies are more than is held)
    protocol.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-encoding: %b\r\n\r\n" % coding)
    _, content = await protocol.read()

    async def feed() -> None:
        for data, turns in [*wire, (b"", 0)]:
            while connection.paused:  # (who does not read a socket does not hear of its end either)
                await asyncio.sleep(0)
            if data:
                protocol.data_received(data)
            for _ in range(turns):
                await asyncio.sleep(0)
        if end != "whole":
            protocol.connection_lost(ConnectionResetError() if end == "reset" else None)
            protocol.transport = connection  # (for the test to look at)

    feeding = asyncio.create_task(feed())
    read, body = reads(content), b""
    try:
        async with asyncio.timeout(60):  # (Hypothesis would try what hangs a second time, when pytest's own has rung)
            while came := await read():
                body += came
    except aiohttp.ClientError as error:
        return body, type(error), content
    finally:
        await feeding
    return body, None, content


@example(
    [b"eight 8 "] * 8, [(75, 0)], "whole", None
)  # paused at the end of a chunk, when the parser holds nothing back yet
@given(
    st.lists(st.binary(min_size=1, max_size=200), max_size=12),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 3)), max_size=12),
    st.sampled_from(["whole", "closed", "reset"]),
    st.sampled_from([None, 1, 9]),
)
def test_it_reads_what_aiohttp_reads_and_leaves_it_as_aiohttp_would(
    chunks: list[bytes], cuts: list[tuple[int, int]], end: End, compressed: int | None
) -> None:
    text = b"".join(chunks)
    packed = text if compressed is None else gzip.compress(text, compressed, mtime=0)
    lost = b"" if end == "whole" else b"ab" if compressed is None else packed[-2:]  # of a chunk that does not end
    if compressed is not None:
        held = packed.removesuffix(lost)
        chunks = [held[start : start + 50] for start in range(0, len(held), 50)]
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    sent += b"0\r\n\r\n" if end == "whole" else b"5\r\n%b" % lost
    places = sorted({(place % len(sent), turns) for place, turns in cuts} | {(0, 0)})
    ends = [place for place, _ in places[1:]] + [len(sent)]
    wire = [(sent[start:stop], turns) for (start, turns), stop in zip(places, ends, strict=True) if start < stop]
    body = text if compressed is not None else text + lost
    coding = b"identity" if compressed is None else b"gzip"

    ours, error, left = asyncio.run(_all_of(transport._from_its_buffer, wire, end, coding))
    assert body.startswith(ours)
    if compressed is not None and end != "whole":
        # (aiohttp's own may wait for ever here: woken without a byte, it does not ask again whether all is lost.)
        assert error is aiohttp.ClientPayloadError
        return
    theirs, their_error, left_by_them = asyncio.run(_all_of(lambda content: content.readany, wire, end, coding))
    assert error is their_error
    if end == "whole" or not left._protocol.transport.was_paused:
        # (What its parser holds back of a reader who fell behind, aiohttp loses with the connection.)
        assert ours == body, "all that came, also where the connection broke"
    if end == "whole":
        assert theirs == body
        for name in ("_size", "_cursor", "_eof", "_waiter", "total_bytes"):
            assert getattr(left, name) == getattr(left_by_them, name), name
        assert not left._buffer and not left._protocol._reading_paused


async def test_a_connection_that_somebody_closed_is_not_waited_for() -> None:
    protocol = ResponseHandler(asyncio.get_running_loop())
    protocol.connection_made(_Transport())
    read = transport._from_its_buffer(aiohttp.StreamReader(protocol, 64))
    protocol.close()
    with pytest.raises(RuntimeError, match="closed"):
        await read()


async def test_received_data_is_read_first_in_unknown_releases_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_is_known", lambda content: False)
    protocol: Any = ResponseHandler(asyncio.get_running_loop())
    content = aiohttp.StreamReader(protocol, 64)
    content.feed_data(b"All that came.")
    content.set_exception(aiohttp.ClientPayloadError("it broke"))
    read = transport.all_that_came(cast(aiohttp.ClientResponse, SimpleNamespace(content=content)))
    assert await read() == b"All that came."
    with pytest.raises(aiohttp.ClientPayloadError):
        await read()


async def test_unknown_internals_are_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol: Any = ResponseHandler(asyncio.get_running_loop())
    content = aiohttp.StreamReader(protocol, 64)
    assert transport._is_known(content)
    content._timer = aiohttp.helpers.TimerContext(asyncio.get_running_loop())
    assert not transport._is_known(content), "a clock of aiohttp's own has to be minded"
    monkeypatch.setattr(transport, "_INSIDE", (*transport._INSIDE, "_moved"))
    assert not transport._is_known(aiohttp.StreamReader(protocol, 64))
    assert not transport._is_known(aiohttp.streams.EMPTY_PAYLOAD)


@pytest.mark.parametrize("wire", [Wire.OPENAI_CHAT, Wire.OPENAI_RESPONSES, Wire.ANTHROPIC])
async def test_an_sdk_whose_transports_are_not_found_opens_its_own_connections(
    wire: Wire, simulated_vendor: Callable[..., SimulatedVendor], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = connections.over_our_sessions
    hidden: Any = SimpleNamespace()
    assert found(hidden) is hidden
    monkeypatch.setattr(connections, "over_our_sessions", lambda client, notify: client)
    vendor = simulated_vendor(wire, Reply("All is well."))
    provider = provider_at(wire, vendor.base_url)
    for _ in range(2):
        assert "".join([piece async for piece in provider.stream(ASK) if isinstance(piece, str)]) == "All is well."
    await provider.aclose()


async def test_a_connection_that_breaks_as_it_is_made_is_the_vendors_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> ResponseHandler:
        return ResponseHandler(asyncio.get_running_loop())

    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", broken)
    provider = provider_at(Wire.OLLAMA, "http://127.0.0.1:9")
    with pytest.raises(ProviderConnectionError):
        _ = [piece async for piece in provider.stream(ASK)]
    await provider.aclose()


@wires
async def test_the_way_past_the_sdks_to_the_bytes_is_open(
    wire: Wire,
    simulated_vendor: Callable[..., SimulatedVendor],
    encrypted: Callable[[SimulatedVendor], AbstractAsyncContextManager[str]],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A release of an SDK, of aiohttp or of Python that moves what `transport` looks for would cost speed and nothing
    else; so it is this test that has to say so.
    """
    taken: list[Any] = []
    ours = transport._from_its_buffer

    def seen(content: aiohttp.StreamReader) -> Read:
        connection: Any = content._protocol.transport
        taken.append(getattr(connection, "_ssl_protocol", connection).max_size)
        return ours(content)

    monkeypatch.setattr(transport, "_from_its_buffer", seen)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    vendor = simulated_vendor(wire, Reply("All is well."))
    async with encrypted(vendor) as encrypted_url:
        for base_url in (vendor.base_url, encrypted_url):
            provider = provider_at(wire, base_url)
            text = [piece async for piece in provider.stream(ASK) if isinstance(piece, str)]
            assert "".join(text) == "All is well."
            await provider.aclose()
    assert taken == [transport.AT_ONCE, transport.AT_ONCE]
