"""Metadata dicts: what goes with each chunk, and the closing item with the figures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, get_type_hints

import pytest

from llm_dispatcher import LLM, ChunkMetadata, LLMSwitch, llm_stream_with_metadata, use_switch
from llm_dispatcher.exceptions import StreamingError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import Continuing, Cut, Reply, Stall

TEXT = "One two three four five six."
NAMES = {
    "chunk", "chunk_index", "provider", "model", "attempt", "cached", "elapsed", "tokens", "total_tokens", "cost",
    "finish_reason",
}  # fmt: skip
ONLY_AT_THE_END = ("total_tokens", "cost", "finish_reason")


@llm_stream_with_metadata
async def story(topic: str) -> str:
    return topic


async def test_each_chunk_has_every_name_and_the_text_is_their_sum(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(openai=Reply(TEXT, fault=Cut(3)), anthropic=Continuing(TEXT))
    stream = story("foxes")
    items: list[ChunkMetadata] = [item async for item in stream]
    assert {frozenset(item) for item in items} == {frozenset(NAMES)} == {frozenset(get_type_hints(ChunkMetadata))}
    assert "".join(item["chunk"] for item in items) == TEXT == stream.response.text
    assert [item["chunk_index"] for item in items] == list(range(len(items))), "across the switch"
    assert [item["provider"] for item in items] == ["openai"] * 3 + ["anthropic"] * (len(items) - 3)
    assert [item["attempt"] for item in items] == [1] * 3 + [2] * (len(items) - 3)
    elapsed, tokens = [item["elapsed"] for item in items], [item["tokens"] for item in items]
    assert elapsed == sorted(elapsed)
    assert tokens == sorted(tokens)
    *chunks, closing = items
    assert {item[name] for item in chunks for name in ONLY_AT_THE_END} == {None}  # type: ignore[literal-required]
    assert (closing["chunk"], closing["finish_reason"], closing["cached"]) == ("", "stop", False)
    assert closing["total_tokens"] == stream.response.usage.total_tokens


@pytest.mark.found("S-D6")
async def test_a_stand_in_can_yield_dicts_with_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the page of the API shows it. What such a dict says beside its text, the stream knows better."""

    @llm_stream_with_metadata
    async def rehearsed(topic: str) -> AsyncIterator[dict[str, Any]]:
        for index, chunk in enumerate(("One", " two", f" {topic}")):
            yield {"chunk": chunk, "chunk_index": 7 * index, "provider": "nobody", "note": "a rehearsal"}
        yield {"chunk": "", "finish_reason": "stop"}

    monkeypatch.setenv("LLM_DISPATCHER_OFFLINE", "1")
    with use_switch(LLMSwitch()):
        items = [item async for item in rehearsed("foxes")]
        assert await rehearsed("foxes") == "One two foxes"
    assert [item["chunk"] for item in items] == ["One", " two", " foxes", ""]
    assert [item["chunk_index"] for item in items] == [0, 1, 2, 3]
    assert {item["provider"] for item in items} == {"body"}
    assert {frozenset(item) for item in items} == {frozenset(NAMES)}


@pytest.mark.found("S-D6")
async def test_a_body_can_yield_the_items_of_another_stream(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))

    @llm_stream_with_metadata
    async def passed_on(llm: LLM, topic: str) -> AsyncIterator[Any]:
        async for item in story(topic):
            yield item

    items = [item async for item in passed_on("foxes")]
    assert [item["chunk"] for item in items] == [*Reply(TEXT).pieces, ""]


@pytest.mark.found("S-D6")
@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"text": "One"}, "has to yield str or dicts with text in 'chunk'; it yielded dict with 'text'"),
        ({"chunk": 3}, "it yielded dict with 'chunk'"),
        ({}, "it yielded dict with nothing in it"),
        (b"One", "it yielded bytes"),
    ],
)
async def test_a_dict_without_text_is_refused_with_the_fix(
    item: object, words: str, simulated_switch: SimulatedSwitch
) -> None:
    simulated_switch(only=Reply(TEXT))

    @llm_stream_with_metadata
    async def wrong(llm: LLM, topic: str) -> AsyncIterator[Any]:
        yield item

    with pytest.raises(TypeError, match=words):
        await wrong("foxes")


async def test_the_closing_item_has_the_cost(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(
        {"providers": {"openai": {"models": ["gpt-4o-mini"]}}, "routing": {"default": ["openai/gpt-4o-mini"]}},
        openai=Reply(TEXT),
    )
    stream = story("foxes")
    *_, closing = [item async for item in stream]
    assert closing["cost"] == stream.response.cost
    assert closing["cost"] is not None
    assert closing["cost"] > 0


async def test_no_chunk_is_held_back_for_its_metadata(simulated_switch: SimulatedSwitch) -> None:
    """Each item is there before the vendor has said the next: it stalls after the third, and then is gone."""
    vendor = simulated_switch(
        {
            "providers": {"openai": {"models": ["m"]}},
            "routing": {"default": ["openai/m"]},
            "resilience": {"max_retries": 0},
        },
        openai=Reply(TEXT, fault=Stall(3)),
    )["openai"]
    read: list[Any] = []
    with pytest.raises(StreamingError):
        async for item in story("foxes"):
            read.append(item)
            if item["chunk"] == " three":
                with vendor.down():
                    pass
    assert [item["chunk"] for item in read] == ["One", " two", " three"], "and no closing item after an error"


async def test_a_stream_without_text_has_a_closing_item(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(openai=Reply("", finish_reason="stop"))
    (closing,) = [item async for item in story("foxes")]
    assert (closing["chunk"], closing["chunk_index"], closing["finish_reason"]) == ("", 0, "stop")
    assert (closing["provider"], closing["model"]) == ("openai", "simulated")
