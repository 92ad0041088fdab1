"""In a web framework: a client that leaves takes the vendor's connection along, and an unread stream is no answer."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse, StreamingResponse

from llm_dispatcher import LLMStream, llm_stream, llm_stream_with_metadata
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import Continuing, Cut, HttpError, Reply, Stall

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = "One two three four five six."


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Browser:
    """A client that can go away in mid-answer."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n".encode())
        self.came = b""

    def read_until(self, words: bytes) -> None:
        while words not in self.came:
            more = self.socket.recv(65536)
            assert more, f"the server ended before it said {words!r}; it said {self.came!r}"
            self.came += more

    def read_all(self) -> bytes:
        with contextlib.suppress(ConnectionError):
            while more := self.socket.recv(65536):
                self.came += more
        self.leave()
        return self.came

    def leave(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def serving(app: FastAPI) -> Iterator[int]:
    """A real server in a thread of its own."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(example("fastapi_app").app) as port:
        yield port


def chunks_of(answer: bytes) -> str:
    """The body of an answer that came in chunks."""
    _, _, body = answer.partition(b"\r\n\r\n")
    text = b""
    while True:
        length, _, rest = body.partition(b"\r\n")
        if not int(length or b"0", 16):
            return text.decode()
        text, body = text + rest[: int(length, 16)], rest[int(length, 16) + 2 :]


def test_the_text_is_streamed_across_a_switch(port: int, simulated_switch: SimulatedSwitch) -> None:
    vendors = simulated_switch(openai=Reply(TEXT, fault=Cut(3)), anthropic=Continuing(TEXT))
    answer = Browser(port, "/story?topic=foxes").read_all()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"content-type: text/plain" in answer
    assert chunks_of(answer) == TEXT
    assert vendors["openai"].requests[0].text == "Tell a short story about foxes."


def test_a_client_that_goes_away_closes_the_vendors_connection(port: int, simulated_switch: SimulatedSwitch) -> None:
    """While the vendor is silent, and while it is speaking."""
    for reply in (Reply(TEXT, fault=Stall(3)), Reply(TEXT * 500, pace=0.002)):
        vendor = simulated_switch(openai=reply)["openai"]
        browser = Browser(port, "/story?topic=foxes")
        browser.read_until(b"three")
        assert vendor.requests[0].ended == "open"
        browser.leave()
        assert vendor.requests[0].wait_until_over() == "left"


def test_events_go_out_as_frames_and_a_failure_is_the_last(port: int, simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(openai=Reply(TEXT))
    frames = chunks_of(Browser(port, "/events?topic=foxes").read_all()).split("\n\n")
    types = [json.loads(frame.removeprefix("data: "))["type"] for frame in frames if frame]
    assert (types[0], types[-1], types.count("text")) == ("started", "completed", 6)
    vendor = simulated_switch(openai=Reply(TEXT, fault=HttpError(401)))["openai"]
    (frame,) = [f for f in chunks_of(Browser(port, "/events?topic=foxes").read_all()).split("\n\n") if f]
    assert json.loads(frame.removeprefix("data: "))["failure"]["kind"] == "ProviderAuthenticationError"

    vendor.script = Reply(TEXT, fault=Stall(3))
    browser = Browser(port, "/events?topic=foxes")
    browser.read_until(b"three")
    browser.leave()
    assert vendor.requests[-1].wait_until_over() == "left"


# ── a route that forgets to read ───────────────────────────────────────────────────────────────────────────────────


@llm_stream
def tell(topic: str) -> str:
    return topic


@llm_stream_with_metadata
def tell_more(topic: str) -> str:
    return topic


def forgetful() -> FastAPI:
    app = FastAPI()

    @app.get("/async")
    async def in_the_loop(topic: str) -> Any:
        return tell(topic)

    @app.get("/sync")
    def in_a_thread(topic: str) -> Any:
        return tell(topic)

    @app.get("/nested")
    async def nested(topic: str) -> dict[str, Any]:
        return {"story": tell(topic)}

    @app.get("/json")
    async def as_json(topic: str) -> Any:
        return JSONResponse({"story": tell(topic)})

    @app.get("/model", response_model=str)
    async def as_a_model(topic: str) -> Any:
        return tell_more(topic)

    app.get("/bare")(tell)
    return app


def test_an_unread_stream_is_a_loud_failure_and_leaks_nothing(
    simulated_switch: SimulatedSwitch, caplog: pytest.LogCaptureFixture
) -> None:
    vendor = simulated_switch(openai=Reply(TEXT))["openai"]
    with serving(forgetful()) as port:
        for path in ("/async", "/sync", "/nested", "/json", "/model", "/bare"):
            answer = Browser(port, f"{path}?topic=foxes").read_all()
            assert answer.startswith(b"HTTP/1.1 500"), path
            assert b"foxes" not in answer
    assert vendor.requests == []
    assert vendor.open_connections == 0


async def test_an_encoder_gets_an_error_with_the_fix(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(openai=Reply(TEXT))
    with pytest.raises(ValueError, match="write: async for chunk in stream"):
        jsonable_encoder(tell("foxes"))
    with pytest.raises(TypeError, match="LLMStream is not JSON serializable"):
        json.dumps(tell("foxes"))
    with pytest.raises(TypeError):
        vars(tell("foxes"))


def test_a_route_annotated_with_a_stream_is_refused_at_definition() -> None:
    from fastapi.exceptions import FastAPIError

    app = FastAPI()
    with pytest.raises(FastAPIError, match="LLMStream"):

        @app.get("/")
        async def route(topic: str) -> LLMStream[str]:
            return tell(topic)


async def test_a_response_that_is_never_sent_leaves_nothing(
    simulated_switch: SimulatedSwitch, collect_garbage: Callable[[], object]
) -> None:
    vendor = simulated_switch(openai=Reply(TEXT))["openai"]
    before = asyncio.all_tasks()
    response = StreamingResponse(tell("foxes"))
    del response
    collect_garbage()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert (vendor.requests, vendor.open_connections) == ([], 0)
