"""Simulated vendors, read by the official clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import anthropic
import httpx2
import openai
import pytest
from google import genai
from google.genai import errors as google_errors
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response

from llm_dispatcher.testing import (
    CleanEnd,
    Continuing,
    Cut,
    ErrorFrame,
    Garbage,
    HttpError,
    KeepAlives,
    Kind,
    MalformedJson,
    Refuse,
    Reply,
    Resplit,
    SaidToolCall,
    SaidUsage,
    SimulatedVendor,
    SlowHeaders,
    SpawnedVendor,
    Stall,
    Wire,
    script_from_json,
    script_to_json,
)


class Read(NamedTuple):
    """The answer that an official client has read."""

    text: str
    reasoning: str
    tool: tuple[str, dict[str, Any]] | None
    input_tokens: int | None
    output_tokens: int | None
    finish: str | None


TRUSTED = httpx2.create_ssl_context()
"""Shared, because making an SSL context takes most of the time of making a client."""


def openai_client(base_url: str, key: str = "test-key") -> openai.AsyncOpenAI:
    http_client = openai.DefaultAsyncHttpxClient(verify=TRUSTED)
    return openai.AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0, http_client=http_client)


async def read_chat(base_url: str, key: str = "test-key") -> Read:
    async with openai_client(base_url, key) as client:
        text = reasoning = arguments = ""
        name = finish = usage = None
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reasoning += getattr(choice.delta, "reasoning_content", None) or ""
                for call in choice.delta.tool_calls or ():
                    assert call.function is not None
                    name = call.function.name or name
                    arguments += call.function.arguments or ""
                finish = choice.finish_reason or finish
    tool = (name, json.loads(arguments)) if name else None
    return Read(text, reasoning, tool, usage and usage.prompt_tokens, usage and usage.completion_tokens, finish)


async def read_responses(base_url: str, key: str = "test-key") -> Read:
    async with openai_client(base_url, key) as client:
        text = reasoning = ""
        tool: tuple[str, dict[str, Any]] | None = None
        final: Response | None = None
        async for event in await client.responses.create(model="m", input="hi", stream=True):
            match event.type:
                case "response.output_text.delta":
                    text += event.delta
                case "response.reasoning_summary_text.delta":
                    reasoning += event.delta
                case "response.output_item.done" if event.item.type == "function_call":
                    tool = (event.item.name, json.loads(event.item.arguments))
                case "response.completed" | "response.incomplete":
                    final = event.response
                    assert final.output_text == text
                case _:
                    pass
    if final is None or final.usage is None:
        return Read(text, reasoning, tool, None, None, final.status if final else None)
    return Read(text, reasoning, tool, final.usage.input_tokens, final.usage.output_tokens, final.status)


async def read_messages(base_url: str, key: str = "test-key") -> Read:
    async with (
        anthropic.AsyncAnthropic(
            api_key=key, base_url=base_url, max_retries=0, http_client=anthropic.DefaultAsyncHttpxClient(verify=TRUSTED)
        ) as client,
        client.messages.stream(model="m", max_tokens=99, messages=[{"role": "user", "content": "hi"}]) as stream,
    ):
        message = await stream.get_final_message()
    text = "".join(block.text for block in message.content if block.type == "text")
    reasoning = "".join(block.thinking for block in message.content if block.type == "thinking")
    tools: list[tuple[str, dict[str, Any]]] = [
        (block.name, dict(block.input)) for block in message.content if block.type == "tool_use"
    ]
    usage = message.usage
    return Read(
        text, reasoning, tools[0] if tools else None, usage.input_tokens, usage.output_tokens, message.stop_reason
    )


async def read_google(base_url: str, key: str = "test-key") -> Read:
    client = genai.Client(
        api_key=key,
        http_options=types.HttpOptions(
            base_url=base_url,
            retry_options=types.HttpRetryOptions(attempts=1),
            client_args={"verify": TRUSTED},
            async_client_args={"ssl": TRUSTED},
        ),
    )
    text = reasoning = ""
    tool = usage = finish = None
    try:
        async for chunk in await client.aio.models.generate_content_stream(model="m", contents="hi"):
            usage = chunk.usage_metadata or usage
            for candidate in chunk.candidates or ():
                finish = candidate.finish_reason or finish
                for part in (candidate.content and candidate.content.parts) or ():
                    if part.thought:
                        reasoning += part.text or ""
                    else:
                        text += part.text or ""
                    if part.function_call is not None:
                        tool = (str(part.function_call.name), dict(part.function_call.args or {}))
    finally:
        await client.aio.aclose()
    reported = usage and (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
    return Read(text, reasoning, tool, usage and usage.prompt_token_count, reported, finish and finish.value)


READERS: dict[str, Callable[..., Awaitable[Read]]] = {
    "openai-chat": read_chat,
    "openai-responses": read_responses,
    "anthropic": read_messages,
    "google": read_google,
}
sdk_wires = pytest.mark.parametrize("wire", list(READERS))
all_wires = pytest.mark.parametrize("wire", list(Wire))

Start = Callable[..., SimulatedVendor]
TEXT = "Grüße from 東京 🎌, said the vendor. That is all."


@sdk_wires
async def test_official_clients_read_everything(wire: str, simulated_vendor: Start) -> None:
    reply = Reply(
        TEXT, reasoning=("Let me ", "think."), tool_calls=(SaidToolCall("look_up", '{"word": "東京"}'),),
        usage=SaidUsage(input=21, output=34, reasoning=5),
    )  # fmt: skip
    vendor = simulated_vendor(wire, reply)
    read = await READERS[wire](vendor.base_url)
    assert read[:5] == (TEXT, "Let me think.", ("look_up", {"word": "東京"}), 21, 34)
    assert vendor.requests[0].wait_until_over() == "served"


@sdk_wires
@pytest.mark.parametrize(
    ("finish", "vendor_words"),
    [
        ("stop", ("stop", "completed", "end_turn", "STOP")),
        ("length", ("length", "incomplete", "max_tokens", "MAX_TOKENS")),
        ("content_filter", ("content_filter", "incomplete", "refusal", "SAFETY")),
    ],
)
async def test_finish_reasons_are_sent_in_the_vendors_words(
    wire: str, finish: str, vendor_words: tuple[str, ...], simulated_vendor: Start
) -> None:
    read = await READERS[wire](simulated_vendor(wire, Reply(TEXT, finish_reason=finish)).base_url)
    assert read.finish == dict(zip(READERS, vendor_words, strict=True))[wire]


STATUSES = (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503, 529)
OPENAI_ERRORS = {
    400: openai.BadRequestError, 401: openai.AuthenticationError, 403: openai.PermissionDeniedError,
    404: openai.NotFoundError, 409: openai.ConflictError, 422: openai.UnprocessableEntityError,
    429: openai.RateLimitError, 500: openai.InternalServerError, 503: openai.InternalServerError,
    529: openai.InternalServerError,
}  # fmt: skip
ANTHROPIC_ERRORS = {
    400: anthropic.BadRequestError, 401: anthropic.AuthenticationError, 403: anthropic.PermissionDeniedError,
    404: anthropic.NotFoundError, 409: anthropic.ConflictError, 422: anthropic.UnprocessableEntityError,
    429: anthropic.RateLimitError, 500: anthropic.InternalServerError,
}  # fmt: skip


@sdk_wires
@pytest.mark.parametrize("status", STATUSES)
async def test_official_clients_raise_their_own_errors(wire: str, status: int, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply(fault=HttpError(status, retry_after=7, message="no, because")))
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError, google_errors.APIError)) as raised:
        await READERS[wire](vendor.base_url)
    error = raised.value
    if isinstance(error, google_errors.APIError):
        assert isinstance(error, google_errors.ClientError if status < 500 else google_errors.ServerError)
        assert (error.code, error.message) == (status, "no, because")
        return
    model_name: dict[int, Any] = OPENAI_ERRORS if isinstance(error, openai.APIStatusError) else ANTHROPIC_ERRORS
    assert isinstance(error, model_name.get(status, (openai.APIStatusError, anthropic.APIStatusError)))
    assert error.status_code == status
    assert "no, because" in error.message
    assert error.response.headers["retry-after"] == "7"


@sdk_wires
async def test_requests_are_checked_as_the_service_does(wire: str, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply(TEXT), models=["other"])
    for key, status in (("wrong-key", 401), ("test-key", 404)):
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError, google_errors.APIError)) as raised:
            await READERS[wire](vendor.base_url, key)
        error: Any = raised.value
        assert (error.code if isinstance(error, google_errors.APIError) else error.status_code) == status
    assert [request.status for request in vendor.requests] == [401, 404]


async def post(
    vendor: SimulatedVendor, path: str, body: bytes, method: str = "POST", **headers: str
) -> tuple[int, bytes]:
    """Send a request that no official client would send."""
    host, port = vendor.base_url.removeprefix("http://").partition("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    given_headers = {"host": host, "authorization": "Bearer test-key", "content-length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given_headers.items())
    writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    answer = await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return int(head.split(b" ")[1]), answer


CHAT = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'


@pytest.mark.parametrize(
    ("wire", "path", "body", "method", "status", "words"),
    [
        ("openai-chat", "/v1/chat/completions", b"{", "POST", 400, b"not valid JSON"),
        ("openai-chat", "/v1/chat/completions", b'{"model": "m", "messages": []}', "POST", 400, b"messages"),
        ("openai-chat", "/v1/nothing", CHAT, "POST", 404, b"Invalid URL"),
        ("openai-chat", "/v1/chat/completions", b"", "GET", 405, b"not allowed"),
        ("openai-responses", "/v1/responses", b'{"model": "m"}', "POST", 400, b"input"),
        ("anthropic", "/v1/messages", CHAT, "POST", 400, b"anthropic-version"),
        ("ollama", "/api/chat", b'{"messages": []}', "POST", 400, b"model"),
    ],
)
async def test_invalid_requests_get_the_services_own_error(
    wire: str, path: str, body: bytes, method: str, status: int, words: bytes, simulated_vendor: Start
) -> None:
    got, answer = await post(simulated_vendor(wire), path, body, method)
    assert got == status
    assert words in answer
    assert "error" in json.loads(answer)


async def test_anthropic_needs_max_tokens_and_an_open_turn_without_trailing_space(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("anthropic", Reply(TEXT), refuses_prefill=True)
    version = {"anthropic_version": "2023-06-01"}
    assert (await post(vendor, "/v1/messages", CHAT, **version))[0] == 400
    for turn, words in (
        ("so ", b"trailing whitespace"),
        ("so", b"does not support assistant message prefill"),
    ):
        turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": turn}]
        body = json.dumps({"model": "m", "max_tokens": 9, "messages": turns}).encode()
        status, answer = await post(vendor, "/v1/messages", body, **version)
        assert (status, words in answer) == (400, True)


TEN = Reply("0 1 2 3 4 5 6 7 8 9")


@sdk_wires
@pytest.mark.parametrize("after", [1, 4, 10])
async def test_official_clients_take_a_clean_end_for_success(wire: str, after: int, simulated_vendor: Start) -> None:
    """Therefore this library requires terminal evidence."""
    vendor = simulated_vendor(wire, Reply(TEN.text, fault=CleanEnd(after)))
    read = await READERS[wire](vendor.base_url)
    assert read.text == "".join(TEN.pieces[:after])
    assert vendor.requests[0].wait_until_over() == "broken"


@sdk_wires
@pytest.mark.parametrize("fault", [Refuse(), Cut(0), Cut(4), Cut(10), ErrorFrame(4), MalformedJson(4), Garbage(4)])
async def test_other_faults_are_errors_in_the_official_clients(wire: str, fault: Any, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply(TEN.text, fault=fault))
    if isinstance(fault, ErrorFrame) and wire == "openai-responses":
        assert (await READERS[wire](vendor.base_url)).finish is None  # this client passes over an error event
        return
    with pytest.raises(Exception, match=r".*"):  # each client has errors of its own for each of these
        await READERS[wire](vendor.base_url)
    assert vendor.requests[0].wait_until_over() in ("refused", "broken")


@all_wires
@pytest.mark.parametrize("fault", [Stall(4), KeepAlives(4), KeepAlives(0), SlowHeaders(3600)])
async def test_a_silent_vendor_keeps_its_connection_until_the_reader_leaves(
    wire: str, fault: Any, simulated_vendor: Start
) -> None:
    vendor = simulated_vendor(wire, Reply(TEN.text, fault=fault))
    host, port = vendor.base_url.removeprefix("http://").partition("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(a_request(wire))
    if not isinstance(fault, SlowHeaders):
        recorded = b""
        while (b'" 3"' if fault.after else b"200 OK") not in recorded:
            recorded += await reader.read(1 << 16)
        assert b'" 4"' not in recorded
    while not vendor.requests:
        await asyncio.sleep(0.001)
    assert vendor.requests[0].ended == "open"
    writer.close()
    await writer.wait_closed()
    assert await asyncio.to_thread(vendor.requests[0].wait_until_over) == "left"


def a_request(wire: str, close: bool = False) -> bytes:
    path, body = {
        "openai-chat": ("/v1/chat/completions", CHAT),
        "openai-responses": ("/v1/responses", b'{"model": "m", "input": "hi"}'),
        "anthropic": ("/v1/messages", CHAT[:-1] + b', "max_tokens": 9}'),
        "google": (
            "/v1beta/models/m:streamGenerateContent?alt=sse",
            b'{"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}',
        ),
        "ollama": ("/api/chat", CHAT),
    }[wire]
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key\r\nx-goog-api-key: test-key\r\n"
        f"anthropic-version: 2023-06-01\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@settings(max_examples=12)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5), wire=st.sampled_from(list(READERS)))
def test_a_resplit_changes_nothing_for_official_clients(sizes: list[int], wire: str) -> None:
    with SimulatedVendor(wire, Reply("Grüße, 東京 🎌!", resplit=Resplit(tuple(sizes)))) as vendor:
        assert asyncio.run(_read(wire, vendor.base_url)).text == "Grüße, 東京 🎌!"


async def _read(wire: str, base_url: str) -> Read:
    return await READERS[wire](base_url)


@pytest.mark.parametrize(
    ("impossible", "words"),
    [
        (lambda: Reply("a b c", fault=Cut(after=4)), r"Cut\(after=4\) is past the end: the reply has 3 pieces"),
        (lambda: Reply("a b", fault=CleanEnd(-1)), "is 0 or more"),
        (lambda: Reply("abc", chunks=("a", "b")), "do not add up"),
        (lambda: Reply("abc", chunk_size=0), "chunk_size"),
        (lambda: Reply("abc", pace=-1.0), "pace"),
        (lambda: Reply("abc", finish_reason="bored"), "finish_reason"),
        (lambda: HttpError(200), "from 400 to 599"),
        (lambda: HttpError(429, retry_after=-1), "retry_after"),
        (lambda: SlowHeaders(-1), "seconds"),
        (lambda: Resplit(()), "sizes"),
        (lambda: Resplit((3, 0)), "sizes"),
        (lambda: SimulatedVendor("telegraph"), "a wire is one of openai-chat"),
        (lambda: SimulatedVendor("google", []), "at least one Reply"),
        (
            lambda: SimulatedVendor("google", Reply(tool_calls=(SaidToolCall("f", '{"a": 1}'),), fault=Cut(2))),
            "on the google wire the reply has 1 pieces",
        ),
    ],
)
def test_an_impossible_script_is_refused_when_it_is_made(impossible: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        impossible()


def test_a_script_of_the_wrong_type_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="a script is a text, a Reply"):
        SimulatedVendor("google", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Reply\(fault\) is a fault like Cut\(after=3\), got str"):
        Reply(fault="cut")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"HttpError\(status\) is an int, got str"):
        HttpError("429")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "reply",
    [Reply("", chunks=("a b", " c")), Reply("a b c"), Reply("  a\n b c \n"), Reply("abc", chunk_size=2), Reply("")],
)
def test_pieces_add_up_to_the_text(reply: Reply) -> None:
    assert "".join(reply.pieces) == (reply.text or "".join(reply.chunks))


def test_scripts_can_be_written_as_json() -> None:
    for script in (
        Reply("x y", fault=Garbage(1), resplit=Resplit((2,))),
        [Reply(fault=HttpError(429, retry_after=1.5)), Reply("y")],
        Continuing("text", Kind.RESTART),
    ):
        assert script_from_json(script_to_json(script)) == script
    with pytest.raises(ValueError, match="past the end"):
        script_from_json(b'{"text": "a", "fault": {"type": "cut", "after": 9}}')


async def test_a_sequence_has_a_reply_for_each_request_and_repeats_the_last(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", [Reply("one"), Reply("two")])
    assert [(await read_chat(vendor.base_url)).text for _ in range(3)] == ["one", "two", "two"]


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_continuation_follows_from_the_request(kind: Kind, simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Continuing("One two three four five six seven.", kind))
    async with openai_client(vendor.base_url) as client:
        messages: list[Any] = [{"role": "user", "content": "count"}, {"role": "assistant", "content": "One two three"}]
        anchored = [*messages, {"role": "user", "content": "Repeat <<<two three>>> and go on."}]
        stream = await client.chat.completions.create(model="m", messages=anchored, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
        rest = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text.endswith(" four five six seven.")
    assert text != " four five six seven." or kind is Kind.EXACT
    assert rest == " four five six seven."  # an open assistant turn is gone on with, whatever the kind


async def test_a_vendor_serves_in_the_running_loop_or_in_another_process() -> None:
    async with SimulatedVendor("openai-chat", Reply("near")) as vendor:
        assert (await read_chat(vendor.base_url)).text == "near"
    with SpawnedVendor("anthropic", Reply("far")) as spawned:
        assert (await read_messages(spawned.base_url)).text == "far"
        recorded = await asyncio.to_thread(spawned.requests)
    assert [(request["path"], request["status"], request["ended"]) for request in recorded] == [
        ("/v1/messages", 200, "served")
    ]


@pytest.mark.slow
async def test_ten_thousand_connections_at_once() -> None:
    """Each connection has an open stream, which another process serves and this one reads."""
    wanted = 10_000
    resource = pytest.importorskip("resource")  # Windows has no such limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted + 200:
        pytest.skip(f"this machine allows a process {hard} open files, too few for {wanted} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with SpawnedVendor("openai-chat", Reply(TEN.text, fault=Stall(4))) as vendor:
            host, port = vendor.base_url.removeprefix("http://").partition("/")[0].split(":")
            held = [connection async for connection in connections(host, int(port), wanted)]
            assert sum(b'" 3"' in recorded for _, recorded in held) == wanted
            for writer, _ in held:
                writer.transport.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def connections(host: str, port: int, count: int) -> AsyncIterator[tuple[asyncio.StreamWriter, bytes]]:
    request = a_request("openai-chat")

    async def one() -> tuple[asyncio.StreamWriter, bytes]:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request)
        return writer, await reader.readuntil(b'" 3"')

    for start in range(0, count, 500):
        for done in await asyncio.gather(*(one() for _ in range(min(500, count - start)))):
            yield done
