"""Streams that are cancelled at whichever await they have reached: nothing of them is left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import AsyncExitStack
from types import coroutine
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher._stream import LLMStream
from llm_dispatcher.testing import Continuing, Cut, Reply, SimulatedVendor, Wire
from tests.conftest import KINDS, first_is_fast

STREAMS = 1_000
AWAITS = 90
"""More than a stream of this length has; so some are left to their end."""
NEVER = {"failures": None}
TEXT = " ".join(f"word{number}" for number in range(30)) + " end."


@coroutine
def cancelled_at(work: Coroutine[Any, Any, None], place: int) -> Generator[Any, Any, None]:
    """Runs the work, and cancels its task when it waits for the time that `place` says."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    waits = 0
    try:
        waited_for = work.send(None)
        while True:
            if waits == place:
                loop.call_soon(task.cancel)
            waits += 1
            try:
                came = yield waited_for
            except BaseException as error:
                waited_for = work.throw(error)
            else:
                waited_for = work.send(came)
    except StopIteration:
        return


async def read(switch: LLMSwitch, how: int) -> None:
    """In one of the ways to read."""
    stream = switch.stream_request(TaskRequest("Count."))
    match how:
        case 0:
            async for _ in stream:
                pass
        case 1:
            await stream
        case _:
            async for _ in stream.events():
                pass


async def cancelled(work: Coroutine[Any, Any, None], place: int) -> None:
    await cancelled_at(work, place)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_streams_cancelled_at_any_await_leave_nothing_behind() -> None:
    chance = random.Random(5)
    ended = {"cancelled": 0, "whole": 0}
    async with AsyncExitStack() as stack:
        vendors: list[SimulatedVendor] = []
        switches: list[LLMSwitch] = []
        for wire in Wire:
            pair = [
                await stack.enter_async_context(SimulatedVendor(wire, script))
                for script in (Reply(TEXT, fault=Cut(10)), Continuing(TEXT))
            ]
            providers = {
                name: {**KINDS[wire], "api_key": "test-key", "base_url": vendor.base_url, "models": ["m"]}
                for name, vendor in zip("ab", pair, strict=True)
            }
            policy = {"providers": providers, "resilience": {"max_retries": 1, "backoff": 0.001, "breaker": NEVER}}
            switches.append(await stack.enter_async_context(LLMSwitch(policy)))
            await switches[-1].stream_request(TaskRequest("Count."))  # what is made once, is made
            vendors.extend(pair)
        before = asyncio.all_tasks()
        for _ in range(STREAMS // 100):
            streams = [
                asyncio.create_task(cancelled(read(chance.choice(switches), chance.randrange(3)), place))
                for place in (chance.randrange(AWAITS) for _ in range(100))
            ]
            for outcome in await asyncio.gather(*streams, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
                ended["whole" if outcome is None else "cancelled"] += 1
        assert asyncio.all_tasks() == before
        for vendor in vendors:
            for request in vendor.requests:
                assert await request.until_over() != "open"
        for switch in switches:
            await switch.aclose()
        assert [await vendor.until_unconnected() for vendor in vendors] == [0] * len(vendors)
    assert ended["whole"] + ended["cancelled"] == STREAMS
    assert min(ended.values()) > STREAMS // 20, "streams are cancelled in every stage, and some are read to their end"


@pytest.mark.found("N-B15", "B-23")
@pytest.mark.parametrize("wire", first_is_fast(*Wire))
def test_a_loop_that_ends_over_open_streams_is_quiet(wire: str, caplog: pytest.LogCaptureFixture) -> None:
    """`asyncio.run` closes all asynchronous generators at once, the inner ones beside the outer ones."""
    held: list[tuple[LLMStream[str], AsyncIterator[str]]] = []

    async def hold(switch: LLMSwitch) -> None:
        for _ in range(12):
            stream = switch.stream_request(TaskRequest("hi"))
            reading = aiter(stream)
            await anext(reading)
            held.append((stream, reading))

    with SimulatedVendor(wire, Reply(TEXT, pace=0.005)) as vendor:
        entry = {"api_key": "test-key", "base_url": vendor.base_url, "models": ["m"], **KINDS[wire]}
        for _ in range(10):
            asyncio.run(hold(LLMSwitch({"providers": {"a": entry}})))
        assert vendor.wait_until_unconnected() == 0
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    assert {row.outcome for stream, _ in held for row in stream.response.attempts} == {"cancelled"}
    assert all(len(stream.response.attempts) == 1 for stream, _ in held)
