"""Read by mypy and pyright in strict mode, never run: what sessions give and take."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import assert_type

from llm_dispatcher import (
    LLM,
    LLMStream,
    MemorySessions,
    Message,
    ObjectStream,
    Session,
    SessionStore,
    SessionTurn,
    SQLiteSessions,
)


@dataclass
class Invoice:
    total: float


class Stored:
    """A store of the application's own."""

    async def read(self, session: str, /) -> tuple[int, Mapping[str, bytes]] | None:
        return None

    async def write(
        self, session: str, revision: int, records: Mapping[str, bytes], removed: Collection[str] = (), /
    ) -> bool:
        return True

    async def delete(self, session: str, /) -> None: ...


async def sum_up(messages: tuple[Message, ...]) -> str:
    return f"{len(messages)} messages"


def sum_up_at_once(messages: tuple[Message, ...]) -> str:
    return f"{len(messages)} messages"


async def talks() -> None:
    store: SessionStore = Stored()
    session = Session(LLM(), id="a", store=store, summarize=sum_up, max_history_turns=3)
    assert_type(session.stream("x", temperature=0.1), LLMStream[str])
    assert_type(await session.stream("x"), str)
    async for chunk in session.stream("x"):
        assert_type(chunk, str)
    assert_type(session.into(Invoice).stream("x", max_tokens=3), ObjectStream[Invoice])
    assert_type(await session.into(Invoice).stream("x").parsed(), Invoice)
    async for invoice in session.into(list[Invoice]).stream("x").items():
        assert_type(invoice, Invoice)
    assert_type(session.messages, tuple[Message, ...])
    assert_type(session.rewind(2), tuple[SessionTurn, ...])
    assert_type(await session.trim(tokens=10), tuple[SessionTurn, ...])
    assert_type(await Session.open("a", LLM(), SQLiteSessions("a.db"), keep_partial=False), Session)
    assert_type(Session.load("a.json", store=MemorySessions(), summarize=sum_up_at_once), Session)
