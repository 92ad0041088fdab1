"""SDK clients, made once per provider and running loop, and closed with the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Generic, TypeVar

Client = TypeVar("Client")


class PerLoop(Generic[Client]):
    """One client for each loop: its connections belong to the loop that opened them.

    `life` is an async generator that makes a client, yields it, and closes it. Held open here, it is known to its loop
    as an asynchronous generator under way; so `asyncio.run` closes it, and the client with it, before the loop is gone.
    """

    # Nothing that `life` holds should hold this object: a switch that is dropped unclosed then goes by reference
    # counting, which closes the clients in their loops; a cycle's end would only warn of them.
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
        return client

    async def aclose(self) -> None:
        """Close the running loop's client, if it has one."""
        held = self._held.pop(asyncio.get_running_loop(), None)
        if held is not None:
            with suppress(RuntimeError):  # it is being made at this moment: its own loop closes it
                await held[0].aclose()
