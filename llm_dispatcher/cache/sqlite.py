"""Recordings in a SQLite file: they survive the process, and a kill of it at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from secrets import token_bytes
from typing import Final

from ..exceptions import CacheError
from .keys import SCHEMA
from .store import Kept, Row

logger: Final = logging.getLogger("llm_dispatcher")

_OURS: Final = 0x4C4C4D44
_PATIENCE: Final = 2.0
"""Seconds to wait for another process that is writing."""
_SECRETS: Final = "CREATE TABLE IF NOT EXISTS cache (secret BLOB NOT NULL)"
_ENTRIES: Final = """CREATE TABLE IF NOT EXISTS entries (
    key BLOB PRIMARY KEY, bucket BLOB NOT NULL, text TEXT NOT NULL, namespace TEXT NOT NULL, size INTEGER NOT NULL,
    expires REAL NOT NULL, recording BLOB NOT NULL
)"""
_INSERT: Final = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)"
_ROWS: Final = "SELECT key, bucket, text, namespace, size, expires FROM entries ORDER BY rowid"


class SQLiteStore:
    """A file in WAL mode, read and written by threads of its own: no event loop waits for a disk.

    A file that is damaged, or was written by a newer version, is set aside under another name, with a warning. One that
    is somebody else's database is left alone.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="llm-dispatcher-cache-writer")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="llm-dispatcher-cache-reader")
        self._write_to: sqlite3.Connection | None = None
        self._read_from: sqlite3.Connection | None = None
        self._unwritten: dict[bytes, bytes] = {}
        self._failed = False

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self.path)!r})"

    def open(self) -> Kept:
        return self._writer.submit(self._open).result()

    async def read(self, key: bytes) -> bytes | None:
        recording = self._unwritten.get(key)
        if recording is None:
            recording = await asyncio.wrap_future(self._reader.submit(self._read, key))
        return recording

    def add(self, row: Row, recording: bytes) -> None:
        self._unwritten[row.key] = recording
        values = (row.key, row.bucket, row.text, row.namespace, row.size, row.expires, recording)
        try:
            self._later(_INSERT, [values], written=row.key)
        except RuntimeError:
            del self._unwritten[row.key]
            raise CacheError(f"the cache in {self.path} is closed") from None

    def remove(self, keys: Iterable[bytes]) -> None:
        self._later("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])

    def flush(self) -> None:
        with contextlib.suppress(RuntimeError):  # closed already
            self._writer.submit(lambda: None).result()

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):  # closed already
            self._writer.submit(self._close).result()
        self._reader.shutdown()
        self._writer.shutdown()
        if self._read_from is not None:
            self._read_from.close()
            self._read_from = None

    # ── in its threads ─────────────────────────────────────────────────────────────────────────────────────────────

    def _later(self, statement: str, values: list[tuple[object, ...]], written: bytes | None = None) -> None:
        self._writer.submit(self._write, statement, values, written).add_done_callback(self._look)

    def _look(self, done: Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None and not self._failed:
            self._failed = True  # once is enough
            logger.warning("the cache in %s keeps nothing new: %s", self.path, error)

    def _write(self, statement: str, values: list[tuple[object, ...]], written: bytes | None) -> None:
        try:
            if self._write_to is None:
                raise CacheError("the cache's file is closed")
            with self._write_to as connection:
                connection.executemany(statement, values)
        finally:
            if written is not None:
                self._unwritten.pop(written, None)

    def _read(self, key: bytes) -> bytes | None:
        if self._read_from is None:
            self._read_from = sqlite3.connect(self.path, timeout=_PATIENCE, check_same_thread=False)
        found = self._read_from.execute("SELECT recording FROM entries WHERE key = ?", (key,)).fetchone()
        return None if found is None else bytes(found[0])

    def _open(self) -> Kept:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._opening()
        except sqlite3.OperationalError:
            raise  # a lock, a full disk or a missing permission is no damage
        except sqlite3.DatabaseError as error:
            self._close()
            self._set_aside(str(error))
            return self._opening()

    def _opening(self) -> Kept:
        self._write_to = connection = sqlite3.connect(self.path, timeout=_PATIENCE, check_same_thread=False)
        is_new = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not is_new and _pragma(connection, "application_id") != _OURS:
            raise CacheError(f"{self.path} is another program's database; give the cache a path of its own")
        version = _pragma(connection, "user_version")
        if not is_new and version != SCHEMA:
            raise sqlite3.DatabaseError(f"it is of version {version}, and this is {SCHEMA}")
        if _pragma(connection, "quick_check") != "ok":
            raise sqlite3.DatabaseError("it is damaged")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if is_new:
            _make(connection)
        with connection:
            connection.execute("DELETE FROM entries WHERE expires <= ?", (time.time(),))
        secret = connection.execute("SELECT secret FROM cache").fetchone()[0]
        return Kept(bytes(secret), tuple(Row(*row) for row in connection.execute(_ROWS)))

    def _set_aside(self, why: str) -> None:
        aside = self.path.with_name(f"{self.path.name}.aside-{time.time_ns()}")
        logger.warning("the cache in %s is set aside as %s: %s", self.path, aside.name, why)
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{ending}").rename(f"{aside}{ending}")

    def _close(self) -> None:
        if self._write_to is not None:
            self._write_to.close()
            self._write_to = None


def _make(connection: sqlite3.Connection) -> None:
    """All of it or nothing, so that no half-made file is ever found."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_SECRETS)
        connection.execute(_ENTRIES)
        connection.execute("INSERT INTO cache SELECT ? WHERE NOT EXISTS (SELECT * FROM cache)", (token_bytes(32),))
        connection.execute(f"PRAGMA application_id = {_OURS}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _pragma(connection: sqlite3.Connection, name: str) -> int | str:
    value: int | str = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
