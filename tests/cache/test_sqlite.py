"""The SQLite store: recordings survive the process, however it ended."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_dispatcher.cache import SQLiteStore, StreamingCache
from llm_dispatcher.cache._sqlite import entries_of
from llm_dispatcher.exceptions import CacheError
from llm_dispatcher.tasks import TaskRequest
from tests.cache.conftest import PROMPT, Clock, Upstream, answer, served, was_cached

WHOLE = answer("Many", " reasons.")

WRITER = """
import itertools, sys
from llm_dispatcher.cache import Entry, SQLiteStore
store = SQLiteStore(sys.argv[1])
store.open()
for number in itertools.count(int(sys.argv[2])):
    store.add(Entry(b"%d" % number, b"bucket", "text", "", 10, 1e12), b"recording" * 50)
    store.flush()
    print(number, flush=True)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "cache.sqlite"


async def test_another_process_is_served_the_recordings_of_this_one(file: Path) -> None:
    first, upstream = StreamingCache(store=file), Upstream(WHOLE)
    assert await served(first, PROMPT, upstream) == WHOLE
    first.close()
    first.close()
    second = StreamingCache(store=str(file))
    assert was_cached(await served(second, PROMPT, upstream))
    assert was_cached(await served(second, PROMPT.lower(), upstream))
    assert not was_cached(await served(second, TaskRequest(PROMPT, seed=1), upstream))
    assert second.stats().entries == 2
    second.close()


async def test_a_recording_is_served_before_it_is_written(file: Path) -> None:
    cache, upstream = StreamingCache(store=file), Upstream(WHOLE)
    for number in range(20):
        await served(cache, f"Is tea number {number} good?", upstream)
        assert was_cached(await served(cache, f"Is tea number {number} good?", upstream))
    cache.close()


async def test_removed_and_expired_entries_do_not_come_back(file: Path, clock: Clock) -> None:
    clock.now = 4e9
    cache, upstream = StreamingCache(store=file, clock=clock, max_cache_size=2), Upstream(WHOLE)
    for prompt in ("Is tea good?", "Is milk good?", "Is beer good?"):
        await served(cache, prompt, upstream)
    cache.close()
    again = StreamingCache(store=file, clock=clock)
    assert not was_cached(await served(again, "Is tea good?", upstream))
    assert was_cached(await served(again, "Is milk good?", upstream))
    again.clear()
    again.close()
    last = StreamingCache(store=file)
    assert not was_cached(await served(last, "Is milk good?", upstream))
    last.close()


def test_killing_the_process_loses_no_flushed_entry(file: Path) -> None:
    count = 0
    for round_ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file), str(count)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        assert writer.stdout is not None
        for line in writer.stdout:
            count = int(line) + 1
            if count % 25 == 10 + round_:
                os.kill(writer.pid, signal.SIGKILL)
                break
        writer.stdout.close()
        writer.wait()
        store = SQLiteStore(file)
        keys = {entry.key for entry in store.open().entries}
        store.close()
        assert keys >= {b"%d" % number for number in range(count)}
    assert sorted(each.name for each in file.parent.iterdir() if "aside" in each.name) == []


def _made(file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    store = SQLiteStore(file)
    store.open()
    store.close()


def _files(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


@pytest.mark.parametrize("keeps", [100, 3000, 5000])
async def test_a_damaged_file_is_renamed(keeps: int, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    _made(file)
    file.write_bytes(file.read_bytes()[:keeps] + os.urandom(4096))
    before = file.read_bytes()
    cache, upstream = StreamingCache(store=file), Upstream(WHOLE)
    await served(cache, PROMPT, upstream)
    assert was_cached(await served(cache, PROMPT, upstream))
    cache.close()
    (aside,) = (each for each in file.parent.iterdir() if ".aside-" in each.name)
    assert aside.read_bytes() == before
    assert "was renamed to" in caplog.text
    again = StreamingCache(store=file)
    assert was_cached(await served(again, PROMPT, upstream))
    again.close()


async def test_an_empty_file_becomes_a_cache(file: Path) -> None:
    """A user may have made it with `touch` or as a temporary file."""
    file.parent.mkdir()
    file.touch()
    cache, upstream = StreamingCache(store=file), Upstream(WHOLE)
    await served(cache, PROMPT, upstream)
    cache.close()
    again = StreamingCache(store=file)
    assert was_cached(await served(again, PROMPT, upstream))
    again.close()


def _database(file: Path, *statements: str) -> None:
    with sqlite3.connect(file) as connection:
        for statement in ("CREATE TABLE customers (name)", *statements):
            connection.execute(statement)
    connection.close()


OTHER_FILES: dict[str, Callable[[Path], object]] = {
    "a text": lambda file: file.write_text("a shopping list"),
    "one byte": lambda file: file.write_bytes(b"S"),
    "zeros": lambda file: file.write_bytes(bytes(4096)),
    "the beginning of a header": lambda file: file.write_bytes(b"SQLite format 3\0"),
    "a header and noise": lambda file: file.write_bytes(b"SQLite format 3\0" + bytes(52) + b"\1\2\3\4" + bytes(4000)),
    "a database": _database,
    "a database with an application id": lambda file: _database(file, "PRAGMA application_id = 7"),
    "a database in WAL mode": lambda file: _database(file, "PRAGMA journal_mode = WAL"),
    "a folder": lambda file: file.mkdir(),
    "a pipe": os.mkfifo,
}


@pytest.mark.found("N-A2")
@pytest.mark.parametrize("kind", OTHER_FILES)
def test_a_file_that_no_cache_made_is_refused_and_unchanged(kind: str, file: Path) -> None:
    file.parent.mkdir()
    OTHER_FILES[kind](file)
    before = _files(file.parent) if file.is_file() else None
    with pytest.raises(CacheError, match=r"cache\.sqlite is .+; give the cache a path of its own"):
        StreamingCache(store=file)
    assert before is None or _files(file.parent) == before


@pytest.mark.found("N-A2")
async def test_a_file_that_was_replaced_is_refused_before_a_request_is_sent(file: Path) -> None:
    cache, upstream = StreamingCache(store=file), Upstream(WHOLE)
    file.parent.mkdir()
    file.write_text("precious")
    for _ in range(2):
        with pytest.raises(CacheError, match="is not a file of a cache"):
            await served(cache, PROMPT, upstream)
    with pytest.raises(CacheError, match="is not a file of a cache"):
        cache.clear()
    assert (upstream.opened, _files(file.parent)) == (0, {file.name: b"precious"})
    cache.close()


@pytest.mark.found("N-A2")
async def test_another_programs_open_database_is_refused_and_unchanged(file: Path) -> None:
    """The application id may still be in the log, because the log is not merged into the file yet."""
    file.parent.mkdir()
    open_elsewhere = sqlite3.connect(file)
    open_elsewhere.execute("PRAGMA journal_mode = WAL")
    open_elsewhere.execute("CREATE TABLE customers (name)")
    open_elsewhere.execute("INSERT INTO customers VALUES ('Ann')")
    open_elsewhere.commit()
    cache = StreamingCache(store=file)
    with pytest.raises(CacheError, match="is another program's database"):
        await served(cache, PROMPT, Upstream(WHOLE))
    cache.close()
    assert open_elsewhere.execute("SELECT * FROM customers").fetchall() == [("Ann",)]
    assert [row[0] for row in open_elsewhere.execute("SELECT name FROM sqlite_master")] == ["customers"]
    open_elsewhere.close()


@pytest.mark.found("N-A2")
async def test_a_damaged_database_of_another_program_is_refused_and_unchanged(file: Path) -> None:
    """There is a log beside it, so only opening it shows its owner, and it cannot be opened."""
    file.parent.mkdir()
    file.write_bytes(b"SQLite format 3\0" + bytes(4000))
    file.with_name(f"{file.name}-wal").write_bytes(b"noise" * 20)
    before = file.read_bytes()
    cache = StreamingCache(store=file)
    with pytest.raises(CacheError, match="give the cache a path of its own"):
        await served(cache, PROMPT, Upstream(WHOLE))
    assert file.read_bytes() == before and not list(file.parent.glob("*.aside-*"))
    cache.close()


@pytest.mark.found("N-A2", "N-C17")
@pytest.mark.parametrize("layout", [0, 99])
async def test_a_file_of_another_version_is_unchanged(
    layout: int, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two versions that share a file both keep working. One of them keeps its answers in memory."""
    _made(file)
    _database(file, f"PRAGMA user_version = {layout}")
    before = _files(file.parent)
    cache, upstream = StreamingCache(store=file), Upstream(WHOLE)
    await served(cache, PROMPT, upstream)
    assert was_cached(await served(cache, PROMPT, upstream))
    cache.close()
    assert _files(file.parent) == before
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "keeps its answers in memory" in warning and "made by another version of llm_dispatcher" in warning


async def test_versions_that_differ_only_in_their_keys_share_a_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Upstream(WHOLE)
    for key_version, cached in ((1, False), (2, False), (1, True), (2, True)):
        monkeypatch.setattr("llm_dispatcher.cache._request_key.KEY_VERSION", key_version)
        cache = StreamingCache(store=file)
        assert was_cached(await served(cache, PROMPT, upstream)) is cached
        cache.close()


async def test_opening_a_file_deletes_its_expired_entries(file: Path, clock: Clock) -> None:
    clock.now = 1000.0  # in 1970, so that the entry has expired for the file, which uses the real time
    cache = StreamingCache(store=file, clock=clock, ttl=60)
    await served(cache, PROMPT, Upstream(WHOLE))
    cache.close()
    assert len(entries_of(file)) == 1
    _made(file)
    assert entries_of(file) == ()


async def test_a_file_that_fails_costs_misses(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, upstream = StreamingCache(store=file), Upstream(WHOLE)
    await served(cache, PROMPT, upstream)
    cache.close()
    for _ in range(2):
        assert await served(cache, PROMPT, upstream) == WHOLE
    assert cache.stats().misses["failed"] == 2
