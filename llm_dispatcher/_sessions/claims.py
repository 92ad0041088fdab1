"""`Claims`: who may change a session now.

Invariant: at most one holder has the session, a stream that is being read or a trim that is under way. Only the holder
changes the history; everything else is refused meanwhile. `_lock` is held while the holder changes, because streams may
be read in several threads and event loops.

A stream claims the session when it is read. If another one is being read, it is refused. If the other one is ending
(its reader left or was cancelled, or its turn is being stored), the claim waits for its end. If the loop of the other
one is gone, the claim ends its turn. A claim that is cancelled while it waits has changed nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from threading import Lock
from typing import Protocol

from ..exceptions import SessionBusyError


class Stream(Protocol):
    """A stream of a session, which may hold it; see `SessionOpening`."""

    @property
    def is_gone(self) -> bool: ...
    @property
    def is_left(self) -> bool: ...
    @property
    def is_ending(self) -> bool: ...
    @property
    def has_joined(self) -> bool: ...

    def interrupt(self) -> None: ...
    def abandon(self) -> None: ...
    async def wait_for_the_end(self) -> None: ...


class Claims:
    """The holder of one session."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._lock = Lock()
        self._holder: Stream | str | None = None

    async def claim(self, holder: Stream | str) -> None:
        """Make this stream, or this work of the session itself, the holder. A holder that is ending is waited for.

        Raises:
            SessionBusyError: Another stream is being read.
        """
        while (other := self._hold(holder)) is not None:
            what = holder if isinstance(holder, str) else "stream"
            if isinstance(other, str):
                raise self._busy(what, other)
            if other.is_gone:
                other.abandon()
            elif other.is_ending:
                await other.wait_for_the_end()
            else:
                raise self._busy(what, other)

    def release(self, stream: Stream) -> None:
        """This stream is over."""
        with self._lock:
            if self._holder is stream:
                self._holder = None

    @asynccontextmanager
    async def held(self, what: str) -> AsyncGenerator[None, None]:
        """Hold the session for work that takes time, called `what` in errors.

        Raises:
            SessionBusyError: A stream is being read.
        """
        self.take_in_left()
        await self.claim(what)
        try:
            yield
        finally:
            with self._lock:
                self._holder = None

    def check(self, what: str) -> None:
        """Refuse a change, called `what`, while a stream is being read."""
        self.take_in_left()
        holder = self._holder
        if holder is not None and (isinstance(holder, str) or not holder.has_joined):
            raise self._busy(what, holder)

    def take_in_left(self) -> None:
        """If the reader of the holder has left, its turn joins the history now, and not when its loop has closed it."""
        holder = self._holder
        if holder is not None and not isinstance(holder, str) and (holder.is_gone or holder.is_left):
            holder.interrupt()

    def _hold(self, holder: Stream | str) -> Stream | str | None:
        """Make this the holder, if there is none. Return the other holder if there is one."""
        with self._lock:
            if self._holder is None:
                self._holder = holder
                return None
            return self._holder

    def _busy(self, what: str, holder: Stream | str) -> SessionBusyError:
        other = f"its {holder} is at work" if isinstance(holder, str) else "another stream of it is being read"
        return SessionBusyError(
            f"the session {self._session!r} cannot {what} now, because {other}: read that to its end, or close it "
            "(`await stream.aclose()`); for two conversations at once, make a second Session(messages=session.messages)"
        )
