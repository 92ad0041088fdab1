"""Recordings in a SQLite file. They survive the process, even if it is killed at any moment.

Theory of operation
-------------------
- **Threads.** A `SQLiteStore` has two threads of its own, a writer and a reader, with one connection each. Only these
  threads touch the connections. No event loop waits for the disk.
- **Who may write.** Only the writer thread writes to the file, in the order of the calls. `_unwritten` holds the
  recordings that it has not written yet: `add` puts one in, the writer takes it out, and `read` looks there first.
- **Cancellation.** A cancelled `read` leaves the query to the reader thread. A write cannot be cancelled; `close` waits
  for all of them.
- **Ownership.** A file belongs to this library if its header has SQLite's magic bytes and our application id. Nothing
  here writes to, renames or replaces any other file. Of our own files, a damaged one is renamed, and one with another
  layout belongs to another version of this library and is left unchanged. See docs/decisions/0024.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import Final, Literal

from .. import _clock
from .._log import write
from ..events import Failure
from ..exceptions import CacheError
from ..notices import CacheFileSetAside, CacheNotWritten, Notify
from ._store import Entry, Snapshot

LAYOUT: Final = 1
"""The version of the tables. Keys have a version of their own: library versions that differ only in their keys can
share a file, and never find each other's entries.
"""

_APPLICATION_ID: Final = 0x4C4C4D44
_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = 100
"""The length of a SQLite file's header. The application id is in bytes 68 to 71, big-endian."""
_LOCK_TIMEOUT: Final = 2.0
"""Seconds to wait for the lock of another process that is writing."""
_SECRETS: Final = "CREATE TABLE IF NOT EXISTS cache (secret BLOB NOT NULL)"
_ENTRIES: Final = """CREATE TABLE IF NOT EXISTS entries (
    key BLOB PRIMARY KEY, bucket BLOB NOT NULL, text TEXT NOT NULL, namespace TEXT NOT NULL, size INTEGER NOT NULL,
    expires REAL NOT NULL, recording BLOB NOT NULL
)"""
_INSERT: Final = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)"
_ROWS: Final = "SELECT key, bucket, text, namespace, size, expires FROM entries ORDER BY rowid"


class SQLiteStore:
    """A store in a SQLite file in WAL mode, which several processes may use at the same time.

    A damaged file is renamed, with a warning, and a new one is made. Making or opening a store raises a `CacheError` if
    `path` names a file that no cache made. All methods may be called from any thread; `read` needs an event loop.
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

    def open(self) -> Snapshot:
        """Open the file and return its entries. May block."""
        return self._writer.submit(self._open).result()

    async def read(self, key: bytes) -> bytes | None:
        """The recording, or `None` if the file no longer has it. It is read in a thread."""
        recording = self._unwritten.get(key)
        if recording is None:
            recording = await asyncio.wrap_future(self._reader.submit(self._read, key))
        return recording

    def add(self, entry: Entry, recording: bytes) -> None:
        """Store a recording. It is written in a thread.

        Raises:
            CacheError: The store is closed.
        """
        self._unwritten[entry.key] = recording
        values = (entry.key, entry.bucket, entry.text, entry.namespace, entry.size, entry.expires, recording)
        try:
            self._write_later(_INSERT, [values], key=entry.key)
        except RuntimeError:
            del self._unwritten[entry.key]
            raise CacheError(f"the cache in {self.path} is closed") from None

    def remove(self, keys: Iterable[bytes]) -> None:
        """Delete recordings. They are deleted in a thread."""
        self._write_later("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])

    def flush(self) -> None:
        """Wait until every earlier `add` and `remove` is written. It blocks the calling thread."""
        with contextlib.suppress(RuntimeError):  # it is closed already
            self._writer.submit(lambda: None).result()

    def close(self) -> None:
        """Write what is left and close the file. It blocks the calling thread."""
        with contextlib.suppress(RuntimeError):  # it is closed already
            self._writer.submit(self._close).result()
        self._reader.shutdown()
        self._writer.shutdown()
        if self._read_from is not None:
            self._read_from.close()
            self._read_from = None

    # ── in the threads ─────────────────────────────────────────────────────────────────────────────────────────────

    def _write_later(self, statement: str, values: list[tuple[object, ...]], key: bytes | None = None) -> None:
        """Let the writer thread run a statement. `key` names the recording that is written by then."""
        self._writer.submit(self._write, statement, values, key).add_done_callback(self._report_failure)

    def _report_failure(self, done: Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None and not self._failed:
            self._failed = True  # one warning is enough
            self._notify(CacheNotWritten(str(self.path), Failure.of(error)))

    def _write(self, statement: str, values: list[tuple[object, ...]], key: bytes | None) -> None:
        try:
            if self._write_to is None:
                raise CacheError("the cache's file is closed")
            with self._write_to as connection:
                connection.executemany(statement, values)
        finally:
            if key is not None:
                self._unwritten.pop(key, None)

    def _read(self, key: bytes) -> bytes | None:
        if self._read_from is None:
            self._read_from = sqlite3.connect(self.path, timeout=_LOCK_TIMEOUT, check_same_thread=False)
        row = self._read_from.execute("SELECT recording FROM entries WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def _open(self) -> Snapshot:
        check_file(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._load()
        except sqlite3.OperationalError:
            self._close()
            raise  # a lock, a full disk or a missing permission does not damage the file
        except sqlite3.DatabaseError as error:
            self._close()
            if _application(self.path) != _APPLICATION_ID:
                raise CacheError(f"{self.path} cannot be read as a file of a cache: {error}. {_FIX}") from error
            self._set_aside(str(error))
            return self._load()
        except Exception:
            self._close()
            raise

    def _load(self) -> Snapshot:
        self._write_to = connection = sqlite3.connect(self.path, timeout=_LOCK_TIMEOUT, check_same_thread=False)
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
            connection.execute("DELETE FROM entries WHERE expires <= ?", (_clock.wall(),))
        secret = connection.execute("SELECT secret FROM cache").fetchone()[0]
        return Snapshot(bytes(secret), _entries(connection))

    def _set_aside(self, why: str) -> None:
        aside = self.path.with_name(f"{self.path.name}.aside-{int(_clock.wall() * 1e9)}")
        self._notify(CacheFileSetAside(str(self.path), aside.name, why))
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{ending}").rename(f"{aside}{ending}")

    def _close(self) -> None:
        if self._write_to is not None:
            self._write_to.close()
            self._write_to = None


def _entries(connection: sqlite3.Connection) -> tuple[Entry, ...]:
    return tuple(Entry(*row) for row in connection.execute(_ROWS))


# ── a file from outside, for the command line ──────────────────────────────────────────────────────────────────────


def entries_of(path: Path) -> tuple[Entry, ...]:
    """The entries of a cache's file, including expired ones. The file is opened for reading only."""
    with _existing(path, "ro") as connection:
        return _entries(connection)


def remove_from(path: Path, keys: Iterable[bytes]) -> None:
    """Remove entries from a cache's file, which other processes may have open."""
    with _existing(path, "rw") as connection, connection:
        connection.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])


@contextmanager
def _existing(path: Path, mode: Literal["ro", "rw"]) -> Generator[sqlite3.Connection, None, None]:
    """A connection to a cache's file. The file is never created, renamed or changed in its layout.

    Raises a `CacheError` if the file was not made by a cache, or by another version, or cannot be used.
    """
    check_file(path)
    # Reading a file in WAL mode leaves two files beside it, unless it is opened as immutable. Without a write-ahead
    # log, no process has the file open, so it is immutable.
    immutable = mode == "ro" and not _log(path).exists()
    address = f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=_LOCK_TIMEOUT)) as connection:
            _check_owner(connection, path)
            if _pragma(connection, "user_version") != LAYOUT:
                raise CacheError(_other_layout(connection, path))
            yield connection
    except sqlite3.Error as error:
        raise CacheError(f"{path} cannot be used: {error}") from error


# ── who owns a file ────────────────────────────────────────────────────────────────────────────────────────────────

_FIX: Final = "The file is left unchanged; give the cache a path of its own."


class _OtherLayoutError(Exception):
    """A file of this library, with the tables of another version."""


def check_file(path: Path) -> None:
    """Raise a `CacheError` if a file or folder is at this path that no cache made.

    A path without a file passes, and so does an empty file. Only the header of the file is read.
    """
    try:
        status = path.stat()
        if S_ISREG(status.st_mode) and not status.st_size:
            return
        owner = _application(path) if S_ISREG(status.st_mode) else None
    except OSError:
        return  # there is no file, or it cannot be read: then opening it raises the reason
    if owner is None:
        what = "a folder" if path.is_dir() else "not a SQLite database"
        raise CacheError(f"{path} is not a file of a cache: it is {what}. {_FIX}")
    if owner != _APPLICATION_ID and not _log(path).exists():  # the log may hold a newer header
        raise CacheError(f"{path} is another program's database. {_FIX}")


def _application(path: Path) -> int | None:
    """The application id in the header; `None` if this is not a SQLite file."""
    with path.open("rb") as file:
        header = file.read(_HEADER)
    return int.from_bytes(header[68:72], "big") if header.startswith(_MAGIC) else None


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "application_id") != _APPLICATION_ID:
        raise CacheError(f"{path} is another program's database. {_FIX}")


def _other_layout(connection: sqlite3.Connection, path: Path) -> str:
    return (
        f"{path} was made by another version of llm_dispatcher: its layout is number "
        f"{_pragma(connection, 'user_version')}, and this version has number {LAYOUT}. The file is left unchanged; "
        "give each version a file of its own."
    )


def _make(connection: sqlite3.Connection) -> None:
    """Create the tables in one transaction, so that no process finds half of them.

    This comes before the WAL mode, so that the file's header has the application id from the first write on.
    """
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_SECRETS)
        connection.execute(_ENTRIES)
        secret = _clock.token_bytes(32)
        connection.execute("INSERT INTO cache SELECT ? WHERE NOT EXISTS (SELECT * FROM cache)", (secret,))
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {LAYOUT}")


def _pragma(connection: sqlite3.Connection, name: str) -> int | str:
    value: int | str = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
