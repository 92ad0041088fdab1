"""The SQLite store: what was recorded survives the process, however it ended."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from llm_dispatcher.cache import SQLiteStore, StreamingCache
from llm_dispatcher.tasks import TaskRequest
from tests.cache.conftest import PROMPT, Clock, Upstream, answer, served, was_cached

WHOLE = answer("Many", " reasons.")

WRITER = """
import itertools, sys
from llm_dispatcher.cache import Row, SQLiteStore
store = SQLiteStore(sys.argv[1])
store.open()
for number in itertools.count(int(sys.argv[2])):
    store.add(Row(b"%d" % number, b"bucket", "text", "", 10, 1e12), b"recording" * 50)
    store.flush()
    print(number, flush=True)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "cache.sqlite"


async def test_another_process_is_served_what_this_one_recorded(file: Path) -> None:
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


async def test_what_was_just_recorded_is_served_before_it_is_written(file: Path) -> None:
    cache, upstream = StreamingCache(store=file), Upstream(WHOLE)
    for number in range(20):
        await served(cache, f"Is tea number {number} good?", upstream)
        assert was_cached(await served(cache, f"Is tea number {number} good?", upstream))
    cache.close()


async def test_what_is_forgotten_or_too_old_is_not_there_again(file: Path, clock: Clock) -> None:
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


def test_a_kill_at_any_moment_loses_no_older_entry(file: Path) -> None:
    said = 0
    for round_ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file), str(said)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        assert writer.stdout is not None
        for line in writer.stdout:
            said = int(line) + 1
            if said % 25 == 10 + round_:
                os.kill(writer.pid, signal.SIGKILL)
                break
        writer.stdout.close()
        writer.wait()
        store = SQLiteStore(file)
        keys = {row.key for row in store.open().rows}
        store.close()
        assert keys >= {b"%d" % number for number in range(said)}
    assert sorted(each.name for each in file.parent.iterdir() if "aside" in each.name) == []


def _damaged(file: Path) -> None:
    file.write_bytes(b"SQLite format 3\0" + os.urandom(4096))


def _no_database(file: Path) -> None:
    file.write_text("a shopping list")


def _newer(file: Path) -> None:
    store = SQLiteStore(file)
    store.open()
    store.close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize("made", [_damaged, _no_database, _newer])
async def test_a_file_that_cannot_be_used_is_set_aside(
    made: object, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir()
    assert callable(made)
    made(file)
    before = file.read_bytes()
    cache, upstream = StreamingCache(store=file), Upstream(WHOLE)
    await served(cache, PROMPT, upstream)
    assert was_cached(await served(cache, PROMPT, upstream))
    cache.close()
    (aside,) = (each for each in file.parent.iterdir() if ".aside-" in each.name)
    assert aside.read_bytes() == before
    assert "is set aside as" in caplog.text
    again = StreamingCache(store=file)
    assert was_cached(await served(again, PROMPT, upstream))
    again.close()


async def test_another_programs_database_is_left_alone(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.parent.mkdir()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE customers (name)")
    connection.close()
    before = file.read_bytes()
    cache, upstream = StreamingCache(store=file), Upstream(WHOLE)
    await served(cache, PROMPT, upstream)
    assert was_cached(await served(cache, PROMPT, upstream))
    cache.close()
    assert (file.read_bytes(), [each.name for each in file.parent.iterdir()]) == (before, [file.name])
    assert "is another program's database; give the cache a path of its own" in caplog.text


async def test_a_file_that_stops_working_costs_misses(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, upstream = StreamingCache(store=file), Upstream(WHOLE)
    await served(cache, PROMPT, upstream)
    cache.close()
    for _ in range(2):
        assert await served(cache, PROMPT, upstream) == WHOLE
    assert cache.stats().misses["failed"] == 2
