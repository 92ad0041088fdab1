"""Single flight: one upstream stream, read by every caller that asks the same thing at the same time.

Theory of operation
-------------------
A `SharedStream` starts one task, the pump. The pump reads upstream and appends each event to a list. Any
number of readers read that list, each from its beginning and at its own pace. No reader depends on another one.

- **Invariant.** The list only grows, so every reader gets the same events in the same order.
- **Who may write.** Only the pump appends events and sets the error. Readers move `_front` and extend the deadline.
  Everything happens in one event loop: no method may be called from another loop or thread.
- **Backpressure.** The pump takes at most `LEAD` events more than the fastest reader has read. Then it waits, and the
  vendor's connection waits with it. Slower readers read from the list.
- **Timeouts.** Each reader has its own `Deadline`. Upstream obeys the stream's deadline, which moves to the latest
  deadline of its readers. A reader whose own deadline is earlier gets a timeout error; the others read on.
- **End.** When upstream has ended, the pump calls `on_end` with all events. This happens before another caller can
  open a new stream for the same request.
- **Cancellation.** A cancelled reader leaves like a reader that closes its generator. If it was the last one and
  upstream has not ended, it cancels the pump and waits until upstream is closed. From that moment no reader can join,
  and `on_end` gets `False`: the events are not a whole answer.
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
from ..events import Event, StreamCompleted, StreamStarted, UsageReport
from ..exceptions import RequestTimeoutError, StreamingError, StreamTimeoutError
from ._transcript import Transcript

LEAD: Final = 64
"""The pump reads at most this many events more than the fastest reader has read."""


class SharedStream:
    """One upstream stream with several readers. It starts when it is made.

    `deadline` must be the deadline of `upstream`. `on_end` is called once with the events and with whether they are
    the whole stream.
    """

    def __init__(
        self,
        upstream: Callable[[], AsyncGenerator[Event, None]],
        on_end: Callable[[list[Event], bool], None],
        deadline: Deadline,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: list[Event] = []
        self._error: BaseException | None = None
        self._over = False
        self._has_landed = False
        self._waiting: dict[asyncio.Future[None], None] = {}  # readers are woken in the order in which they wait
        self._readers = 0
        self._front = 0  # how many events the fastest reader has read
        self._room: asyncio.Future[None] | None = None  # the pump waits for this while it is too far ahead
        self._on_end = on_end
        self._deadline = deadline
        self._pump_task = asyncio.create_task(self._pump(upstream))

    @property
    def is_joinable(self) -> bool:
        """Whether another reader may join: the stream has not ended, is not being closed, and has time left."""
        return not self._over and self._loop.time() < self._deadline.end

    async def read(self, deadline: Deadline, *, first: bool) -> AsyncGenerator[Event, None]:
        """The events from the beginning.

        Args:
            deadline: When this reader's time is over. It extends the deadline of the stream.
            first: Whether this reader opened the stream and pays for it. The others see `cached=True` and cost 0.

        Raises:
            RequestTimeoutError: This reader's deadline has passed.
            Exception: Upstream failed; each reader gets a copy of its error, which costs only the first one something.
        """
        clock = _ReaderClock(self, deadline)
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
                if clock.has_rung:
                    raise timeout_error(deadline, self._events[:place], first=first)
                await self._wait_for_more(clock)
            if isinstance(self._error, RequestTimeoutError) and deadline.seconds != self._deadline.seconds:
                # Upstream's error names the timeout of another reader.
                raise timeout_error(deadline, self._events, first=first)
            if self._error is not None:
                raise self._error if first else _copy_of(self._error)
        finally:
            clock.stop()
            self._readers -= 1
            if not self._readers and not self._pump_task.done():
                self._over = True  # no reader may join while upstream is being closed
                self._pump_task.cancel()
                await asyncio.wait({self._pump_task})
                self._land(asyncio.CancelledError())  # a task that is cancelled before it has begun runs no `finally`

    def lasts_longer_than(self, end: float) -> bool:
        """Whether upstream continues after this time, because another reader's deadline is later."""
        return end < self._deadline.end

    async def _pump(self, upstream: Callable[[], AsyncGenerator[Event, None]]) -> None:
        try:
            async with aclosing(upstream()) as events:
                async for event in events:
                    self._events.append(event)
                    self._wake_readers()
                    if len(self._events) - self._front >= LEAD:
                        await self._wait_for_readers()
        except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - every reader raises it
            self._land(error)
        except BaseException as error:
            self._land(error)
            raise
        else:
            self._land(None)

    def _land(self, error: BaseException | None) -> None:
        """Upstream has ended, or was never asked. The first call counts."""
        if self._has_landed:
            return
        self._has_landed = self._over = True
        self._error = error
        self._on_end(self._events, error is None)
        self._wake_readers()

    async def _wait_for_readers(self) -> None:
        """Wait until the fastest reader has read half of the lead, so that a slow reader causes few wake-ups."""
        self._room = self._loop.create_future()
        try:
            await self._room
        finally:
            self._room = None

    def _move_front(self, place: int) -> None:
        self._front = place
        room = self._room
        if room is not None and len(self._events) - place <= LEAD // 2 and not room.done():
            room.set_result(None)

    async def _wait_for_more(self, clock: _ReaderClock) -> None:
        """Wait for the next event, for the end, or for the reader's clock."""
        news = clock.news = self._loop.create_future()
        self._waiting[news] = None
        try:
            await news
        finally:
            self._waiting.pop(news, None)

    def _wake_readers(self) -> None:
        for news in self._waiting:
            if not news.done():
                news.set_result(None)
        self._waiting.clear()


class _ReaderClock:
    """One timer per reader, not per event.

    It does nothing if the stream's deadline is the same as the reader's: then upstream's own clock ends the stream, and
    that error says more.
    """

    def __init__(self, stream: SharedStream, deadline: Deadline) -> None:
        self.has_rung = False
        self.news: asyncio.Future[None] | None = None
        self._stream = stream
        self._end = deadline.end  # a copy: the first reader's deadline is also the stream's, which may move
        self._timer = deadline.call(self._ring)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        if self._stream.lasts_longer_than(self._end):
            self.has_rung = True
            if self.news is not None and not self.news.done():
                self.news.set_result(None)


def timeout_error(deadline: Deadline, events: Sequence[Event], *, first: bool) -> RequestTimeoutError:
    """The error for a reader whose deadline has passed and which has got these events. Only the `first` reader pays."""
    message = f"not complete within {in_seconds(deadline.seconds)} (the total clock)"
    text = Transcript.of(events).text
    if not text:
        return RequestTimeoutError(message)
    reports = [event.usage for event in events if isinstance(event, UsageReport)] if first else []
    return StreamTimeoutError(message, partial=text, usage=reports[-1] if reports else Usage())


def _copy_of(error: BaseException) -> BaseException:
    """A copy of the error for another reader, because each reader adds its own frames to the traceback."""
    try:
        other = copy(error)
    except Exception:  # noqa: BLE001 - an error that cannot be copied is shared
        return error
    other.__cause__ = error.__cause__
    if isinstance(other, StreamingError):
        other.usage = replace(other.usage, cost=0.0)  # the first reader pays, as in `as_cached`
    return other


def as_cached(event: Event) -> Event:
    """The event for a reader that does not pay for it: `cached=True`, and its usage costs 0."""
    match event:
        case StreamStarted():
            return replace(event, cached=True)
        case UsageReport() | StreamCompleted():
            return replace(event, usage=replace(event.usage, cost=0.0))
        case _:
            return event
