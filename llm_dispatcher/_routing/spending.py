"""Spending by namespace and period, in memory or in an SQLite file that survives a restart.

Another process may hold the file's lock for a long time. So only the one thread of a `Spending` waits for the file, and
at most one write is due at a time: an answer adds to the amounts that wait, not to a queue. No event loop and no other
thread pool waits. An amount that could not be written stays among the unwritten ones and goes with the next write, at
the latest with `flush`.

`_lock` guards the amounts and is held for moments. `_file` is held while the file is read or written. Several processes
may share a file: each sees what the others have spent when it next writes.

A fork waits until no thread holds either lock. Otherwise the child would have a lock that none of its threads releases,
and an SQLite connection in the middle of a write, which makes it write without the file's lock.
"""

from __future__ import annotations

import _thread
import asyncio
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias
from weakref import WeakSet

from .._log import write
from ..events import Failure
from ..exceptions import ConfigurationError
from ..notices import Notify, SpendingNotWritten

Line: TypeAlias = tuple[str, str]
"""A namespace and a period, which is a day (`2026-11-21`) or a month (`2026-11`)."""

PATIENCE: Final = 10.0
"""Seconds for which one write waits until another process releases the lock of the file."""
FORK_PATIENCE: Final = 1.0
"""Seconds that a fork waits for a write to end. One that takes longer waits for another process, and holds no lock."""
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS spending (namespace TEXT, period TEXT, dollars REAL NOT NULL,"
    " PRIMARY KEY (namespace, period)) WITHOUT ROWID"
)
_ADD: Final = (
    "INSERT INTO spending VALUES (?, ?, ?)"
    " ON CONFLICT (namespace, period) DO UPDATE SET dollars = dollars + excluded.dollars"
)


class Spending:
    """Dollars by line. An added amount counts at once; the thread of this object writes it to the file later."""

    def __init__(self, path: Path | None = None, notify: Notify = write) -> None:
        self._path = path
        self._notify = notify
        self._dollars: defaultdict[Line, float] = defaultdict(float)
        self._unwritten: defaultdict[Line, float] = defaultdict(float)
        self._is_read = path is None
        self._begin()
        with _every_lock:
            _every.add(self)

    def _begin(self) -> None:
        """Create what belongs to one process: the thread, the locks, and the work of the thread."""
        self._process = os.getpid()
        self._lock = Lock()
        self._file = Lock()
        self._is_file_paused = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="llm-dispatcher-spending")
        self._is_write_due = False
        self._writing: Future[None] | None = None
        self._reading: Future[None] | None = None

    @property
    def is_read(self) -> bool:
        """Whether the file was read, or there is none."""
        return self._is_read

    @property
    def is_known(self) -> bool:
        """Whether `look` would read nothing: the file was read, or does not exist yet."""
        return self._is_read or self._path is None or not self._path.exists()

    @property
    def is_unwritten(self) -> bool:
        """Whether an amount is not in the file yet, or is being written."""
        return bool(self._unwritten) or self._file.locked()

    def of(self, line: Line) -> float:
        """The dollars of a line."""
        return self._dollars[line]

    def add(self, lines: list[Line], dollars: float) -> None:
        """Count an amount now, and write it soon. Without a running loop, this writes it before it returns."""
        with self._lock:
            self._forget_the_parent()
            for line in lines:
                self._dollars[line] += dollars
                if self._path is not None:
                    self._unwritten[line] += dollars
            if self._path is None or self._is_write_due:
                return
            try:
                asyncio.get_running_loop()
                self._writing, self._is_write_due = self._thread.submit(self.write), True
                return
            except RuntimeError:  # no loop is running, or the process is ending and its threads take no more work
                pass
        self.write()

    async def ready(self) -> None:
        """Read the file, if it was not read yet. All callers that come in the meantime wait for the same reading."""
        if self._is_read:
            return
        with self._lock:
            self._forget_the_parent()
            if self._reading is None or self._reading.done():
                self._reading = self._thread.submit(self.read)
            reading = self._reading
        await _outcome(reading)

    async def flush(self) -> None:
        """Write what is not yet written. This waits for two writes at most: the one that is running and the next."""
        with self._lock:
            self._forget_the_parent()
            if not self.is_unwritten:
                return
            if not self._is_write_due or self._writing is None:
                self._writing, self._is_write_due = self._thread.submit(self.write), True
            writing = self._writing
        await _outcome(writing)

    def _forget_the_parent(self) -> None:
        """After a fork, the thread has stayed with the parent, which also writes what it has spent."""
        if self._process != os.getpid():
            self.forget_the_parent()

    # ── forks ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def pause(self) -> None:
        """Before a fork: wait until no other thread is in the middle of something."""
        self._is_file_paused = self._file.acquire(timeout=FORK_PATIENCE)
        self._lock.acquire()

    def resume(self) -> None:
        """After a fork, in the parent."""
        self._lock.release()
        if self._is_file_paused:
            self._file.release()

    def forget_the_parent(self) -> None:
        """After a fork, in the child."""
        self._unwritten.clear()
        self._begin()

    # ── the file ───────────────────────────────────────────────────────────────────────────────────────────────────

    def look(self) -> None:
        """Read the file if there is one and it was not read yet. This does not create a file."""
        if not self.is_known:
            self.read()

    def read(self) -> None:
        """Read the file, and create it if there is none.

        Raises:
            ConfigurationError: The file cannot be read or created. Money is never guessed.
        """
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._file, closing(self._open()) as file:
                rows = file.execute("SELECT namespace, period, dollars FROM spending").fetchall()
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"cannot be used: {error}", file=str(self._path), key="budgets.path") from error
        self._take_over(rows)
        self._is_read = True

    def write(self) -> None:
        """Write what is not yet written. A failure becomes a notice, which is sent when no lock is held."""
        error = self._write()
        if error is not None:
            self._notify(SpendingNotWritten(str(self._path), Failure.of(error)))

    def _write(self) -> Exception | None:
        with self._file:
            with self._lock:
                self._is_write_due = False  # what is added from now on is not in this batch
                batch = dict(self._unwritten)
                self._unwritten.clear()
            if not batch:
                return None
            try:
                with closing(self._open()) as file, file:
                    file.executemany(_ADD, [(*line, dollars) for line, dollars in batch.items()])
                    read = "SELECT namespace, period, dollars FROM spending WHERE namespace = ? AND period = ?"
                    rows = [row for line in batch for row in file.execute(read, line)]
            except Exception as error:  # noqa: BLE001 - whatever it is, no amount is lost
                with self._lock:
                    for line, dollars in batch.items():
                        self._unwritten[line] += dollars
                return error
            self._take_over(rows)
            return None

    def _open(self) -> sqlite3.Connection:
        assert self._path is not None
        file = sqlite3.connect(self._path, timeout=PATIENCE)
        file.execute("PRAGMA journal_mode = WAL")
        file.execute(_TABLE)
        return file

    def _take_over(self, rows: list[tuple[str, str, float]]) -> None:
        """Take over the dollars of the file, which has what others have spent, and add what is not in it yet."""
        with self._lock:
            for namespace, period, dollars in rows:
                line = (namespace, period)
                self._dollars[line] = dollars + self._unwritten.get(line, 0.0)


async def _outcome(future: Future[None]) -> None:
    """Wait for work in a thread. Unlike with `asyncio.wrap_future`, a cancelled caller does not cancel the work, which
    others may wait for as well, and nothing is sent to a loop that has been closed in the meantime.
    """
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake() -> None:
        if not done.done():
            done.set_result(None)

    def wake_from_thread(_: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(wake)

    future.add_done_callback(wake_from_thread)
    await done
    future.result()


_every: Final[WeakSet[Spending]] = WeakSet()
_every_lock: Final = _thread.RLock()  # the thread that forks holds it, and releases it in the child as well
_paused: Final[list[Spending]] = []


def _pause_all() -> None:
    _every_lock.acquire()
    _paused.extend(_every)
    for spending in _paused:
        spending.pause()


def _resume_all() -> None:
    _after_fork(Spending.resume)


def _forget_the_parent() -> None:
    _after_fork(Spending.forget_the_parent)


def _after_fork(what: Callable[[Spending], None]) -> None:
    for spending in _paused:
        what(spending)
    _paused.clear()
    _every_lock.release()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_pause_all, after_in_parent=_resume_all, after_in_child=_forget_the_parent)
