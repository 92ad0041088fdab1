"""The tap: every event of a stream passes here once, on its way to the reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Literal, Protocol, TypeAlias

from ..events import Event, Failure, StreamCancelled, StreamFailed, TextDelta
from ._account import Account
from ._reader import Reader

Shape: TypeAlias = Literal["text", "metadata", "events", "nothing"]
"""What a reader gets: chunks of text, chunks with their metadata, events, or nothing but the end."""


class Watcher(Protocol):
    """Told of what happens, after the account has seen it: by `chunk` of text, where it cares, by `watch` of all else.
    What these return is awaited, unless it is `None`.

    A watcher must not raise: it only watches. `account.error` holds the exception behind a `StreamFailed`.
    """

    @property
    def chunk(self) -> Callable[[TextDelta, Account], Awaitable[None] | None] | None: ...

    def watch(self, event: Event, account: Account, /) -> Awaitable[None] | None: ...


async def observed(
    claim: Callable[[], None],
    opened: Callable[[], Awaitable[AsyncGenerator[Event, None]]],
    account: Account,
    watchers: Sequence[Watcher],
    reader: Reader,
    shape: Shape,
) -> AsyncGenerator[Any, None]:
    """Open a source and show the reader what it gives, telling the watchers first. An end that the source does not say
    itself is added here: an exception becomes a `StreamFailed`, which is the last event, or else is raised; leaving
    early becomes a `StreamCancelled`, which only the watchers still see.

    `claim` runs first, when the reader asks for its first item. If it raises, the stream has not begun.
    """
    loop = asyncio.get_running_loop()
    left = False
    claim()
    account.begin()
    with reader:
        try:
            async with aclosing(await opened()) as source:
                for_text = [chunk for watcher in watchers if (chunk := watcher.chunk) is not None]
                async for event in source:
                    if type(event) is TextDelta:
                        account.add(event.text)
                        for tell in for_text:
                            if (told := tell(event, account)) is not None:
                                await told
                        if shape == "text":
                            yield event.text
                        elif shape == "metadata":
                            yield account.chunk(event.text, event.index)
                    else:
                        await _tell(event, account, watchers)
                    if shape == "events":
                        try:
                            yield event
                        except GeneratorExit:
                            left = True
                            raise
                    reader.task = asyncio.current_task(loop)  # (told its loop, it takes half as long)
            account.end()
        except (asyncio.CancelledError, GeneratorExit):
            if not account.over:
                account.end()
                if account.finish_reason is None:
                    await _tell(StreamCancelled(), account, watchers)
            raise
        except Exception as error:  # whatever ended the stream is reported, and goes on to the reader
            account.end(error)
            failed = StreamFailed(Failure.of(error))
            await _tell(failed, account, watchers)
            if shape != "events" or left:  # (closing the source has failed: there is nobody to be shown it)
                raise
            yield failed
        else:
            if shape == "metadata":
                yield account.closing()


async def _tell(event: Event, account: Account, watchers: Sequence[Watcher]) -> None:
    account.see(event)
    for watcher in watchers:
        if (told := watcher.watch(event, account)) is not None:
            await told
