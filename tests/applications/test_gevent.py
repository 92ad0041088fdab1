"""gevent without a server: greenlets wait for streams, and the hub goes on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from llm_dispatcher.testing import Continuing, Cut, ReceivedRequest, Reply, SaidToolCall, Stall

from .conftest import TEXT, Vendors, needs, run

pytestmark = [needs("gevent"), pytest.mark.found("N-A7")]

PATCHED: Final = "from gevent import monkey; monkey.patch_all()\n"
SEVERAL: Final = """
import gevent
from llm_dispatcher import LLM
llm = LLM()
print(llm("one").result().text, llm("another").result().text, sep="|")
others = 0
def other():
    global others
    while True:
        gevent.sleep(0.001)
        others += 1
gevent.spawn(other)
readers = [gevent.spawn(lambda: "".join(llm("many"))) for _ in range(25)]
gevent.joinall(readers, raise_error=True)
print({reader.value for reader in readers}, others > 0)
"""
AT_ONCE: Final = """
import gevent
from llm_dispatcher import LLM
llm = LLM()
readers = [gevent.spawn(lambda: "".join(llm("many"))) for _ in range(20)]
gevent.joinall(readers, timeout=60)
print({reader.value for reader in readers})
"""
LEAVING: Final = """
import gevent
from llm_dispatcher import LLM
stream = LLM()("x")
def read():
    for chunk in stream:
        pass
reader = gevent.spawn(read)
while stream.partial != "One two three":
    gevent.sleep(0.001)
reader.kill()
print(stream.response.finish_reason)
"""


@pytest.mark.parametrize("before", ["", "import llm_dispatcher._stream\n"], ids=["patched-first", "imported-first"])
def test_greenlets_read_streams_that_break(before: str, folder: Path, vendors: Vendors) -> None:
    vendors.say(Reply(TEXT, fault=Cut(3)), Continuing(TEXT))
    assert run(folder, "-c", before + PATCHED + SEVERAL) == f"{TEXT}|{TEXT}\n{{'{TEXT}'}} True\n"
    assert len(vendors.second.requests) == 27


def test_greenlets_that_begin_at_once_do_not_wait_for_ever(folder: Path, vendors: Vendors) -> None:
    """An SDK that is imported in a thread and the background loop want the lock of `logging` at the same time."""
    vendors.say(Reply(TEXT))
    with ThreadPoolExecutor(4) as processes:  # (on a busy machine the two meet more often)
        outputs = list(processes.map(lambda _: run(folder, "-c", PATCHED + AT_ONCE), range(8)))
    assert set(outputs) == {f"{{'{TEXT}'}}\n"}


def test_a_greenlet_that_is_killed_closes_its_connection(folder: Path, vendors: Vendors) -> None:
    vendors.say(Reply(TEXT, fault=Stall(3)))
    assert run(folder, "-c", PATCHED + LEAVING) == "cancelled\n"
    assert vendors.first.requests[0].wait_until_over() == "left"


def test_a_background_thread_from_before_the_patch_is_of_use_after_it(folder: Path, vendors: Vendors) -> None:
    vendors.say(Reply(TEXT))
    before = "from llm_dispatcher import LLM\nLLM()('before').result()\n"
    after = "print(LLM()('after').result().text, ''.join(LLM()('after')), sep='|')"
    assert run(folder, "-W", "ignore", "-c", before + PATCHED + after) == f"{TEXT}|{TEXT}\n"


TOOLS: Final = """
from llm_dispatcher import LLM
def slow(n: int) -> str:
    import sqlite3  # an import takes a lock, which gevent has patched
    return f"n{n}"
async def quick(n: int) -> int:
    return n
stream = LLM(tools=[slow, quick])("x")
print("".join(stream), *[part.result for part in stream.response.messages[1].parts], sep="|")
"""


def test_tools_run_under_gevent(folder: Path, vendors: Vendors) -> None:
    calls = (SaidToolCall("slow", '{"n": 1}'), SaidToolCall("quick", '{"n": 2}'), SaidToolCall("slow", '{"n": 3}'))

    def answer(request: ReceivedRequest) -> Reply:
        return Reply(TEXT) if request.results else Reply(tool_calls=calls)

    vendors.say(answer)
    assert run(folder, "-c", PATCHED + TOOLS) == f"{TEXT}|n1|2|n3\n"
