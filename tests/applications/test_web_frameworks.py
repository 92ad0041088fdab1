"""Each web framework, by its own server: a stream that breaks, and a client that leaves.

A server is started once for the tests of its application.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
from msgspec import Struct

from llm_dispatcher.testing import Continuing, Cut, Reply, Stall

from .conftest import TEXT, Server, Vendors, needs

LONG: Final = Reply("word " * 5_000, pace=0.01)
"""An answer that goes on for longer than a test: a synchronous server notices at a write that its client has left."""


class Application(Struct, frozen=True):
    """How an application is served. A synchronous one learns only by writing that its client has left."""

    command: tuple[str, ...]
    asynchronous: bool = True
    path: str = "/story?topic=foxes"
    events: bool = False


def uvicorn(application: str) -> tuple[str, ...]:
    return ("uvicorn", application, "--port", "PORT", "--log-level", "warning")


def gunicorn(application: str, *options: str) -> tuple[str, ...]:
    return ("gunicorn", application, "--bind", "127.0.0.1:PORT", "--graceful-timeout", "2", *options)


FLASK: Final = "flask_app:app"
THREADS: Final = ("--threads", "8")
APPLICATIONS: Final = [
    pytest.param(Application(uvicorn("fastapi_app:app")), id="fastapi", marks=needs("fastapi")),
    pytest.param(Application(uvicorn("django_asgi:application")), id="django-asgi", marks=needs("django")),
    pytest.param(
        Application(gunicorn("django_wsgi:application", *THREADS), asynchronous=False),
        id="django-wsgi", marks=needs("django", "gunicorn"),
    ),
    pytest.param(
        Application(gunicorn(FLASK, *THREADS), asynchronous=False),
        id="flask-gunicorn-threads", marks=needs("flask", "gunicorn"),
    ),
    pytest.param(
        Application(gunicorn("preloaded:app", "--preload", "--workers", "2", *THREADS), asynchronous=False),
        id="flask-gunicorn-preload", marks=needs("flask", "gunicorn"),
    ),
    pytest.param(
        Application(gunicorn(FLASK, "--worker-class", "gevent"), asynchronous=False),
        id="flask-gevent", marks=[needs("flask", "gunicorn", "gevent"), pytest.mark.found("N-A7")],
    ),
    pytest.param(Application(uvicorn("quart_app:app")), id="quart", marks=needs("quart")),
    pytest.param(
        Application(uvicorn("quart_plainly:app")),
        id="quart-without-aiter", marks=needs("quart"),
    ),
    pytest.param(Application(uvicorn("litestar_app:app")), id="litestar", marks=needs("litestar")),
    pytest.param(
        Application(uvicorn("litestar_app:app"), path="/sse?topic=foxes", events=True),
        id="litestar-sse", marks=needs("litestar"),
    ),
    pytest.param(
        Application(uvicorn("litestar_plainly:app"), events=True),
        id="litestar-sse-without-aiter", marks=needs("litestar"),
    ),
]  # fmt: skip

PRELOADED: Final = """
from flask_app import app, story
story("foxes").result()  # before gunicorn forks: the background loop of this process is of no use to its children
"""
QUART_PLAINLY: Final = """
from quart import Quart, Response, request
from quart_app import story
app = Quart("plainly")
@app.get("/story")
async def tell():
    return Response(story(request.args["topic"]))
"""
LITESTAR_PLAINLY: Final = """
from litestar import Litestar, get
from litestar.response import ServerSentEvent
from litestar_app import story
@get("/story")
async def tell(topic: str) -> ServerSentEvent:
    return ServerSentEvent(story(topic))
app = Litestar([tell])
"""


@pytest.fixture(scope="module")
def application(request: pytest.FixtureRequest) -> Application:
    described: Application = request.param
    return described


@pytest.fixture(scope="module")
def server(application: Application, folder: Path, vendors: Vendors) -> Iterator[Server]:
    (folder / "preloaded.py").write_text(PRELOADED)
    (folder / "quart_plainly.py").write_text(QUART_PLAINLY)
    (folder / "litestar_plainly.py").write_text(LITESTAR_PLAINLY)
    vendors.say(Reply("Hello!"))
    started = Server(folder, *application.command)
    yield started
    started.stop()
    assert "Traceback" not in started.log


def text_of(application: Application, body: bytes) -> str:
    """The text that a body brings, of server-sent events the data."""
    text = body.decode()
    return "".join(re.findall(r"^data: (.*?)\r?$", text, re.MULTILINE)) if application.events else text


@pytest.mark.found("N-A3")
@pytest.mark.parametrize("application", APPLICATIONS, indirect=True)
def test_a_broken_stream_is_whole(application: Application, server: Server, vendors: Vendors) -> None:
    vendors.say(Reply(TEXT, fault=Cut(3)), Continuing(TEXT))
    assert text_of(application, server.get(application.path)) == TEXT, server.log
    assert [request.wait_until_over() for request in vendors.first.requests] == ["broken"]
    assert [request.wait_until_over() for request in vendors.second.requests] == ["served"]


@pytest.mark.found("N-A3")
@pytest.mark.parametrize("application", APPLICATIONS, indirect=True)
def test_a_client_that_leaves_ends_the_vendors_answer(
    application: Application, server: Server, vendors: Vendors
) -> None:
    vendors.say(Reply(TEXT, fault=Stall(3)) if application.asynchronous else LONG)
    assert server.leave(application.path)
    assert vendors.first.requests[0].wait_until_over() == "left", server.log
    vendors.say(Reply(TEXT))
    assert text_of(application, server.get(application.path)) == TEXT, "and the next client is served"


@pytest.mark.found("N-A7")
@pytest.mark.parametrize("application", [param for param in APPLICATIONS if param.id == "flask-gevent"], indirect=True)
def test_greenlets_are_answered_side_by_side(application: Application, server: Server, vendors: Vendors) -> None:
    vendors.say(Reply(TEXT, pace=0.02))
    with ThreadPoolExecutor(25) as clients:
        bodies = list(clients.map(lambda _: server.get(application.path), range(25)))
    assert bodies == [TEXT.encode()] * 25, server.log
    assert len(vendors.first.requests) == 25
