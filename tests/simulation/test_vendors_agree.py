"""A simulated provider yields what the real provider reads from a simulated vendor's socket: for each wire and fault.

Both get the same replies. Their pieces are compared, their errors, and the seconds that it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from llm_dispatcher._providers import make
from llm_dispatcher.events import ToolCall, ToolCallDelta
from llm_dispatcher.exceptions import ContentFilterError, InvalidRequestError, ProviderError
from llm_dispatcher.provider import Ask, Opened, Piece, Provider, ProviderSettings, RawEvent, Secret
from llm_dispatcher.tasks import Message, Target, TaskRequest
from llm_dispatcher.testing import (
    CleanEnd,
    Cut,
    ErrorFrame,
    Garbage,
    HangUp,
    HttpError,
    KeepAlives,
    Linger,
    MalformedJson,
    ReceivedRequest,
    Redirect,
    Refuse,
    Reply,
    SaidToolCall,
    SaidUsage,
    SimulatedProvider,
    SimulatedVendor,
    SlowHeaders,
    Stall,
    UnaskedAnswer,
    Wire,
)
from llm_dispatcher.testing._script import FINISHES
from llm_dispatcher.testing._wires import WIRES
from llm_dispatcher.testing.faults import Fault
from tests.conftest import KINDS, first_is_fast
from tests.faults.leaping_loop import leap_through

PATIENCE = 30.0
TEXT = "Once upon a time."
CALL = SaidToolCall("look_up", '{"what": "foxes"}')
OPENAI_LIMITS = {
    "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s",
}  # fmt: skip
ANTHROPIC_LIMITS = {
    "anthropic-ratelimit-requests-limit": "60", "anthropic-ratelimit-requests-remaining": "1",
    "anthropic-ratelimit-requests-reset": "12",
}  # fmt: skip

WHOLE = Reply(TEXT, reasoning=("Hm,", " a tale."), tool_calls=(CALL,), usage=SaidUsage(20, 30, 10, 5))
ANSWERS: dict[str, Reply] = {
    "text": Reply(TEXT),
    "text with pauses": Reply(TEXT, pace=1.0),
    "text in chunks": Reply(TEXT, chunk_size=3),
    "nothing": Reply(""),
    "without usage": Reply(TEXT, usage=None),
    "reasoning": Reply(TEXT, reasoning=("Hm,", " a tale."), usage=SaidUsage(20, 30, 10, 5)),
    "signatures": Reply(reasoning=("Hm.",), tool_calls=(CALL, SaidToolCall("wait")), is_signed=True),
    "what was written to the cache": Reply(TEXT, usage=SaidUsage(30, 5, cached=4, written=20, written_1h=8)),
    "a tool call": Reply(tool_calls=(CALL,)),
    "tool calls": Reply(tool_calls=(CALL, SaidToolCall("wait", id="call_2"))),
    "everything": WHOLE,
    "rate limits of OpenAI": Reply(TEXT, headers=OPENAI_LIMITS),
    "rate limits of Anthropic": Reply(TEXT, headers=ANTHROPIC_LIMITS),
    **{f"finish reason {reason}": Reply(TEXT, finish_reason=reason) for reason in sorted(FINISHES)},
    **{f"finish reason {reason}, no text": Reply("", finish_reason=reason) for reason in sorted(FINISHES)},
    **{
        f"the vendor's finish reason {word}": Reply(TEXT, raw_finish_reason=word)
        for word in ("eos", "function_call", "max_tokens", "tool_use", "SPII", "content_filter", "length", "unheard-of")
    },
}
INSTEAD: dict[str, Fault] = {
    "refuse": Refuse(),
    "slow headers": SlowHeaders(5.0),
    "hang up": HangUp(),
    "linger": Linger(),
    "unasked answer": UnaskedAnswer(),
    "redirect elsewhere": Redirect("https://example.org/"),
    "redirect without the prompt": Redirect("/", 302),
    **{f"HTTP {status}": HttpError(status) for status in (400, 401, 402, 403, 404, 408, 409, 413, 422, 500, 503, 529)},
    "HTTP 429": HttpError(429),
    "HTTP 429 with a time": HttpError(429, retry_after=2.5),
    "HTTP 503 with a time": HttpError(503, retry_after=7),
    "HTTP 400 with a code": HttpError(400, code="context_length_exceeded"),
    "HTTP 400 with a parameter": HttpError(400, param="input_tokens"),
    "HTTP 400 of Google": HttpError(400, code="FAILED_PRECONDITION"),
    "HTTP 500 with a page": HttpError(500, body="<html>down</html>"),
    "HTTP 500 with nothing": HttpError(500, body=""),
    "HTTP 400 with JSON of another form": HttpError(400, body='{"detail": [{"msg": "no"}]}'),
    "HTTP 429 with Google's details": HttpError(
        429,
        body='{"error": {"status": "RESOURCE_EXHAUSTED", "message": "m", "details": '
        '[{"violations": [{"quotaId": "RequestsPerDay"}]}, {"@type": "x/RetryInfo", "retryDelay": "3.5s"}]}}',
    ),
}  # fmt: skip
LIMITED = {"HTTP 429 with headers": Reply(fault=HttpError(429), headers=OPENAI_LIMITS)}


def faults_at(place: int) -> Iterator[tuple[str, Fault]]:
    """The faults that break an answer after so many pieces of content."""
    yield "cut", Cut(place, moment=0.5)
    yield "clean end", CleanEnd(place)
    yield "stall", Stall(place)
    yield "keep-alives", KeepAlives(place, every=5.0)
    yield "error frame", ErrorFrame(place)
    yield "malformed JSON", MalformedJson(place)
    yield "garbage", Garbage(place)
    yield "garbage without bytes", Garbage(place, b"")
    yield "garbage that is JSON", Garbage(place, b"{}")


def cases(wire: Wire) -> dict[str, Reply]:
    frames = WIRES[wire].frames(WHOLE, "m")
    length = sum(frame.content for frame in frames)
    found = {**ANSWERS, **LIMITED, **{name: Reply(TEXT, fault=fault) for name, fault in INSTEAD.items()}}
    for place in (0, 1, 3, length - 1, length):
        for name, fault in faults_at(place):
            found[f"{name} after {place}"] = replace(WHOLE, fault=fault)
    for name, fault in faults_at(0):
        found[f"{name} after nothing"] = Reply("", fault=fault)
    for into in (1, 9, 40):
        found[f"clean end {into} bytes into an event"] = replace(WHOLE, fault=CleanEnd(3, into))
        found[f"cut {into} bytes into an event"] = replace(WHOLE, fault=Cut(3, into, moment=0.5))
    return found


class Outcome(NamedTuple):
    """What came of a request. A silence that outlasts the reader's patience is a `TimeoutError`."""

    pieces: list[Piece]
    error: dict[str, Any] | None
    seconds: float


async def outcome(provider: Provider, case: str, *, raw: bool) -> Outcome:
    found = await outcome_of(provider, TaskRequest(case), raw=raw)
    if case.startswith("keep-alives"):  # Anthropic's are events; the simulated provider is silent instead
        return found._replace(pieces=[piece for piece in found.pieces if piece != RawEvent({"type": "ping"})])
    return found


async def outcome_of(provider: Provider, request: TaskRequest, *, raw: bool = False) -> Outcome:
    loop = asyncio.get_running_loop()
    began, pieces = loop.time(), list[Piece]()
    error: dict[str, Any] | None = None
    try:
        async with asyncio.timeout(PATIENCE):
            async for piece in provider.stream(Ask(request, Target("a", "m"), raw=raw)):
                pieces.append(piece)
    except (ProviderError, InvalidRequestError, ContentFilterError) as raised:
        error = {
            "class": type(raised).__name__, "status": raised.status, "retry after": raised.retry_after,
            "has an id": raised.request_id is not None, "provider": raised.provider, "model": raised.model,
        }  # fmt: skip
    except TimeoutError:
        error = {"class": "TimeoutError"}
    return Outcome([normal(piece) for piece in pieces], error, round(loop.time() - began, 1))


def normal(piece: Piece) -> Piece:
    """Without the ids, which count the requests. Ollama sends none for tool calls, and each provider makes its own."""
    if isinstance(piece, Opened):
        return replace(piece, request_id=None if piece.request_id is None else "id")
    if isinstance(piece, (ToolCall, ToolCallDelta)) and piece.id not in ("call_1", "call_2"):
        return replace(piece, id="made here")
    return piece


async def differences(wire: Wire, *, raw: bool) -> dict[str, tuple[Outcome, Outcome]]:
    replies = cases(wire)

    def script(request: ReceivedRequest) -> Reply:
        return replies[request.text]

    found: dict[str, tuple[Outcome, Outcome]] = {}
    async with SimulatedVendor(wire, script) as vendor:
        settings = ProviderSettings(name="a", api_key=Secret("test-key"), base_url=vendor.base_url, **KINDS[wire])
        real, simulated = make(settings), SimulatedProvider(settings, script)
        assert simulated.wire == wire
        await real.prepare()
        for case in replies:
            pair = (await outcome(real, case, raw=raw), await outcome(simulated, case, raw=raw))
            if pair[0] != pair[1]:
                found[case] = pair
            await asyncio.sleep(1.0)  # virtual: an unasked answer has arrived, and its connection is not used again
        await real.aclose()
    return found


@pytest.mark.parametrize("wire", first_is_fast(*Wire))
def test_a_simulated_provider_yields_what_the_real_one_reads(wire: Wire) -> None:
    assert leap_through(lambda: differences(wire, raw=False)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("wire", list(Wire))
def test_raw_events_are_the_vendors(wire: Wire) -> None:
    assert leap_through(lambda: differences(wire, raw=True)) == {}


CONVERSATION = TaskRequest(
    "Go on.",
    system="Be kind.",
    messages=[Message("user", "Tell me a tale."), Message("assistant", "Once upon"), Message("user", ["a", " time"])],
)
OPEN_TURN = TaskRequest(messages=[Message("user", "Tell me a tale."), Message("assistant", "Once upon")])


class Refusal(NamedTuple):
    """What a vendor refuses: the options of both vendors, and the request."""

    options: dict[str, Any]
    request: TaskRequest


REFUSALS = {
    "none": Refusal({}, CONVERSATION),
    "none of an open turn": Refusal({}, OPEN_TURN),
    "an unknown model": Refusal({"models": ["n"]}, CONVERSATION),
    "a wrong key": Refusal({"api_key": "other-key"}, CONVERSATION),
    "an open turn": Refusal({"refuses_prefill": True}, OPEN_TURN),
    "an open turn of another model": Refusal({"refuses_prefill": ["n"]}, OPEN_TURN),
}


async def both(wire: Wire, refusal: Refusal) -> tuple[tuple[Outcome, Any], tuple[Outcome, Any]]:
    """What comes of a request, and the request as the vendor sees it: over the socket, and simulated."""
    async with SimulatedVendor(wire, TEXT, **refusal.options) as vendor:
        settings = ProviderSettings(name="a", api_key=Secret("test-key"), base_url=vendor.base_url, **KINDS[wire])
        real, simulated = make(settings), SimulatedProvider(settings, TEXT, **refusal.options)
        await real.prepare()
        one = await outcome_of(real, refusal.request)
        two = await outcome_of(simulated, refusal.request)
        await real.aclose()
        return (one, as_seen(vendor.requests[0])), (two, as_seen(simulated.requests[0]))


def as_seen(request: ReceivedRequest) -> dict[str, Any]:
    # A socket vendor looks at the key before it reads a request.
    content = (request.model, request.system, [(turn.role, turn.text) for turn in request.turns], request.text)
    return {"status": request.status, "ended": request.ended, "content": request.status != 401 and content}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("wire", first_is_fast(*Wire))
def test_both_vendors_see_and_refuse_the_same_requests(wire: Wire, case: str) -> None:
    socket, simulated = leap_through(lambda: both(wire, REFUSALS[case]))
    assert simulated == socket
    assert socket[1]["ended"] == ("served" if case.startswith("none") or "another" in case else "refused")
