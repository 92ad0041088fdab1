"""What vendors really say: their words for an error, and answers that are odd, deep or large."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher._config import load
from llm_dispatcher._providers import make
from llm_dispatcher._providers.anthropic import messages as anthropic_messages
from llm_dispatcher._providers.ollama import chat as ollama
from llm_dispatcher._providers.openai import chat as openai_chat
from llm_dispatcher._vendors.kinds import known_kinds
from llm_dispatcher.events import ReasoningDelta, StreamCompleted, ToolCall, UsageReport
from llm_dispatcher.exceptions import (
    ConfigurationError,
    ContextLengthExceededError,
    InvalidRequestError,
    LLMDispatcherError,
    ModelNotFoundError,
    ModelUnsupportedError,
    ProviderAuthenticationError,
    ProviderProtocolError,
    ProviderQuotaExceededError,
    ProviderServiceUnavailableError,
)
from llm_dispatcher.provider import ProviderSettings
from llm_dispatcher.provider._decoding import DEEPEST, whole_call
from llm_dispatcher.provider._errors import ErrorReply, error_for, read_error
from llm_dispatcher.tasks import Message, Target, ToolCallPart, ToolResultPart
from llm_dispatcher.testing import Garbage, HttpError, Reply, SaidToolCall, SimulatedVendor

Start = Callable[..., SimulatedVendor]

A = Target("a", "m")
WIRES = ["openai-chat", "openai-responses", "anthropic", "google", "ollama"]
DEPTH = 100_000


def entry(vendor: SimulatedVendor, **more: Any) -> dict[str, Any]:
    apis = {"openai-chat": {"api": "chat"}, "openai-responses": {"api": "responses"}}
    kind = "openai" if vendor.wire in apis else str(vendor.wire)
    address = {"kind": kind, "api_key": "test-key", "base_url": vendor.base_url, "models": ["m"]}
    return {**address, **apis.get(vendor.wire, {}), **more}


def switch_over(*vendors: SimulatedVendor, **more: Any) -> LLMSwitch:
    names = [f"p{number}" for number in range(len(vendors))]
    return LLMSwitch(
        {
            "providers": {name: entry(vendor, **more) for name, vendor in zip(names, vendors, strict=True)},
            "routing": {"default": [f"{name}/m" for name in names]},
            "resilience": {"max_retries": 0},
        }
    )


# ── words for errors ───────────────────────────────────────────────────────────────────────────────────────────────

VLLM = {"message": "no", "type": "BadRequestError", "code": 400}
NO_TOOLS = '"auto" tool choice requires --enable-auto-tool-choice'
LITELLM = {"message": "no", "type": "invalid_request_error", "param": None, "code": "400"}


def by_litellm(name: str) -> dict[str, Any]:
    return {**LITELLM, "message": f"litellm.{name}: litellm.BadRequestError: OpenAIException - too long. Received x"}


@pytest.mark.found("R-7", "R-8", "N-A4")
@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({**VLLM, "param": "input_tokens"}, ContextLengthExceededError),
        ({**VLLM, "param": "max_tokens"}, ModelUnsupportedError),
        ({**VLLM, "param": None}, InvalidRequestError),
        ({**VLLM, "message": f"{NO_TOOLS} and --tool-call-parser to be set"}, ModelUnsupportedError),
        ({**VLLM, "message": f"You said: {NO_TOOLS}"}, InvalidRequestError),
        ({**VLLM, "param": "temperature"}, InvalidRequestError),
        (by_litellm("ContextWindowExceededError"), ContextLengthExceededError),
        (by_litellm("AuthenticationError"), ProviderAuthenticationError),
        (by_litellm("BadRequestError"), InvalidRequestError),
        (by_litellm("SomethingNewError"), InvalidRequestError),
        ({**LITELLM, "message": "they said litellm.ContextWindowExceededError: x"}, InvalidRequestError),
        ({**LITELLM, "message": "/chat/completions: Invalid model name passed in model=x."}, ModelNotFoundError),
        ({**LITELLM, "message": "You said: Invalid model name passed in model=x."}, InvalidRequestError),
        ({**LITELLM, "param": "model"}, ModelNotFoundError),
        ({**LITELLM, "type": "budget_exceeded"}, ProviderQuotaExceededError),
        ({**LITELLM, "type": "key_model_access_denied"}, ModelNotFoundError),
        ({**LITELLM, "type": "token_not_found_in_db"}, ProviderAuthenticationError),
        ({**LITELLM, "message": "No connected db.", "type": "no_db_connection"}, ProviderAuthenticationError),
        ({"message": "no", "type": "invalid_request_error", "param": "response_format"}, ModelUnsupportedError),
        (
            {"message": "no", "type": "invalid_request_error", "param": "text.format.schema",
             "code": "invalid_json_schema"},
            ModelUnsupportedError,
        ),
        ({"message": "no", "type": "invalid_request_error", "param": "metadata"}, InvalidRequestError),
    ],
)  # fmt: skip
@pytest.mark.parametrize("wire", ["openai-chat", "openai-responses", "anthropic"])
async def test_a_refusal_is_told_by_its_code_its_parameter_or_its_class(
    wire: str, body: dict[str, Any], error: type[LLMDispatcherError], simulated_vendor: Start
) -> None:
    said = {"type": "error", "error": body} if wire == "anthropic" else {"error": body}
    vendor = simulated_vendor(wire, Reply(fault=HttpError(400, body=json.dumps(said))))
    async with switch_over(vendor) as switch:
        with pytest.raises(LLMDispatcherError) as raised:
            await switch.stream_request(TaskRequest("x"))
    assert type(raised.value) is error


def test_a_parameter_says_nothing_where_a_code_or_a_status_says_more() -> None:
    assert type(error_for(ErrorReply("no", 401, param="model"), A)) is ProviderAuthenticationError
    assert type(error_for(ErrorReply("no", 500, param="model"), A)) is ProviderServiceUnavailableError
    assert type(error_for(ErrorReply("no", 400, ("context_length_exceeded",), param="max_tokens"), A)) is (
        ContextLengthExceededError
    )


@pytest.mark.found("R-8")
def test_a_status_that_is_written_as_text_is_a_status() -> None:
    assert error_for(read_error({"message": "no", "code": "429"}), A).status == 429


@pytest.mark.found("N-C17")
@pytest.mark.parametrize(("wire", "api"), [("openai-responses", "chat"), ("openai-chat", "responses")])
async def test_a_path_that_is_not_there_is_not_told_as_a_model(wire: str, api: str, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply("Hi."))
    async with switch_over(vendor, api=api) as switch:
        with pytest.raises(ModelNotFoundError) as raised:
            await switch.stream_request(TaskRequest("x"))
    path = {"chat": "/chat/completions", "responses": "/responses"}[api]
    other = {"chat": "responses", "responses": "chat"}[api]
    assert f"either POST {vendor.base_url}{path} does not exist at this address, or the model does not" in (
        raised.value.message
    )
    assert f"the provider's api, which may have to be {other!r}" in raised.value.message


async def test_a_model_that_is_not_there_is_told_as_a_model(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply("Hi."), models=["another"])
    async with switch_over(vendor) as switch:
        with pytest.raises(ModelNotFoundError) as raised:
            await switch.stream_request(TaskRequest("x"))
    assert raised.value.message == "the model m does not exist"


@pytest.mark.found("S-D10")
@pytest.mark.parametrize("wire", WIRES)
async def test_a_refused_attempts_row_has_the_request_id(wire: str, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply(fault=HttpError(503)))
    async with switch_over(vendor) as switch:
        stream = switch.stream_request(TaskRequest("x"))
        with pytest.raises(ProviderServiceUnavailableError) as raised:
            await stream
    assert raised.value.request_id == vendor.requests[0].request_id
    assert stream.response.attempts[0].request_id == vendor.requests[0].request_id


# ── JSON that is nested deep ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage is collected in the middle of a recursion. A finaliser of an SDK's client, left by an earlier test,
    would run there without room on the stack, and Python reports its error as one of this test.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.found("B-02")
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("deep", [b'{"x": ' * DEPTH + b"1" + b"}" * DEPTH, b'{"choices": ' + b"[" * DEPTH])
async def test_a_deep_event_makes_no_sense_and_the_next_target_is_asked(
    wire: str, raw: bool, deep: bytes, simulated_vendor: Start
) -> None:
    first = simulated_vendor(wire, Reply("Once", fault=Garbage(after=0, data=deep)))
    second = simulated_vendor("openai-chat", Reply("Saved."))
    async with switch_over(first, second) as switch:
        stream = switch.stream_request(TaskRequest("x"), raw=raw)
        assert await stream == "Saved."
    failure = stream.response.attempts[0].failure
    assert failure is not None
    assert failure.kind == "ProviderProtocolError"


@pytest.mark.usefixtures("uncollected")
@pytest.mark.found("B-02")
@pytest.mark.parametrize("wire", WIRES)
async def test_a_deep_body_of_an_error_is_an_error_of_ours(wire: str, simulated_vendor: Start) -> None:
    body = '{"error": ' * DEPTH + "1" + "}" * DEPTH
    first = simulated_vendor(wire, Reply(fault=HttpError(500, body=body)))
    second = simulated_vendor("openai-chat", Reply("Saved."))
    async with switch_over(first, second) as switch:
        stream = switch.stream_request(TaskRequest("x"))
        assert await stream == "Saved."
    failure = stream.response.attempts[0].failure
    assert failure is not None
    # (google-genai gives up on the body before it says the status.)
    expected = ("ProviderProtocolError", None) if wire == "google" else ("ProviderServiceUnavailableError", 500)
    assert (failure.kind, failure.status) == expected


@pytest.mark.usefixtures("uncollected")
@pytest.mark.found("B-02")
@pytest.mark.parametrize("wire", ["openai-chat", "openai-responses", "anthropic"])
@pytest.mark.parametrize("depth", [DEEPEST + 1, 1_000, DEPTH])
async def test_deeply_nested_tool_arguments_are_none(wire: str, depth: int, simulated_vendor: Start) -> None:
    arguments = '{"a": ' * depth + "1" + "}" * depth
    vendor = simulated_vendor(wire, Reply(tool_calls=(SaidToolCall("look", arguments),)))
    async with switch_over(vendor) as switch:
        events = [event async for event in switch.stream_request(TaskRequest("x")).events()]
    (call,) = [event for event in events if isinstance(event, ToolCall)]
    assert (call.arguments, call.raw_arguments) == (None, arguments)


def test_arguments_as_deep_as_may_be_are_read() -> None:
    arguments = '{"a": ' * DEEPEST + "[[]]" + "}" * DEEPEST
    assert whole_call("c", "f", '{"a": ' * DEEPEST + "1" + "}" * DEEPEST).arguments is not None
    assert whole_call("c", "f", arguments).arguments is None
    wide = json.dumps({"a": [{}] * 1000})
    assert whole_call("c", "f", wide).arguments == {"a": [{}] * 1000}


@pytest.mark.found("B-02")
@pytest.mark.parametrize("wire", ["anthropic", "google", "ollama"])
async def test_deep_arguments_in_a_conversation_are_sent_as_text(wire: str, simulated_vendor: Start) -> None:
    deep = '{"a": ' * DEPTH + "1" + "}" * DEPTH
    turns = [Message("assistant", ToolCallPart("c", "f", deep)), Message("tool", ToolResultPart("c", "f", "no"))]
    vendor = simulated_vendor(wire, Reply("Hi."))
    async with switch_over(vendor) as switch:
        assert await switch.stream_request(TaskRequest("x", messages=[Message("user", "Go."), *turns])) == "Hi."
    assert json.loads(vendor.requests[0].calls[0].arguments) == {"invalid_json": deep}


# ── large events ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.found("B-15")
async def test_an_answer_that_is_repeated_whole_in_its_last_event_is_complete(simulated_vendor: Start) -> None:
    text = "\u65e5\u672c\u8a9e" * 150_000  # 1.35 MB
    vendor = simulated_vendor("openai-responses", Reply(text, chunk_size=10_000))
    second = simulated_vendor("openai-chat", Reply("I have nothing to add."))
    async with switch_over(vendor, second) as switch:
        assert await switch.stream_request(TaskRequest("x")) == text
    assert second.requests == []


@pytest.mark.found("B-15")
@pytest.mark.parametrize("wire", WIRES)
async def test_how_long_an_event_may_be_is_an_option(wire: str, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply("x" * 5000, chunk_size=5000))
    async with switch_over(vendor, options={"max_event_bytes": 2000}) as switch:
        with pytest.raises(
            ProviderProtocolError, match=r"an event longer than 2000 bytes .the provider's option max_e"
        ):
            await switch.stream_request(TaskRequest("x"))
    async with switch_over(vendor, options={"max_event_bytes": 20_000}) as switch:
        assert await switch.stream_request(TaskRequest("x")) == "x" * 5000


@pytest.mark.parametrize("limit", [0, 1023, "1 MB", 1e6, True])
@pytest.mark.parametrize("kind", ["openai", "anthropic", "google", "ollama"])
def test_a_wrong_limit_of_event_bytes_is_refused(kind: str, limit: Any) -> None:
    assert kind in known_kinds()
    with pytest.raises(ConfigurationError, match="is an int of 1024 or more") as raised:
        make(ProviderSettings(name="a", kind=kind, options={"max_event_bytes": limit}))
    assert raised.value.key == "providers.a.options.max_event_bytes"


# ── odd answers ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.found("B-20")
@pytest.mark.parametrize(
    ("thinking", "thoughts"),
    [
        ([{"type": "text", "text": "hm"}], ["hm"]),
        ("hm", ["hm"]),
        (["hm", "so"], ["hm", "so"]),
        ([{"text": None}, 5, None, [], {"text": {"a": 1}}, {"text": "hm"}], ["hm"]),
        (None, []),
        (5, []),
    ],
)
def test_a_thinking_part_may_be_odd(thinking: Any, thoughts: list[str]) -> None:
    event = {"choices": [{"delta": {"content": [{"type": "thinking", "thinking": thinking}]}}]}
    pieces = list(openai_chat.Decoder(A).pieces(json.dumps(event).encode()))
    assert pieces == [ReasoningDelta(thought) for thought in thoughts]


@pytest.mark.found("B-20")
@pytest.mark.parametrize("address", ["http://me:secret-word@localhost/v1", "https://secret-word@example.org"])
def test_credentials_in_an_address_are_refused_when_the_configuration_is_read(address: str) -> None:
    config = {"providers": {"mine": {"kind": "openai_compatible", "base_url": address, "models": ["m"]}}}
    with pytest.raises(ConfigurationError) as raised:
        load(config, environ={})
    assert raised.value.key == "providers.mine.base_url"
    assert "put the credentials into api_key or headers" in str(raised.value)
    assert "secret-word" not in str(raised.value)


def test_an_at_sign_in_a_path_is_not_a_credential() -> None:
    config = {"providers": {"mine": {"kind": "openai_compatible", "base_url": "http://here/@x/v1", "models": ["m"]}}}
    assert load(config, environ={}).providers["mine"].base_url == "http://here/@x/v1"


# ── what was used, and the vendor's own events ─────────────────────────────────────────────────────────────────────


@pytest.mark.found("R-12")
def test_input_that_a_vendor_did_not_count_is_unknown() -> None:
    """llama.cpp's messages wire may send no `message_start`."""
    decoder = anthropic_messages.Decoder(A)
    (report,) = decoder.pieces(b'{"type": "message_delta", "delta": {}, "usage": {"output_tokens": 7}}')
    assert isinstance(report, UsageReport)
    assert (report.usage.source, report.usage.output_tokens) == ("unknown", 7)
    line = b'{"done": true, "done_reason": "stop", "eval_count": 7}'
    report = list(ollama.Decoder(A).pieces(line))[-1]
    assert isinstance(report, UsageReport)
    assert (report.usage.source, report.usage.output_tokens) == ("unknown", 7)


@pytest.mark.found("S-D9")
@pytest.mark.parametrize("wire", WIRES)
async def test_the_vendors_last_events_are_shown_with_raw(wire: str, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply("Hi there."))
    async with switch_over(vendor) as switch:
        events = [event async for event in switch.stream_request(TaskRequest("x"), raw=True).events()]
        plain = [event async for event in switch.stream_request(TaskRequest("x")).events()]
    (used,) = [event for event in events if isinstance(event, UsageReport)]
    (done,) = [event for event in events if isinstance(event, StreamCompleted)]
    said = json.dumps([used.raw, done.raw])
    marks = {
        "openai-chat": ["completion_tokens", '"finish_reason": "stop"'],
        "openai-responses": ["output_tokens", "response.completed"],
        "anthropic": ["output_tokens", "end_turn", "message_stop"],
        "google": ["totalTokenCount", '"finishReason": "STOP"'],
        "ollama": ["eval_count", '"done_reason": "stop"'],
    }
    assert [mark for mark in marks[wire] if mark not in said] == []
    assert not any(getattr(event, "raw", None) for event in plain)
