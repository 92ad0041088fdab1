"""Callbacks: the application's functions that are called when something happens in a stream.

The tap calls a `_Caller` in the task that reads the stream, and waits for a coroutine before it goes on. No exception
of a callback reaches the reader: it is counted and becomes a notice. If the reading task is cancelled during a
callback, the `CancelledError` is raised; a `CancelledError` from something that the callback awaited counts as its
failure.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from .._cancellation import cancellations, was_cancelled
from ..events import (
    Event,
    ReasoningDelta,
    StreamCancelled,
    StreamCompleted,
    StreamFailed,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    ToolCall,
    ToolResult,
)
from ._account import Account
from ._metadata import ChunkMetadata, StreamMetadata
from ._observe import ObservedCall, Observer, Watcher

if TYPE_CHECKING:
    from ..notices import Notify

Returned: TypeAlias = Awaitable[object] | object
"""The result of a callback. An awaitable is awaited; every other value is ignored."""


class StreamingCallbacks:
    """Functions or coroutine functions of the application that are called when something happens in a stream.

    Each one is optional. A coroutine function is awaited before its own stream continues; other streams do not wait. If
    one raises, that is logged and counted in `errors`, and the stream continues. They are called in the event loop that
    reads the stream.

    Args:
        on_stream_start: `(metadata)`, once, when the first model begins to answer.
        on_chunk_received: `(chunk, metadata)`, for each chunk that the reader gets.
        on_stream_end: `(metadata)`, when the answer is complete, or when the reader leaves early. Then
            `metadata["finish_reason"]` is `"cancelled"`.
        on_error: `(error, metadata)`, if the stream fails. A stream ends with this or with `on_stream_end`.
        on_switch: `(event, metadata)`, when another target continues the answer; the event is a `StreamSwitched`.
        on_reasoning: `(text, metadata)`, for each piece of reasoning.
        on_tool_call: `(tool_call, metadata)`, for each complete tool call.
        on_tool_result: `(tool_result, metadata)`, for each result of a tool, or its error.
        on_reset: `(metadata)`, when the answer begins again: discard its chunks, reasoning and tool calls so far, or
            those since the last result of a tool. It happens only in a stream that is awaited, or that is read by its
            events with `on_break="restart"`.

    Raises:
        TypeError: A callback is not callable.
    """

    def __init__(
        self,
        on_stream_start: Callable[[StreamMetadata], Returned] | None = None,
        on_chunk_received: Callable[[str, ChunkMetadata], Returned] | None = None,
        on_stream_end: Callable[[StreamMetadata], Returned] | None = None,
        on_error: Callable[[Exception, StreamMetadata], Returned] | None = None,
        on_switch: Callable[[StreamSwitched, StreamMetadata], Returned] | None = None,
        on_reasoning: Callable[[str, StreamMetadata], Returned] | None = None,
        on_tool_call: Callable[[ToolCall, StreamMetadata], Returned] | None = None,
        *,
        on_tool_result: Callable[[ToolResult, StreamMetadata], Returned] | None = None,
        on_reset: Callable[[StreamMetadata], Returned] | None = None,
    ) -> None:
        self.on_stream_start = on_stream_start
        self.on_chunk_received = on_chunk_received
        self.on_stream_end = on_stream_end
        self.on_error = on_error
        self.on_switch = on_switch
        self.on_reasoning = on_reasoning
        self.on_tool_call = on_tool_call
        self.on_tool_result = on_tool_result
        self.on_reset = on_reset
        self.errors: int = 0
        for name, callback in vars(self).items():
            if name.startswith("on_") and callback is not None and not callable(callback):
                raise TypeError(f"{name} is a function or a coroutine function, got {type(callback).__name__}")


class CallbackObserver(Observer):
    """Calls the application's callbacks for each stream.

    With `only_unseen`, it watches a stream that a decorated body reads. Then it reports only switches, reasoning, tool
    calls and their results, which the body's own stream does not show.
    """

    needs_sequence = False

    def __init__(self, callbacks: StreamingCallbacks, *, only_unseen: bool = False) -> None:
        self._callbacks = callbacks
        self._only_unseen = only_unseen

    def begin(self, call: ObservedCall | None, account: Account) -> Watcher:
        caller = _Caller(self._callbacks, None if call is None else call.notify)
        return _Inner(caller) if self._only_unseen else caller


class _Caller:
    """Calls the callbacks of one stream. `on_stream_start` is called once, however many models begin to answer."""

    __slots__ = ("_callbacks", "_notify", "_started")

    def __init__(self, callbacks: StreamingCallbacks, notify: Notify | None) -> None:
        self._callbacks = callbacks
        self._notify = notify
        self._started = False

    def chunk(self, event: TextDelta, account: Account, /) -> Awaitable[None] | None:
        callbacks = self._callbacks
        if (callback := callbacks.on_chunk_received) is None:
            return None
        text = event.text
        try:  # the body of `_call`, written out, because this runs for every chunk
            pending = callback(text, account.chunk(text, event.index))
        except Exception as error:  # noqa: BLE001 - as in `_call`
            self._report(callback, error)
            return None
        return None if pending is None else self._finishing(callback, pending)

    def watch(self, event: Event, account: Account, /) -> Awaitable[None] | None:
        callbacks = self._callbacks
        match event:
            case StreamStarted():
                if self._started:
                    return None
                self._started = True
                return self._call(callbacks.on_stream_start, account.metadata())
            case StreamCompleted() | StreamCancelled():
                return self._call(callbacks.on_stream_end, account.metadata())
            case StreamFailed():
                return self._call(callbacks.on_error, account.error, account.metadata())
            case StreamSwitched():
                return self._call(callbacks.on_switch, event, account.metadata())
            case ReasoningDelta() if event.text:
                return self._call(callbacks.on_reasoning, event.text, account.metadata())
            case ToolCall():
                return self._call(callbacks.on_tool_call, event, account.metadata())
            case ToolResult():
                return self._call(callbacks.on_tool_result, event, account.metadata())
            case StreamReset():
                return self._call(callbacks.on_reset, account.metadata())
            case _:
                return None

    def _call(self, callback: Callable[..., Returned] | None, *args: Any) -> Awaitable[None] | None:
        """Call a callback. If it returned an awaitable, return a coroutine that finishes it."""
        if callback is None:
            return None
        try:
            pending = callback(*args)
        except Exception as error:  # noqa: BLE001 - an error in the application's code must not end the stream
            self._report(callback, error)
            return None
        return self._finishing(callback, pending)

    def _finishing(self, callback: Callable[..., Returned], pending: Returned) -> Awaitable[None] | None:
        return self._finish(callback, pending) if inspect.isawaitable(pending) else None

    async def _finish(self, callback: Callable[..., Returned], pending: Awaitable[object]) -> None:
        before = cancellations()
        try:
            await pending
        except asyncio.CancelledError as error:
            if was_cancelled(before):
                raise  # the reading task was cancelled
            self._report(callback, error)  # the callback awaited something that was cancelled
        except Exception as error:  # noqa: BLE001 - as above
            self._report(callback, error)

    def _report(self, callback: Callable[..., Returned], error: BaseException) -> None:
        self._callbacks.errors += 1
        from .._log import write  # loaded only now, because decorating a function must stay light
        from ..notices import CallbackFailed

        (self._notify or write)(CallbackFailed(getattr(callback, "__qualname__", repr(callback)), error))


class _Inner:
    """Calls the callbacks for a stream inside another one, as `CallbackObserver` says."""

    __slots__ = ("_caller",)
    chunk = None

    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    def watch(self, event: Event, account: Account, /) -> Awaitable[None] | None:
        is_unseen = isinstance(event, (StreamSwitched, ReasoningDelta, ToolCall, ToolResult))
        return self._caller.watch(event, account) if is_unseen else None
