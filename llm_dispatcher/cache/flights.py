"""One upstream stream for everybody who asks the same thing at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from copy import copy

from ..events import Event
from .recording import as_cached


class Flight:
    """A stream that is under way, read by any number of readers, each at its own pace.

    A task of its own reads it, so that it does not depend on any one of them; when the last leaves, it ends. Where it
    landed, `landed` is given its events before anybody else can take off.
    """

    def __init__(
        self, upstream: Callable[[], AsyncGenerator[Event, None]], landed: Callable[[list[Event], bool], None]
    ) -> None:
        self._events: list[Event] = []
        self._error: BaseException | None = None
        self._over = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._readers = 0
        self._landed = landed
        self._task = asyncio.create_task(self._fly(upstream))

    @property
    def is_boarding(self) -> bool:
        """Whether another reader may still join."""
        return not self._over

    async def read(self, *, first: bool) -> AsyncGenerator[Event, None]:
        """The events from the beginning. For all but the first reader they are as from a cache: it was not they who
        paid.
        """
        self._readers += 1
        place = 0
        try:
            while True:
                while place < len(self._events):
                    event = self._events[place]
                    place += 1
                    yield event if first else as_cached(event)
                if self._over:
                    break
                await self._more()
            if self._error is not None:
                raise self._error if first else _another(self._error)
        finally:
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
        except asyncio.CancelledError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - it is raised to every reader
            self._error = error
        finally:
            self._over = True
            self._landed(self._events, self._error is None)
            self._wake()

    async def _more(self) -> None:
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
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


def _another(error: BaseException) -> BaseException:
    """The same error for another reader: each adds its own way to the traceback."""
    try:
        other = copy(error)
    except Exception:  # noqa: BLE001 - an error that cannot be copied is shared
        return error
    other.__cause__ = error.__cause__
    return other
