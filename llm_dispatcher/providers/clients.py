"""SDK clients, made once per provider and running loop, and closed with the loop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Generic, TypeVar

Client = TypeVar("Client")


class PerLoop(Generic[Client]):
    """One client for each loop: its connections belong to the loop that opened them.

    `life` is an async generator that makes a client, yields it, and closes it. Held open here, it is known to its loop
    as an asynchronous generator under way; so `asyncio.run` closes it, and the client with it, before the loop is gone.
    """

    def __init__(self, life: Callable[[], AsyncGenerator[Client, None]]) -> None:
        self._life = life
        self._held: dict[asyncio.AbstractEventLoop, tuple[AsyncGenerator[Client, None], asyncio.Future[Client]]] = {}

    async def get(self) -> Client:
        """The running loop's client; whoever comes while it is being made waits for the same one."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is not None:
            made = held[1]
            return made.result() if made.done() else await asyncio.shield(made)
        for other in [other for other in self._held if other.is_closed()]:
            del self._held[other]
        life, made = self._life(), loop.create_future()
        self._held[loop] = (life, made)
        try:
            client = await anext(life)
        except BaseException:
            del self._held[loop]
            made.cancel()
            await life.aclose()
            raise
        made.set_result(client)
        # Whoever drops its switch unclosed has dropped this as well: then the client is closed in its loop. What is
        # registered here keeps it whole until then, so that no collector gets to it first and only warns.
        weakref.finalize(self, _close_later, loop, life).atexit = False
        return client

    async def aclose(self) -> None:
        """Close the running loop's client, if it has one."""
        held = self._held.pop(asyncio.get_running_loop(), None)
        if held is not None:
            with suppress(RuntimeError):  # it is being made at this moment: its own loop closes it
                await held[0].aclose()


def _close_later(loop: asyncio.AbstractEventLoop, life: AsyncGenerator[object, None]) -> None:
    if loop.is_running():  # else whoever ends the loop closes what it holds
        asyncio.run_coroutine_threadsafe(_close(life), loop)


async def _close(life: AsyncGenerator[object, None]) -> None:
    await life.aclose()
