"""Runs in the background: OpenAI's provider reads a broken stream on, piece for piece, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from llm_dispatcher._providers.openai import background as kept
from llm_dispatcher.events import ToolCall
from llm_dispatcher.exceptions import (
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderProtocolError,
    ProviderRateLimitError,
    ProviderServiceUnavailableError,
    ProviderTimeoutError,
    StreamTruncatedError,
)
from llm_dispatcher.notices import Notice, RunNotCancelled
from llm_dispatcher.provider import (
    Ask,
    Piece,
    Provider,
    RawEvent,
    Run,
)
from llm_dispatcher.tasks import Target, TaskRequest
from llm_dispatcher.testing import (
    Background,
    CleanEnd,
    Cut,
    CutEach,
    ErrorFrame,
    Garbage,
    HttpError,
    MalformedJson,
    Refuse,
    Reply,
    Resplit,
    RunFails,
    RunIsLost,
    SaidToolCall,
    SimulatedVendor,
    SlowHeaders,
)
from tests.conftest import thinned
from tests.providers.kept_runs import Reading

Start = Callable[..., SimulatedVendor]
A = Target("a", "m")
HI = TaskRequest("hi")
RICH = Reply(
    "Grüße, 東京 🎌. That is all.",
    reasoning=("Let me ", "think."),
    tool_calls=(SaidToolCall("look", '{"word": "東京"}', "call_7"), SaidToolCall("tell", "{}", "call_8")),
)
ENDLESS = Reply("One two three.", pace=3600.0, fault=Cut(1))
"""One word, then the connection breaks. The run is still being written."""


async def broken(provider: Provider, **ask: Any) -> Reading:
    """An answer whose first connection has broken."""
    reading = Reading(provider, Ask(HI, A, 5.0, **ask))
    assert not await reading.once()
    return reading


def kept_run(reading: Reading) -> Run:
    assert reading.run is not None
    return reading.run


async def uninterrupted(start: Start, reply: Reply, provider_of: Callable[..., Provider]) -> list[Piece]:
    vendor = start("openai-responses", msgspec.structs.replace(reply, fault=None))
    reading = Reading(provider_of(vendor, options={}), Ask(HI, A, 5.0))
    assert await reading.once() and reading.run is None
    return reading.pieces


# ── reading on ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_connection_may_be_cut_after_any_event(
    simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    whole = await uninterrupted(simulated_vendor, RICH, provider_of)
    assert [each.name for each in whole if isinstance(each, ToolCall)] == ["look", "tell"]
    vendor = simulated_vendor("openai-responses", RICH)
    provider = provider_of(vendor)
    assert await Reading(provider, Ask(HI, A, 5.0)).to_the_end() == whole
    for events in thinned(range(1, len(vendor.runs[0].frames))):
        vendor.script = msgspec.structs.replace(RICH, fault=CutEach(events, times=1, moment=0.01))
        reading = Reading(provider, Ask(HI, A, 5.0))
        assert await reading.to_the_end() == whole, events
        assert (reading.opened, vendor.runs[-1].connections) == (2, 2)
        assert [type(error) for error in reading.errors] == [ProviderConnectionError]
    query = vendor.requests[-1].path.partition("?")[2]
    assert query == f"starting_after={len(vendor.runs[0].frames) - 2}&stream=true"


@pytest.mark.parametrize("events", [1, 2, 5])
async def test_every_connection_may_be_cut(
    events: int, simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    whole = await uninterrupted(simulated_vendor, RICH, provider_of)
    vendor = simulated_vendor("openai-responses", msgspec.structs.replace(RICH, fault=CutEach(events, moment=0.01)))
    reading = Reading(provider_of(vendor), Ask(HI, A, 5.0))
    assert await reading.to_the_end() == whole
    assert len(vendor.runs) == 1
    assert vendor.runs[0].connections == reading.opened == -(-len(vendor.runs[0].frames) // events)


@pytest.mark.parametrize(
    "fault", [Cut(3), Cut(3, into=40), CleanEnd(4), CleanEnd(7, into=90), Garbage(3), MalformedJson(5), ErrorFrame(4)]
)
@pytest.mark.parametrize("resplit", [None, Resplit((7, 2))])
async def test_a_run_is_read_on_after_every_kind_of_break(
    fault: Any, resplit: Resplit | None, simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    whole = await uninterrupted(simulated_vendor, RICH, provider_of)
    vendor = simulated_vendor("openai-responses", msgspec.structs.replace(RICH, fault=fault, resplit=resplit))
    reading = Reading(provider_of(vendor), Ask(HI, A, 5.0))
    assert await reading.to_the_end() == whole
    assert reading.opened == 2


async def test_a_reader_may_stop_after_any_piece_and_read_on(
    simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    """All events come in one read, so the ones that were not pulled have to be asked for again."""
    whole = await uninterrupted(simulated_vendor, RICH, provider_of)
    provider = provider_of(simulated_vendor("openai-responses", RICH))
    for pieces in range(1, len(whole) - 2):  # the last event is two pieces
        reading = Reading(provider, Ask(HI, A, 5.0))
        await reading.once(pieces)
        assert await reading.to_the_end() == whole, pieces


async def test_raw_events_are_read_on_as_well(simulated_vendor: Start, provider_of: Callable[..., Provider]) -> None:
    provider = provider_of(simulated_vendor("openai-responses", msgspec.structs.replace(RICH, fault=CutEach(4))))
    pieces = await Reading(provider, Ask(HI, A, 5.0, raw=True)).to_the_end()
    numbers = [piece.data["sequence_number"] for piece in pieces if isinstance(piece, RawEvent)]
    assert numbers == list(range(len(numbers)))


async def test_an_answer_that_follows_a_schema_is_read_on(
    simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    vendor = simulated_vendor(
        "openai-responses", Reply('{"title": "Fox", "year": 1999}', fault=CutEach(6), chunk_size=3)
    )
    schema = {"type": "object", "properties": {"title": {"type": "string"}, "year": {"type": "integer"}}}
    reading = Reading(provider_of(vendor), Ask(TaskRequest("hi", response_format=schema), A, 5.0))
    pieces = await reading.to_the_end()
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == '{"title": "Fox", "year": 1999}'


async def test_a_run_is_stored_and_its_place_is_named(
    simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    vendor = simulated_vendor("openai-responses", Reply("One two three.", fault=Cut(2)))
    reading = await broken(provider_of(vendor))
    run = kept_run(reading)
    assert (run.id, run.position) == (vendor.runs[0].id, "event 6")
    body = vendor.requests[0].body
    assert (body["background"], body["store"], body["stream"]) == (True, True, True)
    assert reading.pieces == ["One", " two"]


async def test_a_failed_reading_can_be_repeated(simulated_vendor: Start, provider_of: Callable[..., Provider]) -> None:
    background = Background(reads=(HttpError(503), HttpError(429, retry_after=2), HttpError(401)))
    vendor = simulated_vendor("openai-responses", Reply("One two three.", fault=Cut(2)), background=background)
    reading = await broken(provider_of(vendor))
    with vendor.down():
        await reading.once()
    assert await reading.to_the_end() == ["One", " two", " three.", *reading.pieces[3:]]
    assert [type(error) for error in reading.errors[1:]] == [
        ProviderConnectionError,
        ProviderServiceUnavailableError,
        ProviderRateLimitError,
        ProviderAuthenticationError,
    ]
    assert reading.errors[3].retry_after == 2


# ── runs that are gone ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_that_is_too_old_is_over_and_is_stopped(
    simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    vendor = simulated_vendor("openai-responses", ENDLESS, background=Background(stream_for=0.0))
    reading = await broken(provider_of(vendor))
    await reading.once()
    error, run = reading.errors[-1], kept_run(reading)
    assert isinstance(error, StreamTruncatedError) and error.status == 400
    assert "cannot be read on: This response can no longer be streamed" in error.message
    assert run.is_over and vendor.runs[0].is_cancelled
    asked = len(vendor.requests)
    await reading.once()  # nothing is asked any more
    await run.cancel()
    assert isinstance(reading.errors[-1], StreamTruncatedError) and len(vendor.requests) == asked


async def test_a_run_that_is_too_old_and_cannot_be_stopped_is_reported(
    simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    background = Background(stream_for=0.0, cancel=HttpError(500))
    vendor = simulated_vendor("openai-responses", ENDLESS, background=background)
    provider: Any = provider_of(vendor)
    notices: list[Notice] = []
    provider.notify = notices.append
    reading = await broken(provider)
    await reading.once()
    assert isinstance(reading.errors[-1], StreamTruncatedError) and kept_run(reading).is_over
    assert [(type(each), each.run) for each in notices if isinstance(each, RunNotCancelled)] == [
        (RunNotCancelled, vendor.runs[0].id)
    ]


async def test_a_run_that_the_vendor_has_lost_is_over(
    simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    vendor = simulated_vendor("openai-responses", Reply("One two three.", fault=RunIsLost(2)))
    reading = await broken(provider_of(vendor))
    await reading.once()
    error = reading.errors[-1]
    assert isinstance(error, StreamTruncatedError) and (error.status, error.provider) == (404, "a")
    assert kept_run(reading).is_over and len(vendor.requests) == 2  # it is not cancelled: it does not exist
    assert reading.pieces == ["One", " two"]


async def test_a_run_that_fails_is_over(simulated_vendor: Start, provider_of: Callable[..., Provider]) -> None:
    vendor = simulated_vendor("openai-responses", Reply("One two.", fault=RunFails(1, "no more power")))
    reading = await broken(provider_of(vendor))
    assert isinstance(reading.errors[0], ProviderServiceUnavailableError) and "no more power" in str(reading.errors[0])
    await kept_run(reading).cancel()
    assert kept_run(reading).is_over and len(vendor.requests) == 1


# ── cancelling ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_the_vendor_says_of_a_run_is_fit_for_a_message(
    simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    says = HttpError(400, message="no\nsk-proj-A1b2C3d4E5f6G7h8I9j0K1l2M3n4 " + "x" * 9_000)
    vendor = simulated_vendor("openai-responses", ENDLESS, background=Background(reads=(says,)))
    reading = await broken(provider_of(vendor))
    await reading.once()
    message = reading.errors[-1].message
    assert "cannot be read on: no [redacted] x" in message and len(message) < 2_200


async def test_a_run_is_cancelled_once(simulated_vendor: Start, provider_of: Callable[..., Provider]) -> None:
    vendor = simulated_vendor("openai-responses", ENDLESS)
    run = kept_run(await broken(provider_of(vendor)))
    assert [run.is_over] == [False]
    await run.cancel()
    await run.cancel()
    assert run.is_over and vendor.runs[0].is_cancelled
    assert [request.path for request in vendor.requests[1:]] == [f"/v1/responses/{run.id}/cancel"]


async def test_leaving_does_not_cancel_a_run(simulated_vendor: Start, provider_of: Callable[..., Provider]) -> None:
    vendor = simulated_vendor("openai-responses", Reply("One two three.", pace=3600.0))
    reading = Reading(provider_of(vendor), Ask(HI, A, 5.0))
    await reading.once(1)
    assert await vendor.requests[0].until_over() == "left"
    assert (vendor.runs[0].status, kept_run(reading).is_over) == ("in_progress", False)


@pytest.mark.parametrize("fault", [CleanEnd(1), RunIsLost(1)])
async def test_nothing_is_left_to_cancel(
    fault: Any, simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    """The vendor has completed the run while nobody read it, or has lost it."""
    vendor = simulated_vendor("openai-responses", Reply("One two three.", fault=fault))
    run = kept_run(await broken(provider_of(vendor)))
    await run.cancel()
    assert run.is_over and vendor.requests[-1].status in (400, 404)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (HttpError(500), ProviderServiceUnavailableError),
        (HttpError(401), ProviderAuthenticationError),
        (HttpError(422), ProviderProtocolError),
        (Refuse(), ProviderConnectionError),
    ],
)
async def test_a_cancellation_that_fails_is_an_error_of_the_provider(
    fault: Any, kind: type[ProviderError], simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    vendor = simulated_vendor("openai-responses", ENDLESS, background=Background(cancel=fault))
    run = kept_run(await broken(provider_of(vendor)))
    with pytest.raises(kind) as failure:
        await run.cancel()
    assert failure.value.provider == "a" and not run.is_over


async def test_a_cancellation_waits_for_the_vendor_only_so_long(
    simulated_vendor: Start, provider_of: Callable[..., Provider], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "CANCEL_WITHIN", 0.05)
    vendor = simulated_vendor("openai-responses", ENDLESS, background=Background(cancel=SlowHeaders(600)))
    run = kept_run(await broken(provider_of(vendor)))
    with pytest.raises(ProviderTimeoutError, match="did not confirm the cancellation within"):
        await run.cancel()


async def test_a_run_may_be_cancelled_by_another_task_while_it_is_read(
    simulated_vendor: Start, provider_of: Callable[..., Provider]
) -> None:
    vendor = simulated_vendor("openai-responses", Reply("One two three. " * 1_000, pace=0.05))
    reading = Reading(provider_of(vendor), Ask(HI, A, 5.0))
    task = asyncio.create_task(reading.once())
    await reading.is_kept.wait()
    await kept_run(reading).cancel()
    assert not await task and vendor.runs[0].is_cancelled
