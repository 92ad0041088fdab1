"""Simulated vendors: listening, records of requests, and errors."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from llm_dispatcher.testing import (
    Continuing,
    Cut,
    HttpError,
    ReceivedRequest,
    Refuse,
    Reply,
    SimulatedVendor,
    SpawnedVendor,
    Stall,
    WrittenScript,
    script_from_json,
)

Start = Callable[..., SimulatedVendor]
ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def ask(base_url: str, body: Any = ASKED, key: str = "test-key") -> tuple[int, bytes, http.client.HTTPMessage]:
    """Send a request on a new connection, and read the whole answer."""
    url = urlsplit(base_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    try:
        headers = {"authorization": f"Bearer {key}"}
        connection.request("POST", f"{url.path}/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def posted(path: str, **headers: str) -> bytes:
    """The same request as bytes."""
    body = json.dumps(ASKED).encode()
    all_headers = {"authorization": "Bearer test-key", "content-length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def held(vendor: SimulatedVendor) -> asyncio.StreamWriter:
    """An open connection that waits for the rest of an answer."""
    url = urlsplit(vendor.base_url)
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(posted("/v1/chat/completions"))
    while not vendor.requests:
        await asyncio.sleep(0.001)
    return writer


# ── the record ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_recorded_completely(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply("a b"))
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    ask(vendor.base_url, {"model": "m", "messages": turns, "seed": 7})
    (request,) = vendor.requests
    assert (request.method, request.path, request.model) == ("POST", "/v1/chat/completions", "m")
    assert (request.system, request.text, request.body["seed"]) == ("be brief", "hi", 7)
    assert request.headers["authorization"] == "Bearer test-key"
    assert request.reply == Reply("a b")
    assert request.wait_until_over() == "served"
    assert request.ended_at is not None
    assert request.ended_at >= request.received_at


@pytest.mark.parametrize(
    ("reply", "ending"),
    [
        (Reply("a b"), "served"),
        (Reply("a b", fault=Cut(1)), "broken"),
        (Reply("a b", fault=HttpError(503)), "refused"),
        (Reply("a b", fault=Refuse()), "refused"),
    ],
)
async def test_the_end_of_a_request_can_be_awaited(reply: Reply, ending: str) -> None:
    async with SimulatedVendor("openai-chat", reply) as vendor:
        writer = await held(vendor)
        assert await vendor.requests[0].until_over(timeout=3600) == ending
        writer.close()


async def test_a_reader_that_leaves_is_noticed(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply("a b", fault=Stall(1)))
    writer = await held(vendor)
    assert await vendor.requests[0].until_over(timeout=0) == "open"
    assert vendor.open_connections == 1
    writer.close()
    await writer.wait_closed()
    assert await vendor.requests[0].until_over() == "left"
    assert await vendor.until_unconnected() == 0
    assert vendor.wait_until_unconnected() == 0


def test_each_request_has_its_own_id_unless_the_script_sets_one(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", [Reply("a"), Reply("a"), Reply("a", headers={"x-request-id": "mine"})])
    response = [ask(vendor.base_url)[2]["x-request-id"] for _ in range(3)]
    assert response == [vendor.requests[0].request_id, vendor.requests[1].request_id, "mine"]
    assert response[0] != response[1]


def test_remember_bounds_the_number_of_requests(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply("a"), remember=2)
    for number in range(4):
        ask(vendor.base_url, {**ASKED, "seed": number})
    assert [request.body["seed"] for request in vendor.requests] == [2, 3]


# ── the script ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_function_makes_a_reply_from_the_request(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", lambda request: Reply(f"you said {request.text}"))
    assert b'"content":" said"' in ask(vendor.base_url)[1]


def test_a_sequence_may_hold_functions_too(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", [Reply("first"), Continuing("then")])
    assert [word in ask(vendor.base_url)[1] for word in (b"first", b"then", b"then")] == [True, True, True]


def broken_script(request: ReceivedRequest) -> Reply:
    raise LookupError(f"no answer to {request.text}")


def test_the_error_of_a_script_is_raised_when_the_vendor_stops() -> None:
    vendor = SimulatedVendor("openai-chat", broken_script)
    with pytest.raises(LookupError, match="no answer to hi"), vendor:
        status, answer, _ = ask(vendor.base_url)
        assert (status, b"LookupError: no answer to hi" in answer) == (500, True)


async def test_the_error_of_a_script_does_not_hide_the_error_it_caused() -> None:
    vendor = SimulatedVendor("openai-chat", broken_script)
    with pytest.raises(ZeroDivisionError):
        async with vendor:
            writer = await held(vendor)
            await vendor.requests[0].until_over()
            writer.close()
            raise ZeroDivisionError


def test_a_new_script_starts_at_its_beginning(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", [Reply("one"), Reply("two")])
    ask(vendor.base_url)
    vendor.script = [Reply("three"), Reply("four")]
    assert b"three" in ask(vendor.base_url)[1]


def test_an_unknown_key_in_a_json_script_is_refused() -> None:
    for json_script in ('{"txet": "a"}', '{"text": "a", "fault": {"type": "cut", "befor": 1}}', '{"text": ', "3"):
        with pytest.raises(ValueError, match="this is not a script"):
            script_from_json(json_script.encode())


def test_a_prefill_can_be_refused_by_some_models_only(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply("a"), refuses_prefill=["new"])
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    statuses = {model: ask(vendor.base_url, {"model": model, "messages": turns})[0] for model in ("old", "new")}
    assert statuses == {"old": 200, "new": 400}


def test_a_request_without_streaming_is_refused(simulated_vendor: Start) -> None:
    status, answer, _ = ask(simulated_vendor("openai-chat").base_url, {**ASKED, "stream": False})
    assert (status, b"only streams" in answer) == (400, True)


# ── listening ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_vendor_that_is_down_refuses_connections_and_returns_at_its_port(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply("a"))
    with vendor.down(), pytest.raises(ConnectionRefusedError):
        ask(vendor.base_url)
    assert ask(vendor.base_url)[0] == 200


async def test_a_vendor_in_the_loop_can_be_taken_down_too() -> None:
    async with SimulatedVendor("openai-chat", Reply("a", fault=Stall(1))) as vendor:
        writer = await held(vendor)
        async with vendor.down():
            assert vendor.open_connections == 0
            with pytest.raises(openai.APIConnectionError):
                async with openai.AsyncOpenAI(base_url=vendor.base_url, api_key="test-key", max_retries=0) as client:
                    await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "a"}])
        with pytest.raises(RuntimeError, match="async with"), vendor.down():
            pass
        (await held(vendor)).close()
        writer.close()


@pytest.mark.parametrize("turns", range(5))
async def test_a_vendor_that_stops_resets_a_connection_that_it_has_just_accepted(turns: int) -> None:
    """Between the acceptance of a connection and its first callback, a loop takes a few turns."""
    async with SimulatedVendor("openai-chat") as vendor:
        url = urlsplit(vendor.base_url)
        plug = socket.create_connection((url.hostname, url.port or 0), timeout=5)
        for _ in range(turns):
            await asyncio.sleep(0)
    assert vendor.open_connections == 0
    with plug, pytest.raises(ConnectionResetError):
        plug.recv(1)


def test_a_port_that_is_taken_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = threading.active_count()
        with pytest.raises(OSError, match="in use"), SimulatedVendor("google", port=taken.getsockname()[1]):
            pass
        assert threading.active_count() == before


def test_bytes_that_are_not_http_get_a_400_and_a_close(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat")
    url = urlsplit(vendor.base_url)
    with socket.create_connection((url.hostname, url.port or 0)) as plug, plug.makefile("rb") as answer:
        plug.sendall(b"EHLO example\r\n\r\n")
        assert answer.read().startswith(b"HTTP/1.1 400 ")


def test_a_connection_is_closed_when_the_client_asks_for_it(simulated_vendor: Start) -> None:
    url = urlsplit(simulated_vendor("ollama").base_url)
    with socket.create_connection((url.hostname, url.port or 0)) as plug, plug.makefile("rb") as answer:
        plug.sendall(posted("/api/chat", connection="close"))
        assert answer.read().endswith(b"0\r\n\r\n")


def test_a_cut_comes_after_everything_before_it_was_sent() -> None:
    """The text is longer than the buffers of the sockets: the reset must wait until a slow reader has read it."""
    reply = Reply("x" * 8_000_000 + " y", chunk_size=2_000_000, fault=Cut(5, moment=0))
    with SimulatedVendor("openai-chat", reply) as vendor:
        url = urlsplit(vendor.base_url)
        with socket.create_connection((url.hostname, url.port or 0)) as plug:
            plug.sendall(posted("/v1/chat/completions"))
            left_request = bytearray()
            with pytest.raises(ConnectionResetError):
                while data := plug.recv(1 << 16):
                    left_request += data
    assert b'"content":" y"' in left_request


# ── in a process of its own ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_spawned_vendor_follows_the_same_rules() -> None:
    script: WrittenScript = [Reply("a b", fault=Cut(1)), Continuing("then")]
    with SpawnedVendor("openai-chat", script, models=["m"], api_key="other-key") as vendor:
        assert ask(vendor.base_url)[0] == 401
        assert ask(vendor.base_url, {**ASKED, "model": "n"}, "other-key")[0] == 404
        with pytest.raises((ConnectionError, http.client.IncompleteRead)):
            ask(vendor.base_url, key="other-key")
        assert b"then" in ask(vendor.base_url, key="other-key")[1]
        assert [each["ended"] for each in vendor.requests()] == ["refused", "refused", "broken", "served"]


def test_a_spawned_vendor_that_cannot_start_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RuntimeError, match="did not start"):
        SpawnedVendor("google", Reply("a"), port=taken.getsockname()[1]).__enter__()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_its_address_and_ends_with_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[{"text": "from a file"}]')
    command = [
        sys.executable,
        "-m",
        "llm_dispatcher._cli",
        "simulate",
        "--wire",
        "openai-chat",
        "--script",
        str(script),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        response = json.loads(process.stdout.readline())
        assert b"file" in ask(response["base_url"])[1]
        os.kill(process.pid, number)
        assert process.wait(60) == 0


def test_a_spawned_vendor_ends_with_its_parent_process() -> None:
    command = [sys.executable, "-m", "llm_dispatcher", "simulate", "--wire", "google", "--until-stdin-closes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline()
            process.stdin.close()
            assert process.wait(60) == 0
        finally:
            process.kill()
