"""One upstream stream for everybody who asks the same thing at the same time.

A flight is read by any number of readers. A task of its own takes the events from upstream and keeps them, so that
readers who join late read from the beginning, and no reader depends on another one.

- **Pace.** The task takes at most `LEAD` events more than the fastest reader has read. Then it waits, and so does the
  vendor. Slower readers read what was kept.
- **Time.** Each reader has a `Deadline` of its own. Upstream obeys the flight's deadline, which moves to the latest of
  its readers' deadlines. A reader whose own deadline is earlier leaves alone, with the error of its own clock.
- **End.** When upstream has ended, `landed` receives the events, before anybody else can take off. When the last reader
  leaves before that, the task is cancelled and upstream is closed; the flight then ends as broken.

Everything happens in one event loop, and no method may be called from another one. The task alone appends events;
readers move `_front` and the deadline. A cancelled reader leaves like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from copy import copy
from typing import Final

from msgspec.structs import replace

from .._durations import in_seconds
from .._upstream import Deadline
from .._usage import Usage
from ..events import Event, StreamCompleted, StreamReset, StreamStarted, TextDelta, UsageReport
from ..exceptions import RequestTimeoutError, StreamTimeoutError

LEAD: Final = 64
"""Events that are taken from upstream before the fastest reader has read them, at most."""


class Flight:
    """A stream that is under way. It takes off when it is made; `deadline` is the one that `upstream` obeys."""

    def __init__(
        self,
        upstream: Callable[[], AsyncGenerator[Event, None]],
        landed: Callable[[list[Event], bool], None],
        deadline: Deadline,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: list[Event] = []
        self._error: BaseException | None = None
        self._over = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._readers = 0
        self._front = 0
        self._held: asyncio.Future[None] | None = None
        self._landed = landed
        self._deadline = deadline
        self._task = asyncio.create_task(self._fly(upstream))

    @property
    def is_boarding(self) -> bool:
        """Whether another reader may still join. Nobody joins a flight that is over, is ending, or is out of time."""
        return not self._over and self._loop.time() < self._deadline.end

    async def read(self, deadline: Deadline, *, first: bool) -> AsyncGenerator[Event, None]:
        """The events from the beginning. Followers see `cached=True` and cost 0; only the first reader is billed."""
        clock = _ReadersClock(self, deadline)
        self._deadline.extend(deadline)
        self._readers += 1
        place = 0
        try:
            while True:
                while place < len(self._events):
                    event = self._events[place]
                    place += 1
                    if place > self._front:
                        self._move_front(place)
                    yield event if first else as_cached(event)
                if self._over:
                    break
                if clock.rang:
                    raise _too_late(deadline, self._events[:place], first=first)
                await self._more(clock)
            if isinstance(self._error, RequestTimeoutError) and deadline.seconds != self._deadline.seconds:
                raise _too_late(deadline, self._events, first=first)  # (upstream's error names another timeout)
            if self._error is not None:
                raise self._error if first else _another(self._error)
        finally:
            clock.stop()
            self._readers -= 1
            if not self._readers and not self._task.done():
                self._over = True  # nobody may join what is about to end
                self._task.cancel()
                await asyncio.wait({self._task})

    async def _fly(self, upstream: Callable[[], AsyncGenerator[Event, None]]) -> None:
        try:
            async with aclosing(upstream()) as events:
                async for event in events:
                    self._events.append(event)
                    self._wake()
                    if len(self._events) - self._front >= LEAD:
                        await self._until_read()
        except asyncio.CancelledError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - it is raised to every reader
            self._error = error
        finally:
            self._over = True
            self._landed(self._events, self._error is None)
            self._wake()

    async def _until_read(self) -> None:
        """Wait until the fastest reader has read half of the lead, so that a slow reader costs few wake-ups."""
        self._held = self._loop.create_future()
        try:
            await self._held
        finally:
            self._held = None

    def _move_front(self, place: int) -> None:
        self._front = place
        held = self._held
        if held is not None and len(self._events) - place <= LEAD // 2 and not held.done():
            held.set_result(None)

    async def _more(self, clock: _ReadersClock) -> None:
        """Wait for the next event, for the end, or for the reader's clock."""
        news = clock.news = self._loop.create_future()
        self._waiting.add(news)
        try:
            await news
        finally:
            self._waiting.discard(news)

    def _wake(self) -> None:
        for news in self._waiting:
            if not news.done():
                news.set_result(None)
        self._waiting.clear()

    def lasts_longer_than(self, end: float) -> bool:
        """Whether upstream goes on after this time, because another reader has more of it."""
        return end < self._deadline.end


class _ReadersClock:
    """One timer for each reader, not for each event. It is silent if upstream has the same deadline: then upstream's
    own clock ends the stream, with an error that knows more.
    """

    def __init__(self, flight: Flight, deadline: Deadline) -> None:
        self.rang = False
        self.news: asyncio.Future[None] | None = None
        self._flight = flight
        self._end = deadline.end  # (the first reader's deadline is the flight's, which moves)
        self._timer = deadline.call(self._ring)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        if self._flight.lasts_longer_than(self._end):
            self.rang = True
            if self.news is not None and not self.news.done():
                self.news.set_result(None)


def _too_late(deadline: Deadline, events: Sequence[Event], *, first: bool) -> RequestTimeoutError:
    """The error of a reader whose time is over while others go on."""
    message = f"not complete within {in_seconds(deadline.seconds)} (the total clock)"
    pieces: list[str] = []
    usage = Usage()
    for event in events:
        match event:
            case TextDelta():
                pieces.append(event.text)
            case StreamReset():
                pieces.clear()
            case UsageReport() if first:
                usage = event.usage
            case _:
                pass
    if not pieces:
        return RequestTimeoutError(message)
    return StreamTimeoutError(message, partial="".join(pieces), usage=usage)


def _another(error: BaseException) -> BaseException:
    """The same error for another reader: each adds its own way to the traceback."""
    try:
        other = copy(error)
    except Exception:  # noqa: BLE001 - an error that cannot be copied is shared
        return error
    other.__cause__ = error.__cause__
    return other


def as_cached(event: Event) -> Event:
    """The event as whoever did not pay for it sees it."""
    match event:
        case StreamStarted():
            return replace(event, cached=True)
        case UsageReport() | StreamCompleted():
            return replace(event, usage=_free(event.usage))
        case _:
            return event


def _free(usage: Usage) -> Usage:
    return replace(usage, cost=0.0)
