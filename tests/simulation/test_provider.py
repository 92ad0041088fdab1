"""`SimulatedProvider`: what its records say, how its reader waits, and what a script may do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from math import inf
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher.events import Usage, UsageReport
from llm_dispatcher.exceptions import (
    InvalidRequestError,
    ModelNotFoundError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderRateLimitError,
    ProviderServiceUnavailableError,
)
from llm_dispatcher.notices import Notify
from llm_dispatcher.provider import (
    Allowance,
    Ask,
    Finished,
    Opened,
    Piece,
    Provider,
    ProviderSettings,
    RawEvent,
    Remaining,
    Secret,
)
from llm_dispatcher.tasks import Message, Target
from llm_dispatcher.testing import (
    Continuing,
    Cut,
    HttpError,
    Pieces,
    ProviderScript,
    ReceivedRequest,
    Redirect,
    Reply,
    SimulatedProvider,
    Stall,
    Wire,
)
from tests.conftest import KINDS
from tests.faults.leaping_loop import leap_through

TALE = "Once upon a time."
ASK = Ask(TaskRequest("hi"), Target("a", "m"))


def provider(script: Any = TALE, **options: Any) -> SimulatedProvider:
    settings = ProviderSettings(name="a", kind="openai", api="chat", api_key=Secret("k"), base_url="http://a.test/v1")
    return SimulatedProvider(settings, script, **options)


async def pieces_of(asked: Provider, ask: Ask = ASK) -> list[Piece]:
    return [piece async for piece in asked.stream(ask)]


def text(pieces: list[Piece]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


async def test_a_request_and_what_was_served_are_recorded() -> None:
    asked = provider(["One.", lambda request: Reply(request.text.upper())])
    assert text(await pieces_of(asked)) == "One."
    conversation = (Message("system", "Be brief."), Message("user", "hi"), Message("assistant", "yes?"))
    second = Ask(TaskRequest("Tell me.", messages=conversation, system="Be kind."), Target("a", "m"))
    pieces = await pieces_of(asked, second)
    assert text(pieces) == "TELL ME."
    request = asked.requests[1]
    assert [(turn.role, turn.text) for turn in request.turns] == [
        ("user", "hi"), ("assistant", "yes?"), ("user", "Tell me."),
    ]  # fmt: skip
    assert (request.system, request.model, request.ended) == ("Be kind.\nBe brief.", "m", "served")
    served = asked.served[1]
    assert (served.pieces, served.finished, served.fault, served.request) == (pieces, True, "", second.request)
    assert served.ended_at is not None


def test_the_silence_of_a_vendor_is_what_its_reader_waited() -> None:
    async def read() -> None:
        asked = provider(Reply(TALE, pace=3.0, fault=Stall(after=2)), latency=lambda: 2.0)
        stream = asked.stream(ASK)
        await anext(stream)
        assert asked.served[0].silence == 2.0
        assert await anext(stream) == "Once"
        assert asked.served[0].silence == 4.0  # `Opened` is no content
        await asyncio.sleep(60)  # the vendor's time passes; the second piece has come meanwhile
        assert await anext(stream) == " upon"
        assert asked.served[0].silence == 4.0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7.0):
                await anext(stream)
        served = asked.served[0]
        assert (served.silence, served.finished, served.fault) == (7.0, False, "Stall")
        assert served.ended_at == pytest.approx(served.asked_at + 71.0)
        assert asked.requests[0].ended == "left"

    leap_through(read)


@pytest.mark.parametrize("piece", ["", UsageReport(Usage(5, 5, source="reported")), RawEvent({})])
def test_what_is_no_content_does_not_end_a_silence(piece: Piece) -> None:
    async def read() -> None:
        asked = provider(Pieces(Opened(), "Once", 3, piece, 3, piece, 3, " upon", Finished("stop", None)))
        await pieces_of(asked, Ask(ASK.request, ASK.target, raw=True))
        assert asked.served[0].silence == 9.0

    leap_through(read)


async def test_a_reader_who_leaves_is_noted() -> None:
    asked = provider()
    async with aclosing(asked.stream(ASK)) as stream:
        await anext(stream)
        await anext(stream)
        assert (asked.served[0].ended_at, asked.requests[0].ended) == (None, "open")
    assert asked.requests[0].ended == "left"
    assert asked.served[0].ended_at is not None and not asked.served[0].finished


async def test_headers_say_what_is_left_of_a_rate_limit() -> None:
    headers = {
        "X-RateLimit-Limit-Requests": "60", "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
    }  # fmt: skip
    opened, *_ = await pieces_of(provider(Reply(TALE, headers=headers)))
    assert opened == Opened("req_sim_1", Allowance(requests=Remaining(59, 60, 1.0)))
    limited = provider(Reply(fault=HttpError(429, retry_after=2.5)))
    with pytest.raises(ProviderRateLimitError) as raised:
        await pieces_of(limited)
    assert (raised.value.status, raised.value.retry_after, raised.value.provider) == (429, 2.5, "a")


async def test_pieces_are_yielded_as_they_are_written() -> None:
    lie = UsageReport(Usage(-5, -5, source="reported"))
    written = Pieces(Opened(), "Once", lie, Finished("stop", None))
    asked = provider(lambda request: written)
    assert await pieces_of(asked) == [Opened(), "Once", lie, Finished("stop", None)]
    raw = await pieces_of(asked, Ask(ASK.request, ASK.target, raw=True))
    assert [isinstance(piece, RawEvent) for piece in raw] == [False, True, False, True, False, True, False]
    gone = ProviderConnectionError("gone")
    broken = provider([Pieces(Opened("id"), "Once", ConnectionResetError("gone")), Pieces(Opened("id"), "Once", gone)])
    for _ in range(2):
        with pytest.raises(ProviderConnectionError) as raised:
            await pieces_of(broken)
        assert (raised.value.request_id, raised.value.provider) == ("id", "a")
    assert (gone.request_id, gone.__traceback__) == (None, None), "what is raised is a copy"
    assert [request.ended for request in broken.requests] == ["broken", "broken"]
    with pytest.raises(ValueError, match="a pause of Pieces is 0 or more"):
        Pieces("Once", -1.0)


def test_pieces_may_pause() -> None:
    async def read() -> None:
        asked = provider(Pieces(Opened(), 5, "Once", inf))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30.0):
                await pieces_of(asked)
        assert (text(asked.served[0].pieces), asked.served[0].silence) == ("Once", 25.0)

    leap_through(read)


@pytest.mark.parametrize(
    ("options", "request_", "error"),
    [
        ({"models": ["n"]}, TaskRequest("hi"), ModelNotFoundError),
        ({"api_key": "other"}, TaskRequest("hi"), ProviderAuthenticationError),
        ({"refuses_prefill": ["m"]}, TaskRequest(messages=[Message("assistant", "Once")]), InvalidRequestError),
    ],
)
async def test_what_a_vendor_refuses_is_refused(
    options: dict[str, Any], request_: TaskRequest, error: type[Exception]
) -> None:
    asked = provider(**options)
    with pytest.raises(error):
        await pieces_of(asked, Ask(request_, ASK.target))
    assert asked.requests[0].ended == "refused"
    assert asked.requests[0].reply is None, "the script is not asked"


async def test_a_script_that_fails_is_a_500_and_is_kept() -> None:
    def fails(request: ReceivedRequest) -> Reply:
        raise LookupError("no such tale")

    asked = provider(fails)
    with pytest.raises(ProviderServiceUnavailableError, match="LookupError: no such tale"):
        await pieces_of(asked)
    assert isinstance(asked.script_error, LookupError)
    past_the_end = provider(lambda request: Reply("Once", fault=Cut(after=2)))
    with pytest.raises(ProviderServiceUnavailableError, match="past the end"):
        await pieces_of(past_the_end)


@pytest.mark.parametrize(
    ("script", "error"),
    [([], ValueError), (5, TypeError)],
)
def test_an_impossible_script_is_refused_at_once(script: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        provider(script)


async def test_a_redirect_on_the_same_host_is_followed() -> None:
    asked = provider([Reply(fault=Redirect("/v1/elsewhere")), TALE])
    assert text(await pieces_of(asked)) == TALE
    assert [request.ended for request in asked.requests] == ["refused", "served"]
    endless = provider(Reply(fault=Redirect("http://a.test/v1/elsewhere")))
    with pytest.raises(ProviderConnectionError):
        await pieces_of(endless)


@pytest.fixture
async def switch() -> AsyncIterator[LLMSwitch]:
    scripts: dict[str, ProviderScript] = {"a": Reply(TALE, fault=Cut(after=2)), "b": Continuing(TALE)}

    class Simulated(LLMSwitch):
        @staticmethod
        def _make_provider(settings: ProviderSettings, notify: Notify) -> Provider:
            return SimulatedProvider(settings, scripts[settings.name])

    policy = {
        "providers": {name: {**KINDS[wire], "api_key": "k", "models": ["m"]} for name, wire in
                      (("a", Wire.ANTHROPIC), ("b", Wire.OPENAI_CHAT))},
        "routing": {"default": ["a/m", "b/m"]},
        "resilience": {"max_retries": 0},
    }  # fmt: skip
    async with Simulated(policy) as switch:
        yield switch


async def test_a_switch_over_simulated_providers_continues_an_answer(switch: LLMSwitch) -> None:
    stream = switch.stream_request(TaskRequest("hi"))
    assert await stream == TALE
    assert [attempt.outcome for attempt in stream.response.attempts] == ["failed", "completed"]
