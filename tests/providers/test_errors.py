"""Errors: every status and every word of every vendor comes to one class, and says when to come back if it is known."""

from __future__ import annotations

import asyncio
import json
import traceback
from pathlib import Path
from typing import Any, get_args

import anthropic
import openai
import pytest
from anthropic.types.shared.error_object import ErrorObject
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses.response_error import ResponseError

from llm_dispatcher._providers import make
from llm_dispatcher._providers.anthropic import messages as anthropic_messages
from llm_dispatcher._providers.google import content as google_content
from llm_dispatcher._providers.google.content import error_reply as google_answer
from llm_dispatcher._providers.ollama import chat as ollama
from llm_dispatcher._providers.openai import chat as openai_chat
from llm_dispatcher._providers.openai import responses as openai_responses
from llm_dispatcher.exceptions import (
    ContentFilterError,
    ContextLengthExceededError,
    InvalidRequestError,
    ModelNotFoundError,
    ModelUnsupportedError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderQuotaExceededError,
    ProviderRateLimitError,
    ProviderServiceUnavailableError,
    ProviderTimeoutError,
)
from llm_dispatcher.provider import Ask, ProviderSettings, Secret
from llm_dispatcher.provider._error_codes import BY_CODE, class_of
from llm_dispatcher.provider._errors import ErrorReply, error_for, error_message, read_error, translated
from llm_dispatcher.provider._rate_limit_headers import reset_after, retry_after
from llm_dispatcher.tasks import Target, TaskRequest
from llm_dispatcher.testing import Reply, SimulatedVendor

A = Target("a", "m")
RECORDED = Path(__file__).parents[3] / "shared" / "recorded" / "errors"

# ── statuses and words ─────────────────────────────────────────────────────────────────────────────────────────────

STATUSES = {
    400: InvalidRequestError,
    401: ProviderAuthenticationError,
    402: ProviderQuotaExceededError,
    403: ProviderAuthenticationError,
    404: ModelNotFoundError,
    405: InvalidRequestError,
    408: ProviderTimeoutError,
    409: ProviderServiceUnavailableError,
    410: ModelNotFoundError,
    413: ContextLengthExceededError,
    415: ModelUnsupportedError,
    418: InvalidRequestError,
    422: InvalidRequestError,
    424: ProviderServiceUnavailableError,
    425: ProviderServiceUnavailableError,
    429: ProviderRateLimitError,
    498: ProviderServiceUnavailableError,
    499: ProviderServiceUnavailableError,
    500: ProviderServiceUnavailableError,
    502: ProviderServiceUnavailableError,
    503: ProviderServiceUnavailableError,
    504: ProviderServiceUnavailableError,
    529: ProviderServiceUnavailableError,
    599: ProviderServiceUnavailableError,
}


@pytest.mark.parametrize(("status", "error"), STATUSES.items())
def test_every_status_is_one_class(status: int, error: type[Exception]) -> None:
    assert class_of(status, ()) is error
    assert class_of(status, ("never heard of",)) is error


@pytest.mark.parametrize(
    ("status", "codes", "error"),
    [
        (429, ("insufficient_quota",), ProviderQuotaExceededError),
        (400, ("context_length_exceeded", "invalid_request_error"), ContextLengthExceededError),
        (400, ("exceed_context_size_error",), ContextLengthExceededError),
        (413, ("rate_limit_exceeded", "tokens"), ContextLengthExceededError),
        (400, ("content_filter",), ContentFilterError),
        (400, ("model_not_found",), ModelNotFoundError),
        (403, ("model_not_found",), ModelNotFoundError),
        (400, ("unsupported_value", "invalid_request_error"), ModelUnsupportedError),
        (400, ("API_KEY_INVALID", "INVALID_ARGUMENT"), ProviderAuthenticationError),
        (400, ("FAILED_PRECONDITION",), ProviderAuthenticationError),
        (401, ("invalid_request_error",), ProviderAuthenticationError),
        (402, ("invalid_request_error", "unknown_error"), ProviderQuotaExceededError),
        (422, ("server_error",), InvalidRequestError),
        (504, ("timeout_error",), ProviderTimeoutError),
        (None, ("overloaded_error",), ProviderServiceUnavailableError),
        (None, ("invalid_request_error",), InvalidRequestError),
        (None, ("never heard of",), ProviderServiceUnavailableError),
        (None, (), ProviderServiceUnavailableError),
    ],
)
def test_a_word_says_more_than_a_status_and_a_status_more_than_a_general_word(
    status: int | None, codes: tuple[str, ...], error: type[Exception]
) -> None:
    assert type(error_for(ErrorReply("no", status, codes), A)) is error


def test_every_word_in_the_sdks_is_known() -> None:
    """Where a release brings a new one, this says so."""
    openais = set(get_args(ResponseError.model_fields["code"].annotation))
    union = get_args(ErrorObject)[0]
    anthropics = {word for kind in get_args(union) for word in get_args(kind.model_fields["type"].annotation)}
    googles = {
        "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
        "PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
        "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
    }  # fmt: skip
    assert len(openais) > 15 and len(anthropics) == 9
    assert (openais | anthropics | googles) - set(BY_CODE) == set()


def test_anthropics_special_words_are_read_beside_the_type() -> None:
    error = {"type": "rate_limit_error", "message": "no", "details": {"error_code": "contract_spend_limit_reached"}}
    assert type(error_for(read_error(error), A)) is ProviderQuotaExceededError


# ── error objects, wherever they come ──────────────────────────────────────────────────────────────────────────────

DECODERS: dict[str, Any] = {
    "chat": openai_chat.Decoder,
    "responses": openai_responses.Decoder,
    "anthropic": anthropic_messages.Decoder,
    "google": google_content.Decoder,
    "ollama": ollama.Decoder,
}
FRAMES: list[tuple[str, dict[str, Any], type[Exception], int | None]] = [
    ("chat", {"error": {"message": "m", "type": "server_error", "code": None}}, ProviderServiceUnavailableError, None),
    ("chat", {"error": {"message": "m", "code": 502, "metadata": {}}}, ProviderServiceUnavailableError, 502),
    ("chat", {"error": {"message": "m", "code": 429}}, ProviderRateLimitError, 429),
    ("chat", {"error": {"message": "m", "code": "context_length_exceeded"}}, ContextLengthExceededError, None),
    ("chat", {"error": {"message": "m", "code": "tool_use_failed", "type": "invalid_request_error",
                        "status_code": 400}}, InvalidRequestError, 400),
    ("chat", {"error": "out of memory"}, ProviderServiceUnavailableError, None),
    ("chat", {"x_groq": {"error": "over capacity"}}, ProviderServiceUnavailableError, None),
    ("chat", {"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, InvalidRequestError, 400),
    ("chat", {"object": "error", "message": "m", "type": "NotFoundError", "code": 404}, ModelNotFoundError, 404),
    ("chat", {"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}, ProviderServiceUnavailableError, None),
    ("responses", {"type": "error", "code": "rate_limit_exceeded", "message": "m"}, ProviderRateLimitError, None),
    ("responses", {"type": "error", "error": {"type": "invalid_request_error", "code": "context_length_exceeded",
                                              "message": "m"}}, ContextLengthExceededError, None),
    ("responses", {"type": "response.failed", "response": {"status": "failed", "error": {
        "code": "server_error", "message": "m"}}}, ProviderServiceUnavailableError, None),
    ("responses", {"type": "response.failed", "response": {"status": "failed", "error": {
        "code": "invalid_image_url", "message": "m"}}}, InvalidRequestError, None),
    ("responses", {"type": "response.failed", "response": {"status": "failed", "error": {
        "code": "bio_policy", "message": "m"}}}, ContentFilterError, None),
    ("responses", {"type": "response.failed", "response": {"status": "failed"}}, ProviderServiceUnavailableError, None),
    ("anthropic", {"type": "error", "error": {"type": "overloaded_error", "message": "m"}},
     ProviderServiceUnavailableError, None),
    ("anthropic", {"type": "error", "error": {"type": "api_error", "message": "m"}},
     ProviderServiceUnavailableError, None),
    ("anthropic", {"type": "error", "error": {"type": "timeout_error", "message": "m"}}, ProviderTimeoutError, None),
    ("anthropic", {"type": "error", "error": {"type": "rate_limit_error", "message": "m"}},
     ProviderRateLimitError, None),
    ("anthropic", {"type": "error", "error": {"type": "invalid_request_error", "message": "m"}},
     InvalidRequestError, None),
    ("google", {"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}},
     ProviderServiceUnavailableError, 503),
    ("google", {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}, ProviderRateLimitError, 429),
    ("google", {"error": {"code": 504, "message": "m", "status": "DEADLINE_EXCEEDED"}}, ProviderTimeoutError, 504),
    ("google", {"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}, InvalidRequestError, 400),
    ("ollama", {"error": "an error was encountered while running the model"}, ProviderServiceUnavailableError, None),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "frame", "error", "status"), FRAMES)
def test_every_error_frame_is_one_class(
    wire: str, frame: dict[str, Any], error: type[ProviderError], status: int | None
) -> None:
    with pytest.raises((ProviderError, InvalidRequestError, ContentFilterError)) as raised:
        list(DECODERS[wire](A).pieces(json.dumps(frame).encode()))
    assert type(raised.value) is error
    assert (raised.value.status, raised.value.provider, raised.value.model) == (status, "a", "m")
    assert raised.value.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "no"}}, "no"),
        ({"error": "no"}, "no"),
        ({"message": "no", "request_id": "r"}, "no"),
        ({"detail": "no"}, "no"),
        ({"code": "x", "error": "no"}, "no"),
        ("no", "no"),
        ({"detail": [{"msg": "no"}]}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_vendors_sentence_is_found_wherever_it_stands(body: object, words: str | None) -> None:
    assert error_message(body) == words


def test_a_page_of_html_is_cut_and_a_key_in_it_is_not_shown() -> None:
    error = error_for(ErrorReply("x" * 1990 + " Bearer abcdefghijklmnopqrstuvwxyz", 502), A)
    assert len(error.message) <= 2000
    assert "abcdef" not in error.message


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "code", "type", "status", "details", "detail"]), inner)
    ),
    max_leaves=8,
)


def test_googles_reason_wins_over_its_status() -> None:
    """A missing key is an INVALID_ARGUMENT, and only the details say so. Some details are not objects."""
    details = ["a word", {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    body = {"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT", "details": details}}
    assert google_answer(body, 400).codes == ("API_KEY_INVALID", "INVALID_ARGUMENT")
    assert type(error_for(google_answer(body, 400), A)) is ProviderAuthenticationError


@given(values, st.none() | st.integers(100, 700))
def test_every_error_body_becomes_a_typed_error(body: object, status: int | None) -> None:
    for answer in (read_error(body), google_answer(body, status)):
        error = error_for(answer, A)
        assert isinstance(error, (ProviderError, InvalidRequestError, ContentFilterError))
        assert error.message


# ── when to come back ──────────────────────────────────────────────────────────────────────────────────────────────

NEW_YEAR = 1_767_225_600.0  # 2026-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 01:00:30 +0100"}, 30.0),
        ({"retry-after": "Thu, 02 Jan 2020 00:00:30 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_each_of_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=lambda: NEW_YEAR) == seconds


def openai_limits(requests: tuple[str, str] | None, tokens: tuple[str, str] | None) -> dict[str, str]:
    return {
        f"x-ratelimit-{what}-{of}": value
        for of, pair in (("requests", requests), ("tokens", tokens))
        for what, value in zip(("remaining", "reset"), pair or (), strict=False)
    }


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (openai_limits(("0", "1s"), ("149984", "6ms")), 1.0),
        (openai_limits(("59", "1s"), ("0", "6m0s")), 360.0),
        (openai_limits(("0", "2m59.56s"), ("0", "7.66s")), 179.56),
        (openai_limits(("59", "8.64s"), ("120", "120ms")), 0.12),
        (openai_limits(("59", "8.64s"), None), None),
        (openai_limits(("0", "17"), None), 17.0),
        (openai_limits(("0", "1h2m3.5s"), None), 3723.5),
        (openai_limits(("0", "1d"), None), 86400.0),
        (openai_limits(("0", "soon"), None), None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NEW_YEAR * 1000) + 5000)}, 5.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NEW_YEAR) + 5)}, 5.0),
        ({"anthropic-ratelimit-requests-remaining": "0",
          "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:12Z"}, 12.0),
        ({"anthropic-ratelimit-input-tokens-remaining": "10",
          "anthropic-ratelimit-input-tokens-reset": "2025-12-31T23:59:50Z"}, 0.0),
        ({}, None),
    ],
)  # fmt: skip
def test_the_limit_that_was_reached_says_when_it_is_lifted(headers: dict[str, str], seconds: float | None) -> None:
    found = reset_after(headers, now=lambda: NEW_YEAR)
    assert found == (None if seconds is None else pytest.approx(seconds))


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens"]), st.text()))
def test_every_header_value_is_handled(headers: dict[str, str]) -> None:
    for seconds in (retry_after(headers), reset_after(headers)):
        assert seconds is None or 0 <= seconds < float("inf")


def test_a_reset_counts_for_a_rate_limit_only_and_after_what_is_said_outright() -> None:
    headers = openai_limits(("0", "30s"), None)
    assert error_for(ErrorReply("no", 429, headers=headers), A).retry_after == 30.0
    assert error_for(ErrorReply("no", 500, headers=headers), A).retry_after is None
    assert error_for(ErrorReply("no", 429, headers={**headers, "retry-after": "2"}), A).retry_after == 2.0


def test_googles_retry_info_and_quota_are_read() -> None:
    kind = "type.googleapis.com/google.rpc."
    body: dict[str, Any] = {
        "error": {
            "code": 429, "message": "no", "status": "RESOURCE_EXHAUSTED",
            "details": [
                {"@type": f"{kind}QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerMinute"}]},
                {"@type": f"{kind}RetryInfo", "retryDelay": "34.07s"},
            ],
        }
    }  # fmt: skip
    error = error_for(google_answer(body, 429), A)
    assert (type(error), error.retry_after) == (ProviderRateLimitError, 34.07)
    assert error_for(google_answer([body], 429), A).retry_after == 34.07
    body["error"]["details"][0]["violations"].append({"quotaId": "GenerateRequestsPerDayPerProjectPerModel"})
    assert type(error_for(google_answer(body, 429), A)) is ProviderQuotaExceededError


# ── over a socket ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_sdks_own_error_is_the_cause() -> None:
    """And whatever else a vendor says is kept: here, when its limit is lifted."""
    from llm_dispatcher.testing import HttpError

    for wire, kind, cause in (
        ("openai-chat", "openai_compatible", openai.RateLimitError),
        ("anthropic", "anthropic", anthropic.RateLimitError),
    ):
        headers = openai_limits(("0", "90s"), None)
        with SimulatedVendor(wire, Reply(fault=HttpError(429), headers=headers)) as vendor:
            settings = ProviderSettings(name="a", kind=kind, api_key=Secret("test-key"), base_url=vendor.base_url)
            provider = make(settings)
            with pytest.raises(ProviderRateLimitError) as raised:
                async for _ in provider.stream(Ask(TaskRequest("hi"), A)):
                    pass
            await provider.aclose()
        assert isinstance(raised.value.__cause__, cause)
        assert raised.value.retry_after == 90.0


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ({"gogle_search": {}}, "takes no such tool; what it does not know: gogle_search"),
        (
            {"google_maps": {"auth_config": {"api_key_config": {"api_key_string": "KEY-OF-THE-TOOL"}}, "typo": 1}},
            r"what it does not know: google_maps\.typo",
        ),
        ({"enterprise_web_search": {}}, "does not accept this request: enterprise_web_search"),  # on Vertex, it is
    ],
)
async def test_what_googles_sdk_does_not_take_is_an_invalid_request(tool: dict[str, Any], words: str) -> None:
    """The SDK alone knows Google's own tools; it says so before anything is sent, and of their keys nothing is told."""
    with SimulatedVendor("google", Reply("hi")) as vendor:
        settings = ProviderSettings(name="a", kind="google", api_key=Secret("test-key"), base_url=vendor.base_url)
        provider = make(settings)
        with pytest.raises(InvalidRequestError, match=words) as raised:
            async for _ in provider.stream(Ask(TaskRequest("hi", tools=[tool]), A)):
                pass
        await provider.aclose()
    assert vendor.requests == []
    assert "KEY-OF-THE-TOOL" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("kind", ["openai_compatible", "openai", "anthropic", "google", "ollama"])
@pytest.mark.parametrize("content_type", ["text/html", "application/json"])
async def test_a_proxys_page_is_an_error_of_its_status(kind: str, content_type: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        page = b"<html><h1>502 Bad Gateway</h1></html>"
        top = f"HTTP/1.1 502 X\r\ncontent-type: {content_type}\r\ncontent-length: {len(page)}\r\n\r\n"
        writer.write(top.encode() + page)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        provider = make(ProviderSettings(name="a", kind=kind, api_key=Secret("test-key"), base_url=base_url))
        with pytest.raises(ProviderError) as raised:
            async for _ in provider.stream(Ask(TaskRequest("hi"), A)):
                pass
        await provider.aclose()
    assert (type(raised.value), raised.value.status) == (ProviderServiceUnavailableError, 502)


KNOWN_BETTER = {
    "model_not_found": ModelNotFoundError,
    "unsupported_value": ModelUnsupportedError,
    "unsupported_file": ModelUnsupportedError,
}


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recordings are not here")
def test_recorded_errors_come_to_the_class_of_their_status_or_of_their_word() -> None:
    wrong: dict[str, tuple[str, type]] = {}
    for path in sorted(RECORDED.glob("*.json")):
        case = json.loads(path.read_text())
        status, body = case["response"]["status"], json.loads(case["response"]["body_text"])
        inner = body.get("error", body)
        answer = google_answer(body, status) if "google" in case["wire_dialect"] else read_error(inner)
        found = class_of(status, answer.codes)
        wanted = KNOWN_BETTER.get(inner.get("code"), STATUSES[status])
        if found is not wanted or not answer.message:
            wrong[path.name] = (answer.message, found)
    assert wrong == {}


# ── the chain of causes ────────────────────────────────────────────────────────────────────────────────────────────


class OfAnSdkError(Exception):
    """What an SDK raises over what its transport raised."""


def raised_by_an_sdk(how: str) -> None:
    """Fail to connect, and let an SDK raise its own error over that."""
    try:
        raise ConnectionRefusedError("refused")
    except ConnectionRefusedError as cause:
        if how == "from":
            raise OfAnSdkError("no connection") from cause
        if how == "from None":
            raise OfAnSdkError("the key file is empty") from None
        raise OfAnSdkError("no connection")


@pytest.mark.parametrize("how", ["from", "in a handler"])
def test_an_error_is_classified_by_its_innermost_cause(how: str) -> None:
    with pytest.raises(ProviderConnectionError, match="the connection broke"), translated(Ask(TaskRequest("x"), A)):
        raised_by_an_sdk(how)


def test_an_error_raised_from_none_is_not_classified_by_what_it_suppresses() -> None:
    with pytest.raises(OfAnSdkError), translated(Ask(TaskRequest("x"), A)):
        raised_by_an_sdk("from None")


def test_an_error_is_not_classified_by_what_was_handled_before_the_request() -> None:
    try:
        raise ConnectionRefusedError("of another target")
    except ConnectionRefusedError:
        with pytest.raises(OfAnSdkError) as raised, translated(Ask(TaskRequest("x"), A)):
            raise OfAnSdkError("an SDK's own")
    assert isinstance(raised.value.__context__, ConnectionRefusedError)
