"""Recordings in a SQLite file: they survive the process, and a kill of it at any moment.

A file is ours if its header says so: SQLite's first sixteen bytes, and our application id. Nothing here writes to,
renames or replaces a file that is not ours. Of ours, a damaged one is set aside under another name, and one with
another layout, which belongs to another version of this library, is left as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from secrets import token_bytes
from stat import S_ISREG
from typing import Final, Literal

from .._log import write
from ..events import Failure
from ..exceptions import CacheError
from ..notices import CacheFileSetAside, CacheNotWritten, Notify
from ._store import Kept, Row

LAYOUT: Final = 1
"""The tables of a file. What a key is made of has a number of its own: versions that differ in keys alone can share a
file, and are misses to each other.
"""

_OURS: Final = 0x4C4C4D44
_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = 100
"""Bytes of an SQLite file's header. The application id is in the four bytes from 68 on, highest first."""
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

    A file of ours that is damaged is set aside under another name, with a warning. A `CacheError`, when the store is
    made or opened, says that the file is not ours.
    """

    def __init__(self, path: str | os.PathLike[str], notify: Notify = write) -> None:
        self.path: Path = Path(path)
        self._notify = notify
        check_file(self.path)
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
            self._notify(CacheNotWritten(str(self.path), Failure.of(error)))

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
        check_file(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._opening()
        except sqlite3.OperationalError:
            self._close()
            raise  # a lock, a full disk or a missing permission is no damage
        except sqlite3.DatabaseError as error:
            self._close()
            if _application(self.path) != _OURS:
                raise CacheError(f"{self.path} cannot be read as a cache's file: {error}. {_FIX}") from error
            self._set_aside(str(error))
            return self._opening()
        except Exception:
            self._close()
            raise

    def _opening(self) -> Kept:
        self._write_to = connection = sqlite3.connect(self.path, timeout=_PATIENCE, check_same_thread=False)
        if _pragma(connection, "page_count") == 0:
            _make(connection)
        _check_owner(connection, self.path)
        if _pragma(connection, "user_version") != LAYOUT:
            raise _OtherLayoutError(_other_layout(connection, self.path))
        if _pragma(connection, "quick_check") != "ok":
            raise sqlite3.DatabaseError("it is damaged")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        with connection:
            connection.execute("DELETE FROM entries WHERE expires <= ?", (time.time(),))
        secret = connection.execute("SELECT secret FROM cache").fetchone()[0]
        return Kept(bytes(secret), tuple(Row(*row) for row in connection.execute(_ROWS)))

    def _set_aside(self, why: str) -> None:
        aside = self.path.with_name(f"{self.path.name}.aside-{time.time_ns()}")
        self._notify(CacheFileSetAside(str(self.path), aside.name, why))
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{ending}").rename(f"{aside}{ending}")

    def _close(self) -> None:
        if self._write_to is not None:
            self._write_to.close()
            self._write_to = None


# ── looking at a file from outside ─────────────────────────────────────────────────────────────────────────────────


def rows_of(path: Path) -> tuple[Row, ...]:
    """The entries of a cache's file, expired ones too. The file is opened for reading only."""
    with _existing(path, "ro") as connection:
        return tuple(Row(*row) for row in connection.execute(_ROWS))


def remove_from(path: Path, keys: Iterable[bytes]) -> None:
    """Remove entries from a cache's file, which other processes may have open."""
    with _existing(path, "rw") as connection, connection:
        connection.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])


@contextmanager
def _existing(path: Path, mode: Literal["ro", "rw"]) -> Generator[sqlite3.Connection, None, None]:
    """A connection to a cache's file, which is never made, set aside or taken over. A `CacheError` says why not."""
    check_file(path)
    # A reader of a file in WAL mode leaves two files beside it, unless it may take the file for unchanging. While no
    # write-ahead log is there, nobody has the file open.
    immutable = mode == "ro" and not _log(path).exists()
    address = f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE)) as connection:
            _check_owner(connection, path)
            if _pragma(connection, "user_version") != LAYOUT:
                raise CacheError(_other_layout(connection, path))
            yield connection
    except sqlite3.Error as error:
        raise CacheError(f"{path} cannot be used: {error}") from error


# ── whose file it is ───────────────────────────────────────────────────────────────────────────────────────────────

_FIX: Final = "It is left as it is; give the cache a path of its own."


class _OtherLayoutError(Exception):
    """The file is ours, and its tables are another version's."""


def check_file(path: Path) -> None:
    """Raise a `CacheError` if what is at this path was not made by a cache of ours. A path where nothing is passes, and
    so does an empty file. The file is only read, and only its header.
    """
    try:
        status = path.stat()
        if S_ISREG(status.st_mode) and not status.st_size:
            return
        owner = _application(path) if S_ISREG(status.st_mode) else None
    except OSError:
        return  # nothing is there, or it cannot be read: then opening it says why
    if owner is None:
        what = "a folder" if path.is_dir() else "not an SQLite database"
        raise CacheError(f"{path} is not a cache's file: it is {what}. {_FIX}")
    if owner != _OURS and not _log(path).exists():  # (the log, where there is one, may have a newer header)
        raise CacheError(f"{path} is another program's database. {_FIX}")


def _application(path: Path) -> int | None:
    """The application id in an SQLite file's header; `None` if this is not an SQLite file."""
    with path.open("rb") as file:
        header = file.read(_HEADER)
    return int.from_bytes(header[68:72], "big") if header.startswith(_MAGIC) else None


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "application_id") != _OURS:
        raise CacheError(f"{path} is another program's database. {_FIX}")


def _other_layout(connection: sqlite3.Connection, path: Path) -> str:
    return (
        f"{path} was made by another version of llm_dispatcher: its layout is number "
        f"{_pragma(connection, 'user_version')}, and this version has number {LAYOUT}. It is left as it is; give each "
        "version a file of its own."
    )


def _make(connection: sqlite3.Connection) -> None:
    """All of it or nothing, so that no half-made file is ever found.

    This comes before the WAL mode: so a file's header names its owner from the first byte on.
    """
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_SECRETS)
        connection.execute(_ENTRIES)
        connection.execute("INSERT INTO cache SELECT ? WHERE NOT EXISTS (SELECT * FROM cache)", (token_bytes(32),))
        connection.execute(f"PRAGMA application_id = {_OURS}")
        connection.execute(f"PRAGMA user_version = {LAYOUT}")


def _pragma(connection: sqlite3.Connection, name: str) -> int | str:
    value: int | str = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
