"""The kit for authors of providers: the base class, and what a provider of a third party gets from it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import weakref
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, ClassVar

import pytest

from llm_dispatcher import LLMSwitch
from llm_dispatcher._providers import check, offered_models
from llm_dispatcher.events import Failure
from llm_dispatcher.exceptions import (
    ConfigurationError,
    InvalidRequestError,
    MissingPackageError,
    ProviderConnectionError,
    ProviderProtocolError,
    ProviderRateLimitError,
)
from llm_dispatcher.notices import Notice, Notify, RequestResent
from llm_dispatcher.provider import Ask, CheckResult, Finished, Opened, Piece, ProviderSettings, RawEvent
from llm_dispatcher.provider.kit import BaseProvider, Decoder, ErrorReply, NDJSONDecoder, OpenResponse
from llm_dispatcher.tasks import Target, TaskRequest

ASK = Ask(TaskRequest("Hello?"), Target("mine", "m"))
DONE = b'{"done": true}\n'


class Client:
    """Answers with lines of JSON."""

    def __init__(self, lines: list[Any]) -> None:
        self.lines = lines
        self.closed: list[str] = []


class TheirDecoder:
    def __init__(self) -> None:
        self.ended = False

    def pieces(self, data: bytes) -> Iterable[Piece]:
        event = json.loads(data)
        if "text" in event:
            yield event["text"]
        if "done" in event:
            self.ended = True
            yield Finished("stop", None)


class VendorRefusedError(Exception):
    status = 429


class TransportBrokeError(Exception):
    pass


class Theirs(BaseProvider[Client]):
    """A provider of a third party."""

    options = ("lines",)
    opened: ClassVar[list[Client]] = []

    @classmethod
    async def open_client(cls, settings: ProviderSettings, notify: Notify) -> AsyncGenerator[Client, None]:
        client = Client(list(settings.options.get("lines", ())))
        cls.opened.append(client)
        try:
            yield client
        finally:
            client.closed.append("client")

    async def send(self, client: Client, ask: Ask) -> OpenResponse:
        async def read() -> bytes:
            line: object = client.lines.pop(0) if client.lines else b""
            if isinstance(line, Exception):
                raise line
            assert isinstance(line, bytes)
            return line

        return OpenResponse(
            read=read,
            splitter=NDJSONDecoder(),
            close=lambda: client.closed.append("connection"),
            release=lambda: client.closed.append("released"),
            request_id="req_1",
        )

    def decoder(self, ask: Ask) -> Decoder:
        return TheirDecoder()

    def error_reply(self, ask: Ask, error: BaseException) -> ErrorReply | None:
        if isinstance(error, VendorRefusedError):
            return ErrorReply("slow down", error.status, headers={"retry-after": "7"})
        return None

    def transport_errors(self) -> tuple[type[BaseException], ...]:
        return (TransportBrokeError,)


def provider(*lines: Any) -> Theirs:
    Theirs.opened = []
    return Theirs(ProviderSettings(name="mine", kind="theirs", options={"lines": lines}))


async def pieces(of: BaseProvider[Any], ask: Ask = ASK) -> list[Piece]:
    try:
        return [piece async for piece in of.stream(ask)]
    finally:
        await of.aclose()


async def test_three_methods_are_a_provider() -> None:
    made = provider(b'{"text": "Hel', b'lo."}\n', DONE)
    assert await pieces(made) == [Opened("req_1"), "Hello.", Finished("stop", None)]
    assert Theirs.opened[0].closed == ["released", "client"]


async def test_raw_events_are_shown_before_their_pieces_if_asked_for() -> None:
    shown = await pieces(provider(b'{"text": "Hi."}\n', DONE), Ask(ASK.request, ASK.target, raw=True))
    assert shown[1:3] == [RawEvent({"text": "Hi."}), "Hi."]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (VendorRefusedError(), ProviderRateLimitError),
        (TransportBrokeError(), ProviderConnectionError),
        (OSError("no route"), ProviderConnectionError),
        (b"not JSON\n", ProviderProtocolError),
    ],
)
async def test_errors_are_translated_and_close_the_connection(line: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        await pieces(provider(b'{"text": "Hi."}\n', line))
    assert getattr(raised.value, "provider", None) == "mine" and getattr(raised.value, "request_id", None) == "req_1"
    assert getattr(raised.value, "retry_after", None) == (7.0 if error is ProviderRateLimitError else None)
    assert Theirs.opened[0].closed == ["connection", "client"]


async def test_a_reader_that_leaves_closes_the_connection() -> None:
    made = provider(b'{"text": "Hi."}\n', DONE)
    stream = made.stream(ASK)
    assert [await anext(stream), await anext(stream)] == [Opened("req_1"), "Hi."]
    await stream.aclose()
    await made.aclose()
    assert Theirs.opened[0].closed == ["connection", "client"]


async def test_a_request_that_is_not_json_is_the_callers_mistake() -> None:
    class Encodes(Theirs):
        async def send(self, client: Client, ask: Ask) -> OpenResponse:
            json.dumps(ask.request.extra)
            raise AssertionError("it was written")

    made = Encodes(ProviderSettings(name="mine", kind="theirs"))
    with pytest.raises(InvalidRequestError, match=r"extra\.thing cannot be written as JSON"):
        await pieces(made, Ask(TaskRequest("x", extra={"thing": object()}), ASK.target))


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'lines'") as raised:
        Theirs(ProviderSettings(name="mine", kind="theirs", options={"line": []}))
    assert raised.value.key == "providers.mine.options.line"
    with pytest.raises(ConfigurationError, match="its options are lines"):
        Theirs(ProviderSettings(name="mine", kind="theirs", options={"colour": 1}))


async def test_a_missing_package_is_an_error_that_says_what_to_install() -> None:
    class NeedsMore(Theirs):
        @classmethod
        async def open_client(cls, settings: ProviderSettings, notify: Notify) -> AsyncGenerator[Client, None]:
            import no_such_package_anywhere  # type: ignore[import-not-found] # noqa: F401

            yield Client([])

    made = NeedsMore(ProviderSettings(name="mine", kind="theirs"))
    with pytest.raises(MissingPackageError, match="pip install 'no_such_package_anywhere'") as raised:
        await made.prepare()
    assert (raised.value.install, raised.value.provider) == ("no_such_package_anywhere", "mine")


async def test_a_provider_without_a_client_needs_none() -> None:
    class Bare(BaseProvider[None]):
        async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
            yield Opened()
            yield "Hi."

    made = Bare(ProviderSettings(name="mine", kind="theirs"))
    await asyncio.gather(made.prepare(), made.prepare())
    await made.client()
    assert await pieces(made) == [Opened(), "Hi."]


async def test_without_methods_of_its_own_it_says_which_are_missing() -> None:
    made: BaseProvider[None] = BaseProvider(ProviderSettings(name="mine", kind="theirs"))
    with pytest.raises(NotImplementedError, match="decoder"):
        made.stream(ASK)


async def test_a_check_is_optional() -> None:
    """The command asks any provider: one that has no check, or no base class, is reported as not asked."""

    class Plain:
        settings = ProviderSettings(name="mine", kind="theirs")

        async def prepare(self) -> None: ...
        async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
            yield Opened()

        async def aclose(self) -> None: ...

    class Checks(Theirs):
        async def check(self) -> CheckResult:
            return CheckResult(ok=False, message="out of order", status=503)

        async def models(self) -> list[str]:
            return ["one", "two"]

    for none in (Plain(), provider()):
        assert await check(none) == CheckResult(ok=None, message="not asked: the kind theirs has no check")
        assert await offered_models(none) is None
    theirs = Checks(ProviderSettings(name="mine", kind="theirs"))
    assert (await check(theirs)).message == "out of order"
    assert await offered_models(theirs) == ["one", "two"]


async def test_a_provider_that_is_dropped_unclosed_is_collected_and_its_client_closed(
    collect_garbage: Callable[[], object],
) -> None:
    """Also if `notify` reaches it: nothing that keeps the client alive may keep the provider alive."""

    class Notifies(Theirs):
        @classmethod
        async def open_client(cls, settings: ProviderSettings, notify: Notify) -> AsyncGenerator[Client, None]:
            client = Client([])
            cls.opened.append(client)
            notify(RequestResent("example.org", failure))
            try:
                yield client
            finally:
                client.closed.append("client")

    failure = Failure.of(OSError("broke"))
    Theirs.opened = []
    notices: list[Notice] = []
    made = Notifies(ProviderSettings(name="mine", kind="theirs"))
    made.notify = notices.append
    await made.prepare()
    assert notices == [RequestResent("example.org", failure)]
    gone = weakref.ref(made)
    del made
    collect_garbage()
    assert gone() is None
    while not Theirs.opened[0].closed:
        await asyncio.sleep(0)


async def test_a_stream_that_ends_without_terminal_evidence_has_no_finished() -> None:
    """The loop takes that for a stream that was cut off."""
    shown = await pieces(provider(b'{"text": "Hi."}\n'))
    assert shown == [Opened("req_1"), "Hi."]


async def test_a_switch_gets_the_notices_of_its_providers() -> None:
    config = {"providers": {"openai": {"api_key": "test-key", "models": ["m"]}}}
    async with LLMSwitch(config) as switch:
        made = switch._runtime.providers["openai"]
        assert isinstance(made, BaseProvider)
        assert made.notify is switch._shared.notify


IMPORTS_LITTLE = """
import sys
import llm_dispatcher.provider
assert "llm_dispatcher.provider.kit" not in sys.modules
assert "llm_dispatcher.provider._decoding" not in sys.modules
import llm_dispatcher.provider.kit
for name in ("openai", "anthropic", "google.genai", "aiohttp", "httpx2", "pydantic"):
    assert name not in sys.modules, name
"""


def test_neither_the_protocol_nor_the_kit_imports_an_sdk() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS_LITTLE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
