"""Another configuration while streams are under way: whole, or not at all."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from weakref import ref

import pytest

from llm_dispatcher import LLMStream, LLMSwitch, TaskRequest
from llm_dispatcher._config import load
from llm_dispatcher._config.files import CHECK_INTERVAL, WatchedFile
from llm_dispatcher._policy import Policy
from llm_dispatcher._serving.runtimes import Runtimes
from llm_dispatcher.exceptions import ConfigurationError, LLMDispatcherError, ProviderError
from llm_dispatcher.notices import Notify
from llm_dispatcher.provider import Ask, Finished, Opened, Piece, Provider, ProviderSettings
from llm_dispatcher.provider.kit import BaseProvider
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import Cut, HttpError, Reply, SimulatedVendor, Stall
from llm_dispatcher.testing.faults import Fault
from tests.conftest import KINDS, PATIENT, first_is_fast, policy_over

Start = Callable[..., SimulatedVendor]
ASK = TaskRequest("hi")
PATIENCE = "  timeouts: {connect: 120, first_token: 120, idle: 120}\n"  # (two hundred at once, on a slow machine)


def policy(*vendors: SimulatedVendor, more: str = "") -> str:
    """A file over these vendors, called a, b … in order."""
    entries = [
        f"  {name}: {{kind: openai, api: chat, api_key: test-key, base_url: '{vendor.base_url}', models: [m]}}\n"
        for name, vendor in zip("abc", vendors, strict=False)
    ]
    return f"providers:\n{''.join(entries)}resilience:\n  max_retries: 0\n{PATIENCE}{more}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "policy.yaml"


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Connections are closed without the help of the garbage collector."""
    gc.disable()
    yield
    gc.enable()


async def test_streams_under_way_keep_the_configuration_that_they_began_with(
    simulated_vendor: Start, file: Path
) -> None:
    old, new = simulated_vendor("openai-chat", Reply("one two three", pace=0.01)), simulated_vendor("openai-chat")
    file.write_text(policy(old))
    async with LLMSwitch(file) as switch:
        stream = switch.stream_request(ASK)
        reading = aiter(stream)
        text = await anext(reading)
        file.write_text(policy(new, more="catalog:\n  a/m: {input_price: 1, output_price: 1}\n"))
        switch.reload()
        assert await switch.stream_request(ASK) == "Hello!"
        async for chunk in reading:
            text += chunk
        assert text == "one two three"
        assert stream.response.cost is None, "it is priced as it was when it began"
        assert (len(old.requests), len(new.requests)) == (1, 1)


async def test_a_bad_file_changes_nothing_and_says_why(simulated_vendor: Start, file: Path) -> None:
    file.write_text(policy(simulated_vendor("openai-chat")))
    async with LLMSwitch(file) as switch:
        before = switch.policy
        file.write_text("providers:\n  opnai: {}\nresilience: {max_retrys: 2}\n")
        with pytest.raises(ConfigurationError) as raised:
            switch.reload()
        assert "did you mean 'openai'" in str(raised.value) and "did you mean 'max_retries'" in str(raised.value)
        assert raised.value.line == 2
        assert switch.policy is before
        assert await switch.stream_request(ASK) == "Hello!"
        with pytest.raises(ConfigurationError, match="cannot be read"):
            switch.reload(file.with_name("absent.yaml"))


def test_reload_needs_a_file(simulated_vendor: Start, file: Path) -> None:
    switch = LLMSwitch({"providers": {"ollama": {"models": ["m"]}}})
    with pytest.raises(ConfigurationError, match="was not read from a file"):
        switch.reload()
    with pytest.raises(ConfigurationError, match="was not read from a file"):
        LLMSwitch(switch.policy, watch=True)
    file.write_text(policy(simulated_vendor("openai-chat")))
    switch.reload(file)
    assert switch.policy.source == str(file)


async def test_health_goes_on_and_breakers_take_their_new_settings(simulated_vendor: Start, file: Path) -> None:
    vendor = simulated_vendor("openai-chat", Reply(fault=HttpError(500)))
    file.write_text(policy(vendor))
    async with LLMSwitch(file) as switch:
        for _ in range(2):
            with pytest.raises(ProviderError):
                await switch.stream_request(ASK)
        file.write_text(policy(vendor, more="  breaker: {failures: 3}\n"))
        switch.reload()
        assert switch.health()[Target("a", "m")].failures == 2
        with pytest.raises(ProviderError):
            await switch.stream_request(ASK)
        assert switch.health()[Target("a", "m")].breaker == "open"


@pytest.mark.usefixtures("no_collector")
async def test_a_kept_vendor_keeps_its_connections_and_a_dropped_one_is_closed(
    simulated_vendor: Start, file: Path
) -> None:
    stays, goes = simulated_vendor("openai-chat"), simulated_vendor("openai-chat")
    file.write_text(policy(stays, goes))
    async with LLMSwitch(file) as switch:
        for provider in "ab":
            await switch.stream_request(TaskRequest("hi", providers=provider))
        before = set(stays._connections)
        file.write_text(policy(stays))
        switch.reload()
        await switch.stream_request(ASK)
        assert stays._connections == before, "the same connection, however long the other one takes to close"
        assert await goes.until_unconnected() == 0


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of the providers that were released, in order."""
    addresses: list[str] = []
    release = BaseProvider.release

    def recorded(provider: BaseProvider[Any]) -> None:
        addresses.append(str(provider.settings.base_url))
        release(provider)

    monkeypatch.setattr(BaseProvider, "release", recorded)
    return addresses


async def read(stream: LLMStream[str], how: str) -> LLMDispatcherError | None:
    """Read a stream in one of several ways; the error that it ends in keeps all that its traceback refers to."""
    try:
        if how == "break":
            async for _ in stream:
                break
        elif how == "events":
            async for _ in stream.events():
                pass
        else:
            await stream
    except LLMDispatcherError as error:
        return error
    return None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("wire", first_is_fast(*KINDS))
@pytest.mark.parametrize(
    ("fault", "how"),
    [(HttpError(503), "await"), (HttpError(401), "events"), (Cut(2), "await"), (Stall(2), "await"), (None, "break")],
)
async def test_a_dropped_vendor_is_released_at_once_while_the_errors_of_its_streams_are_kept(
    simulated_vendor: Start, released: list[str], fault: Fault | None, how: str, wire: str
) -> None:
    """The first stream ends in some way, and the second one leaves an idle connection behind."""
    goes = simulated_vendor(wire, [Reply("one two three four", fault=fault), Reply("five")])
    stays = simulated_vendor("openai-chat")
    ask = TaskRequest("hi", providers="a")
    clocks = {**PATIENT["timeouts"], "idle": 0.2 if isinstance(fault, Stall) else 120}
    async with LLMSwitch(policy_over(goes, stays, timeouts=clocks)) as switch:
        error = await read(switch.stream_request(ask), how)
        assert await switch.stream_request(ask) == "five"
        assert goes.base_url not in released
        switch._adopt(load(policy_over(stays)))
        assert goes.base_url in released
        assert await goes.until_unconnected() == 0
        assert await switch.stream_request(ASK) == "Hello!"
    assert (error is not None) == (fault is not None and how == "await")


@pytest.mark.usefixtures("no_collector")
async def test_a_dropped_vendor_keeps_its_connections_until_its_last_stream_ends(
    simulated_vendor: Start, released: list[str]
) -> None:
    """The vendor is in the first two configurations, and a stream of the first one outlasts both."""
    goes, stays = simulated_vendor("openai-chat", Reply("one two three", pace=0.02)), simulated_vendor("openai-chat")
    async with LLMSwitch(policy_over(goes, stays)) as switch:
        stream = switch.stream_request(TaskRequest("hi", providers="a"))
        reading = aiter(stream)
        assert await anext(reading) == "one"
        switch._adopt(load(policy_over(goes)))
        switch._adopt(load(policy_over(stays)))
        assert await switch.stream_request(ASK) == "Hello!"
        assert goes.base_url not in released
        assert [chunk async for chunk in reading] == [" two", " three"]
        assert goes.base_url in released
        assert await goes.until_unconnected() == 0


async def test_a_provider_that_cannot_be_released_ends_neither_a_stream_nor_a_reload(
    simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def release(provider: object) -> None:
        raise RuntimeError("release")

    monkeypatch.setattr(BaseProvider, "release", release)
    goes, stays = simulated_vendor("openai-chat", Reply("one two three")), simulated_vendor("openai-chat")
    async with LLMSwitch(policy_over(goes)) as switch:
        text = ""
        async for chunk in switch.stream_request(ASK):
            if not text:
                switch._adopt(load(policy_over(stays)))
            text += chunk
        assert text == "one two three"
        switch._adopt(load(policy_over(goes)))
        assert await switch.stream_request(ASK) == "one two three"


async def test_reloading_under_load_fails_no_stream(simulated_vendor: Start, file: Path) -> None:
    text = "one two three four five"
    vendors = [simulated_vendor("openai-chat", Reply(text, pace=0.002)) for _ in range(3)]
    file.write_text(policy(*vendors))
    read: list[str] = []
    async with LLMSwitch(file) as switch:
        done = asyncio.Event()
        turned = [asyncio.Event() for _ in range(20)]

        async def one(number: int) -> None:
            await turned[number % 20].wait()
            read.append(await switch.stream_request(ASK))

        async def reload() -> None:
            turn = 0
            while not done.is_set():
                turn += 1
                first = vendors[turn % 3 :] + vendors[: turn % 3]
                limits = f"  breaker: {{failures: {5 + turn % 3}}}\n  retry_budget: {{floor: {turn % 5}}}\n"
                file.write_text(policy(*first, more=limits))
                switch.reload()
                turned[turn % 20].set()
                await asyncio.sleep(0.002)
                file.write_text("providers: [")
                with pytest.raises(ConfigurationError):
                    switch.reload()

        reloading = asyncio.create_task(reload())
        await asyncio.gather(*(one(number) for number in range(200)))
        done.set()
        await reloading
    assert read == [text] * 200
    assert all(vendor.requests for vendor in vendors)


async def test_a_changed_watched_file_is_loaded(
    simulated_vendor: Start, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("llm_dispatcher._config.files.CHECK_INTERVAL", 0.0)
    old, new = simulated_vendor("openai-chat", Reply("old")), simulated_vendor("openai-chat", Reply("new"))
    file.write_text(policy(old))
    async with LLMSwitch(file, watch=True) as switch:
        assert await switch.stream_request(ASK) == "old"
        file.write_text("providers: [")
        with caplog.at_level(logging.ERROR, "llm_dispatcher"):
            assert [await switch.stream_request(ASK) for _ in range(3)] == ["old"] * 3
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == 1 and told[0].startswith(f"the configuration was not reloaded: {file}:")
        file.write_text(policy(new))
        assert await switch.stream_request(ASK) == "new"
        file.unlink()
        assert await switch.stream_request(ASK) == "new"


async def test_a_reload_that_a_cancelled_request_gave_up_is_made_by_the_next_one(
    simulated_vendor: Start, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_dispatcher._config.files.CHECK_INTERVAL", 0.0)
    old, new = simulated_vendor("openai-chat", Reply("old")), simulated_vendor("openai-chat", Reply("new"))
    file.write_text(policy(old))
    async with LLMSwitch(file, watch=True) as switch:
        file.write_text(policy(new))
        started, loop = asyncio.Event(), asyncio.get_running_loop()

        def load_slowly(*args: Any, **kwargs: Any) -> Policy:
            loop.call_soon_threadsafe(started.set)
            return load(*args, **kwargs)

        monkeypatch.setattr("llm_dispatcher._serving.switch.load", load_slowly)
        left = asyncio.create_task(switch.stream_request(ASK).text())
        await started.wait()
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert await switch.stream_request(ASK) == "new"


@pytest.mark.usefixtures("no_collector")
async def test_a_switch_that_is_dropped_is_freed_with_its_connections(simulated_vendor: Start, file: Path) -> None:
    vendor = simulated_vendor("openai-chat")
    file.write_text(policy(vendor))
    switch = LLMSwitch(file)
    for _ in range(2):
        await switch.stream_request(ASK)
        switch.reload()
    runtime = ref(switch._runtime)
    del switch
    assert runtime() is None
    assert await vendor.until_unconnected() == 0


def test_of_two_threads_that_reload_the_second_waits_for_the_first(
    simulated_vendor: Start, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(policy(simulated_vendor("openai-chat")))
    switch = LLMSwitch(file)
    adopt, others = Runtimes.adopt, [Thread(target=switch.reload)]

    def adopt_after_the_other(*args: Any) -> None:
        for other in others[:1]:
            others.clear()
            other.start()
            other.join(0.5)  # it ends only if it does not wait for this thread
            waiting.append(other)
        adopt(*args)

    waiting: list[Thread] = []
    monkeypatch.setattr(Runtimes, "adopt", adopt_after_the_other)
    switch.reload()
    waiting[0].join()
    in_force = switch._shared.runtimes._in_force
    assert in_force is not None and in_force() is switch._runtime


def test_a_watched_file_is_checked_once_a_second(file: Path) -> None:
    now = 0.0
    file.write_text("a")
    watched = WatchedFile(file, lambda: now)
    file.write_text("bb")
    assert not watched.has_changed()
    now += CHECK_INTERVAL
    assert watched.has_changed()
    now += CHECK_INTERVAL
    assert not watched.has_changed()
    file.write_text("cc")
    os.utime(file, ns=(1, 1))  # the same size, another time
    now += CHECK_INTERVAL
    assert watched.has_changed()


class _Says(BaseProvider[None]):
    """A provider that sends nothing over a network."""

    options = ("words",)

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        yield str(self.settings.options["words"])
        yield Finished("stop", "stop")


async def test_a_subclass_makes_the_providers_in_its_own_way(file: Path) -> None:
    made: list[str] = []

    class Switch(LLMSwitch):
        @staticmethod
        def _make_provider(settings: ProviderSettings, notify: Notify) -> Provider:
            made.append(str(settings.options["words"]))
            return _Says(settings)

    before = "providers:\n  a: {kind: ollama, models: [m], options: {words: before}}\n"
    file.write_text(before)
    async with Switch(file) as switch:
        assert await switch.stream_request(ASK) == "before"
        file.write_text(before.replace("before", "after"))
        switch.reload()
        assert await switch.stream_request(ASK) == "after"
    assert made == ["before", "after"]
