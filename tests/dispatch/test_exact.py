"""A broken answer of vLLM goes on from its tokens, and in the next best way where that is not to be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher.events import TaskResponse
from llm_dispatcher.testing import Continuing, Cut, ReceivedRequest, Refuse, Reply, SimulatedVendor
from llm_dispatcher.testing._wires.token_ids import ids_of

TEXT = "Once 🦊 upon a time, a  fox 🦊🐇 met\n\n a rabbit that had  no  time.\n"
ASK = TaskRequest("Tell me.", max_tokens=300)
WHOLE = Reply(TEXT, chunk_size=3)

Start = Callable[..., SimulatedVendor]


def cut_after(pieces: int) -> Callable[[ReceivedRequest], Reply]:
    """A script that answers or continues, and breaks."""

    def script(request: ReceivedRequest) -> Reply:
        return replace(Continuing(TEXT, reply=Reply(chunk_size=3))(request), fault=Cut(after=pieces))

    return script


async def answer(
    *vendors: SimulatedVendor, kinds: str = "vllm vllm", options: dict[str, Any] | None = None, **resilience: Any
) -> TaskResponse:
    """The answer of the first vendor, continued by the others. Their models have the same name."""
    providers = {
        name: {"kind": kind, "base_url": vendor.base_url, "models": ["m"], "options": options or {}}
        for name, kind, vendor in zip("ab", kinds.split(), vendors, strict=False)
    }
    config = {
        "providers": providers,
        "routing": {"default": [f"{name}/m" for name in providers]},
        "resilience": {"backoff": 0.001, **resilience},
    }
    async with LLMSwitch(config) as switch:
        stream = switch.stream_request(ASK)
        text = "".join([chunk async for chunk in stream])
    response = stream.response
    assert response.text == text == TEXT
    return response


def paths(vendor: SimulatedVendor) -> list[str]:
    return [request.path for request in vendor.requests]


@pytest.mark.parametrize("cut", range(1, WHOLE.length))
async def test_another_server_of_the_model_goes_on_from_the_tokens(cut: int, simulated_vendor: Start) -> None:
    one = simulated_vendor("openai-chat", [cut_after(cut), Reply(fault=Refuse())], host="vllm", api_key=None)
    other = simulated_vendor("openai-chat", Continuing(TEXT), host="vllm", api_key=None)
    response = await answer(one, other)
    last, count = response.attempts[-1], len(ids_of(TEXT[: 3 * cut]))
    assert (last.target.provider, last.rung, last.proof) == ("b", "exact", f"from {count} tokens")
    assert paths(other) == ["/detokenize", "/v1/completions"]
    assert other.requests[-1].body["max_tokens"] == 300 - count, "to the token, with those of every emoji"


@pytest.mark.parametrize("cut", [cut for cut in range(1, WHOLE.length) if not TEXT[: 3 * cut].endswith(("\n", "\n "))])
async def test_without_ids_a_server_says_how_many_tokens_its_chunks_have(cut: int, simulated_vendor: Start) -> None:
    """A chunk of a busy vLLM has several tokens."""
    one = simulated_vendor("openai-chat", [cut_after(cut), Reply(fault=Refuse())], host="vllm", api_key=None)
    other = simulated_vendor("openai-chat", Continuing(TEXT), host="vllm", api_key=None)
    response = await answer(one, other, options={"token_ids": False})
    assert response.attempts[-1].rung == "prefill"
    assert other.requests[-1].body["max_tokens"] == 300 - len(ids_of(TEXT[: 3 * cut]))


async def test_a_request_without_a_limit_asks_for_no_counts(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT), host="vllm", api_key=None)
    policy = {
        "providers": {
            "a": {"kind": "vllm", "base_url": vendor.base_url, "models": ["m"], "options": {"token_ids": False}}
        },
        "routing": {"default": ["a/m"]},
    }
    async with LLMSwitch(policy) as switch:
        for request in (TaskRequest("Tell me."), ASK):
            assert await switch.stream_request(request) == TEXT
    asked = [request.body["stream_options"].get("continuous_usage_stats") for request in vendor.requests]
    assert asked == [None, True]


async def test_the_same_server_is_asked_first_if_its_connection_broke(simulated_vendor: Start) -> None:
    """Its cache is warm, even if the policy has no retries."""
    one = simulated_vendor("openai-chat", [cut_after(4), Continuing(TEXT)], host="vllm", api_key=None)
    other = simulated_vendor("openai-chat", Continuing(TEXT), host="vllm", api_key=None)
    response = await answer(one, other, max_retries=0)
    assert [(row.target.provider, row.rung) for row in response.attempts] == [("a", None), ("a", "exact")]
    assert not other.requests


async def test_an_answer_that_breaks_again_and_again_stays_exact(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", [cut_after(4)] * 3 + [Continuing(TEXT)], host="vllm", api_key=None)
    response = await answer(vendor, kinds="vllm", max_retries=4)
    assert [row.rung for row in response.attempts] == [None, "exact", "exact", "exact"]
    limits = [request.body["max_tokens"] for request in vendor.requests if "prompt" in request.body]
    assert limits == [300 - len(ids_of(TEXT[: 12 * turn])) for turn in (1, 2, 3)]


@pytest.mark.parametrize("host", ["openai_compatible", "llamacpp"])
async def test_a_host_that_cannot_check_the_ids_continues_an_open_turn_instead(
    host: str, simulated_vendor: Start
) -> None:
    """In the same attempt. A gateway may pass on no more than `/v1/chat/completions`."""
    one = simulated_vendor("openai-chat", [cut_after(4), Reply(fault=Refuse())], host="vllm", api_key=None)
    other = simulated_vendor("openai-chat", Continuing(TEXT), host=host, api_key=None)
    response = await answer(one, other, max_retries=0)
    last = response.attempts[-1]
    assert (last.target.provider, last.rung, last.proof) == ("b", "prefill", "an open turn")
    assert paths(other) == ["/detokenize", "/v1/chat/completions"]
    assert other.requests[-1].body["max_tokens"] == 300 - len(ids_of(TEXT[:12])), "the tokens of the first are known"


async def test_llamacpp_goes_on_from_the_ids_of_the_same_text(simulated_vendor: Start) -> None:
    vendor = simulated_vendor(
        "openai-chat", [cut_after(5), cut_after(5), Continuing(TEXT)], host="llamacpp", api_key=None
    )
    config = {
        "providers": {
            "a": {"kind": "llamacpp", "base_url": vendor.base_url, "models": ["m"], "options": {"token_ids": True}}
        },
        "resilience": {"backoff": 0.001},
    }
    async with LLMSwitch(config) as switch:
        stream = switch.stream_request(ASK)
        assert await stream == TEXT
    assert [row.rung for row in stream.response.attempts] == [None, "exact", "exact"]
    limits = [request.body["max_tokens"] for request in vendor.requests if "prompt" in request.body]
    assert limits == [295, 290], "a chunk is a token there"
