"""Simulated vendors refuse the same requests as the real ones, with the same status and message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher.exceptions import ProviderAuthenticationError
from llm_dispatcher.testing import Reply, SimulatedVendor

Start = Callable[..., SimulatedVendor]

USER = {"role": "user", "content": "x"}
OPEN = {"role": "assistant", "content": "Once"}
PATHS = {"openai-chat": "/chat/completions", "openai-responses": "/responses", "anthropic": "/v1/messages"}


async def response(vendor: SimulatedVendor, **fields: Any) -> Any:
    """The error in the answer to a request, or `None`."""
    body: dict[str, Any] = {"model": "m", "stream": True}
    body |= {"input": "x"} if vendor.wire == "openai-responses" else {"messages": [USER]}
    body |= {"max_tokens": 9} if vendor.wire == "anthropic" else {}
    headers = {"authorization": "Bearer test-key", "anthropic-version": "2023-06-01"}
    url = vendor.base_url + PATHS[vendor.wire]
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body | fields, headers=headers) as answer,
    ):
        assert answer.status in (200, 400)
        return None if answer.status == 200 else (await answer.json())["error"]


@pytest.mark.found("B-06", "N-A5")
async def test_openais_chat_api_accepts_metadata_only_with_store(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply("Hi."))
    error = await response(vendor, metadata={"team": "red"})
    assert error["message"] == "The 'metadata' parameter is only allowed when 'store' is enabled."
    assert error["param"] == "metadata"
    assert await response(vendor, metadata={"team": "red"}, store=True) is None
    assert (
        await response(simulated_vendor("openai-chat", Reply("Hi."), host="mistral"), metadata={"team": "red"}) is None
    )
    assert await response(simulated_vendor("openai-responses", Reply("Hi.")), metadata={"team": "red"}) is None


@pytest.mark.found("N-A5")
@pytest.mark.parametrize("wire", ["openai-chat", "openai-responses"])
async def test_openai_accepts_only_text_as_metadata(wire: str, simulated_vendor: Start) -> None:
    error = await response(simulated_vendor(wire, Reply("Hi.")), metadata={"user": 5}, store=True)
    assert error["message"] == "Invalid type for 'metadata.user': expected a string, but got an integer instead."
    assert (error["code"], error["param"]) == ("invalid_type", "metadata.user")


@pytest.mark.found("N-A5")
@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"team": "red"}, "metadata.team: Extra inputs are not permitted"),
        ({"user_id": 5}, "metadata.user_id: Input should be a valid string"),
        ({"user_id": "me"}, None),
    ],
)
async def test_anthropic_accepts_only_user_id_as_metadata(
    metadata: Any, words: str | None, simulated_vendor: Start
) -> None:
    error = await response(simulated_vendor("anthropic", Reply("Hi.")), metadata=metadata)
    assert (error and error["message"]) == words


@pytest.mark.found("R-2")
async def test_two_open_assistant_turns_are_refused_on_the_chat_wire(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply("Hi."))
    error = await response(vendor, messages=[USER, OPEN, OPEN])
    assert error["message"] == "Cannot have 2 or more assistant messages at the end of the list."
    for turns in ([USER, OPEN], [USER, OPEN, OPEN, USER]):
        assert await response(vendor, messages=turns) is None
    assert await response(simulated_vendor("anthropic", Reply("Hi.")), messages=[USER, OPEN, OPEN]) is None


@pytest.mark.found("R-6")
async def test_llamacpp_refuses_an_assistants_item_without_its_type(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply("Hi."), host="llamacpp")
    error = await response(vendor, input=[USER, OPEN])
    assert error["message"] == "Cannot determine type of 'item'"
    assert await response(vendor, input=[USER, {"type": "message", **OPEN}]) is None
    openai = simulated_vendor("openai-responses", Reply("Hi."))
    assert await response(openai, input=[USER, OPEN]) is None, "OpenAI itself needs no type"


LISTS = {
    "openai-chat": "/v1/models",
    "openai-responses": "/v1/models",
    "anthropic": "/v1/models?limit=1",
    "google": "/v1beta/models?pageSize=1",
    "ollama": "/api/tags",
}


@pytest.mark.found("N-B14")
@pytest.mark.parametrize("wire", LISTS)
async def test_a_vendor_lists_its_models_for_requests_with_the_key(wire: str, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply("Hi."), api_key="test-key", models=["small", "large"])
    url = vendor.base_url.removesuffix("/v1") + LISTS[wire]
    async with aiohttp.ClientSession() as session:
        async with session.get(url, headers={"authorization": "Bearer test-key"}) as answer:
            words = await answer.text()
            assert (answer.status, "small" in words, "large" in words) == (200, True, True)
        async with session.get(url, headers={"authorization": "Bearer another"}) as answer:
            assert answer.status == 401


@pytest.mark.found("N-B14")
async def test_a_simulated_ollama_needs_no_key_by_default(simulated_vendor: Start) -> None:
    vendor, strict = simulated_vendor("ollama", Reply("Hi.")), simulated_vendor("ollama", Reply("Hi."), api_key="k")
    assert (vendor.api_key, strict.api_key, simulated_vendor("google").api_key) == (None, "k", "test-key")
    for each, message in ((vendor, None), (strict, "the API key is missing or wrong")):
        entry = {"ollama": {"base_url": each.base_url, "models": ["m"]}}
        async with LLMSwitch({"providers": entry, "resilience": {"max_retries": 0}}) as switch:
            if message is None:
                assert await switch.stream_request(TaskRequest("x")) == "Hi."
            else:
                with pytest.raises(ProviderAuthenticationError, match=message):
                    await switch.stream_request(TaskRequest("x"))


def test_an_unknown_host_is_refused() -> None:
    with pytest.raises(ValueError, match="a host is one of openai, azure"):
        SimulatedVendor("openai-chat", host="nowhere")
