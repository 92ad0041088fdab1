"""`SQLiteSessions`: sessions in a SQLite file, which several processes may use.

Theory of operation
-------------------
- **Threads.** Each call runs in a thread, with a connection of its own that is closed at its end. So no event loop
  waits for the disk, and a store may be used from any thread, any event loop and after a fork.
- **Who may write.** A write is one transaction that takes SQLite's write lock first. It compares the revision and
  stores the records under that lock, so of two processes that write the same revision one is refused.
- **Cancellation.** A thread cannot be cancelled: a write that has begun is finished. If the process is killed, SQLite
  takes back a transaction that was not complete.
- **Ownership.** A file belongs to this library if it has our application id. Nothing here writes to another file, or to
  a file that another version has made.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Collection, Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from ..exceptions import SessionFormatError

LAYOUT: Final = 1
"""The version of the tables."""

_APPLICATION_ID: Final = 0x4C4C4D53
_LOCK_TIMEOUT: Final = 10.0
"""Seconds to wait for the lock of another process that is writing."""
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, revision INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS records (
    session TEXT NOT NULL, name TEXT NOT NULL, record BLOB NOT NULL, PRIMARY KEY (session, name)
)""",
)


class SQLiteSessions:
    """Sessions in a SQLite file in WAL mode. Several processes may use it at the same time.

    The file and its folder are made when they are first needed. A method raises `sqlite3.Error` if the file cannot be
    used, and `SessionFormatError` if another program, or another version of this library, has made it. A session turns
    them into a `SessionStoreError`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        self._is_ready = False

    async def read(self, session: str, /) -> tuple[int, Mapping[str, bytes]] | None:
        """The revision of a session and its records."""
        return await asyncio.to_thread(self._read, session)

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
        return await asyncio.to_thread(self._write, session, revision, records, removed)

    async def delete(self, session: str, /) -> None:
        """Forget a session."""
        await asyncio.to_thread(self._delete, session)

    async def ids(self) -> list[str]:
        """The ids of all sessions, in the order in which they were first stored."""
        return await asyncio.to_thread(self._ids)

    def __repr__(self) -> str:
        return f"SQLiteSessions({str(self.path)!r})"

    # ── in a thread ────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, session: str) -> tuple[int, Mapping[str, bytes]] | None:
        with self._connection() as connection:
            connection.execute("BEGIN")  # both answers are of one moment
            row = connection.execute("SELECT revision FROM sessions WHERE id = ?", (session,)).fetchone()
            rows = connection.execute("SELECT name, record FROM records WHERE session = ?", (session,)).fetchall()
            return None if row is None else (int(row[0]), {name: bytes(record) for name, record in rows})

    def _write(self, session: str, revision: int, records: Mapping[str, bytes], removed: Collection[str]) -> bool:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute("SELECT revision FROM sessions WHERE id = ?", (session,)).fetchone()
            if (0 if row is None else int(row[0])) != revision - 1:
                return False
            if row is None:
                connection.execute("INSERT INTO sessions VALUES (?, ?)", (session, revision))
            else:
                connection.execute("UPDATE sessions SET revision = ? WHERE id = ?", (revision, session))
            gone = [(session, name) for name in removed]
            connection.executemany("DELETE FROM records WHERE session = ? AND name = ?", gone)
            rows = [(session, name, record) for name, record in records.items()]
            connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")
            return True

    def _delete(self, session: str) -> None:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM sessions WHERE id = ?", (session,))
            connection.execute("DELETE FROM records WHERE session = ?", (session,))
            connection.execute("COMMIT")

    def _ids(self) -> list[str]:
        with self._connection() as connection:
            return [str(row[0]) for row in connection.execute("SELECT id FROM sessions ORDER BY rowid")]

    @contextmanager
    def _connection(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection to the file. A transaction that is open at the end is taken back."""
        if not self._is_ready:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=_LOCK_TIMEOUT, isolation_level=None)) as connection:
            if not self._is_ready or self._is_empty(connection):
                self._prepare(connection)
                self._is_ready = True
            yield connection

    @staticmethod
    def _is_empty(connection: sqlite3.Connection) -> bool:
        """Whether the file was removed since it was last used, and this connection has made a new one."""
        return _pragma(connection, "page_count") == 0

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Check whose file it is. An empty file gets the tables, in one transaction."""
        if self._is_empty(connection):
            connection.execute("BEGIN IMMEDIATE")
            for table in _TABLES:
                connection.execute(table)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {LAYOUT}")
            connection.execute("COMMIT")
        if _pragma(connection, "application_id") != _APPLICATION_ID:
            raise SessionFormatError(
                f"{self.path} is another program's database: give the sessions a file of their own"
            )
        if (layout := _pragma(connection, "user_version")) != LAYOUT:
            raise SessionFormatError(
                f"{self.path} was made by another version of llm_dispatcher: its layout is number {layout}, and this "
                f"version has number {LAYOUT}; give each version a file of its own"
            )
        connection.execute("PRAGMA journal_mode = WAL")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
