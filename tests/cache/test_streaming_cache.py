"""The cache and its upstream: which streams are recorded, how they are played, and what a failure costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher.cache import Entry, MemoryStore, Snapshot, StreamingCache
from llm_dispatcher.events import (
    Event,
    Failure,
    ProviderEvent,
    ReasoningDelta,
    StreamCompleted,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    ToolCall,
    UsageReport,
    check_order,
)
from llm_dispatcher.exceptions import ProviderConnectionError
from llm_dispatcher.tasks import Target, TaskRequest, TaskType
from tests.cache.conftest import PROMPT, TARGET, Clock, Upstream, answer, served, was_cached

BODY = Target("body", "")
OTHER = Target("anthropic", "n")

pieces = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12)
streams = st.builds(
    lambda texts, reasoning, extra: [
        *answer(*texts)[:1],
        *(ReasoningDelta(each) for each in reasoning),
        *(ProviderEvent("search", {"query": each}) for each in extra),
        *answer(*texts)[1:],
    ],
    pieces,
    st.lists(st.text(max_size=5), max_size=3),
    st.lists(st.text(max_size=5), max_size=2),
)


@given(streams)
async def test_a_replay_equals_the_recording(events: list[Event]) -> None:
    cache, upstream = StreamingCache(), Upstream(events)
    assert await served(cache, PROMPT, upstream) == events
    again = await served(cache, PROMPT, upstream)
    assert upstream.opened == 1
    check_order(again)
    for event, replay in zip(events, again, strict=True):
        match replay:
            case StreamStarted():
                assert replay.cached and replay.target == TARGET
            case UsageReport() | StreamCompleted():
                assert replay.usage.cost == 0.0 and replay.usage.total_tokens == 10
            case _:
                assert replay == event


async def test_hits_and_misses_are_counted_by_lane_and_reason() -> None:
    cache, upstream = StreamingCache(), Upstream(answer("Many."))
    for prompt in (
        PROMPT,
        PROMPT,
        "what are the benefits of green tea",
        "What are benefits of green tea?",
        "What are the benefots of green tea?",
        "What are the benefits of black tea?",
        "Count the benefits of green tea",
    ):
        await served(cache, prompt, upstream)
    stats = cache.stats()
    assert stats.hits == {"exact": 1, "canonical": 1, "article": 1, "typo": 1}
    assert stats.misses == {"empty": 1, "nothing like it": 1, "exact only: surface": 1}
    assert (stats.recorded, stats.entries, upstream.opened, stats.shared) == (3, 3, 3, 0)
    assert stats.hit_rate == 4 / 7 and stats.bytes > 0


async def test_texts_are_read_when_the_lexicon_has_been_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording does not wait for the lexicon. The next look-up for a similar text reads what was recorded."""
    monkeypatch.setattr("llm_dispatcher.cache._streaming_cache.are_words_loaded", lambda: False)
    cache, upstream = StreamingCache(max_cache_size=2), Upstream(WHOLE)
    await served(cache, PROMPT, upstream)
    assert was_cached(await served(cache, PROMPT.lower(), upstream))
    await served(cache, "What is the history of tea?", upstream)
    for text in ("Hello", "Goodbye"):  # these are never similar to another, and the older entries leave unread
        await served(cache, TaskRequest(text, task_type=TaskType.TRANSLATION), upstream)
    assert not was_cached(await served(cache, "what is the history of tea", upstream))
    assert "lost by the store" not in cache.stats().misses


async def test_a_threshold_of_one_allows_only_the_manner_of_typing() -> None:
    cache, upstream = StreamingCache(similarity_threshold=1.0), Upstream(answer("Many."))
    await served(cache, PROMPT, upstream)
    assert was_cached(await served(cache, PROMPT.upper(), upstream))
    assert not was_cached(await served(cache, "What are benefits of green tea?", upstream))


CALL = ToolCall("1", "look", {}, "{}")
BROKEN = StreamInterrupted(Failure("StreamTruncatedError", "cut"), 4)
WHOLE = answer("Many", " reasons.")
JOINED = [
    *WHOLE[:2],
    BROKEN,
    StreamSwitched(TARGET, OTHER, "cut", "anchor", ""),
    StreamStarted(OTHER, 2, False),
    *WHOLE[2:],
]


@pytest.mark.parametrize(
    ("reason", "events"),
    [
        ("broken", WHOLE[:-1]),
        ("length", answer("Many", finish="length")),
        ("content_filter", answer("Many", finish="content_filter")),
        ("refusal", answer("No.", finish="refusal")),
        ("tool_calls", [*WHOLE[:1], CALL, *answer("", finish="tool_calls")[2:]]),
        ("tools", [*WHOLE[:1], CALL, *WHOLE[1:]]),
        ("body", answer("Many", target=BODY)),
        ("joined", JOINED),
        ("empty", [StreamStarted(TARGET, 1, False), *answer()[1:]]),
    ],
)
async def test_only_a_complete_answer_of_one_model_is_recorded(reason: str, events: list[Event]) -> None:
    cache, upstream = StreamingCache(), Upstream(events)
    for _ in range(2):
        assert await served(cache, PROMPT, upstream, (TARGET, BODY)) == events
    assert (upstream.opened, cache.stats().unrecorded, cache.stats().entries) == (2, {reason: 2}, 0)


READ_ON = StreamStarted(TARGET, 2, False, rung="reattached")


@pytest.mark.parametrize("joined", [False, True])
async def test_a_run_that_was_read_on_is_recorded_as_the_one_answer_that_it_is(joined: bool) -> None:
    cache = StreamingCache(keep_joined=joined)
    events = [*WHOLE[:2], BROKEN, READ_ON, *WHOLE[2:]]
    assert await served(cache, PROMPT, Upstream(events)) == events
    again = await served(cache, PROMPT, Upstream(events))
    assert [type(event) for event in again] == [type(event) for event in WHOLE]
    assert was_cached(again)


@pytest.mark.parametrize(
    "between",
    [
        [BROKEN, StreamStarted(TARGET, 2, False, rung="prefill")],
        [BROKEN, StreamReset(), StreamStarted(TARGET, 2, False, rung="restarted")],
        [BROKEN, READ_ON, BROKEN, StreamStarted(TARGET, 3, False, rung="exact")],
        [BROKEN, StreamStarted(TARGET, 2, False)],
    ],
)
async def test_two_answers_of_one_model_are_joined_too(between: list[Event]) -> None:
    cache, upstream = StreamingCache(), Upstream([*WHOLE[:2], *between, *WHOLE[2:]])
    await served(cache, PROMPT, upstream)
    assert cache.stats().unrecorded == {"joined": 1}


async def test_a_joined_answer_is_recorded_with_keep_joined() -> None:
    cache, upstream = StreamingCache(keep_joined=True), Upstream(JOINED)
    await served(cache, PROMPT, upstream)
    again = await served(cache, PROMPT, upstream)
    assert [type(event) for event in again] == [type(event) for event in JOINED]
    assert all(event.cached for event in again if isinstance(event, StreamStarted))


async def test_a_stream_that_failed_or_was_closed_early_is_not_recorded() -> None:
    cache = StreamingCache()
    with pytest.raises(ProviderConnectionError, match="gone"):
        await served(cache, PROMPT, Upstream(WHOLE[:2], ProviderConnectionError("gone")))
    left = Upstream(WHOLE)
    stream = cache.stream(TaskRequest(PROMPT), (TARGET,), left)
    await anext(stream)
    await stream.aclose()
    assert left.closed_early == 1
    assert (cache.stats().entries, cache.stats().unrecorded) == (0, {"broken": 2})


async def test_entries_expire_and_are_evicted(clock: Clock) -> None:
    cache, upstream = StreamingCache(ttl=60, max_cache_size=2, clock=clock), Upstream(WHOLE)
    await served(cache, PROMPT, upstream)
    clock.now += 59
    assert was_cached(await served(cache, PROMPT, upstream))
    clock.now += 1
    assert not was_cached(await served(cache, PROMPT, upstream))
    for city in ("Oslo", "Bergen"):
        await served(cache, f"Is there tea in {city}?", upstream)
    assert not was_cached(await served(cache, PROMPT, upstream))
    stats = cache.stats()
    assert (stats.entries, stats.expired, stats.evicted) == (2, 1, 2)


async def test_without_a_ttl_entries_are_served_for_ever(clock: Clock) -> None:
    cache, upstream = StreamingCache(ttl=None, clock=clock), Upstream(WHOLE)
    await served(cache, PROMPT, upstream)
    clock.now = 1e12
    assert was_cached(await served(cache, PROMPT, upstream))


async def test_an_answer_larger_than_the_cache_is_not_recorded() -> None:
    cache = StreamingCache(max_bytes=100)
    await served(cache, PROMPT, Upstream(WHOLE))
    assert (cache.stats().entries, cache.stats().unrecorded) == (0, {"too large": 1})


async def test_a_removed_entry_is_not_served() -> None:
    cache, upstream = StreamingCache(), Upstream(WHOLE)
    mine = TaskRequest(PROMPT, metadata={"namespace": "mine"})
    yours = TaskRequest(PROMPT, metadata={"namespace": "yours"})
    for request in (mine, yours):
        assert not was_cached(await served(cache, request, upstream))
    cache.forget("mine")
    assert was_cached(await served(cache, yours, upstream))
    assert not was_cached(await served(cache, mine, upstream))
    cache.clear()
    assert cache.stats().entries == 0
    assert not was_cached(await served(cache, yours, upstream))


@given(st.sampled_from([{"system": "s"}, {"temperature": 0.5}, {"max_tokens": 5}, {"seed": 1}, {"stop": ("x",)}]))
async def test_a_request_with_other_fields_is_a_miss(condition: dict[str, Any]) -> None:
    cache, upstream = StreamingCache(), Upstream(WHOLE)
    await served(cache, PROMPT, upstream)
    for prompt in (PROMPT, PROMPT.lower()):
        assert not was_cached(await served(cache, TaskRequest(prompt, **condition), upstream))
        assert not was_cached(await served(cache, prompt, upstream, (TARGET, OTHER)))
        assert was_cached(await served(cache, prompt, upstream))
        cache.clear()
        await served(cache, PROMPT, upstream)


async def test_a_text_to_process_is_a_hit_only_if_it_is_equal() -> None:
    cache, upstream = StreamingCache(), Upstream(WHOLE)
    for prompt, expected in ((PROMPT, False), (PROMPT.lower(), False), (PROMPT, True)):
        request = TaskRequest(prompt, task_type=TaskType.TRANSLATION)
        assert was_cached(await served(cache, request, upstream)) is expected


class Broken:
    """A store whose methods all fail, or all but `open`."""

    def __init__(self, opens: bool) -> None:
        self.opens = opens

    def open(self) -> Snapshot:
        if not self.opens:
            raise OSError("no such disk")
        return Snapshot(b"secret")

    async def read(self, key: bytes) -> bytes | None:
        raise OSError("no such disk")

    def add(self, entry: Entry, recording: bytes) -> None:
        if not self.opens:
            raise OSError("no such disk")

    def remove(self, keys: Iterable[bytes]) -> None:
        raise OSError("no such disk")

    def flush(self) -> None: ...
    def close(self) -> None: ...


async def test_a_failing_store_costs_misses(caplog: pytest.LogCaptureFixture) -> None:
    cache, upstream = StreamingCache(store=Broken(opens=True)), Upstream(WHOLE)
    for _ in range(3):
        assert await served(cache, PROMPT, upstream) == WHOLE
    assert upstream.opened == 3 and cache.stats().misses == {"empty": 1, "failed": 2}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no such disk" in caplog.text and PROMPT not in caplog.text


async def test_a_store_that_cannot_be_opened_is_replaced_by_memory(caplog: pytest.LogCaptureFixture) -> None:
    cache, upstream = StreamingCache(store=Broken(opens=False)), Upstream(WHOLE)
    assert await served(cache, PROMPT, upstream) == WHOLE
    assert was_cached(await served(cache, PROMPT, upstream))
    assert "no such disk" in caplog.text


class Forgetful:
    """A store that has lost its recordings, for example because another process cleared it."""

    def open(self) -> Snapshot:
        return Snapshot(b"secret")

    async def read(self, key: bytes) -> bytes | None:
        return None

    def add(self, entry: Entry, recording: bytes) -> None: ...
    def remove(self, keys: Iterable[bytes]) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


async def test_a_recording_that_the_store_lost_is_a_miss() -> None:
    cache, upstream = StreamingCache(store=Forgetful()), Upstream(WHOLE)
    for _ in range(2):
        assert await served(cache, PROMPT, upstream) == WHOLE
    assert cache.stats().misses == {"empty": 1, "lost by the store": 1}


async def test_a_request_without_a_key_is_sent() -> None:
    cache, upstream = StreamingCache(), Upstream(WHOLE)
    request = TaskRequest(PROMPT, images=["https://pictures.example/cat.png"])
    for _ in range(2):
        assert await served(cache, request, upstream) == WHOLE
    assert cache.stats().misses == {
        "uncacheable: media is referenced by URL, and the content at a URL may change: pass the bytes": 2
    }


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ({"similarity_threshold": 1.2}, ValueError),
        ({"similarity_threshold": "high"}, TypeError),
        ({"max_cache_size": 0}, ValueError),
        ({"max_bytes": -1}, ValueError),
        ({"ttl": 0}, ValueError),
        ({"replay": "slow"}, TypeError),
        ({"replay": 0}, ValueError),
        ({"store": 3}, TypeError),
        ({"store": MemoryStore}, TypeError),
    ],
)
def test_an_invalid_setting_is_refused(setting: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(setting))):
        StreamingCache(**setting)
