"""The cache in a decorator, in a call and in the configuration."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher import LLM, LLMSwitch, StreamingCallbacks, TaskRequest, llm_stream, set_global_switch
from llm_dispatcher._config import load
from llm_dispatcher._config.dump import identity
from llm_dispatcher.cache import StreamingCache
from llm_dispatcher.exceptions import ConfigurationError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import Cut, HttpError, Reply, SimulatedVendor
from tests.conftest import policy_over

TEXT = "It calms, it warms, and it keeps."
PROMPT = "What are the benefits of green tea?"


async def test_decorators_calls_and_requests_take_a_cache(simulated_switch: SimulatedSwitch) -> None:
    vendors = simulated_switch(only=Reply(TEXT))
    cache = StreamingCache()

    @llm_stream(cache=cache)
    def benefits(of: str) -> str:
        return f"What are the benefits of {of}?"

    assert not (await benefits("green tea").collect()).cached
    assert (await LLM(cache=cache)("what are the benefits of green tea").collect()).cached
    assert await LLM()(PROMPT, cache=cache) == TEXT
    assert len(vendors["only"].requests) == 1
    assert cache.stats().hits == {"canonical": 1, "exact": 1}


async def test_the_configured_cache_serves_all_calls_without_one_of_their_own() -> None:
    with SimulatedVendor("openai-chat", Reply(TEXT)) as vendor:
        async with LLMSwitch({**policy_over(vendor), "cache": {"similarity_threshold": 1.0}}) as switch:
            responses = [await switch.stream_request(TaskRequest(PROMPT)).collect() for _ in range(2)]
            assert [response.cached for response in responses] == [False, True]
            assert responses[1].cost == 0.0 and responses[1].attempts == ()
            assert not (await switch.stream_request(TaskRequest(PROMPT), cache=False).collect()).cached
            assert not (await switch.stream_request(TaskRequest(PROMPT), raw=True).collect()).cached
    assert len(vendor.requests) == 3


async def test_without_a_cache_nothing_is_recorded() -> None:
    with SimulatedVendor("openai-chat", Reply(TEXT)) as vendor:
        async with LLMSwitch(policy_over(vendor)) as switch:
            for _ in range(2):
                assert not (await switch.stream_request(TaskRequest(PROMPT)).collect()).cached


async def test_a_reload_keeps_a_cache_with_unchanged_settings(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    with SimulatedVendor("openai-chat", Reply(TEXT)) as vendor:

        def write(cache: str) -> None:
            provider = f"{{kind: openai, api: chat, api_key: test-key, base_url: '{vendor.base_url}', models: [m]}}"
            file.write_text(f"providers:\n  a: {provider}\ncache: {cache}\n")

        write("{max_cache_size: 7}")
        async with LLMSwitch(file) as switch:
            await switch.stream_request(TaskRequest(PROMPT))
            write("{max_cache_size: 7} # the same")
            switch.reload()
            assert (await switch.stream_request(TaskRequest(PROMPT)).collect()).cached
            write("{max_cache_size: 8}")
            switch.reload()
            assert not (await switch.stream_request(TaskRequest(PROMPT)).collect()).cached


@pytest.mark.found("N-A2")
async def test_a_configured_file_that_no_cache_made_is_a_configuration_error(tmp_path: Path) -> None:
    file, precious = tmp_path / "policy.yaml", tmp_path / "precious.py"
    precious.write_text("precious")
    with SimulatedVendor("openai-chat", Reply(TEXT)) as vendor:

        def write(store: str) -> None:
            provider = f"{{kind: openai, api: chat, api_key: test-key, base_url: '{vendor.base_url}', models: [m]}}"
            file.write_text(f"providers:\n  a: {provider}\ncache: {{store: {store}}}\n")

        write(str(precious))
        with pytest.raises(ConfigurationError, match="give the cache a path of its own") as raised:
            LLMSwitch(file)
        assert (raised.value.file, raised.value.key) == (str(file), "cache.store")
        write("memory")
        async with LLMSwitch(file) as switch:
            write(str(precious))
            with pytest.raises(ConfigurationError):
                switch.reload()
            assert await switch.stream_request(TaskRequest(PROMPT)) == TEXT
    assert precious.read_text() == "precious"


def entry(vendor: SimulatedVendor, alias: str, key: str = "test-key") -> dict[str, Any]:
    """A provider whose only model is called `fast` here, and `alias` by its vendor."""
    return {
        "kind": "openai", "api": "chat", "api_key": key, "base_url": vendor.base_url,
        "models": {"fast": {"alias": alias}},
    }  # fmt: skip


@pytest.mark.found("B-25")
async def test_an_answer_is_not_served_for_another_model_under_the_same_name(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    with (
        SimulatedVendor("openai-chat", Reply("one"), api_key=None) as one,
        SimulatedVendor("openai-chat", Reply("other"), api_key=None) as other,
    ):

        async def cached(**a: Any) -> bool:
            file.write_text(json.dumps({"providers": {"a": a}, "routing": {"default": ["a/fast"]}, "cache": {}}))
            switch.reload()
            return (await switch.stream_request(TaskRequest(PROMPT)).collect()).cached

        file.write_text(json.dumps({"providers": {"a": entry(one, "m")}}))
        async with LLMSwitch(file) as switch:
            assert not await cached(**entry(one, "m"))
            assert not await cached(**entry(one, "new-m"))
            assert not await cached(**entry(other, "m"))
            assert not await cached(**entry(other, "m") | {"options": {"quirks": ["no_stream_options"]}})
            assert await cached(**entry(one, "m"))
            assert await cached(**entry(one, "m", key="another-key") | {"headers": {"x-trace": "1"}})


@pytest.mark.found("B-25")
async def test_applications_that_share_a_file_share_answers_of_the_same_model_only(tmp_path: Path) -> None:
    store = {"store": str(tmp_path / "answers.sqlite")}
    with SimulatedVendor("openai-chat", Reply(TEXT)) as vendor:
        for alias, cached in (("m", False), ("n", False), ("m", True), ("n", True)):
            async with LLMSwitch({"providers": {"a": entry(vendor, alias)}, "cache": store}) as switch:
                assert (await switch.stream_request(TaskRequest(PROMPT)).collect()).cached is cached


def test_the_identity_of_a_target_has_no_secret() -> None:
    provider = {
        "kind": "openai", "api_key": "sk-secret", "base_url": "https://gateway.example/v1", "models": ["m"],
        "headers": {"authorization": "secret"},
    }  # fmt: skip
    settings = load({"providers": {"a": provider}}).providers["a"]
    assert "secret" not in identity(settings, "m") and "gateway.example/v1" in identity(settings, "m")


async def test_a_hit_is_served_while_every_vendor_is_down() -> None:
    with SimulatedVendor("openai-chat", [Reply(TEXT), Reply(fault=HttpError(503))]) as vendor:
        async with LLMSwitch({**policy_over(vendor), "cache": None}) as switch:
            await switch.stream_request(TaskRequest(PROMPT))
            assert (await switch.stream_request(TaskRequest(PROMPT.lower())).collect()).text == TEXT


async def test_callbacks_and_chunks_are_the_same_for_a_replay() -> None:
    logs: list[list[str]] = [[], []]

    def callbacks(log: list[str]) -> StreamingCallbacks:
        return StreamingCallbacks(on_chunk_received=lambda chunk, _: log.append(chunk))

    with SimulatedVendor("openai-chat", Reply(TEXT)) as vendor:
        async with LLMSwitch({**policy_over(vendor), "cache": None}) as switch:
            chunks = [
                [chunk async for chunk in switch.stream_request(TaskRequest(PROMPT), callbacks=callbacks(log))]
                for log in logs
            ]
    assert chunks[0] == chunks[1] == logs[0] == logs[1] == list(Reply(TEXT).pieces)


async def test_an_answer_joined_from_two_attempts_is_not_recorded() -> None:
    replies = [Reply(TEXT, fault=Cut(after=2)), Reply(TEXT)]
    with SimulatedVendor("openai-chat", [*replies, *replies]) as vendor:
        async with LLMSwitch({**policy_over(vendor, max_retries=1), "cache": None}) as switch:
            for _ in range(2):
                response = await switch.stream_request(TaskRequest(PROMPT)).collect()
                assert (response.text, response.cached) == (TEXT, False)


async def test_the_body_of_a_decorated_function_is_never_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_DISPATCHER_OFFLINE", "1")
    set_global_switch(LLMSwitch({"providers": {"openai": {"api_key": "test-key", "models": ["m"]}}}))
    cache, calls = StreamingCache(), 0

    @llm_stream(cache=cache)
    async def rehearsed(prompt: str) -> Any:
        nonlocal calls
        calls += 1
        yield f"{calls}"

    try:
        assert [await rehearsed(PROMPT), await rehearsed(PROMPT)] == ["1", "2"]
    finally:
        set_global_switch(None)
    assert cache.stats().unrecorded == {"body": 2}


async def test_prompts_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with SimulatedVendor("openai-chat", Reply(TEXT)) as vendor:
        async with LLMSwitch({**policy_over(vendor), "cache": None}) as switch:
            for prompt in (PROMPT, PROMPT.lower()):
                await switch.stream_request(TaskRequest(prompt))
    assert "green tea" not in caplog.text


def test_a_setting_that_is_not_a_cache_is_refused() -> None:
    with pytest.raises(TypeError, match="cache is a StreamingCache, or False for none, got dict"):
        LLM(cache={})  # type: ignore[arg-type]
