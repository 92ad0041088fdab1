"""The tap: every event of a stream passes here once, on its way to the reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from ..events import Event, Failure, StreamCancelled, StreamFailed
from .account import Account


class Watcher(Protocol):
    """Told of each event after the account has seen it; what it returns is awaited, unless it is `None`.

    A watcher must not raise: it only watches. `account.error` holds the exception behind a `StreamFailed`.
    """

    def __call__(self, event: Event, account: Account, /) -> Awaitable[None] | None: ...


async def observed(
    opened: Callable[[], Awaitable[AsyncGenerator[Event, None]]], account: Account, watchers: Sequence[Watcher]
) -> AsyncGenerator[Event, None]:
    """Open a source and pass each event on, telling the watchers first. The end that it does not say itself is added
    here: an exception becomes a `StreamFailed`, followed by the exception; leaving early a `StreamCancelled`, which
    only the watchers still see.
    """
    account.begin()
    try:
        async with aclosing(await opened()) as source:
            async for event in source:
                account.see(event)
                for watch in watchers:
                    if (told := watch(event, account)) is not None:
                        await told
                yield event
        account.end()
    except (asyncio.CancelledError, GeneratorExit):
        if not account.over:
            account.end()
            if account.finish_reason is None:
                await _tell(StreamCancelled(), account, watchers)
        raise
    except Exception as error:  # whatever ended the stream is reported and goes on to the reader
        account.end(error)
        failed = StreamFailed(Failure.of(error))
        await _tell(failed, account, watchers)
        yield failed
        raise


async def _tell(event: Event, account: Account, watchers: Sequence[Watcher]) -> None:
    account.see(event)
    for watch in watchers:
        if (told := watch(event, account)) is not None:
            await told
