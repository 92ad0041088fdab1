"""A guard around an application's observer: an exception of the observer is logged, and the stream continues."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from .._cancellation import cancellations, was_cancelled
from .._log import write
from ..events import Event, TextDelta
from ..notices import Notice, ObserverFailed
from ._account import Account
from ._observe import ObservedCall, Observer, Watcher


class Guarded(Observer):
    """Calls another observer, and logs its exceptions."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def begin(self, call: ObservedCall | None, account: Account) -> Watcher | None:
        try:
            watcher = self._observer.begin(call, account)
            return None if watcher is None else _GuardedWatcher(watcher, self._observer)
        except Exception as error:  # noqa: BLE001 - the application's code must not end the stream
            _report(self._observer, error)
            return None

    def notice(self, notice: Notice) -> None:
        try:
            self._observer.notice(notice)
        except Exception as error:  # noqa: BLE001 - as above
            _report(self._observer, error)


class _GuardedWatcher:
    def __init__(self, watcher: Watcher, observer: Observer) -> None:
        self._watcher = watcher
        self._observer = observer
        self._on_chunk = watcher.chunk
        self.chunk = None if self._on_chunk is None else self._chunk

    def _chunk(self, event: TextDelta, account: Account, /) -> Awaitable[None] | None:
        assert self._on_chunk is not None
        try:
            pending = self._on_chunk(event, account)
        except Exception as error:  # noqa: BLE001 - as above
            _report(self._observer, error)
            return None
        return None if pending is None else self._finish(pending)

    def watch(self, event: Event, account: Account, /) -> Awaitable[None] | None:
        try:
            pending = self._watcher.watch(event, account)
        except Exception as error:  # noqa: BLE001 - as above
            _report(self._observer, error)
            return None
        return None if pending is None else self._finish(pending)

    async def _finish(self, pending: Awaitable[None]) -> None:
        before = cancellations()
        try:
            await pending
        except asyncio.CancelledError as error:
            if was_cancelled(before):
                raise  # the reader
            _report(self._observer, error)  # only something that the observer waited for
        except Exception as error:  # noqa: BLE001 - as above
            _report(self._observer, error)


def _report(observer: Observer, error: BaseException) -> None:
    """Write the error to the log only: an observer that always raises would be called again for its own error."""
    write(ObserverFailed(type(observer).__name__, error))
