"""Clients of vendors: one for each provider and event loop, closed with the loop.

How it works
------------
A client's connections belong to the loop that opened them, so `PerLoop` keeps one client for each running loop. Each
client lives in an async generator (its *life*) that makes it, yields it and closes it. The generator is left suspended
at its `yield`, which makes it an asynchronous generator of its loop: `asyncio.run` closes those, and the client with
them, before the loop ends.

- Only the loop's own thread makes, hands out and closes the client of that loop. `_lives` is changed by several
  threads, one key each, so it is never iterated without a copy.
- A task that asks while the client is being made waits for the same future. If the maker fails or is cancelled, the
  future's result is `_FAILED`, and the next waiting task makes the client itself.
- `aclose` closes the client of the running loop only. `release` calls the finalizers, which close each client in its
  own loop.
- If a `PerLoop` is dropped without `aclose`, a finalizer closes each client in its own loop. The life is held in
  `_closing` until then, so that the garbage collector does not close it first. Nothing that a life refers to may refer
  to its `PerLoop`, or the finalizer would never run.
- At the exit of the interpreter the finalizers do not run: no loop is left to close anything in.
See docs/decisions/0002.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

Client = TypeVar("Client")


class PerLoop(Generic[Client]):
    """Makes one client for each event loop, and closes it with the loop.

    `open_client` is an async generator function that makes a client, yields it once, and closes it in a `finally`. It
    must not refer to the object that holds the `PerLoop`.
    """

    def __init__(self, open_client: Callable[[], AsyncGenerator[Client, None]]) -> None:
        self._open_client = open_client
        self._lives: dict[asyncio.AbstractEventLoop, _Life[Client]] = {}

    async def get(self) -> Client:
        """The client of the running loop. It is made by the first call, and other calls wait for it meanwhile."""
        loop = asyncio.get_running_loop()
        while (life := self._lives.get(loop)) is not None:
            client = life.client.result() if life.client.done() else await asyncio.shield(life.client)
            if not isinstance(client, _Failed):
                return client
            # The task that was making it has failed or was cancelled. This task makes another one.
        self._forget_closed_loops()
        life = self._lives[loop] = _Life(self._open_client(), loop.create_future())
        try:
            client = await anext(life.generator)
        except BaseException:
            self._lives.pop(loop, None)
            life.client.set_result(_FAILED)
            await life.generator.aclose()
            raise
        life.client.set_result(client)
        life.finalizer = weakref.finalize(self, _close_later, loop, life.generator)
        life.finalizer.atexit = False
        return client

    async def aclose(self) -> None:
        """Close the client of the running loop, if there is one."""
        life = self._lives.pop(asyncio.get_running_loop(), None)
        if life is not None:
            life.detach()
            with suppress(RuntimeError):  # another task is making the client; the loop closes it at its end
                await life.generator.aclose()

    def release(self) -> None:
        """Have every client closed in its own loop. This returns at once, and any thread may call it. A client that is
        being made at this moment stays.
        """
        for loop, life in list(self._lives.items()):
            if life.finalizer is not None:
                self._lives.pop(loop, None)
                life.finalizer()

    def _forget_closed_loops(self) -> None:
        for loop in list(self._lives):
            if loop.is_closed() and (life := self._lives.pop(loop, None)) is not None:
                life.detach()
        for each in list(_closing):
            if each[0].is_closed():
                _closing.discard(each)


class _Failed:
    """The result of making a client that could not be made."""


_FAILED: Final = _Failed()


class _Life(Generic[Client]):
    """The client of one loop, or `_FAILED`."""

    def __init__(self, generator: AsyncGenerator[Client, None], client: asyncio.Future[Client | _Failed]) -> None:
        self.generator = generator
        self.client = client
        self.finalizer: weakref.finalize[..., object] | None = None

    def detach(self) -> None:
        if self.finalizer is not None:
            self.finalizer.detach()


_closing: Final[set[tuple[asyncio.AbstractEventLoop, AsyncGenerator[Any, None]]]] = set()
"""Clients without an owner that wait to be closed in their loops. If a loop ends before it has closed its own,
`asyncio.run` finds them alive here, and waits until they are closed.
"""


def _close_later(loop: asyncio.AbstractEventLoop, generator: AsyncGenerator[Any, None]) -> None:
    if loop.is_running():  # a loop that has stopped closes its generators itself
        _closing.add((loop, generator))
        asyncio.run_coroutine_threadsafe(_close(loop, generator), loop)


async def _close(loop: asyncio.AbstractEventLoop, generator: AsyncGenerator[Any, None]) -> None:
    try:
        await generator.aclose()
    finally:
        _closing.discard((loop, generator))
