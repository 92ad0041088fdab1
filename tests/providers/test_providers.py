"""Providers over real sockets: what is sent, what comes back, and whose retries are whose."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from llm_dispatcher._media import load_media
from llm_dispatcher._providers import make
from llm_dispatcher._providers.base.encoding import encoded
from llm_dispatcher._providers.google import content_request as google_request
from llm_dispatcher._providers.google import provider as google
from llm_dispatcher._vendors.kinds import known_kinds
from llm_dispatcher._vendors.table import VENDORS
from llm_dispatcher.events import ProviderEvent, ReasoningDelta, ToolCall, ToolCallDelta, UsageReport
from llm_dispatcher.exceptions import (
    ConfigurationError,
    ContextLengthExceededError,
    InvalidRequestError,
    ModelNotFoundError,
    ModelUnsupportedError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderProtocolError,
    ProviderRateLimitError,
    ProviderServiceUnavailableError,
    ProviderTimeoutError,
)
from llm_dispatcher.provider import (
    Allowance,
    Ask,
    Finished,
    ModelSettings,
    Opened,
    Piece,
    Provider,
    ProviderSettings,
    RawEvent,
    Remaining,
    Secret,
)
from llm_dispatcher.provider._clients import PerLoop
from llm_dispatcher.provider._decoding import ToolCalls, whole_call
from llm_dispatcher.tasks import (
    AudioPart,
    Message,
    ReasoningPart,
    Target,
    TaskRequest,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from llm_dispatcher.testing import (
    Cut,
    ErrorFrame,
    Garbage,
    HttpError,
    MalformedJson,
    Refuse,
    Reply,
    Resplit,
    SaidToolCall,
    SaidUsage,
    SimulatedVendor,
    Wire,
)
from llm_dispatcher.testing._wires import google_rules
from tests.conftest import KINDS

Start = Callable[..., SimulatedVendor]
A = Target("a", "m")
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"
TEXT = "Grüße, 東京 🎌. That is all."

wires = pytest.mark.parametrize("wire", list(Wire))


def provider_for(vendor: SimulatedVendor, **more: Any) -> Provider:
    return make(
        ProviderSettings(name="a", api_key=Secret("test-key"), base_url=vendor.base_url, **KINDS[vendor.wire], **more)
    )


async def pieces_of(vendor: SimulatedVendor, request: TaskRequest = TaskRequest("hi"), **ask: Any) -> list[Piece]:
    provider = provider_for(vendor)
    try:
        return [piece async for piece in provider.stream(Ask(request, A, 5.0, **ask))]
    finally:
        await provider.aclose()


# ── what comes back ────────────────────────────────────────────────────────────────────────────────────────────────


@wires
async def test_the_first_piece_carries_the_rate_limits_of_the_headers(wire: str, simulated_vendor: Start) -> None:
    limits = {
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-reset-requests": "6ms",
    }
    opened = (await pieces_of(simulated_vendor(wire, Reply("Hello.", headers=limits))))[0]
    assert isinstance(opened, Opened) and opened.allowance == Allowance(Remaining(9999, 10000, 0.006))


@wires
@pytest.mark.parametrize("resplit", [None, Resplit((1,)), Resplit((7, 2))])
async def test_every_wire_gives_the_same_pieces(wire: str, resplit: Any, simulated_vendor: Start) -> None:
    reply = Reply(
        TEXT, reasoning=("Let me ", "think."), tool_calls=(SaidToolCall("look", '{"word": "東京"}', "call_7"),),
        usage=SaidUsage(input=21, output=34, cached=5), resplit=resplit,
    )  # fmt: skip
    got = await pieces_of(simulated_vendor(wire, reply))
    assert isinstance(got[0], Opened)
    assert "".join(piece for piece in got if isinstance(piece, str)) == TEXT
    assert "".join(piece.text for piece in got if isinstance(piece, ReasoningDelta)) == "Let me think."
    calls = [piece for piece in got if isinstance(piece, ToolCall)]
    assert [(call.name, call.arguments) for call in calls] == [("look", {"word": "東京"})]
    deltas = [piece for piece in got if isinstance(piece, ToolCallDelta)]
    if wire != "ollama":
        assert json.loads("".join(delta.fragment for delta in deltas)) == {"word": "東京"}
        assert {(delta.id, delta.name) for delta in deltas} == {(calls[0].id, "look")}
        assert calls[0].id == "call_7"
    usage = [piece.usage for piece in got if isinstance(piece, UsageReport)][-1]
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (21, 34, "reported")
    assert usage.cache_read_tokens == (0 if wire == "ollama" else 5)
    assert [piece.finish_reason for piece in got if isinstance(piece, Finished)] == ["tool_calls"]


@wires
@pytest.mark.parametrize("finish", ["stop", "length", "content_filter"])
async def test_every_finish_reason_is_known(wire: str, finish: str, simulated_vendor: Start) -> None:
    got = await pieces_of(simulated_vendor(wire, Reply(TEXT, finish_reason=finish)))
    (finished,) = [piece for piece in got if isinstance(piece, Finished)]
    if (wire, finish) == ("anthropic", "content_filter"):
        assert finished.finish_reason == "refusal"  # its one word for both
    elif (wire, finish) == ("ollama", "content_filter"):
        assert finished.finish_reason == "stop"  # it filters nothing
    else:
        assert finished.finish_reason == finish
    assert finished.raw_finish_reason


@pytest.mark.parametrize("wire", ["openai-chat", "openai-responses"])
async def test_a_refusal_is_neither_text_nor_lost(wire: str, simulated_vendor: Start) -> None:
    got = await pieces_of(simulated_vendor(wire, Reply("I will not.", finish_reason="refusal")))
    assert [piece for piece in got if isinstance(piece, str) and piece] == []
    assert "".join(piece.data["text"] for piece in got if isinstance(piece, ProviderEvent)) == "I will not."
    assert [piece.finish_reason for piece in got if isinstance(piece, Finished)] == ["refusal"]


@wires
async def test_raw_events_come_when_asked_for(wire: str, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply(TEXT))
    assert not any(isinstance(piece, RawEvent) for piece in await pieces_of(vendor))
    raw = [piece.data for piece in await pieces_of(vendor, raw=True) if isinstance(piece, RawEvent)]
    assert len(raw) >= len(Reply(TEXT).pieces)
    assert "東京" in json.dumps(raw, ensure_ascii=False)


@pytest.mark.parametrize(
    ("raw", "arguments"), [("", {}), (" ", {}), ('{"a": 1}', {"a": 1}), ('{"a": ', None), ("[1]", None)]
)
def test_broken_arguments_are_kept_as_they_are(raw: str, arguments: Any) -> None:
    call = whole_call("1", "f", raw)
    assert (call.arguments, call.raw_arguments) == (arguments, raw)


def test_fragments_are_put_together_by_their_key() -> None:
    calls = ToolCalls()
    for key, identity, name, fragment in (
        (0, "a", "f", ""),
        (1, "b", "g", '{"x"'),
        (0, "", "", "{}"),
        (1, "", "", ": 2}"),
    ):
        calls.fragment(key, identity, name, fragment)
    assert [(call.id, call.name, call.arguments) for call in calls.all()] == [("a", "f", {}), ("b", "g", {"x": 2})]
    assert calls.all() == []


# ── errors ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@wires
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (HttpError(400), InvalidRequestError), (HttpError(401), ProviderAuthenticationError),
        (HttpError(403), ProviderAuthenticationError), (HttpError(404), ModelNotFoundError),
        (HttpError(408), ProviderTimeoutError), (HttpError(409), ProviderServiceUnavailableError),
        (HttpError(413), ContextLengthExceededError), (HttpError(429, retry_after=2.5), ProviderRateLimitError),
        (HttpError(500), ProviderServiceUnavailableError), (HttpError(503), ProviderServiceUnavailableError),
        (HttpError(529), ProviderServiceUnavailableError), (Refuse(), ProviderConnectionError),
        (Cut(2), ProviderConnectionError), (ErrorFrame(2), ProviderServiceUnavailableError),
        (MalformedJson(2), ProviderProtocolError), (Garbage(2), ProviderProtocolError),
    ],
)  # fmt: skip
async def test_every_failure_is_a_typed_error(wire: str, fault: Any, error: Any, simulated_vendor: Start) -> None:
    """And each request is sent once: the SDKs' own retries are off, for a status as for a dropped connection."""
    vendor = simulated_vendor(wire, Reply(TEXT, fault=fault))
    with pytest.raises(error) as raised:
        await pieces_of(vendor)
    ours = raised.value
    assert type(ours) is error
    assert (ours.provider, ours.model) == ("a", "m")
    if isinstance(fault, HttpError):
        assert ours.status == fault.status
        assert ours.retry_after == fault.retry_after
        assert ours.request_id or wire in ("ollama", "google")
        assert "simulated" in ours.message
    if not isinstance(fault, ErrorFrame):
        assert ours.__cause__ is not None
    assert len(vendor.requests) == 1
    assert "test-key" not in f"{ours} {ours!r} {ours.__cause__!r}"


@wires
async def test_a_port_that_nobody_listens_on_is_a_connection_error(wire: str, simulated_vendor: Start) -> None:
    vendor = SimulatedVendor(wire, Reply(TEXT))
    with vendor:
        provider = provider_for(vendor)
    with pytest.raises(ProviderConnectionError):
        async for _ in provider.stream(Ask(TaskRequest("hi"), A, 5.0)):
            pass
    await provider.aclose()


# ── what is sent ───────────────────────────────────────────────────────────────────────────────────────────────────

CONVERSATION = TaskRequest(
    "And now?", system="Be kind.",
    messages=[
        Message("user", "look"),
        Message("assistant", [ReasoningPart("hm"), TextPart("I look."), ToolCallPart("c1", "look", '{"a": 1}')]),
        Message("tool", ToolResultPart("c1", "look", "seen")),
    ],
    temperature=0.5, top_p=0.9, max_tokens=50,
    tools=[{"name": "look", "description": "Looks.", "parameters": {"type": "object"}}],
    tool_choice="look", extra={"special": True},
)  # fmt: skip


async def test_a_conversation_is_said_on_every_wire(simulated_vendor: Start) -> None:
    bodies: dict[str, dict[str, Any]] = {}
    for wire in Wire:
        request = (
            CONVERSATION
            if wire != "ollama"
            else TaskRequest("And now?", system="Be kind.", messages=CONVERSATION.messages)
        )
        vendor = simulated_vendor(wire, Reply(TEXT))
        await pieces_of(vendor, request)
        bodies[wire] = vendor.requests[0].body
    chat = bodies["openai-chat"]
    assert [message["role"] for message in chat["messages"]] == ["system", "user", "assistant", "tool", "user"]
    assert chat["messages"][2]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"a": 1}'}
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert (chat["temperature"], chat["top_p"], chat["max_completion_tokens"], chat["special"]) == (0.5, 0.9, 50, True)
    responses = bodies["openai-responses"]
    assert responses["instructions"] == "Be kind."
    assert [item.get("type", item.get("role")) for item in responses["input"]] == [
        "user", "message", "function_call", "function_call_output", "user",
    ]  # fmt: skip
    claude = bodies["anthropic"]
    assert [(turn["role"], [block["type"] for block in turn["content"]]) for turn in claude["messages"]] == [
        ("user", ["text"]), ("assistant", ["text", "tool_use"]), ("user", ["tool_result", "text"]),
    ]  # fmt: skip
    assert (claude["temperature"], claude["max_tokens"], claude["special"]) == (0.5, 50, True)
    assert claude["tool_choice"] == {"type": "tool", "name": "look"}
    gemini = bodies["google"]
    assert [content["role"] for content in gemini["contents"]] == ["user", "model", "user", "user"]
    assert gemini["contents"][2]["parts"][0]["functionResponse"]["name"] == "look"
    assert gemini["generationConfig"]["maxOutputTokens"] == 50
    assert gemini["special"] is True
    home = bodies["ollama"]
    assert [message["role"] for message in home["messages"]] == ["system", "user", "assistant", "tool", "user"]


async def test_unset_fields_are_not_sent(simulated_vendor: Start) -> None:
    sent: dict[str, set[str]] = {}
    for wire in Wire:
        vendor = simulated_vendor(wire, Reply(TEXT))
        await pieces_of(vendor)
        sent[wire] = set(vendor.requests[0].body)
    assert sent == {
        "openai-chat": {"model", "messages", "stream", "stream_options"},
        "openai-responses": {"model", "input", "stream"},
        "anthropic": {"model", "messages", "max_tokens", "stream"},
        "google": {"contents"},
        "ollama": {"model", "messages", "stream"},
    }


@pytest.mark.parametrize(
    ("wire", "request_", "words"),
    [
        ("openai-responses", TaskRequest("x", stop="END"), "a stop sequence"),
        ("openai-responses", TaskRequest("x", seed=3), "a seed"),
        ("anthropic", TaskRequest("x", seed=3), "a seed"),
        ("anthropic", TaskRequest("x", metadata={"team": "a"}), r"metadata other than user_id \(team\)"),
        ("ollama", TaskRequest("x", tools=[{"name": "f"}], tool_choice="required"), "a tool choice"),
        ("openai-chat", TaskRequest("x", images=[HEIC]), "an image of the type image/heic"),
        ("ollama", TaskRequest("x", images=["https://example.org/a.png"]), "an image by its address"),
        ("anthropic", TaskRequest("x", messages=[Message("user", AudioPart(b"OggS"))]), "audio"),
    ],
)
async def test_unsupported_fields_are_refused_before_sending(
    wire: str, request_: TaskRequest, words: str, simulated_vendor: Start
) -> None:
    vendor = simulated_vendor(wire, Reply(TEXT))
    with pytest.raises(ModelUnsupportedError, match=f"{words} cannot be sent"):
        await pieces_of(vendor, request_)
    assert vendor.requests == []


async def test_an_alias_and_headers_reach_the_vendor(simulated_vendor: Start) -> None:
    from llm_dispatcher.provider import ModelSettings

    for wire in Wire:
        vendor = simulated_vendor(wire, Reply(TEXT))
        provider = provider_for(vendor, models={"m": ModelSettings(alias="the-real-one")}, headers={"x-team": "red"})
        async for _ in provider.stream(Ask(TaskRequest("hi"), A, 5.0)):
            pass
        await provider.aclose()
        assert (vendor.requests[0].model, vendor.requests[0].headers["x-team"]) == ("the-real-one", "red")


# ── kinds and clients ──────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    assert {"openai", "anthropic", "google", "ollama", "openai_compatible"} <= set(known_kinds())
    with pytest.raises(ConfigurationError, match="no kind of provider 'antropic'; did you mean 'anthropic'") as raised:
        make(ProviderSettings(name="x", kind="antropic"))
    assert raised.value.key == "providers.x.kind"


class Life:
    """Counts how many clients were made and closed."""

    def __init__(self) -> None:
        self.made = self.closed = 0

    async def __call__(self) -> AsyncGenerator[object, None]:
        await asyncio.sleep(0)
        self.made += 1
        try:
            yield object()
        finally:
            self.closed += 1


def test_a_client_is_made_once_a_loop_and_closed_with_it() -> None:
    life = Life()
    clients = PerLoop(life)

    async def use() -> None:
        first, second = await asyncio.gather(clients.get(), clients.get())
        assert first is second is await clients.get()

    for times in (1, 2):
        asyncio.run(use())
        assert (life.made, life.closed) == (times, times)

    async def close() -> None:
        await clients.get()
        await clients.aclose()
        assert life.closed == 3
        await clients.aclose()

    asyncio.run(close())


async def test_a_client_that_was_dropped_is_closed_all_the_same(collect_garbage: Callable[[], object]) -> None:
    life = Life()
    clients = PerLoop(life)
    await clients.get()
    cycle: list[Any] = [clients]
    cycle.append(cycle)
    del clients, cycle
    collect_garbage()
    while life.closed == 0:
        await asyncio.sleep(0.001)


async def test_a_client_that_cannot_be_made_is_tried_again() -> None:
    tries = 0

    async def life() -> AsyncGenerator[str, None]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("no certificates")
        yield "client"

    clients = PerLoop(life)
    with pytest.raises(OSError, match="certificates"):
        await clients.get()
    assert await clients.get() == "client"
    await clients.aclose()


async def test_googles_sdk_still_has_the_hooks_that_are_used(simulated_vendor: Start) -> None:
    """Past the SDK's own a middleware puts the body in, and takes the answer out; where a release closes that door,
    this fails before users do.
    """
    vendor = simulated_vendor("google", Reply(TEXT))
    got = await pieces_of(vendor)
    assert "".join(piece for piece in got if isinstance(piece, str)) == TEXT
    (sent,) = vendor.requests
    assert sent.body == google_request.body(TaskRequest("hi"), A)
    assert int(sent.headers["content-length"]) == len(encoded(sent.body))
    assert "google-genai-sdk" in sent.headers["user-agent"]
    assert google._outgoing.get(None) is None, "nothing is kept of a request that is over"


async def test_without_aiohttps_middlewares_google_gets_no_prompt_and_gives_no_answer(
    simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google, "_session", lambda notify: aiohttp.ClientSession())
    monkeypatch.setattr(google_rules, "objection", lambda request: None)  # it refuses a request without parts
    vendor = simulated_vendor("google", Reply(TEXT))
    with pytest.raises(AssertionError, match="it no longer calls aiohttp's middlewares"):
        await pieces_of(vendor)
    assert vendor.requests[0].body["contents"] == [{"parts": []}]


async def test_a_body_is_forgotten_when_it_is_sent(simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection keeps the context in which it was made, and many an answer takes its time."""
    made: list[Any] = []
    kind = google._Outgoing

    def make_one(body: bytes, connect_timeout: float | None) -> Any:
        made.append(kind(body, connect_timeout))
        return made[-1]

    monkeypatch.setattr(google, "_Outgoing", make_one)
    provider = provider_for(simulated_vendor("google", Reply(TEXT)))
    stream = provider.stream(Ask(TaskRequest("hi"), A))
    assert isinstance(await anext(stream), Opened)
    assert [sent.body for sent in made] == [b""]
    await stream.aclose()
    await provider.aclose()


@wires
async def test_what_is_sent_says_that_it_is_json(wire: str, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply(TEXT))
    await pieces_of(vendor)
    assert vendor.requests[0].headers["content-type"].startswith("application/json")


@pytest.mark.parametrize(
    ("wire", "module"), [("openai-chat", "openai"), ("openai-responses", "openai"), ("anthropic", "anthropic")]
)
async def test_the_official_clients_send_and_their_events_are_not_built(
    wire: str, module: str, simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their own reading of a stream costs many times what ours does: it must never be entered."""
    import importlib

    streaming = importlib.import_module(f"{module}._streaming")
    monkeypatch.setattr(
        streaming.AsyncStream, "__init__", lambda *args, **kwargs: pytest.fail("the SDK reads the stream itself")
    )
    vendor = simulated_vendor(wire, Reply(TEXT))
    assert "".join(piece for piece in await pieces_of(vendor) if isinstance(piece, str)) == TEXT
    assert f"Async{module}" in vendor.requests[0].headers["user-agent"].replace("/", "").lower().replace(
        "async", "Async"
    )


@pytest.mark.parametrize(
    ("wire", "model"),
    [("openai-responses", "gpt-6.1-terra"), ("openai-chat", "gpt-audio-mini"), ("openai-chat", "ear")],
)
async def test_openai_models_are_asked_over_the_interface_that_supports_them(
    wire: str, model: str, simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One provider, one key: models that take audio do so over `chat` alone, all others are asked over `responses`."""
    vendor = simulated_vendor(wire, Reply(TEXT))
    monkeypatch.setitem(VENDORS, "openai", replace(VENDORS["openai"], base_url=vendor.base_url))
    models = {"ear": ModelSettings(alias="gpt-audio-mini")}
    provider = make(ProviderSettings(name="a", kind="openai", api_key=Secret("test-key"), models=models))
    audio = [] if wire == "openai-responses" else [b"RIFF\x10\x00\x00\x00WAVEfmt "]
    request = load_media(TaskRequest("What is said?", audio=audio))
    pieces = [piece async for piece in provider.stream(Ask(request, Target("a", model)))]
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == TEXT
    assert [sent.body["model"] for sent in vendor.requests] == [model.replace("ear", "gpt-audio-mini")]
    await provider.aclose()


@wires
async def test_extra_wins_over_every_other_field_of_the_body(wire: str, simulated_vendor: Start) -> None:
    """As it is sent, after the SDK has put the body together."""
    vendor = simulated_vendor(wire, Reply("Hi."))
    extra: dict[str, Any] = {"temperature": 0.25}
    where = {"google": "generationConfig", "ollama": "options"}.get(wire)
    request = TaskRequest("hi", temperature=0.75, extra=extra if where is None else {where: extra})
    await pieces_of(vendor, request)
    body = vendor.requests[0].body
    assert (body if where is None else body[where])["temperature"] == 0.25
