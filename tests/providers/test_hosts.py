"""Hosts: a row of the table is a kind that works, every quirk changes something, and others can bring their own."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from llm_dispatcher import LLMSwitch
from llm_dispatcher import _catalog as catalog
from llm_dispatcher._config import load
from llm_dispatcher._providers import make
from llm_dispatcher._providers.openai import chat as openai_chat
from llm_dispatcher._providers.openai import chat_request as openai_chat_request
from llm_dispatcher._providers.openai import responses as openai_responses
from llm_dispatcher._providers.openai import responses_request as openai_responses_request
from llm_dispatcher._providers.openai.provider import OpenAIProvider
from llm_dispatcher._vendors.entries import quirks_of
from llm_dispatcher._vendors.kinds import known_kinds
from llm_dispatcher._vendors.quirks import PREFILLS, QUIRKS, Quirk
from llm_dispatcher._vendors.table import hosts, vendor
from llm_dispatcher.exceptions import (
    ConfigurationError,
    InvalidRequestError,
    ModelUnsupportedError,
    ProviderAuthenticationError,
    ProviderError,
    ProviderServiceUnavailableError,
)
from llm_dispatcher.provider import Ask, Finished, Provider, ProviderSettings, Secret
from llm_dispatcher.tasks import (
    CachePoint,
    Message,
    ReasoningPart,
    Target,
    TaskRequest,
    ToolCallPart,
    ToolResultPart,
)
from llm_dispatcher.testing import HttpError, ReceivedRequest, Reply, SimulatedVendor

A = Target("a", "m")
GIF = b"GIF89a and what follows"
WAV = b"RIFF\x10\x00\x00\x00WAVEfmt "
BMP = b"BM\x46\x00\x00\x00\x00\x00\x00\x00"
HOSTS = hosts()
OTHERS = [kind for kind in HOSTS if kind != "openai_compatible"]

Start = Callable[..., SimulatedVendor]


# ── rows ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", OTHERS)
def test_a_row_is_all_that_a_host_needs(kind: str) -> None:
    """Its key is found, its address is known (or missed), and it can be routed to by its name."""
    host = HOSTS[kind]
    variables = host.key_variables or ("NONE_AT_ALL",)
    for variable in variables:
        entry = {} if host.base_url else {"base_url": "https://example.org"}
        config = {"providers": {kind: entry}, "routing": {"default": [f"{kind}/some/model"]}}
        settings = load(config, environ={variable: "test-key"}).providers[kind]
        assert (settings.api_key is not None) == bool(host.key_variables)
        assert isinstance(make(settings), OpenAIProvider)
        assert list(settings.models) == ["some/model"]
    if host.key_variables:
        with pytest.raises(ConfigurationError, match=f"set {host.key_variables[0]}"):
            load({"providers": {kind: entry}}, environ={})
    if host.base_url is None:
        with pytest.raises(ConfigurationError, match="base_url: is missing"):
            load({"providers": {kind: {}}}, environ={variables[0]: "test-key"})


@pytest.mark.parametrize("kind", OTHERS)
async def test_a_row_says_where_requests_go(kind: str, simulated_vendor: Start) -> None:
    host = HOSTS[kind]
    key = Secret("test-key") if host.key_variables else None
    vendor = simulated_vendor("openai-chat", Reply("Hi."), api_key=key and key.reveal())
    provider = make(ProviderSettings(name="a", kind=kind, api_key=key, base_url=host.base_url))
    assert isinstance(provider, OpenAIProvider)
    if host.base_url is not None:
        client = await provider._clients.get()
        assert str(client.base_url).rstrip("/") == host.base_url
        assert host.base_url.startswith("https://" if host.key_variables else "http://localhost:")
    await provider.aclose()
    base_url = vendor.base_url.removesuffix("/v1") if kind == "azure" else vendor.base_url
    provider = make(ProviderSettings(name="a", kind=kind, api_key=key, base_url=base_url))
    assert await text(provider) == "Hi."
    sent = vendor.requests[0].headers.get("authorization")
    assert sent == ("Bearer test-key" if host.key_variables else None)


async def text(provider: Provider, request: TaskRequest = TaskRequest("hi")) -> str:
    try:
        return "".join([piece async for piece in provider.stream(Ask(request, A, 5.0)) if isinstance(piece, str)])
    finally:
        await provider.aclose()


def test_a_hosts_key_alone_makes_no_provider_but_a_route_to_it_does() -> None:
    """We know no good first model of it; and a token in the environment may be there for something else."""
    with pytest.raises(ConfigurationError, match="no provider is configured"):
        load({}, environ={"GROQ_API_KEY": "test-key"})
    environ = {"GROQ_API_KEY": "test-key", "OPENAI_API_KEY": "test-key", "HF_TOKEN": "test-key"}
    assert list(load({}, environ=environ).providers) == ["openai"]
    policy = load({"routing": {"default": ["groq/llama"]}}, environ=environ)
    assert list(policy.providers) == ["openai", "groq"]
    assert [str(target) for target in policy.default.targets] == ["groq/llama"]


def test_prices_are_looked_up_in_a_list_that_exists() -> None:
    from genai_prices.data_snapshot import get_snapshot

    lists = {provider.id for provider in get_snapshot().providers}
    assert {host.price_list for host in HOSTS.values() if host.price_list} <= lists
    assert catalog.capabilities("groq", "llama-3.3-70b-versatile").input_price
    assert catalog.capabilities("vllm", "whatever").input_price == 0
    assert catalog.capabilities("openai_compatible", "whatever").input_price is None


@pytest.mark.parametrize("kind", HOSTS)
def test_the_documents_table_has_the_row(kind: str) -> None:
    host = HOSTS[kind]
    cells = [
        f"`{kind}`", host.title, f"`{host.base_url}`" if host.base_url else "in the entry: `base_url`",
        " or ".join(f"`{variable}`" for variable in host.key_variables) or "none needed",
        ", ".join(f"`{quirk}`" for quirk in QUIRKS if quirk in host.quirks) or "–",
    ]  # fmt: skip
    assert f"| {' | '.join(cells)} |" in DOCUMENT.splitlines()


DOCUMENT = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()


@pytest.mark.parametrize("quirk", QUIRKS)
def test_the_documents_say_what_each_quirk_is(quirk: Quirk) -> None:
    assert f"| `{quirk}` | {QUIRKS[quirk]} |" in DOCUMENT.splitlines()


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL))
def test_what_the_documents_show_is_a_policy(block: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(block)
    environ = {variable: "test-key" for host in HOSTS.values() for variable in host.key_variables}
    policy = load(file, environ={**environ, "ANTHROPIC_API_KEY": "test-key", "NIGHT_SHIFT_KEY": "test-key"})
    assert all(make(settings) for settings in policy.providers.values())


def test_what_the_documents_show_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = [each for each in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL) if "encode_image" in each]
    exec(compile(block, "providers.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"# (data:.*)", block)


# ── quirks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def body(request: TaskRequest, *quirks: Quirk) -> dict[str, Any]:
    return openai_chat_request.body(request, "m", A, frozenset(quirks))


def refused(quirk: Quirk, words: str, **fields: Any) -> None:
    body(TaskRequest("x", **fields))
    with pytest.raises(ModelUnsupportedError, match=f"{words}.*cannot be sent"):
        body(TaskRequest("x", **fields), quirk)


def ending(quirk: Quirk) -> dict[str, Any]:
    open_turn = [Message("user", "Tell me."), Message("assistant", "Once")]
    return body(TaskRequest(messages=open_turn), quirk)


def max_completion_tokens() -> None:
    request = TaskRequest("x", max_tokens=5)
    assert body(request)["max_tokens"] == body(request, "max_completion_tokens")["max_completion_tokens"] == 5
    assert "max_tokens" not in body(request, "max_completion_tokens")


def random_seed() -> None:
    sent = body(TaskRequest("x", seed=5, extra={"y": 1}), "random_seed")
    assert sent["extra_body"] == {"random_seed": 5, "y": 1}
    assert "seed" not in sent


def plain_audio() -> None:
    part = body(TaskRequest("x", audio=[WAV]), "plain_audio")["messages"][0]["content"][0]
    assert part == {"type": "input_audio", "input_audio": "UklGRhAAAABXQVZFZm10IA=="}


def few_media() -> None:
    refused("few_media", "an image of the type image/bmp", images=[BMP])
    refused("few_media", "audio of the type audio/ogg", audio=[b"OggS"])


def stored_metadata() -> None:
    refused("stored_metadata", "metadata without extra=", metadata={"team": "red"})
    stored = TaskRequest("x", metadata={"team": "red"}, extra={"store": True})
    assert body(stored, "stored_metadata")["metadata"] == {"team": "red"}


def no_stream_options() -> None:
    assert body(TaskRequest("x"))["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body(TaskRequest("x"), "no_stream_options")


def omits_finish_reason() -> None:
    tool = b'{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}}]}'
    assert list(openai_chat.Decoder(A).pieces(b"[DONE]")) == []
    decoder = openai_chat.Decoder(A, {"omits_finish_reason"})
    assert list(decoder.pieces(b"[DONE]")) == [Finished("stop", None)]
    assert list(decoder.pieces(b"[DONE]")) == []
    decoder = openai_chat.Decoder(A, {"omits_finish_reason"})
    assert len(list(decoder.pieces(tool))) == 1
    assert list(decoder.pieces(b"[DONE]"))[-1] == Finished("tool_calls", None)
    decoder = openai_chat.Decoder(A, {"omits_finish_reason"})
    assert list(decoder.pieces(b'{"choices": [{"finish_reason": "length"}]}')) == [Finished("length", "length")]
    assert list(decoder.pieces(b"[DONE]")) == []


def done_after_usage() -> None:
    usage = b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}'
    for quirks, ends in ((frozenset[Quirk](), False), (frozenset[Quirk]({"done_after_usage"}), True)):
        decoder = openai_chat.Decoder(A, quirks)
        assert list(decoder.pieces(b"[DONE]")) == []
        assert len(list(decoder.pieces(usage))) == 1
        assert list(decoder.pieces(b"[DONE]")) == ([Finished("stop", None)] if ends else [])


def partial_responses() -> None:
    refuses = frozenset[Quirk]({"partial_responses"})
    request = TaskRequest("x", response_format={"type": "object", "properties": {}})
    openai_responses_request.body(request, "m", A, frozenset())
    with pytest.raises(ModelUnsupportedError, match="set api: chat"):
        openai_responses_request.body(request, "m", A, refuses)
    spent = b'{"type": "response.completed", "response": {"status": "completed", "usage": {"output_tokens": 5}}}'
    for limit, reason in ((None, "stop"), (6, "stop"), (5, "length")):
        assert list(openai_responses.Decoder(A, limit).pieces(spent))[-1] == Finished(reason, "completed")  # type: ignore[arg-type]


async def media_by_500(simulated_vendor: Start) -> None:
    """It is not tried again, and others may take the image; without an image it is what a 500 always is."""
    for quirks, images, error in (
        (["media_by_500"], [GIF], ModelUnsupportedError),
        (["media_by_500"], [], ProviderServiceUnavailableError),
        ([], [GIF], ProviderServiceUnavailableError),
    ):
        vendor = simulated_vendor("openai-chat", Reply(fault=HttpError(500, message="image input is not supported")))
        settings = ProviderSettings(
            name="a", kind="llamacpp", base_url=vendor.base_url, api_key=Secret("test-key"), options={"quirks": quirks}
        )
        with pytest.raises(ProviderError) as raised:
            await text(make(settings), TaskRequest("x", images=images))
        assert type(raised.value) is error


def prefill() -> None:
    for kind, host in HOSTS.items():
        goes_on = bool(host.quirks & PREFILLS)
        assert catalog.traits(kind, "some-model").continues == ("prefill" if goes_on else "anchored")


async def open_turn_of_an_unknown_host(simulated_vendor: Start) -> None:
    """It gets the fields by which vLLM continues an open turn. If it refuses them, it gets the turn without them."""
    fields = {"continue_final_message", "add_generation_prompt"}

    def strict(request: ReceivedRequest) -> Reply:
        return Reply(fault=HttpError(400)) if fields & request.body.keys() else Reply(" upon a time.")

    request = TaskRequest(messages=[Message("user", "Tell me."), Message("assistant", "Once")])
    for script, with_fields in ((Reply(" upon a time."), [True, True]), (strict, [True, False, False])):
        vendor = simulated_vendor("openai-chat", script, api_key=None, host="openai_compatible")
        provider = make(ProviderSettings(name="a", kind="openai_compatible", base_url=vendor.base_url))
        for _ in range(2):
            pieces = [piece async for piece in provider.stream(Ask(request, A))]
            assert "".join(piece for piece in pieces if isinstance(piece, str)) == " upon a time."
        await provider.aclose()
        assert [fields <= request.body.keys() for request in vendor.requests] == with_fields
    vendor = simulated_vendor("openai-chat", "Hi.", refuses_prefill=True, api_key=None, host="openai_compatible")
    settings = ProviderSettings(name="a", kind="openai_compatible", base_url=vendor.base_url)
    for _ in range(2):
        with pytest.raises(InvalidRequestError):
            await text(make(settings), request)
    assert len(vendor.requests) == 4, "nothing is remembered of a host that takes neither"


def may_prefill() -> None:
    """A host that is not known may continue an open turn: any `openai_compatible`, and Anthropic's wire elsewhere."""
    settings = partial(ProviderSettings, name="a", models={})
    for kind, base_url, options, expected in (
        ("openai_compatible", "http://localhost:9", {}, True),
        ("openai_compatible", "http://localhost:9", {"quirks": []}, False),
        ("openai_compatible", "http://localhost:9", {"quirks": ["prefill", "may_prefill"]}, False),
        ("groq", None, {"quirks": ["may_prefill"]}, True),
        ("groq", None, {}, False),
        ("anthropic", None, {}, False),
        ("anthropic", "http://localhost:9", {}, True),
        ("a third party's", "http://localhost:9", {"quirks": "many"}, False),
    ):
        quirks = quirks_of(settings(kind=kind, base_url=base_url, options=options))
        assert catalog.traits(kind, "some-model", quirks).may_prefill is expected
    # A model of which it is known that it continues an open turn has nothing to find out.
    assert catalog.traits("anthropic", "claude-3-haiku", frozenset({"may_prefill"})).may_prefill is False


def chunk_is_token() -> None:
    assert {kind for kind in HOSTS if catalog.traits(kind, "some-model").chunk_is_token} == {"vllm", "llamacpp"}


def usage_in_each_chunk() -> None:
    """tests/dispatch/test_exact.py has what it is for."""
    assert {kind for kind in HOSTS if "usage_in_each_chunk" in vendor(kind).quirks} == {"vllm"}


def prefix() -> None:
    assert ending("prefix")["messages"][-1] == {"role": "assistant", "content": "Once", "prefix": True}
    assert "prefix" not in body(TaskRequest("x"), "prefix")["messages"][-1]


def continue_final_message() -> None:
    assert ending("continue_final_message")["extra_body"] == {
        "continue_final_message": True, "add_generation_prompt": False,
    }  # fmt: skip
    assert "extra_body" not in body(TaskRequest("x"), "continue_final_message")


def sent_calls(quirk: Quirk | None, *more: Message, id: str = "toolu_01:2", model: str = "m") -> list[dict[str, Any]]:  # noqa: A002
    """The messages of a conversation in which another vendor's model has called a tool."""
    turn = Message("assistant", [ReasoningPart("Hm.", None, "a", "m"), ToolCallPart(id, "f", "{}")])
    request = TaskRequest(messages=[turn, Message("tool", ToolResultPart(id, "f", "1")), *more])
    quirks = frozenset() if quirk is None else frozenset({quirk})
    messages: list[dict[str, Any]] = openai_chat_request.body(request, model, A, quirks)["messages"]
    assert messages[0]["tool_calls"][0]["id"] == messages[1]["tool_call_id"]
    return messages


def short_ids() -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", sent_calls("short_ids")[1]["tool_call_id"])
    kimi = sent_calls("short_ids", id="functions.look:0", model="moonshotai/kimi-k3")
    assert kimi[1]["tool_call_id"] == "functions.look:0"
    assert sent_calls("short_ids", id="call_1")[1]["tool_call_id"] == "call_1"
    assert sent_calls(None)[1]["tool_call_id"] == "toolu_01:2"
    assert len(sent_calls(None, id="x" * 65)[1]["tool_call_id"]) <= 40


def nine_character_ids() -> None:
    """Mistral's own host, and its models wherever they are served."""
    for quirk, model in (("nine_character_ids", "m"), (None, "mistralai/Devstral-Small-2")):
        assert re.fullmatch(r"[a-zA-Z0-9]{9}", sent_calls(quirk, model=model)[1]["tool_call_id"])  # type: ignore[arg-type]
        assert sent_calls(quirk, id="aB3dE5gH9", model=model)[1]["tool_call_id"] == "aB3dE5gH9"  # type: ignore[arg-type]


def assistant_after_tools() -> None:
    question = Message("user", "And?")
    roles = [message["role"] for message in sent_calls("assistant_after_tools", question)]
    assert roles == ["assistant", "tool", "assistant", "user"]
    assert [message["role"] for message in sent_calls(None, question)] == ["assistant", "tool", "user"]


def reasoning_content() -> None:
    assert sent_calls("reasoning_content")[0]["reasoning_content"] == "Hm."
    assert "reasoning_content" not in sent_calls(None)[0]
    foreign = Message("assistant", [ReasoningPart("Hm.", None, "b"), ToolCallPart("c", "f", "{}")])
    sent = body(TaskRequest(messages=[foreign, Message("assistant", "Hi.")]), "reasoning_content")["messages"]
    assert (sent[0]["reasoning_content"], "reasoning_content" in sent[1]) == (" ", False)


def prompt_cache() -> None:
    request = TaskRequest(messages=[Message("user", ["Long.", CachePoint(), "Short."])], cache_key="k")
    quirks: frozenset[Quirk] = frozenset({"prompt_cache"})
    sent = openai_chat_request.body(request, "gpt-5.6", A, quirks)
    assert sent["extra_body"] == {"prompt_cache_key": "k"}
    marked = {"type": "text", "text": "Long.", "prompt_cache_breakpoint": {"mode": "explicit"}}
    assert sent["messages"] == [{"role": "user", "content": [marked, {"type": "text", "text": "Short."}]}]
    for model, with_quirks in (("gpt-5.5", quirks), ("gpt-5.6", frozenset[Quirk]())):
        sent = openai_chat_request.body(request, model, A, with_quirks)
        assert sent["messages"] == [{"role": "user", "content": "Long.Short."}]
        assert sent.get("extra_body", {}) == ({"prompt_cache_key": "k"} if with_quirks else {})
    assert "prompt_cache" not in vendor("openai").quirks_at("https://gateway.example.org/v1")


EFFECTS: dict[Quirk, Callable[[], None]] = {
    "max_completion_tokens": max_completion_tokens,
    "random_seed": random_seed,
    "plain_audio": plain_audio,
    "few_media": few_media,
    "no_image_urls": lambda: refused("no_image_urls", "an image by its address", images=["https://example.org/a.png"]),
    "no_json_object": lambda: refused(
        "no_json_object", "a response_format without a schema", response_format={"type": "json_object"}
    ),
    "no_json_schema": lambda: refused(
        "no_json_schema", "a response_format with a schema", response_format={"type": "object"}
    ),
    "no_metadata": lambda: refused("no_metadata", "metadata", metadata={"team": "red"}),
    "stored_metadata": stored_metadata,
    "no_seed": lambda: refused("no_seed", "a seed", seed=5),
    "no_stream_options": no_stream_options,
    "no_tools": lambda: refused("no_tools", "tools", tools=[{"name": "f"}]),
    "omits_finish_reason": omits_finish_reason,
    "done_after_usage": done_after_usage,
    "partial_responses": partial_responses,
    "prefill": prefill,
    "prefix": prefix,
    "continue_final_message": continue_final_message,
    "may_prefill": may_prefill,
    "chunk_is_token": chunk_is_token,
    "usage_in_each_chunk": usage_in_each_chunk,
    "short_ids": short_ids,
    "nine_character_ids": nine_character_ids,
    "assistant_after_tools": assistant_after_tools,
    "reasoning_content": reasoning_content,
    "prompt_cache": prompt_cache,
}


OVER_SOCKETS: dict[Quirk, Callable[[Start], Coroutine[None, None, None]]] = {
    "media_by_500": media_by_500,
    "may_prefill": open_turn_of_an_unknown_host,
}


@pytest.mark.parametrize("quirk", EFFECTS)
@pytest.mark.found("R-12")
def test_a_quirk_changes_something(quirk: Quirk) -> None:
    EFFECTS[quirk]()


@pytest.mark.parametrize("quirk", OVER_SOCKETS)
@pytest.mark.found("R-12")
async def test_a_quirk_changes_what_an_answer_means(quirk: Quirk, simulated_vendor: Start) -> None:
    await OVER_SOCKETS[quirk](simulated_vendor)


async def test_snowflakes_answers_end_without_a_finish_reason(simulated_vendor: Start) -> None:
    """Usage and `[DONE]` come, and no finish reason: the answer is complete. Without the usage it may have been cut."""
    events = [{"choices": [{"index": 0, "delta": {"content": "Hi."}}]}, {"choices": [], "usage": {"prompt_tokens": 2}}]
    for count, complete in ((2, True), (1, False)):
        data = [json.dumps(event).encode() for event in events[:count]]
        decoder = openai_chat.Decoder(A, HOSTS["snowflake"].quirks)
        pieces = [piece for each in (*data, b"[DONE]") for piece in decoder.pieces(each)]
        assert pieces[0] == "Hi."
        assert (Finished("stop", None) in pieces) is complete


def test_no_quirk_is_without_a_test() -> None:
    assert set(get_args(Quirk)) == set(QUIRKS) == {*EFFECTS, *OVER_SOCKETS, "azure"}  # whose tests are below
    assert set(QUIRKS) - {quirk for host in HOSTS.values() for quirk in host.quirks} == {"omits_finish_reason"}


async def test_an_entry_may_say_what_its_host_does_otherwise(simulated_vendor: Start) -> None:
    """For hosts that are in no row, and for rows that are behind the times."""
    for kind, quirks in (("openai_compatible", ["max_completion_tokens"]), ("groq", ["max_completion_tokens"])):
        vendor = simulated_vendor("openai-chat", Reply("Hi."), host="openai_compatible")
        options = {"quirks": quirks}
        settings = ProviderSettings(
            name="a", kind=kind, api_key=Secret("test-key"), base_url=vendor.base_url, options=options
        )
        assert await text(make(settings), TaskRequest("x", max_tokens=5, metadata={"team": "red"})) == "Hi."
        assert vendor.requests[0].body["max_completion_tokens"] == 5
        assert vendor.requests[0].body["metadata"] == {"team": "red"}


@pytest.mark.parametrize("quirks", ["max_completion_tokens", ["no_such_quirk"], 5, [["prefix"]]])
def test_an_unknown_quirk_is_refused(quirks: Any) -> None:
    with pytest.raises(ConfigurationError, match="is a list of quirks, each one of max_completion_tokens") as raised:
        make(ProviderSettings(name="a", kind="openai_compatible", base_url="http://x", options={"quirks": quirks}))
    assert raised.value.key == "providers.a.options.quirks"


# ── Azure ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix", ["", "/openai/v1"])
async def test_azures_newer_address_is_made_of_the_resource(suffix: str, simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply("Hi."), api_key="test-key")
    base_url = vendor.base_url.removesuffix("/v1") + suffix
    provider = make(ProviderSettings(name="a", kind="azure", api_key=Secret("test-key"), base_url=base_url))
    assert await text(provider) == "Hi."
    assert vendor.requests[0].path == "/openai/v1/chat/completions"


async def test_azures_deployments_have_addresses_of_their_own(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply("Hi."), api_key="test-key")
    config = {
        "providers": {
            "azure": {
                "api_key": "test-key",
                "base_url": vendor.base_url.removesuffix("/v1"),
                "models": ["our-deployment"],
                "options": {"api_version": "2024-10-21"},
            }
        }
    }
    async with LLMSwitch(config) as switch:
        assert await switch.stream_request(TaskRequest("x", max_tokens=5)) == "Hi."
    (sent,) = vendor.requests
    assert sent.path == "/openai/deployments/our-deployment/chat/completions?api-version=2024-10-21"
    assert sent.headers["api-key"] == "test-key"
    assert sent.body["max_completion_tokens"] == 5


def test_an_api_version_is_azures() -> None:
    with pytest.raises(ConfigurationError, match="is not an option of a provider of the kind 'groq'"):
        make(ProviderSettings(name="a", kind="groq", options={"api_version": "2024-10-21"}))


# ── Vertex ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def granting(path: Path, monkeypatch: pytest.MonkeyPatch, *, status: int = 200) -> Any:
    """A machine with Google credentials, and the office that gives it a token for them."""

    class Office(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            answer = json.dumps({"access_token": "test-key", "expires_in": 3600, "token_type": "Bearer"}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Office) as office:
        thread = Thread(target=office.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        account = {
            "type": "service_account",
            "client_email": "someone@example.org",
            "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
            "token_uri": f"http://127.0.0.1:{office.server_port}/token",
        }
        path.write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        try:
            yield
        finally:
            office.shutdown()
            thread.join()


def on_vertex(vendor: SimulatedVendor, vertex: Any, **more: Any) -> dict[str, Any]:
    entry = {"base_url": vendor.base_url, "models": ["m"], "options": {"vertex": vertex}, **more}
    return {"providers": {"google": entry}, "resilience": {"max_retries": 0}}


async def test_a_project_on_vertex_is_entered_with_the_machines_credentials(
    simulated_vendor: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key in the environment is Gemini's own, and is not sent there."""
    monkeypatch.setenv("GOOGLE_API_KEY", "geminis-own")
    vendor = simulated_vendor("google", Reply("Hi."), api_key="test-key")
    with granting(tmp_path / "account.json", monkeypatch):
        for place, found in (
            ({"project": "ours", "location": "europe-west4"}, "europe-west4"),
            ({"project": "ours"}, "global"),
        ):
            async with LLMSwitch(on_vertex(vendor, place)) as switch:
                assert await switch.stream_request(TaskRequest("x", metadata={"team": "red"})) == "Hi."
            sent = vendor.requests[-1]
            assert sent.path.startswith(f"/v1beta1/projects/ours/locations/{found}/publishers/google/models/m:stream")
            assert sent.headers["authorization"] == "Bearer test-key"
            assert "geminis-own" not in str(sent.headers)
            assert sent.body["labels"] == {"team": "red"}


async def test_vertex_is_entered_with_a_key_where_no_project_is_named(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("google", Reply("Hi."), api_key="test-key")
    async with LLMSwitch(on_vertex(vendor, {}, api_key="test-key")) as switch:
        assert await switch.stream_request(TaskRequest("x")) == "Hi."
    assert vendor.requests[0].path.startswith("/v1beta1/publishers/google/models/m:stream")


async def test_trouble_with_the_machines_credentials_is_a_matter_of_authentication(
    simulated_vendor: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = simulated_vendor("google", Reply("Hi."))
    with granting(tmp_path / "account.json", monkeypatch, status=401):
        async with LLMSwitch(on_vertex(vendor, {"project": "ours"})) as switch:
            with pytest.raises(ProviderAuthenticationError, match="Google's credentials: RefreshError") as raised:
                await switch.stream_request(TaskRequest("x"))
    assert raised.value.__cause__ is not None
    assert vendor.requests == []


@pytest.mark.parametrize("vertex", [5, {"projekt": "x"}, {"project": 5}, {"location": "global"}])
def test_a_wrong_vertex_mapping_is_refused(vertex: Any) -> None:
    with pytest.raises(ConfigurationError, match="is a mapping with project and location") as raised:
        make(ProviderSettings(name="a", kind="google", options={"vertex": vertex}))
    assert raised.value.key == "providers.a.options.vertex"


# ── other people's providers ───────────────────────────────────────────────────────────────────────────────────────

MODULE = """
from llm_dispatcher.provider import Finished, Opened


class Parrot:
    def __init__(self, settings):
        self.settings = settings

    async def prepare(self):
        pass

    async def stream(self, ask):
        yield Opened()
        yield f"{ask.request.prompt}, {self.settings.options['says']}!"
        yield Finished("stop", "done")

    async def aclose(self):
        pass
"""


async def test_another_distribution_brings_a_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parrot_provider.py").write_text(MODULE)
    about = tmp_path / "parrot_provider-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot-provider\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[llm_dispatcher.providers]\nparrot = parrot_provider:Parrot\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "parrot" in known_kinds()
    config = {"providers": {"polly": {"kind": "parrot", "models": ["grey"], "options": {"says": "pretty"}}}}
    async with LLMSwitch(config) as switch:
        assert await switch.stream_request(TaskRequest("Polly")) == "Polly, pretty!"
        assert switch.capabilities("polly/grey").known is False
    sys.modules.pop("parrot_provider")
    with pytest.raises(ConfigurationError, match="unknown kind 'parot'; did you mean 'parrot'"):
        LLMSwitch({"providers": {"polly": {"kind": "parot", "models": ["grey"]}}})
