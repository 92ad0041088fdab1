"""Simulated vendors refuse requests that are not well formed, and scripts that no vendor could follow."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from llm_dispatcher.testing import Cut, KeepAlives, Redirect, Reply, SaidUsage, SimulatedVendor, UnaskedAnswer, Wire
from llm_dispatcher.testing._answers import streamed

Start = Callable[..., SimulatedVendor]

USER = {"role": "user", "content": "x"}
TURN = {"role": "user", "parts": [{"text": "x"}]}
PATHS = {
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "google": "/v1beta/models/m:streamGenerateContent?alt=sse",
    "ollama": "/api/chat",
}
BODIES: dict[str, dict[str, Any]] = {
    "openai-chat": {"model": "m", "stream": True, "messages": [USER]},
    "openai-responses": {"model": "m", "stream": True, "input": "x"},
    "anthropic": {"model": "m", "stream": True, "messages": [USER], "max_tokens": 9},
    "google": {"contents": [TURN]},
    "ollama": {"model": "m", "messages": [USER]},
}
HEADERS = {"authorization": "Bearer test-key", "x-goog-api-key": "test-key", "anthropic-version": "2023-06-01"}
LOOSE = {"type": "object", "properties": {"a": {"type": "string"}}}
CIRCLE = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}


async def refusal(
    vendor: SimulatedVendor, fields: dict[str, Any], path: str | None = None, *, without: str | None = None
) -> tuple[int, str]:
    """The status and the body of the answer to a request with these fields."""
    root = vendor.base_url.removesuffix("/v1")
    headers = {name: value for name, value in HEADERS.items() if name != without}
    async with (
        aiohttp.ClientSession() as session,
        session.post(root + (path or PATHS[vendor.wire]), json=BODIES[vendor.wire] | fields, headers=headers) as answer,
    ):
        return answer.status, await answer.text()


@pytest.mark.parametrize("wire", PATHS)
async def test_a_well_formed_request_is_answered(wire: str, simulated_vendor: Start) -> None:
    """So the other tests change one thing in a request that is answered."""
    assert (await refusal(simulated_vendor(wire, Reply("Hi.")), {}))[0] == 200


@pytest.mark.parametrize("wire", PATHS)
async def test_another_path_is_not_found(wire: str, simulated_vendor: Start) -> None:
    assert (await refusal(simulated_vendor(wire, Reply("Hi.")), {}, "/v1/elsewhere"))[0] == 404


@pytest.mark.parametrize(
    ("wire", "fields", "words"),
    [
        ("openai-chat", {"model": ""}, "you must provide a model parameter"),
        ("openai-chat", {"stream": False}, "send stream=true"),
        ("openai-chat", {"messages": "x"}, "at least one message is required"),
        ("openai-chat", {"messages": [{"role": "system", "content": "x"}]}, "at least one message is required"),
        ("openai-chat", {"tools": [{"function": {"name": "f", "strict": True, "parameters": LOOSE}}]}, "function 'f'"),
        ("openai-responses", {"model": None}, "'model'"),
        ("openai-responses", {"stream": False}, "send stream=true"),
        ("openai-responses", {"input": []}, "'input'"),
        ("openai-responses", {"tools": [{"name": "f", "strict": True, "parameters": LOOSE}]}, "function 'f'"),
        ("anthropic", {"max_tokens": None}, "max_tokens: Field required"),
        ("anthropic", {"max_tokens": 0}, "max_tokens: must be 1 or more"),
        ("anthropic", {"messages": []}, "at least one message is required"),
        ("anthropic", {"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ("anthropic", {"tools": [{"strict": True, "input_schema": "x"}]}, "tools.0.custom: Input should be an object"),
        ("anthropic", {"tools": [{"strict": True, "input_schema": CIRCLE}]}, "Recursive schemas are not supported"),
        ("google", {"contents": []}, "contents is not specified"),
        ("google", {"contents": [{"role": "assistant", "parts": []}]}, "Please use a valid role"),
        ("google", {"contents": ["x"]}, "Please use a valid role"),
        ("ollama", {"model": 5}, "you must provide a model parameter"),
    ],
)
async def test_a_request_that_the_vendor_would_refuse_is_refused(
    wire: str, fields: dict[str, Any], words: str, simulated_vendor: Start
) -> None:
    status, body = await refusal(simulated_vendor(wire, Reply("Hi.")), fields)
    assert (status, words in body) == (400, True), body


async def test_anthropic_wants_the_version_of_its_api(simulated_vendor: Start) -> None:
    status, body = await refusal(simulated_vendor("anthropic", Reply("Hi.")), {}, without="anthropic-version")
    assert (status, "anthropic-version: header is required" in body) == (400, True)


async def test_google_streams_events_only_with_alt_sse(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("google", Reply("Hi."))
    status, body = await refusal(vendor, {}, "/v1beta/models/m:streamGenerateContent")
    assert (status, "alt=sse" in body) == (400, True)


# ── scripts ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SaidUsage(input=3, cached=4), r"SaidUsage\(cached\) is part of input \(3\), got 4"),
        (lambda: SaidUsage(output=3, reasoning=-1), r"SaidUsage\(reasoning\) is part of output \(3\), got -1"),
        (lambda: KeepAlives(after=0, every=0), r"KeepAlives\(every\) is more than 0, got 0"),
        (lambda: Redirect("http://localhost", status=200), r"Redirect\(status\) is 301, .* got 200"),
        (lambda: UnaskedAnswer(moment=-1), r"UnaskedAnswer\(moment\)"),
        (lambda: SimulatedVendor("openai-chat", remember=0), "remember is 1 or more, got 0"),
        (lambda: SimulatedVendor("telegraph"), "a wire is one of .*; got 'telegraph'"),
    ],
)
def test_a_script_with_an_impossible_value_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_cut_past_the_end_of_its_event_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Cut\(into=100000\) is past the end of the event that follows"):
        streamed(Wire.OPENAI_CHAT, Reply("one two", fault=Cut(after=1, into=100_000)), "m")


def test_the_responses_api_says_that_there_is_no_usage() -> None:
    def last_event(reply: Reply) -> Any:
        data = b"".join(write.data for write in streamed(Wire.OPENAI_RESPONSES, reply, "m").writes)
        line = [line for line in data.splitlines() if line.startswith(b"data: ")][-1]
        return json.loads(line.removeprefix(b"data: "))["response"]

    assert last_event(Reply("x"))["usage"]["output_tokens"] == SaidUsage().output
    assert last_event(Reply("x", usage=None))["usage"] is None


async def test_a_vendor_listens_once(simulated_vendor: Start) -> None:
    async with SimulatedVendor("openai-chat", Reply("Hi.")) as vendor:
        with pytest.raises(RuntimeError, match="already listening"):
            await vendor.start()
        assert (await refusal(vendor, {}))[0] == 200
