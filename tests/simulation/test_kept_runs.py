"""Simulated providers whose vendors keep runs, or give and take token ids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from msgspec.structs import replace

from llm_dispatcher.exceptions import ProviderError, ProviderServiceUnavailableError, StreamTruncatedError
from llm_dispatcher.provider import KeptRun, Opened, Piece, TokenTrail
from llm_dispatcher.testing import (
    Background,
    CleanEnd,
    Continuing,
    Cut,
    CutEach,
    ErrorFrame,
    Garbage,
    HttpError,
    MalformedJson,
    Reply,
    RunFails,
    RunIsLost,
    SaidToolCall,
    SimulatedProvider,
)
from llm_dispatcher.testing._simulation.kept_runs import ScriptedRun
from llm_dispatcher.testing.faults import Fault
from tests.faults.leaping_loop import leap_through
from tests.simulation.test_provider import ASK, TALE, pieces_of, provider, text
from tests.simulation.test_vendors_agree import normal


async def read(stream: AsyncIterator[Piece]) -> list[Piece]:
    """What came, up to the error in which it ended, if any."""
    pieces: list[Piece] = []
    with suppress(ProviderError):
        async for piece in stream:
            pieces.append(piece)
    return pieces


async def connections(asked: SimulatedProvider, most: int = 20) -> tuple[ScriptedRun, list[list[Piece]]]:
    """What came on each connection, until the run was over."""
    found = [await read(asked.stream(ASK))]
    run = asked.runs[0]
    while not run.is_over and len(found) < most:
        found.append(await read(run.read_on()))
    return run, found


@pytest.mark.parametrize(
    "fault",
    [Cut(after=2), CleanEnd(after=2), ErrorFrame(after=2), MalformedJson(after=2), Garbage(after=2), CutEach(2, 2)],
    ids=lambda fault: type(fault).__name__,
)
async def test_a_run_is_read_on_where_its_connection_broke(fault: Fault) -> None:
    asked = provider(Reply(TALE, tool_calls=(SaidToolCall("look_up"),), fault=fault), background=Background())
    run, found = await connections(asked)
    whole = await pieces_of(provider(Reply(TALE, tool_calls=(SaidToolCall("look_up"),))))
    assert len(found) == (3 if isinstance(fault, CutEach) else 2)
    assert isinstance(found[0][1], KeptRun) and found[0][1].run is run
    head = (Opened, KeptRun)
    read = [normal(piece) for pieces in found for piece in pieces if not isinstance(piece, head)]
    assert read == [normal(piece) for piece in whole if not isinstance(piece, head)]
    assert [served.reads_on for served in asked.served] == [False] + [True] * (len(found) - 1)
    assert len(asked.requests) == 1, "reading on asks for nothing new"


def test_a_run_goes_on_while_nobody_reads_it() -> None:
    async def main() -> None:
        asked = provider(Reply(TALE, pace=1.0, fault=Cut(after=2)), background=Background())
        begun, loop = text(await read(asked.stream(ASK))), asyncio.get_running_loop()
        await asyncio.sleep(30.0)
        began = loop.time()
        assert begun + text(await read(asked.runs[0].read_on())) == TALE
        assert loop.time() - began < 1.0, "all of it was written meanwhile"

    leap_through(main)


@pytest.mark.parametrize("fault", [RunFails(after=1), RunIsLost(after=1)], ids=lambda fault: type(fault).__name__)
async def test_a_run_that_dies_is_over(fault: Fault) -> None:
    run, found = await connections(provider(Reply(TALE, fault=fault), background=Background()))
    assert run.is_over and len(text([piece for pieces in found for piece in pieces])) < len(TALE)
    with pytest.raises(StreamTruncatedError, match="cannot be read on"):
        await anext(run.read_on())


def test_a_run_is_forgotten_after_its_time() -> None:
    async def main() -> None:
        asked = provider(Reply(TALE, fault=Cut(after=2)), background=Background(stream_for=9.0))
        with pytest.raises(ProviderError):
            await pieces_of(asked)
        await asyncio.sleep(9.0)
        with pytest.raises(StreamTruncatedError):
            await anext(asked.runs[0].read_on())
        assert asked.runs[0].is_over

    leap_through(main)


async def test_requests_about_a_run_fail_by_script() -> None:
    asked = provider(
        Reply(TALE, fault=Cut(after=2)), background=Background(reads=(HttpError(503), None), cancel=HttpError(500))
    )
    with pytest.raises(ProviderError):
        await pieces_of(asked)
    run = asked.runs[0]
    with pytest.raises(ProviderServiceUnavailableError):
        await anext(run.read_on())
    with pytest.raises(ProviderServiceUnavailableError):
        await run.cancel()
    assert (run.is_over, run.cancelled_at) == (False, None)
    await anext(run.read_on())
    asked = provider(Reply(TALE, fault=Cut(after=2)), background=Background())
    with pytest.raises(ProviderError):
        await pieces_of(asked)
    await asked.runs[0].cancel()
    assert asked.runs[0].cancelled_at is not None


async def test_an_answer_goes_on_from_token_ids() -> None:
    pieces = await read(provider(Reply(TALE, fault=Cut(after=3)), token_ids="words").stream(ASK))
    trail = next(piece for piece in pieces if isinstance(piece, TokenTrail))
    assert len(trail.output) == 3
    other = provider(Continuing(TALE), token_ids="words")
    assert other.takes_tokens("m", trail)
    assert not other.takes_tokens("n", trail), "another model has other ids"
    assert not provider(Continuing(TALE)).takes_tokens("m", trail)
    ask = replace(ASK, tokens=trail)
    assert text(pieces) + text(await pieces_of(other, ask)) == TALE
    assert other.requests[0].turns[-1].role == "assistant"


def test_the_rung_that_a_simulated_provider_offers() -> None:
    assert provider().rung("m", ASK.request) is None
    assert provider(token_ids="words").rung("m", ASK.request) == "exact"
    assert provider(token_ids="words", background=Background()).rung("m", ASK.request) == "reattached"


def test_a_fault_of_a_run_needs_a_vendor_that_keeps_runs() -> None:
    with pytest.raises(
        ValueError, match=r"needs background=, or in a simulated switch a policy with options: \{background: true\}"
    ):
        provider(Reply(TALE, fault=RunFails(after=1)))
    provider(Reply(TALE, fault=RunFails(after=1)), background=Background())
