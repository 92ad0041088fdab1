"""Sessions in the simulated event loop: readers that leave, a rival reader, a slow store that fails, in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress

import pytest

from llm_dispatcher import LLM, MemorySessions, Session, _clock
from llm_dispatcher._serving.history import check_pairs
from llm_dispatcher.exceptions import LLMDispatcherError, SessionBusyError, SessionStoreError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.tasks import ToolResultPart
from llm_dispatcher.testing import Cut, Reply, SaidToolCall

ANSWERS = [
    Reply("One two three four."),
    Reply("Let me see.", tool_calls=(SaidToolCall("work", '{"n": 1}'), SaidToolCall("work", '{"n": 2}'))),
    Reply("It is done, I think."),
    Reply("Five six seven eight nine.", fault=Cut(after=3)),
    Reply("Once more.", tool_calls=(SaidToolCall("work", '{"n": 3}'),)),
    Reply("And so it was."),
]


class SlowSessions(MemorySessions):
    """A store that takes its time, and fails now and then: before it has stored, or after."""

    def __init__(self) -> None:
        super().__init__()
        self.is_healthy = False
        self.under_way = self.most_at_once = 0

    async def write(
        self, session: str, revision: int, records: Mapping[str, bytes], removed: Collection[str] = (), /
    ) -> bool:
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await asyncio.sleep(_clock.uniform(0, 0.2))
            if not self.is_healthy and _clock.random() < 0.1:
                raise OSError("the disk is full")
            stored = await super().write(session, revision, records, removed)
            await asyncio.sleep(_clock.uniform(0, 0.2))
            if not self.is_healthy and _clock.random() < 0.1:
                raise ConnectionResetError("the answer was lost")
            return stored
        finally:
            self.under_way -= 1


class Play:
    """One session, its two readers, and what they have seen."""

    def __init__(self) -> None:
        self.store = SlowSessions()
        self.runs: list[str] = []
        self.session = Session(LLM(tools=[self.work], on_break="raise"), id="chat", store=self.store)
        self.asked: list[str] = []
        self.refused = 0

    async def work(self, n: int) -> str:
        """Work."""
        self.runs.append(f"run {len(self.runs)}")
        await asyncio.sleep(_clock.uniform(0, 0.3))
        return f"did {n}"

    async def user(self, name: str, turns: int) -> None:
        for number in range(turns):
            await asyncio.sleep(_clock.uniform(0, 0.4))
            prompt = f"{name} {number}"
            reading = asyncio.create_task(self.read(prompt))
            if _clock.random() < 0.4:
                await asyncio.wait([reading], timeout=_clock.uniform(0, 0.6))
                reading.cancel()
                if _clock.random() < 0.5:
                    continue  # the next turn does not even wait for that task
            await asyncio.wait([reading])
            if _clock.random() < 0.2:
                with suppress(SessionBusyError, ValueError):
                    self.session.rewind()

    async def read(self, prompt: str) -> None:
        leaves_after = int(_clock.uniform(0, 12))
        try:
            async with self.session.stream(prompt) as stream:
                self.asked.append(prompt)
                async for _ in stream:
                    leaves_after -= 1
                    if leaves_after == 0:
                        break
        except SessionBusyError:
            self.refused += 1
        except (LLMDispatcherError, asyncio.CancelledError):
            pass


@pytest.mark.simulated(seeds=60)
async def test_a_session_is_whole_whatever_its_readers_and_its_store_do(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(openai=ANSWERS, anthropic=ANSWERS)
    play = Play()
    before = asyncio.all_tasks()
    await asyncio.gather(play.user("user", 6), play.user("rival", 4))
    await asyncio.wait([asyncio.ensure_future(asyncio.sleep(5))])  # those who were cancelled have left by now
    play.store.is_healthy = True
    session = play.session
    with suppress(SessionStoreError):
        await session.flush()
    await session.flush()
    assert asyncio.all_tasks() == before
    assert play.store.most_at_once <= 1
    check_pairs(session.messages)
    opened = await Session.open("chat", session.llm, play.store)
    assert opened.turns == session.turns
    prompts = [turn.messages[0].text for turn in session.turns]
    assert len(prompts) == len(set(prompts)) and set(prompts) <= set(play.asked)
    for turn in session.turns:
        assert turn.state in ("complete", "partial")
        assert turn.messages[0].role == "user" and turn.messages[-1].role == "assistant"
    results = [part for each in session.messages for part in each.parts if isinstance(part, ToolResultPart)]
    assert sum(not part.error for part in results) <= len(play.runs)
    count = len(session.turns)
    with suppress(LLMDispatcherError):
        await session.stream("at last", on_break="continue")
    assert len(session.turns) == count + 1
