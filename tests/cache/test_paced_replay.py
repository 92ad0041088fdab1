"""Recorded answers that are played at a rate: how long they take, and that the clock of the call ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from llm_dispatcher import LLM, LLMStream
from llm_dispatcher.cache._recording import decode_recording, encode_recording, play
from llm_dispatcher.events import TextDelta
from llm_dispatcher.exceptions import RequestTimeoutError, StreamTimeoutError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import Reply, Simulation
from tests.cache.conftest import answer

TEXT = "It calms. It warms.  It keeps."
"""Three chunks of ten characters."""
PROMPT = "What are the benefits of green tea?"
Read: TypeAlias = Callable[[LLMStream[str]], Awaitable[object]]


async def test_a_paced_replay_waits_in_proportion_to_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    events = decode_recording(encode_recording(answer("ab", "cdef")))
    assert [event async for event in play(events, 4.0)] == events
    assert waits == [0.5, 1.0]
    assert [event async for event in play(events, "instant")] == events
    assert len(waits) == 2
    assert sum(type(event) is TextDelta for event in events) == 2


# ── the clock of the call ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def replayed(simulated_switch: SimulatedSwitch) -> Callable[..., object]:
    """Runs a reader of a recording that is played at a rate; returns its result and the seconds that it took."""

    def run(read: Read, timeout: float | None, replay: object = 10.0) -> object:
        policy = {
            "providers": {"openai": {"models": ["gpt-x"]}},
            "routing": {"default": ["openai/gpt-x"]},
            "cache": {"replay": replay, "similarity_threshold": 1.0},
        }
        vendors = simulated_switch(policy, seed=7, openai=Reply(TEXT, chunk_size=10))

        async def main() -> tuple[object, float]:
            assert await LLM()(PROMPT) == TEXT
            loop = asyncio.get_running_loop()
            began = loop.time()
            options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
            result = await read(LLM()(PROMPT, **options))
            return result, round(loop.time() - began, 2)

        with Simulation(7) as simulation:
            result = simulation.run(main)
        assert len(vendors["openai"].requests) == 1
        return result

    return run


async def error_of(stream: LLMStream[str]) -> tuple[type[RequestTimeoutError], str, str]:
    with pytest.raises(RequestTimeoutError) as raised:
        await stream.collect()
    return type(raised.value), raised.value.message, getattr(raised.value, "partial", "")


@pytest.mark.parametrize(
    ("timeout", "error", "delivered"),
    [(0.5, RequestTimeoutError, ""), (1.5, StreamTimeoutError, TEXT[:10]), (2.5, StreamTimeoutError, TEXT[:20])],
)
def test_the_total_clock_ends_a_replay(
    replayed: Callable[..., object], timeout: float, error: type[Exception], delivered: str
) -> None:
    message = f"not complete within {timeout:g} s (the total clock)"
    assert replayed(error_of, timeout) == ((error, message, delivered), timeout)


@pytest.mark.parametrize("timeout", [3.5, None])
def test_a_replay_in_time_is_complete(replayed: Callable[..., object], timeout: float | None) -> None:
    async def read(stream: LLMStream[str]) -> str:
        return await stream

    assert replayed(read, timeout) == (TEXT, 3.0)


def test_a_reader_that_holds_a_chunk_gets_the_timeout_when_it_asks_again(replayed: Callable[..., object]) -> None:
    async def read(stream: LLMStream[str]) -> tuple[str, str]:
        chunks = aiter(stream)
        chunk = await anext(chunks)
        await asyncio.sleep(5)
        with pytest.raises(StreamTimeoutError) as raised:
            await anext(chunks)
        return chunk, raised.value.partial

    assert replayed(read, 2.5) == ((TEXT[:10], TEXT[:10]), 6.0)


def test_a_reader_that_holds_the_last_chunk_gets_the_end(replayed: Callable[..., object]) -> None:
    """The rest needs no wait, as with a vendor's answer that has arrived."""

    async def read(stream: LLMStream[str]) -> str:
        text = ""
        async for chunk in stream:
            text += chunk
            if text == TEXT:
                await asyncio.sleep(5)
        return text

    assert replayed(read, 3.5) == (TEXT, 8.0)


def test_an_instant_replay_has_no_clock(replayed: Callable[..., object]) -> None:
    async def read(stream: LLMStream[str]) -> str:
        text = ""
        async for chunk in stream:
            await asyncio.sleep(5)
            text += chunk
        return text

    assert replayed(read, 1.0, "instant") == (TEXT, 15.0)
