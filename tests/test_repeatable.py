"""The same things happen in the same order in every process: no order depends on a hash or on an address.

Each of these tests has so many members that a set would hardly have them in this order by chance.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llm_dispatcher import LLMSwitch, StreamingCache, TaskRequest
from llm_dispatcher._arguments import request_of
from llm_dispatcher._catalog import Catalog
from llm_dispatcher._config import load
from llm_dispatcher._config.dump import identity
from llm_dispatcher._dispatch import OpenStreams
from llm_dispatcher._policy import ProviderSettings
from llm_dispatcher._upstream import Deadline
from llm_dispatcher.cache._english.lexicon import load_words
from llm_dispatcher.events import Event, StreamStarted, Usage
from llm_dispatcher.notices import Notify
from llm_dispatcher.provider import Ask, Finished, Opened, Piece, Provider
from llm_dispatcher.streaming._shared import SharedStream
from llm_dispatcher.tasks import Target
from tests.cache.conftest import PROMPT, Upstream, answer, served
from tests.dispatch.test_loop import all_of, dispatch
from tests.test_clock import NEW_YEAR, Still

MANY = range(40)


async def test_a_closed_switch_ends_its_streams_in_the_order_in_which_they_began() -> None:
    async def silent(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        await asyncio.Event().wait()

    open_streams, ended = OpenStreams(), list[int]()

    async def read(number: int) -> None:
        with pytest.raises(Exception, match="the switch was closed"):
            await all_of(dispatch(silent, open_streams=open_streams))
        ended.append(number)

    async with asyncio.TaskGroup() as readers:
        for number in MANY:
            readers.create_task(read(number))
        await asyncio.sleep(0.01)  # each waits for its vendor
        await open_streams.end()
    assert ended == [*MANY]


async def test_the_readers_of_a_shared_stream_are_woken_in_the_order_in_which_they_wait() -> None:
    gate, woken = asyncio.Event(), list[int]()

    async def upstream() -> AsyncGenerator[Event, None]:
        await gate.wait()
        yield StreamStarted(Target("a", "m"), 1, cached=False)

    stream = SharedStream(upstream, lambda events, whole: None, Deadline())

    async def read(number: int) -> None:
        async for _ in stream.read(Deadline(), first=number == 0):
            woken.append(number)

    async with asyncio.TaskGroup() as readers:
        for number in MANY:
            readers.create_task(read(number))
        await asyncio.sleep(0)  # each waits
        gate.set()
    assert woken == [*MANY]


def test_the_members_of_a_set_have_one_order_in_a_prompt() -> None:
    def sort(tags: set[str], numbers: set[int], mixed: frozenset[Any]) -> str:
        raise NotImplementedError

    words = {f"tag{number:02}" for number in MANY}
    asked = request_of(sort, {"tags": words, "numbers": {10, 9, 100}, "mixed": frozenset({"a", 1, None})}, {})
    assert asked.prompt is not None
    tags, numbers, mixed = asked.prompt.splitlines()
    assert tags == f"tags: {json.dumps(sorted(words))}"
    assert numbers == "numbers: [9, 10, 100]"
    assert mixed == 'mixed: ["a", 1, null]'


def test_the_images_of_a_set_have_one_order() -> None:
    def look(photos: set[Path]) -> str:
        raise NotImplementedError

    paths = {Path(f"photo{number:02}.png") for number in MANY}
    assert list(request_of(look, {"photos": paths}, {}).images) == sorted(paths)


def test_the_identity_of_a_target_does_not_depend_on_the_order_of_a_set() -> None:
    settings = load({"providers": {"openai": {"api_key": "test-key", "models": ["m"]}}}, environ={}).providers["openai"]
    words = [f"word{number:02}" for number in MANY]
    assert identity(replace(settings, options={"some": frozenset(words)}), "m") == identity(
        replace(settings, options={"some": words}), "m"
    )


class Own:
    """A provider of a third party, whose kind is that of a vendor."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings

    async def prepare(self) -> None: ...

    async def aclose(self) -> None: ...

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        yield "Ours."
        yield Finished("stop", "stop")


class OwnSwitch(LLMSwitch):
    @staticmethod
    def _make_provider(settings: ProviderSettings, notify: Notify) -> Provider:
        return Own(settings)


KINDS = ["ollama", "anthropic", "openai", "google", "groq", "mistral"]
POLICY = {
    "providers": {kind: {"api_key": "test-key", "models": ["m"]} for kind in sorted(KINDS)},
    "routing": {"default": [f"{kind}/m" for kind in KINDS]},
}


def test_sdks_are_loaded_in_the_order_of_a_route() -> None:
    assert LLMSwitch(POLICY)._runtime.kinds(TaskRequest("hi")) == tuple(KINDS)


async def test_no_sdk_is_loaded_for_a_provider_that_uses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_dispatcher._serving.warming.missing_sdks", lambda kinds: [*kinds])
    switch = OwnSwitch(POLICY)
    assert switch._runtime.kinds(TaskRequest("hi")) == ()
    assert await switch.stream_request(TaskRequest("hi")) == "Ours."


async def test_a_cache_starts_no_thread_if_its_words_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    load_words()
    monkeypatch.setattr("llm_dispatcher.cache._streaming_cache.threading.Thread", None)
    assert await served(StreamingCache(), PROMPT, Upstream(answer("Many."))) == answer("Many.")


def test_a_price_is_that_of_the_clocks_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices change at a date, and some with the hour of the day."""
    import genai_prices

    from llm_dispatcher import _clock

    asked: list[datetime | None] = []
    original = genai_prices.calc_price

    def calc_price(*args: Any, genai_request_timestamp: datetime | None = None, **more: Any) -> Any:
        asked.append(genai_request_timestamp)
        return original(*args, genai_request_timestamp=genai_request_timestamp, **more)

    monkeypatch.setattr(genai_prices, "calc_price", calc_price)
    catalog, target = Catalog(lambda target: ("openai", target.model)), Target("openai", "gpt-5-mini")
    with _clock.use(Still(at=0.0)):
        assert catalog.cost(target, Usage(1_000, 1_000))
        assert catalog.capabilities(target).input_price
    assert asked == [NEW_YEAR] * 4, "the cost, and the prices of input, cached input and output"
    assert NEW_YEAR.tzinfo is UTC
