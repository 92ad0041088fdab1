"""A tool whose thread never ends does not keep the program from ending, nor take a thread from other work."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from llm_dispatcher.testing import ReceivedRequest, Reply, SaidToolCall

from .conftest import TEXT, Vendors, run

PROGRAM: Final = """
import asyncio, threading
from llm_dispatcher import LLM
def stuck() -> None:
    threading.Event().wait()
async def main():
    print(await LLM(tools=[stuck], tool_timeout=0.05)("x"))
    print(await asyncio.to_thread(lambda: "a thread"))
asyncio.run(main())
print("".join(LLM(tools=[stuck], tool_timeout=0.05)("x")))
"""


def test_a_program_with_stuck_tools_ends(folder: Path, vendors: Vendors) -> None:
    calls = tuple(SaidToolCall("stuck", id=f"c{number}") for number in range(40))

    def answer(request: ReceivedRequest) -> Reply:
        return Reply(TEXT) if request.results else Reply(tool_calls=calls)

    vendors.say(answer)
    assert run(folder, "-W", "ignore", "-c", PROGRAM) == f"{TEXT}\na thread\n{TEXT}\n"
