"""SDK clients, made once per provider and running loop, and closed with the loop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

Client = TypeVar("Client")

CONNECTIONS: Final = 20_000
"""A stream holds its connection for as long as it lasts; with the usual 100, streams would wait for streams."""


class PerLoop(Generic[Client]):
    """One client for each loop: its connections belong to the loop that opened them.

    `life` is an async generator that makes a client, yields it, and closes it. Held open here, it is known to its loop
    as an asynchronous generator under way; so `asyncio.run` closes it, and the client with it, before the loop is gone.
    """

    def __init__(self, life: Callable[[], AsyncGenerator[Client, None]]) -> None:
        self._life = life
        self._held: dict[asyncio.AbstractEventLoop, _Held[Client]] = {}

    async def get(self) -> Client:
        """The running loop's client; whoever comes while it is being made waits for the same one."""
        loop = asyncio.get_running_loop()
        while (held := self._held.get(loop)) is not None:
            made = held.made.result() if held.made.done() else await asyncio.shield(held.made)
            if made is not None:
                return made
            # Who was making it has failed or been cancelled: that is no matter of ours.
        self._forget_closed_loops()
        held = self._held[loop] = _Held(self._life(), loop.create_future())
        try:
            client = await anext(held.life)
        except BaseException:
            self._held.pop(loop, None)
            held.made.set_result(None)
            await held.life.aclose()
            raise
        held.made.set_result(client)
        # Whoever drops its switch unclosed has dropped this as well: then the client is closed in its loop. What is
        # registered here keeps it whole until then, so that no collector gets to it first and only warns.
        held.dropped = weakref.finalize(self, _close_later, loop, held.life)
        held.dropped.atexit = False
        return client

    async def aclose(self) -> None:
        """Close the running loop's client, if it has one."""
        held = self._held.pop(asyncio.get_running_loop(), None)
        if held is not None:
            held.forget()
            with suppress(RuntimeError):  # it is being made at this moment: its own loop closes it
                await held.life.aclose()

    def _forget_closed_loops(self) -> None:
        # (A copy, because other threads' loops come and go meanwhile.)
        for loop in list(self._held):
            if loop.is_closed() and (held := self._held.pop(loop, None)) is not None:
                held.forget()
        for each in list(_dropped):
            if each[0].is_closed():
                _dropped.discard(each)


class _Held(Generic[Client]):
    """One loop's client."""

    def __init__(self, life: AsyncGenerator[Client, None], made: asyncio.Future[Client | None]) -> None:
        self.life = life
        self.made = made
        self.dropped: weakref.finalize[..., object] | None = None

    def forget(self) -> None:
        if self.dropped is not None:
            self.dropped.detach()


_dropped: Final[set[tuple[asyncio.AbstractEventLoop, AsyncGenerator[Any, None]]]] = set()
"""Clients that are to be closed in their loops, because nobody else has them any more. They are held here until then:
where the loop ends before it gets to them, `asyncio.run` finds them alive, and waits until they are closed.
"""


def _close_later(loop: asyncio.AbstractEventLoop, life: AsyncGenerator[Any, None]) -> None:
    if loop.is_running():  # else whoever ends the loop closes what it holds
        _dropped.add((loop, life))
        asyncio.run_coroutine_threadsafe(_close(loop, life), loop)


async def _close(loop: asyncio.AbstractEventLoop, life: AsyncGenerator[Any, None]) -> None:
    try:
        await life.aclose()
    finally:
        _dropped.discard((loop, life))
