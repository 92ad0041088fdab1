"""`SessionStore`: where sessions are kept; and `MemorySessions`, which keeps them in this process.

A stored session is a set of records under the id of the session, and a revision number. One record is the head, which
lists the turns of each branch; each turn is a record of its own, so a write has only the turns that are new or changed.
Each write is one step: it is stored whole, or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Mapping
from threading import Lock
from typing import Protocol, TypeVar

from .._cancellation import cancellations, was_cancelled
from ..events import Failure

T = TypeVar("T")


class SessionStore(Protocol):
    """Keeps sessions. A session calls the methods in the event loop of its reader, one at a time.

    Any exception of a method ends the stream with a `SessionStoreError`, whose `__cause__` it is.
    """

    async def read(self, session: str, /) -> tuple[int, Mapping[str, bytes]] | None:
        """The revision of a session and its records by name; `None` if there is no session with this id."""
        ...

    async def write(
        self, session: str, revision: int, records: Mapping[str, bytes], removed: Collection[str] = (), /
    ) -> bool:
        """Store the next revision of a session, all of it or nothing.

        Args:
            session: The id of the session.
            revision: The number of the new revision: 1 for a session that is not stored yet.
            records: The new and changed records.
            removed: The names of records that are no longer needed.

        Returns:
            Whether it was stored. It must not be, and nothing may change, if the revision before it is not the stored
            one: then another process has written.
        """
        ...

    async def delete(self, session: str, /) -> None:
        """Forget a session. Without a session of this id, nothing happens."""
        ...


class MemorySessions:
    """Sessions in the memory of this process, for tests and for services of one process.

    It may be used from any thread and any event loop.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._sessions: dict[str, tuple[int, dict[str, bytes]]] = {}

    async def read(self, session: str, /) -> tuple[int, Mapping[str, bytes]] | None:
        """The revision of a session and its records."""
        with self._lock:
            found = self._sessions.get(session)
            return None if found is None else (found[0], dict(found[1]))

    async def write(
        self, session: str, revision: int, records: Mapping[str, bytes], removed: Collection[str] = (), /
    ) -> bool:
        """Store the next revision of a session. False if another revision was stored in the meantime.

        Args:
            session: The id of the session.
            revision: The number of the new revision.
            records: The new and changed records.
            removed: The names of records that are no longer needed.
        """
        with self._lock:
            stored, before = self._sessions.get(session, (0, {}))
            if stored != revision - 1:
                return False
            kept = {name: record for name, record in before.items() if name not in removed}
            self._sessions[session] = (revision, {**kept, **records})
            return True

    async def delete(self, session: str, /) -> None:
        """Forget a session."""
        with self._lock:
            self._sessions.pop(session, None)

    async def ids(self) -> list[str]:
        """The ids of all sessions, in the order in which they were first stored."""
        with self._lock:
            return list(self._sessions)

    def __repr__(self) -> str:
        return f"MemorySessions({len(self._sessions)} sessions)"


def check_store(store: object) -> None:
    """Refuse what is no store, such as the path of one."""
    if store is not None and not all(callable(getattr(store, name, None)) for name in ("read", "write", "delete")):
        raise TypeError(
            f"store is a SessionStore, got {type(store).__name__}; write SQLiteSessions(path), or MemorySessions()"
        )


async def answered(answer: Awaitable[T]) -> T:
    """What a store answers. A store whose work was cancelled has failed: the session was not cancelled with it.

    Raises:
        ConnectionError: The work of the store was cancelled.
    """
    before = cancellations()
    try:
        return await answer
    except asyncio.CancelledError as error:
        if was_cancelled(before):
            raise
        raise ConnectionError("the work of the store was cancelled") from error


def in_words(error: Exception) -> str:
    """The error of a store in one line. A store may have put a password in its message, which is redacted."""
    failure = Failure.of(error)
    return f"{failure.kind}: {failure.message}"
