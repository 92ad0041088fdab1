"""A machine that is out of something: typed errors, nobody blamed, and answers as soon as it is back."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import force_setattr

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher import _catalog as catalog
from llm_dispatcher._dispatch import Job, Ledger, attempts
from llm_dispatcher._local_trouble import what_is_lacking
from llm_dispatcher._resilience import Resilience
from llm_dispatcher._routing import SharedState
from llm_dispatcher.exceptions import AllProvidersFailedError, LLMDispatcherError, LocalResourceError
from llm_dispatcher.provider import Ask, Finished, Opened, Piece
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import HttpError, Refuse, Reply, SimulatedVendor
from tests.conftest import KINDS, policy_over
from tests.dispatch.test_loop import Scripted

resource = pytest.importorskip("resource", reason="this system has no limits for a process")

pytestmark = pytest.mark.found("B-07")
Start = Callable[..., SimulatedVendor]
Over = Callable[..., LLMSwitch]
ASK = TaskRequest("Hello?")
A, B = Target("a", "m"), Target("b", "m")
EAGER: dict[str, Any] = {"breaker": {"failures": 2}, "retry_budget": {"share": 0.0, "floor": 0}}
"""Two failures open a breaker, and no retry is allowed: if trouble of this machine counted, it would show at once."""


class Descriptors:
    """Takes all file descriptors that this process may have, and gives them back."""

    def __init__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._held: list[int] = []

    def take_all(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, self._limits[0]), self._limits[1]))
        with suppress(OSError):
            while True:
                self._held.append(os.open(os.devnull, os.O_RDONLY))

    def give_back(self) -> None:
        while self._held:
            os.close(self._held.pop())
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


@contextmanager
def no_descriptors() -> Iterator[Descriptors]:
    descriptors = Descriptors()
    descriptors.take_all()
    try:
        yield descriptors
    finally:
        descriptors.give_back()


async def outcome(switch: LLMSwitch, request: TaskRequest = ASK) -> str | LLMDispatcherError:
    try:
        return await switch.stream_request(request)
    except LLMDispatcherError as error:
        return error


@pytest.mark.parametrize("wire", list(KINDS))
async def test_missing_file_descriptors_are_reported_and_count_against_no_vendor(
    wire: str, simulated_vendor: Start, switch_over: Over
) -> None:
    text = "one two three"
    vendors = [simulated_vendor(wire, Reply(text)) for _ in range(2)]
    switch = switch_over(*vendors, max_retries=1, **EAGER)
    await switch.warm()
    stream = switch.stream_request(ASK)
    running = aiter(stream)
    read = await anext(running)
    with no_descriptors():
        failed = await asyncio.gather(*(outcome(switch) for _ in range(8)))
        async for chunk in running:
            read += chunk
    assert read == text, "a stream that was under way goes on"
    errors = [error for error in failed if error != text]  # (the first one to end leaves a connection to another)
    assert len(errors) >= 6
    for error in errors:
        assert isinstance(error, LocalResourceError), error
        assert "no file descriptor left; raise its limit (ulimit -n)" in str(error)
    assert await asyncio.gather(*(outcome(switch) for _ in range(3))) == [text] * 3
    health = switch.health()
    assert set(health) == {A}, "b was never reached"
    assert (health[A].failures, health[A].breaker, health[A].failing) == (0, "closed", 0.0)
    assert not vendors[1].requests


async def test_a_request_waits_for_descriptors_to_come_back(simulated_vendor: Start, switch_over: Over) -> None:
    switch = switch_over(simulated_vendor("openai-chat", Reply("Hello.")), max_retries=1, **EAGER)
    await switch.warm()

    class GiveBack(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            descriptors.give_back()

    logger, handler = logging.getLogger("llm_dispatcher"), GiveBack()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)  # (the line "trying again" is the first that is logged)
    try:
        with no_descriptors() as descriptors:
            assert await switch.stream_request(ASK) == "Hello."
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


async def test_local_and_vendor_failures_are_reported_together(simulated_vendor: Start, switch_over: Over) -> None:
    switch = switch_over(simulated_vendor("openai-chat", Reply(fault=HttpError(500))), simulated_vendor("anthropic"))
    await switch.warm()
    descriptors = Descriptors()

    async def prepare() -> None:
        descriptors.take_all()

    switch._runtime.providers["b"].prepare = prepare  # type: ignore[method-assign]
    try:
        error = await outcome(switch)
    finally:
        descriptors.give_back()
    assert isinstance(error, AllProvidersFailedError)
    assert [type(failure).__name__ for failure in error.failures] == [
        "ProviderServiceUnavailableError",
        "LocalResourceError",
    ]


async def test_a_request_that_was_not_sent_takes_nothing_from_a_rate_limit(simulated_vendor: Start) -> None:
    policy = policy_over(simulated_vendor("openai-chat", Reply("Hello.")))
    policy["providers"]["a"]["limits"] = {"requests_per_minute": 1}
    async with LLMSwitch(policy) as switch:
        force_setattr(switch._shared, "traffic", SharedState(switch.policy, clock=lambda: 100.0))
        await switch.warm()
        with no_descriptors():
            assert isinstance(await outcome(switch), LocalResourceError)
        assert await outcome(switch) == "Hello."


async def test_a_refused_connection_is_not_a_local_error(simulated_vendor: Start, switch_over: Over) -> None:
    error = await outcome(switch_over(simulated_vendor("openai-chat", Reply(fault=Refuse()))))
    assert isinstance(error, LLMDispatcherError) and not isinstance(error, LocalResourceError)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.ENFILE, "Too many open files in system"), "fs.file-max"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "no memory"),
        (MemoryError(), "no memory"),
        (OSError(errno.ENOBUFS, "No buffer space available"), "network"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "port"),
        (RuntimeError("can't start new thread"), "thread"),
        (OSError(errno.ECONNREFUSED, "Connection refused"), None),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), None),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), None),
        (ImportError("no module"), None),
        (RuntimeError("another one"), None),
        (TimeoutError(), None),
    ],
    ids=str,
)
async def test_a_local_error_in_preparation_is_typed(error: Exception, words: str | None) -> None:
    class Unready(Scripted):
        async def prepare(self) -> None:
            raise error

    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        yield Finished("stop", "stop")

    job = Job(
        request=ASK, targets=(A,), provider=lambda target: Unready(answer), style=lambda target: "anchored",
        resilience=Resilience(max_retries=0), ledger=Ledger(),
    )  # fmt: skip
    with pytest.raises(type(error) if words is None else LocalResourceError) as raised:
        _ = [event async for event in attempts(job)]
    if words is not None:
        assert isinstance(raised.value, LocalResourceError)
        assert words in str(raised.value) and raised.value.provider == "a"
        assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), ImportError("cannot open")])
def test_an_error_without_a_code_is_local_if_no_file_can_be_opened(error: Exception) -> None:
    assert what_is_lacking(error) is None
    with no_descriptors():
        found = what_is_lacking(error)
    assert found is not None and "ulimit" in found


async def test_an_image_not_opened_for_lack_of_descriptors_is_a_local_error(
    simulated_vendor: Start, switch_over: Over, tmp_path: Path
) -> None:
    switch = switch_over(simulated_vendor("openai-chat"))
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 16)
    await asyncio.to_thread(lambda: None)  # (so that the thread is there)
    with no_descriptors():
        error = await outcome(switch, TaskRequest("What is this?", images=[picture]))
    assert isinstance(error, LocalResourceError), error
    assert str(picture) in str(error)


# ── what is needed later is loaded before ──────────────────────────────────────────────────────────────────────────


LOADED = """
import sys
from llm_dispatcher import LLMSwitch, llm_stream
@llm_stream
def story(topic: str) -> str: return topic
before = {"tenacity", "encodings.idna"} & set(sys.modules)
LLMSwitch({"providers": {"ollama": {"models": ["m"]}}})
print(sorted(before), sorted({"tenacity", "encodings.idna"} & set(sys.modules)))
"""


def test_a_switch_loads_what_a_failure_needs_and_an_import_does_not() -> None:
    said = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout
    assert said == "[] ['encodings.idna', 'tenacity']\n"


async def test_prices_that_cannot_be_loaded_are_logged_and_tried_again(
    simulated_vendor: Start, switch_over: Over, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def load() -> None:
        tries.append(1)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(catalog, "load_prices", load)
    monkeypatch.setattr(catalog, "are_prices_loaded", lambda: False)
    switch = switch_over(simulated_vendor("openai-chat"))
    for number in range(2):
        assert await switch.stream_request(ASK) == "Hello!"
        async with asyncio.timeout(60):
            while len([r for r in caplog.records if "prices could not be loaded yet" in r.getMessage()]) <= number:
                await asyncio.sleep(0.001)
    assert len(tries) == 2


async def test_prices_that_a_budget_needs_and_that_cannot_be_loaded_end_in_a_typed_error(
    simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(catalog, "load_prices", load)
    monkeypatch.setattr(catalog, "are_prices_loaded", lambda: False)
    async with LLMSwitch({**policy_over(simulated_vendor("openai-chat")), "budgets": {"daily": 1}}) as switch:
        assert isinstance(await outcome(switch), LocalResourceError)
