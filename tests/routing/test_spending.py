"""The file of what was spent: somebody else may hold its lock, and nothing else waits for that."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher._routing import spending as module
from llm_dispatcher._routing.spending import Spending
from llm_dispatcher.exceptions import ConfigurationError
from llm_dispatcher.notices import Notice, SpendingNotWritten
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import Reply, SimulatedVendor
from tests.conftest import policy_over

pytestmark = pytest.mark.found("B-08")
LINE = ("", "2026-11-28")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spending.sqlite3"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the write lock of the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        yield
        file.execute("COMMIT")


def written(path: Path) -> float:
    """What the file has of the line."""
    with closing(sqlite3.connect(path)) as file:
        rows = file.execute("SELECT dollars FROM spending WHERE namespace = ? AND period = ?", LINE).fetchall()
    return float(rows[0][0]) if rows else 0.0


async def test_a_locked_file_blocks_neither_thread_pools_nor_answers(path: Path) -> None:
    """On a pool of two threads, as names are looked up in: the third piece of work must not wait for the file."""
    spending = Spending(path)
    await spending.ready()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    with locked(path):
        for _ in range(50):
            spending.add([LINE], 0.25)
            await asyncio.sleep(0)
        async with asyncio.timeout(module.PATIENCE / 2):
            for _ in range(4):
                await asyncio.to_thread(lambda: None)
        assert spending.of(LINE) == 12.5, "in memory it counts at once"
    await spending.flush()
    assert written(path) == spending.of(LINE) == 12.5
    assert not spending.is_unwritten


async def test_waiting_amounts_are_written_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spending = Spending(path)
    await spending.ready()
    opened: list[int] = []
    connect = sqlite3.connect

    def counting(*args: Any, **settings: Any) -> sqlite3.Connection:
        opened.append(1)
        made: sqlite3.Connection = connect(*args, **settings)
        return made

    submit, submitted = spending._thread.submit, []

    def queueing(*work: Any) -> Any:
        submitted.append(1)
        return submit(*work)

    with locked(path):
        monkeypatch.setattr(sqlite3, "connect", counting)
        monkeypatch.setattr(spending._thread, "submit", queueing)
        for _ in range(200):
            spending.add([LINE], 1.0)
    await spending.flush()
    assert len(opened) <= 3
    assert len(submitted) <= 3, "amounts wait, and not two hundred pieces of work"
    assert written(path) == 200.0


async def test_a_write_that_fails_loses_nothing_and_closing_takes_a_bounded_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.02)
    spending = Spending(path)
    await spending.ready()
    with locked(path):
        for _ in range(3):
            spending.add([LINE], 1.0)
            await spending.flush()
        assert spending.is_unwritten
    await spending.flush()
    assert written(path) == 3.0


@pytest.mark.parametrize("error", [MemoryError(), OSError(24, "Too many open files"), sqlite3.OperationalError("full")])
async def test_amounts_are_kept_however_a_write_ends(
    error: Exception, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending = Spending(path)
    await spending.ready()

    def failing(*args: Any, **settings: Any) -> sqlite3.Connection:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", failing)
        spending.add([LINE], 1.0)
        await spending.flush()
    spending.add([LINE], 2.0)
    await spending.flush()
    assert written(path) == 3.0


def test_what_another_process_has_spent_is_added_to_what_is_not_written_yet(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, spending = Spending(path), Spending(path)
    other.add([LINE], 5.0)

    def failing(*args: Any, **settings: Any) -> sqlite3.Connection:
        raise sqlite3.OperationalError("locked")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", failing)
        spending.add([LINE], 1.0)
    assert spending.is_unwritten
    spending.read()
    assert spending.of(LINE) == 6.0
    spending.write()
    assert (spending.of(LINE), written(path)) == (6.0, 6.0)


async def test_no_lock_is_held_while_the_notice_of_a_failed_write_is_sent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[Notice] = []

    def notify(notice: Notice) -> None:
        assert not spending._file.locked() and not spending._lock.locked()
        notices.append(notice)

    def failing(*args: Any, **settings: Any) -> sqlite3.Connection:
        raise sqlite3.OperationalError("full")

    spending = Spending(path, notify)
    await spending.ready()
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", failing)
        spending.add([LINE], 1.0)
        await spending.flush()
    assert [type(notice) for notice in notices] == [SpendingNotWritten]


async def test_first_requests_wait_for_one_read_of_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Spending(path).read()
    spending, began, go_on, reads = Spending(path), threading.Event(), threading.Event(), []
    read = spending.read

    def slow() -> None:
        reads.append(1)
        began.set()
        assert go_on.wait(60)
        read()

    monkeypatch.setattr(spending, "read", slow)
    waiting = [asyncio.create_task(spending.ready()) for _ in range(20)]
    await asyncio.to_thread(began.wait, 60)
    waiting[0].cancel()
    await asyncio.sleep(0)
    go_on.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in outcomes] == [asyncio.CancelledError, *[type(None)] * 19]
    assert reads == [1]
    assert spending.is_read


async def test_a_failed_read_is_raised_to_all_and_tried_again(path: Path) -> None:
    path.write_text("this is no database, but it is long enough to be taken for one" * 100)
    spending = Spending(path)
    outcomes = await asyncio.gather(*(spending.ready() for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in outcomes] == [ConfigurationError] * 3
    path.unlink()
    await spending.ready()
    assert spending.is_read


async def test_after_a_fork_the_child_writes_what_it_spent_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent's thread is not in the child, and what the parent has not written is the parent's to write."""
    spending = Spending(path)
    await spending.ready()
    spending._thread.shutdown()  # as good as one that is not there: it takes no more work
    spending._unwritten[LINE] = 100.0
    spending._is_write_due = True
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    spending.add([LINE], 1.0)
    await spending.flush()
    assert written(path) == 1.0


FORK = """
import asyncio, os, signal, sys, threading, warnings
from pathlib import Path
from llm_dispatcher._routing.spending import Spending
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork beside threads
sys.setswitchinterval(1e-6)
spending, begun, over, added = Spending(Path(sys.argv[1])), threading.Event(), threading.Event(), 0

async def spend():
    global added
    await spending.ready()
    while not over.is_set():
        spending.add([("", "2026-11")], 1.0)
        added += 1
        begun.set()
        await asyncio.sleep(0)
    await spending.flush()

async def spend_in_child():
    await spending.ready()
    spending.add([("", "2026-11")], 1e9)
    await spending.flush()

thread = threading.Thread(target=asyncio.run, args=(spend(),))
thread.start()
begun.wait()
statuses = []
for _ in range(10):
    if (child := os.fork()) == 0:
        signal.alarm(20)
        asyncio.run(spend_in_child())
        os._exit(0)
    statuses.append(os.waitpid(child, 0)[1])
    if statuses[-1]:
        break
over.set()
thread.join()
file = Spending(Path(sys.argv[1]))
file.read()
print(sum(statuses), file.of(("", "2026-11")) - added)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_during_a_write_loses_no_dollar_and_blocks_no_process(path: Path) -> None:
    """A child with half of its parent's connection to SQLite writes without the lock of the file, or waits for ever."""
    command = [sys.executable, "-c", FORK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["0", "10000000000.0"], "")


async def test_a_switch_answers_while_its_file_is_locked_and_writes_it_when_it_is_closed(
    simulated_vendor: Callable[..., SimulatedVendor], path: Path
) -> None:
    policy = {
        **policy_over(simulated_vendor("openai-chat", Reply("Hello."))),
        "catalog": {"a/m": {"input_price": 1_000, "output_price": 1_000}},
        "budgets": {"daily": 100, "path": str(path)},
    }
    async with LLMSwitch(policy) as switch:
        await switch.stream_request(TaskRequest("Hello?"))
        with locked(path):
            asked = (switch.stream_request(TaskRequest("Hello?")).text() for _ in range(30))
            assert await asyncio.gather(*asked) == ["Hello."] * 30
            async with asyncio.timeout(module.PATIENCE / 2):
                await asyncio.to_thread(lambda: None)
        spent = switch.spent()["daily"]
        assert spent == pytest.approx(31 * 0.021)
        assert switch.health()[Target("a", "m")].breaker == "closed"
    with closing(sqlite3.connect(path)) as file:
        (dollars,) = file.execute(
            "SELECT dollars FROM spending WHERE namespace = '' AND length(period) = 10"
        ).fetchone()
    assert dollars == pytest.approx(spent)
