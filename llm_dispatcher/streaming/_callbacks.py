"""Functions of the application's that are told what happens in a stream."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from .._cancellation import cancellations, was_cancelled
from ..events import (
    Event,
    ReasoningDelta,
    StreamCancelled,
    StreamCompleted,
    StreamFailed,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    ToolCall,
)
from ._account import Account
from ._metadata import ChunkMetadata, StreamMetadata
from ._observe import Watcher

Told: TypeAlias = Awaitable[object] | object
"""A callback is a function or a coroutine function; what it returns is of no account."""


class StreamingCallbacks:
    """Each is optional. What they are told comes first, then the metadata.

    `on_stream_start(metadata)` once, when the first model begins to answer; `on_chunk_received(chunk, metadata)` for
    each chunk that the reader gets; then exactly one of `on_stream_end(metadata)`, also where the reader leaves early
    (`finish_reason` is then `"cancelled"`), and `on_error(error, metadata)`. One that raises is logged and counted in
    `errors`, and changes nothing else. A coroutine function is awaited before its stream goes on, and holds no other.
    """

    def __init__(
        self,
        on_stream_start: Callable[[StreamMetadata], Told] | None = None,
        on_chunk_received: Callable[[str, ChunkMetadata], Told] | None = None,
        on_stream_end: Callable[[StreamMetadata], Told] | None = None,
        on_error: Callable[[Exception, StreamMetadata], Told] | None = None,
        on_switch: Callable[[StreamSwitched, StreamMetadata], Told] | None = None,
        on_reasoning: Callable[[str, StreamMetadata], Told] | None = None,
        on_tool_call: Callable[[ToolCall, StreamMetadata], Told] | None = None,
    ) -> None:
        self.on_stream_start = on_stream_start
        self.on_chunk_received = on_chunk_received
        self.on_stream_end = on_stream_end
        self.on_error = on_error
        self.on_switch = on_switch
        self.on_reasoning = on_reasoning
        self.on_tool_call = on_tool_call
        self.errors: int = 0
        for name, callback in vars(self).items():
            if name.startswith("on_") and callback is not None and not callable(callback):
                raise TypeError(f"{name} is a function or a coroutine function, got {type(callback).__name__}")

    def watcher(self) -> Watcher:
        """A watcher for one stream."""
        return _Caller(self)

    def bystander(self) -> Watcher:
        """A watcher for a stream inside another one: of what the outer one does not show itself."""
        return _Bystander(self)

    def call(self, callback: Callable[..., Told] | None, *told: Any) -> Awaitable[None] | None:
        """Call one; where it is a coroutine, return what finishes it."""
        if callback is None:
            return None
        try:
            pending = callback(*told)
        except Exception as error:  # noqa: BLE001 - the application's code: what it raises is not the stream's trouble
            self.note(callback, error)
            return None
        return self.finishing(callback, pending)

    def finishing(self, callback: Callable[..., Told], pending: Told) -> Awaitable[None] | None:
        """What finishes a callback that has returned this; `None` where it is done."""
        return self._finish(callback, pending) if inspect.isawaitable(pending) else None

    async def _finish(self, callback: Callable[..., Told], pending: Awaitable[object]) -> None:
        before = cancellations()
        try:
            await pending
        except asyncio.CancelledError as error:
            if was_cancelled(before):
                raise  # the reader
            self.note(callback, error)  # only something that the callback waited for
        except Exception as error:  # noqa: BLE001 - as above
            self.note(callback, error)

    def note(self, callback: Callable[..., Told], error: BaseException) -> None:
        """One has raised."""
        from .._log import write  # not loaded to decorate a function
        from ..notices import CallbackFailed

        self.errors += 1
        write(CallbackFailed(getattr(callback, "__qualname__", repr(callback)), error))


class _Caller:
    """The callbacks of one stream: start is told once, however many models begin."""

    __slots__ = ("_callbacks", "_started")

    def __init__(self, callbacks: StreamingCallbacks) -> None:
        self._callbacks = callbacks
        self._started = False

    def chunk(self, event: TextDelta, account: Account, /) -> Awaitable[None] | None:
        callbacks = self._callbacks
        if (told := callbacks.on_chunk_received) is None:
            return None
        text = event.text
        try:  # (`call`, spelled out: this is for every chunk)
            pending = told(text, account.chunk(text, event.index))
        except Exception as error:  # noqa: BLE001 - as in `call`
            callbacks.note(told, error)
            return None
        return None if pending is None else callbacks.finishing(told, pending)

    def watch(self, event: Event, account: Account, /) -> Awaitable[None] | None:
        callbacks = self._callbacks
        match event:
            case StreamStarted():
                if self._started:
                    return None
                self._started = True
                return callbacks.call(callbacks.on_stream_start, account.metadata())
            case StreamCompleted() | StreamCancelled():
                return callbacks.call(callbacks.on_stream_end, account.metadata())
            case StreamFailed():
                return callbacks.call(callbacks.on_error, account.error, account.metadata())
            case StreamSwitched():
                return callbacks.call(callbacks.on_switch, event, account.metadata())
            case ReasoningDelta() if event.text:
                return callbacks.call(callbacks.on_reasoning, event.text, account.metadata())
            case ToolCall():
                return callbacks.call(callbacks.on_tool_call, event, account.metadata())
            case _:
                return None


class _Bystander:
    """Hears of what the outer stream does not show itself."""

    __slots__ = ("_caller",)
    chunk = None

    def __init__(self, callbacks: StreamingCallbacks) -> None:
        self._caller = _Caller(callbacks)

    def watch(self, event: Event, account: Account, /) -> Awaitable[None] | None:
        shown = isinstance(event, (StreamSwitched, ReasoningDelta, ToolCall))
        return self._caller.watch(event, account) if shown else None
