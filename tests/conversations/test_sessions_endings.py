"""Every way a run can end leaves a session that is whole, loadable and usable: 500 drawn endings.

A case draws how the first stream goes (text, reasoning, calls that run side by side), where it is stored, and how and
where it ends: its reader breaks, closes it, is cancelled or times out, the vendor fails, the store fails, the switch is
closed, or a tool fails or never returns. After each of them the next turn has to work at a vendor that checks pairs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import Struct

from llm_dispatcher import LLM, LLMStream, LLMSwitch, Session, use_switch
from llm_dispatcher._serving.history import check_pairs
from llm_dispatcher.events import StreamCompleted, StreamFailed, TextDelta, ToolResult
from llm_dispatcher.tasks import TextPart, ToolCallPart, ToolResultPart
from llm_dispatcher.testing import (
    Cut,
    ErrorFrame,
    Garbage,
    HttpError,
    Reply,
    SaidToolCall,
    SimulatedVendor,
    Stall,
)
from tests.conversations.session_kit import FailingSessions, PausedSessions

WIRES: Final = {
    "claude": ("anthropic", "anthropic"),
    "gemini": ("google", "google"),
    "gpt": ("openai", "openai-responses"),
    "groq": ("groq", "openai-chat"),
    "llama": ("ollama", "ollama"),
}
BLOCKS, CASES = 20, 25


@pytest.fixture(scope="module")
def vendors() -> Iterator[dict[str, SimulatedVendor]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(SimulatedVendor(wire, host=kind if wire == "openai-chat" else "openai"))
            for name, (kind, wire) in WIRES.items()
        }


def switch_over(vendors: dict[str, SimulatedVendor]) -> LLMSwitch:
    providers: dict[str, Any] = {
        name: {"kind": kind, "base_url": vendors[name].base_url, "models": ["m"]} for name, (kind, _) in WIRES.items()
    }
    providers["gpt"]["api"] = "responses"
    for name, entry in providers.items():
        if vendors[name].api_key:
            entry["api_key"] = vendors[name].api_key
    return LLMSwitch(
        {
            "providers": providers,
            "routing": {"default": [f"{name}/m" for name in providers]},
            "resilience": {"max_retries": 0},
        }
    )


class Case(Struct, frozen=True):
    """One drawn case."""

    first: str
    then: str
    shape: str
    ending: str
    at: int
    stored: bool
    keep_partial: bool

    @classmethod
    def draw(cls, number: int) -> Case:
        dice = random.Random(f"ending {number}")
        return cls(
            first=dice.choice([*WIRES]),
            then=dice.choice([*WIRES]),
            shape=dice.choice(["text", "reasoning", "call", "calls", "two rounds"]),
            ending=dice.choice(ENDINGS),
            at=dice.randrange(9),
            stored=dice.random() < 0.8,
            keep_partial=dice.random() < 0.8,
        )

    def script(self) -> list[Reply]:
        """The replies of the first stream, one for each of its turns."""
        look = SaidToolCall("look", '{"place": "here"}')
        tell = SaidToolCall("tell", '{"whom": "Ada", "what": "it"}')
        last = Reply("It is there, as I said before.")
        match self.shape:
            case "text":
                replies = [last]
            case "reasoning":
                replies = [Reply("It is there.", reasoning=("Hm. ", "So it is."))]
            case "call":
                replies = [Reply("Let me look.", tool_calls=(look,)), last]
            case "calls":
                replies = [Reply("Let me look.", tool_calls=(look, tell)), last]
            case _:
                replies = [Reply("Let me look.", tool_calls=(look,)), Reply(tool_calls=(tell,)), last]
        fault = FAULTS.get(self.ending)
        if fault is not None:  # in a drawn turn
            turn = self.at % len(replies)
            after = min(self.at, self._length(replies[turn]))
            broken = fault(after) if fault is not HttpError else HttpError(503)
            replies[turn] = Reply(**{**_fields(replies[turn]), "fault": broken})
        return replies

    def _length(self, reply: Reply) -> int:
        """How many pieces the wire sends: two of them have no fragments of calls."""
        fragments = sum(len(call.fragments) - 1 for call in reply.tool_calls)
        return reply.length - (fragments if self.first in ("gemini", "llama") else 0)


def _fields(reply: Reply) -> dict[str, Any]:
    return {name: getattr(reply, name) for name in reply.__struct_fields__}


FAULTS: Final[dict[str, Any]] = {
    "the connection breaks": Cut,
    "the vendor fails": ErrorFrame,
    "the vendor sends garbage": Garbage,
    "the vendor refuses": HttpError,
    "the time is over": Stall,
}
ENDINGS: Final = (
    "it is complete",
    "a break",
    "aclose",
    "a cancellation",
    "two cancellations",
    "cancelled in a tool",
    "closed in a tool",
    "the time is over in a tool",
    "a tool raises",
    "the switch is closed",
    "the switch is closed in a tool",
    "the store fails",
    "the store fails and the reader leaves",
    "the store loses its answer",
    "cancelled while it is stored",
    "too many turns",
    *FAULTS,
)
STORED_LATER: Final = frozenset(
    (
        "a break",
        "two cancellations",
        "cancelled while it is stored",
        "the store fails",
        "the store fails and the reader leaves",
        "the store loses its answer",
    )
)
"""Endings after which the turn is stored by the loop, or with the next one."""


class Run:
    """One case, with what its reader and its tools have seen."""

    def __init__(self, case: Case, vendors: dict[str, SimulatedVendor], folder: Path) -> None:
        self.case = case
        self.vendors = vendors
        self.folder = folder
        self.switch = switch_over(vendors)
        self.store = FailingSessions() if case.ending != "cancelled while it is stored" else PausedSessions()
        self.ran: list[str] = []
        self.reached = asyncio.Event()
        self.texts: list[str] = []
        self.results: list[ToolResult] = []
        self.is_complete = False
        self.closing: list[asyncio.Task[None]] = []
        self.llm = LLM(model=f"{case.first}/m", tools=[self.look, self.tell], on_break="raise")
        self.session = Session(
            self.llm, id="chat", store=self.store if case.stored else None, keep_partial=case.keep_partial
        )

    async def look(self, place: str) -> str:
        """Look at a place."""
        self.ran.append(f"look {place}")
        await self._in_a_tool()
        return "nothing special"

    async def tell(self, whom: str, what: str) -> str:
        """Tell somebody something."""
        self.ran.append(f"tell {whom} {what}")
        await self._in_a_tool()
        return "told"

    async def _in_a_tool(self) -> None:
        if self.case.ending.endswith("in a tool"):
            self.reached.set()
            await asyncio.Event().wait()
        if self.case.ending == "a tool raises":
            raise ValueError("it is not allowed")

    async def first_stream(self) -> None:
        """Read the first stream until it ends as the case says."""
        case = self.case
        options: dict[str, Any] = {"timeout": 0.15} if case.ending.startswith("the time is over") else {}
        if case.ending == "too many turns":
            options["max_turns"] = 1 + case.at % 2
        stream = self.session.stream("What is there?", **options)
        self._hurt_the_store(case.ending)
        task = asyncio.create_task(self._read(stream))
        await self._end_from_outside(stream, task)
        with suppress(asyncio.CancelledError):
            await task
        if case.ending == "aclose":
            await stream.aclose()
        for each in self.closing:
            await each
        self._hurt_the_store("not any more")

    def _hurt_the_store(self, how: str) -> None:
        if isinstance(self.store, FailingSessions):
            self.store.fails = how in ("the store fails", "the store fails and the reader leaves")
            self.store.loses_answers = how == "the store loses its answer"

    async def _read(self, stream: LLMStream[str]) -> None:
        """Read, up to the drawn event, or to the end."""
        seen = 0
        async for event in stream.events():
            self.see(event)
            seen += 1
            if seen != self.case.at + 1:
                continue
            match self.case.ending:
                case "a break" | "aclose" | "the store fails and the reader leaves":
                    return
                case "a cancellation" | "two cancellations":
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                    if self.case.ending == "two cancellations":
                        asyncio.get_running_loop().call_soon(task.cancel)
                case "the switch is closed":
                    self.closing.append(asyncio.create_task(self.switch.aclose()))
                case _:
                    pass

    async def _end_from_outside(self, stream: LLMStream[str], task: asyncio.Task[None]) -> None:
        """End the stream where its reader cannot: while a tool runs, or while the turn is stored."""
        ending, loop = self.case.ending, asyncio.get_running_loop()
        if ending.endswith("in a tool"):
            await self._first_of(task, self.reached)
        if isinstance(self.store, PausedSessions):
            await self._first_of(task, self.store.writing)
        match ending:
            case "cancelled in a tool":
                task.cancel()
            case "closed in a tool":
                await stream.aclose()
            case "the switch is closed in a tool":
                await self.switch.aclose()
            case "cancelled while it is stored":
                task.cancel()
                assert isinstance(self.store, PausedSessions)
                loop.call_later(0.01 * (self.case.at % 2), self.store.go_on.set)  # the next turn may have to wait
            case _:
                pass

    @staticmethod
    async def _first_of(task: asyncio.Task[None], event: asyncio.Event) -> None:
        waiting = asyncio.create_task(event.wait())
        await asyncio.wait([task, waiting], return_when="FIRST_COMPLETED")
        waiting.cancel()

    def see(self, event: object) -> None:
        match event:
            case TextDelta():
                self.texts.append(event.text)
            case ToolResult():
                self.results.append(event)
            case StreamCompleted():
                self.is_complete = True
            case StreamFailed() if "store" not in self.case.ending:
                assert "Session" not in event.failure.kind, event
            case _:
                pass

    def check_history(self) -> None:
        """The history is whole, and has what its reader saw."""
        messages = self.session.messages
        check_pairs(messages)
        assert len(self.ran) == len(set(self.ran)), "a tool has run twice"
        calls = [part for each in messages for part in each.parts if isinstance(part, ToolCallPart)]
        results = {part.id: part for each in messages for part in each.parts if isinstance(part, ToolResultPart)}
        if not messages:
            assert not self.is_complete
            assert not self.case.keep_partial or not "".join(self.texts).strip()
            return
        assert messages[0].role == "user" and messages[0].text == "What is there?"
        assert messages[-1].role == "assistant"
        text = "".join(part.text for each in messages[1:] for part in each.parts if isinstance(part, TextPart))
        seen = "".join(self.texts).replace("\n\n", "")
        assert text.replace("(This answer was interrupted.)", "") == seen
        if self.case.keep_partial or self.is_complete:
            assert len(calls) >= len(self.ran)
        for shown in self.results:
            assert results[shown.id].result == (shown.result if shown.error is None else shown.error)
        state = self.session.turns[-1].state
        assert state == "complete" if self.is_complete else state in ("partial", "complete")

    async def check_copies(self) -> None:
        """The session is the same in its store, without a word from the application, and in a file."""
        if self.case.stored and self.case.ending not in STORED_LATER:
            assert (await Session.open("chat", None, self.store)).turns == self.session.turns
        path = self.folder / "chat.json"
        self.session.save(path)
        assert Session.load(path).turns == self.session.turns
        if self.case.stored:
            await self.session.flush()
            assert (await Session.open("chat", None, self.store)).turns == self.session.turns

    async def next_turn(self) -> None:
        """The next turn works, in this object and in one that was opened anew."""
        vendor = self.vendors[self.case.then]
        vendor.script = [Reply("Here it is."), Reply("And again.")]
        before = len(vendor.requests)
        turns = len(self.session.turns)
        llm = self.llm.with_options(model=f"{self.case.then}/m")
        self.session.llm = llm
        assert await self.session.stream("Go on.") == "Here it is."
        assert len(self.session.turns) == turns + 1
        again = self.session
        if self.case.stored:
            again = await Session.open("chat", llm, self.store)
            assert again.turns == self.session.turns
        assert await again.stream("Once more.") == "And again."
        assert [request.status for request in vendor.requests[before:]] == [200, 200]
        check_pairs(again.messages)


async def run(case: Case, vendors: dict[str, SimulatedVendor], folder: Path) -> Run:
    run = Run(case, vendors, folder)
    vendors[case.first].script = case.script()
    try:
        with use_switch(run.switch):
            await run.first_stream()
            run.check_history()
            await run.check_copies()
            await run.next_turn()
    finally:
        await run.switch.aclose()
    return run


@pytest.mark.parametrize(
    "block", [pytest.param(each, marks=[pytest.mark.slow] if each >= 2 else []) for each in range(BLOCKS)]
)
async def test_a_session_is_usable_after_every_ending(
    block: int, vendors: dict[str, SimulatedVendor], tmp_path: Path
) -> None:
    for number in range(block * CASES, (block + 1) * CASES):
        case = Case.draw(number)
        try:
            async with asyncio.timeout(20):
                await run(case, vendors, tmp_path)
        except BaseException as error:
            error.add_note(f"case {number}: {case}")
            raise


def test_the_drawn_endings_have_every_kind() -> None:
    cases = [Case.draw(number) for number in range(BLOCKS * CASES)]
    assert len(cases) == 500
    assert {case.ending for case in cases} == set(ENDINGS)
    assert {(case.first, case.shape) for case in cases} >= {(w, s) for w in WIRES for s in ("text", "calls")}
