"""What was spent, by namespace and period, in memory or in an SQLite file that survives a restart."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias

from ..exceptions import ConfigurationError

logger: Final = logging.getLogger("llm_dispatcher")

Line: TypeAlias = tuple[str, str]
"""A namespace and a period: a day (`2026-11-21`) or a month (`2026-11`)."""

_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS spending (namespace TEXT, period TEXT, dollars REAL NOT NULL,"
    " PRIMARY KEY (namespace, period)) WITHOUT ROWID"
)
_ADD: Final = (
    "INSERT INTO spending VALUES (?, ?, ?)"
    " ON CONFLICT (namespace, period) DO UPDATE SET dollars = dollars + excluded.dollars"
)


class Spending:
    """Dollars by line. What is added counts at once; the file follows, in a thread of the loop's executor.

    Several processes may share a file: each sees what the others spent when it next writes.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._dollars: defaultdict[Line, float] = defaultdict(float)
        self._unwritten: defaultdict[Line, float] = defaultdict(float)
        self._is_read = path is None
        self._lock = Lock()
        self._file = Lock()

    @property
    def is_read(self) -> bool:
        """Whether what the file holds is known."""
        return self._is_read

    @property
    def is_unwritten(self) -> bool:
        """Whether something is not in the file yet, or is on its way there: `write` waits for that."""
        return bool(self._unwritten) or self._file.locked()

    def of(self, line: Line) -> float:
        return self._dollars[line]

    def add(self, lines: list[Line], dollars: float) -> None:
        """Count it now, and have it written."""
        with self._lock:
            for line in lines:
                self._dollars[line] += dollars
                if self._path is not None:
                    self._unwritten[line] += dollars
        if self._path is None:
            return
        try:
            asyncio.get_running_loop().run_in_executor(None, self.write)
        except RuntimeError:
            self.write()  # no loop, or one whose executor is closed: there is nothing to hold up

    def look(self) -> None:
        """Learn what was spent before, if there is a file that says so; none is made."""
        if not self._is_read and self._path is not None and self._path.exists():
            self.read()

    def read(self) -> None:
        """Learn what was spent before, from the file that is going to be written; it is made if there is none.

        Money is not guessed: a file that cannot be read is an error.
        """
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._file, closing(self._open()) as file:
                rows = file.execute("SELECT namespace, period, dollars FROM spending").fetchall()
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"cannot be used: {error}", file=str(self._path), key="budgets.path") from error
        self._take(rows)
        self._is_read = True

    def write(self) -> None:
        """Write what is not yet written."""
        with self._file:
            with self._lock:
                batch = dict(self._unwritten)
                self._unwritten.clear()
            if not batch:
                return
            try:
                with closing(self._open()) as file, file:
                    file.executemany(_ADD, [(*line, dollars) for line, dollars in batch.items()])
                    read = "SELECT namespace, period, dollars FROM spending WHERE namespace = ? AND period = ?"
                    rows = [row for line in batch for row in file.execute(read, line)]
            except sqlite3.Error as error:
                with self._lock:
                    for line, dollars in batch.items():
                        self._unwritten[line] += dollars
                logger.error("%s: spending is not written yet: %s", self._path, error)  # noqa: TRY400 - no traceback
                return
            self._take(rows)

    def _open(self) -> sqlite3.Connection:
        assert self._path is not None
        file = sqlite3.connect(self._path, timeout=10.0)
        file.execute("PRAGMA journal_mode = WAL")
        file.execute(_TABLE)
        return file

    def _take(self, rows: list[tuple[str, str, float]]) -> None:
        """The file knows what others spent; what is not in it yet is added to that."""
        with self._lock:
            for namespace, period, dollars in rows:
                line = (namespace, period)
                self._dollars[line] = dollars + self._unwritten.get(line, 0.0)
