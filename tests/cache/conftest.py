"""A cache with an upstream that counts its calls, can be held back, and can fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from llm_dispatcher.cache import StreamingCache
from llm_dispatcher.events import Event, StreamCompleted, StreamStarted, TextDelta, Usage, UsageReport
from llm_dispatcher.tasks import Target, TaskRequest

TARGET = Target("openai", "m")
USAGE = Usage(input_tokens=7, output_tokens=3, cost=0.25, source="reported")
PROMPT = "What are the benefits of green tea?"


def answer(*pieces: str, target: Target = TARGET, finish: Any = "stop") -> list[Event]:
    """The events of a whole stream."""
    texts = [TextDelta(piece, index) for index, piece in enumerate(pieces)]
    whole = StreamCompleted("".join(pieces), USAGE, finish, finish)
    return [StreamStarted(target, 1, cached=False), *texts, UsageReport(USAGE), whole]


class Upstream:
    """Yields these events. It counts how often it was opened, and how often it was closed before its end."""

    def __init__(
        self, events: Sequence[Event], error: Exception | None = None, gate: asyncio.Event | None = None
    ) -> None:
        self.events = events
        self.error = error
        self.gate = gate
        self.opened = 0
        self.closed_early = 0

    async def __call__(self) -> AsyncGenerator[Event, None]:
        self.opened += 1
        ended = False
        try:
            for event in self.events:
                await asyncio.sleep(0)
                yield event
                if self.gate is not None:
                    await self.gate.wait()
            if self.error is not None:
                raise self.error
            ended = True
        finally:
            self.closed_early += not ended


async def served(
    cache: StreamingCache,
    request: TaskRequest | str,
    upstream: Callable[[], AsyncGenerator[Event, None]],
    targets: Iterable[Target] = (TARGET,),
) -> list[Event]:
    """All events that the cache gives for a request."""
    whole = TaskRequest(request) if isinstance(request, str) else request
    async with aclosing(cache.stream(whole, targets, upstream)) as events:
        return [event async for event in events]


def was_cached(events: Sequence[Event]) -> bool:
    return isinstance(events[0], StreamStarted) and events[0].cached


class Clock:
    """A clock that only moves when a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()
