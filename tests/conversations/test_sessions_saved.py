"""Saved and stored sessions: the file, its version, damage, and one SQLite file for several processes."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher import (
    LLM,
    CachePoint,
    LLMSwitch,
    MemorySessions,
    Message,
    Session,
    SQLiteSessions,
    use_switch,
)
from llm_dispatcher._sessions.turns import INTERRUPTED, SessionTurn
from llm_dispatcher._tools import ToolRun
from llm_dispatcher.exceptions import SessionConflictError, SessionFormatError, SessionStoreError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.tasks import (
    AudioPart,
    ImagePart,
    Media,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from llm_dispatcher.testing import Reply, SaidToolCall, SimulatedVendor
from tests.conversations.session_kit import PNG, texts_of

SAID = [
    Message("system", ["Be brief.", CachePoint("1h")]),
    Message("user", [ImagePart(Media("image/png", url="https://example.org/a.png")), TextPart("What is it?")]),
    Message("assistant", [ReasoningPart("Hm.", "sig-1", "anthropic"), ToolCallPart("call_1", "look", '{"at":"it"}')]),
    Message("tool", ToolResultPart("call_1", "look", "a dot", error=True)),
    Message("assistant", "A dot. ☂"),
]


class TestFiles:
    def test_everything_survives_a_file(self, tmp_path: Path) -> None:
        session = Session(id="chat", messages=SAID)
        session.add("user", ["And this?", ImagePart(PNG)])
        session.branch("idea")
        session.add("assistant", "The same.")
        session.save(tmp_path / "chat.json")
        again = Session.load(tmp_path / "chat.json")
        assert (again.id, again.turns, again.branches) == ("chat", session.turns, ("main", "idea"))
        assert again.current_branch == "idea"
        again.switch_to("main")
        assert again.messages == (*SAID, session.messages[-2])

    def test_a_file_is_replaced_as_a_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        session = Session(messages=SAID)
        session.save(tmp_path / "chat.json")
        before = (tmp_path / "chat.json").read_bytes()
        session.add("user", "more")

        def fails(*_: object) -> None:
            raise OSError("the disk is full")

        monkeypatch.setattr("os.fsync", fails)
        with pytest.raises(OSError, match="the disk is full"):
            session.save(tmp_path / "chat.json")
        assert (tmp_path / "chat.json").read_bytes() == before
        assert [each.name for each in tmp_path.iterdir()] == ["chat.json"]

    @pytest.mark.parametrize(
        ("version", "fix"), [(2, "update llm_dispatcher to read it"), (0, "it is unknown here"), ("x", "unknown")]
    )
    def test_another_version_is_refused_by_its_number(self, tmp_path: Path, version: object, fix: str) -> None:
        path = tmp_path / "chat.json"
        Session(messages=SAID).save(path)
        content = msgspec.json.decode(path.read_bytes())
        path.write_bytes(msgspec.json.encode({**content, "version": version, "turns": "of another form"}))
        with pytest.raises(SessionFormatError, match=f"chat.json' has version {version!r} .*{fix}"):
            Session.load(path)

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "chat.json"
        path.write_text('{"version": 1}')
        with pytest.raises(SessionFormatError, match="is not a saved session"):
            Session.load(path)
        with pytest.raises(FileNotFoundError):
            Session.load(tmp_path / "none.json")

    @given(cut=st.integers(min_value=0), byte=st.integers(0, 255), how=st.sampled_from(["cut", "change"]))
    def test_a_damaged_file_is_a_typed_error_or_loads(
        self, tmp_path_factory: pytest.TempPathFactory, cut: int, byte: int, how: str
    ) -> None:
        path = tmp_path_factory.mktemp("damaged") / "chat.json"
        Session(messages=SAID).save(path)
        content = path.read_bytes()
        at = cut % len(content)
        path.write_bytes(content[:at] if how == "cut" else content[:at] + bytes([byte]) + content[at + 1 :])
        with suppress(SessionFormatError):  # a change of a letter is no damage
            Session.load(path).save(path)
            assert how == "change"

    def test_text_that_json_cannot_hold_is_a_typed_error(self, tmp_path: Path) -> None:
        session = Session(messages=[Message("user", "half a character: \ud83d")])
        with pytest.raises(SessionFormatError, match="not valid Unicode"):
            session.save(tmp_path / "chat.json")


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_ids = st.from_regex(r"call_[0-9]{1,3}", fullmatch=True)
_users: st.SearchStrategy[Part] = (
    st.builds(TextPart, _texts)
    | st.just(ImagePart(PNG))
    | st.builds(ImagePart, st.builds(Media, st.none() | st.just("image/png"), url=st.just("https://example.org/a")))
    | st.builds(AudioPart, st.builds(Media, st.just("audio/wav"), data=st.just("UklGRg==")))
    | st.builds(CachePoint, st.sampled_from(["5m", "1h"]))
)
_models: st.SearchStrategy[Part] = (
    st.builds(TextPart, _texts)
    | st.builds(ReasoningPart, _texts, st.none() | _texts, st.none() | _texts)
    | st.builds(ToolCallPart, _ids, _texts, _texts)
)
_messages = st.lists(
    st.builds(Message, st.just("user"), st.lists(_users, min_size=1, max_size=3))
    | st.builds(Message, st.just("assistant"), st.lists(_models, min_size=1, max_size=3)),
    max_size=8,
)


class TestRoundTrips:
    @given(messages=_messages)
    def test_any_conversation_survives_a_file_and_a_store(
        self, tmp_path_factory: pytest.TempPathFactory, messages: list[Message]
    ) -> None:
        path = tmp_path_factory.mktemp("session") / "chat.json"
        store = MemorySessions()
        session = Session(id="chat", messages=messages, store=store)
        session.save(path)
        asyncio.run(session.flush())
        loaded, opened = Session.load(path), asyncio.run(Session.open("chat", None, store))
        assert loaded.turns == opened.turns == session.turns
        assert loaded.messages == session.messages


def _running() -> SessionTurn:
    """A turn of which one tool has run and one has not, in a process that was killed."""
    call, other = ToolCallPart("call_1", "pay", "{}"), ToolCallPart("call_2", "tell", "{}")
    run = ToolRun("run_1", "call_2", "tell", "{}", datetime(2026, 1, 2, tzinfo=UTC))
    return SessionTurn(
        id="t1",
        messages=(
            Message("user", "Pay."),
            Message("assistant", [TextPart("Yes."), call]),
            Message("tool", ToolResultPart("call_1", "pay", "paid")),
            Message("assistant", other),
        ),
        state="running",
        runs=(run,),
    )


class TestKilledProcesses:
    async def _stored(self) -> MemorySessions:
        store = MemorySessions()
        session = Session(id="chat", store=store, messages=[Message("user", "Hi"), Message("assistant", "Hello.")])
        session._state.history.pending = _running()
        await session.flush()
        return store

    async def test_a_run_without_a_result_is_repaired_and_not_repeated(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(anthropic=Reply("I see."))
        store = await self._stored()
        session = await Session.open("chat", None, store)
        turn = session.turns[-1]
        assert turn.state == "partial" and turn.failure is not None
        assert turn.runs == _running().runs  # which run it was stays known
        first, second = (part for each in turn.messages for part in each.parts if isinstance(part, ToolResultPart))
        assert (first.result, first.error) == ("paid", False)
        assert (second.result, second.error) == (INTERRUPTED, True)
        assert await session.stream("Well?") == "I see."
        assert (await Session.open("chat", None, store)).turns == session.turns

    async def test_without_partial_turns_it_is_dropped(self) -> None:
        session = await Session.open("chat", None, await self._stored(), keep_partial=False)
        assert texts_of(session.messages) == ["Hi", "Hello."]

    async def test_it_is_repaired_in_a_file_too(self, tmp_path: Path) -> None:
        session = Session(messages=[Message("user", "Hi"), Message("assistant", "Hello.")])
        session._state.history.pending = _running()
        session.save(tmp_path / "chat.json")
        assert Session.load(tmp_path / "chat.json").turns[-1].state == "partial"


KILLED = """
import asyncio, os, signal, sys
from llm_dispatcher import LLM, LLMSwitch, Session, SQLiteSessions, use_switch

def pay(amount: int) -> str:
    \"\"\"Pay.\"\"\"
    print("paid", amount, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    return "paid"

async def main(path, url):
    switch = LLMSwitch({"providers": {"anthropic": {"api_key": "test-key", "base_url": url, "models": ["m"]}}})
    with use_switch(switch):
        await Session(LLM(tools=[pay]), id="chat", store=SQLiteSessions(path)).stream("Pay 5.")

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
async def test_a_process_that_is_killed_in_a_tool_leaves_a_usable_session(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    ran: list[int] = []

    def pay(amount: int) -> str:
        """Pay."""
        ran.append(amount)
        return "paid"

    call = SaidToolCall("pay", '{"amount": 5}')
    with SimulatedVendor("anthropic", [Reply("I pay.", tool_calls=(call,)), Reply("It may be paid.")]) as vendor:
        process = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", KILLED, str(path), vendor.base_url], capture_output=True, text=True
        )
        assert (process.returncode, process.stdout) == (-9, "paid 5\n")
        entry = {"api_key": "test-key", "base_url": vendor.base_url, "models": ["m"]}
        async with LLMSwitch({"providers": {"anthropic": entry}}) as switch:
            with use_switch(switch):
                session = await Session.open("chat", LLM(tools=[pay]), SQLiteSessions(path))
                assert await session.stream("Is it paid?") == "It may be paid."
        assert not ran  # it is not repeated
        [result] = vendor.requests[-1].results or [each for turn in vendor.requests[-1].turns for each in turn.results]
        assert INTERRUPTED in result.result
        assert session.turns[0].runs[0].arguments == '{"amount": 5}'


PROCESS = """
import asyncio, sys
from llm_dispatcher import Message, Session, SQLiteSessions
from llm_dispatcher.exceptions import SessionConflictError

async def main(path, name):
    written = refused = 0
    store = SQLiteSessions(path)
    for turn in range(12):
        session = await Session.open("shared", None, store)
        session.add("user", f"{name} {turn}")
        session.add("assistant", "Noted.")
        try:
            await session.flush()
            written += 1
        except SessionConflictError:
            refused += 1
        own = await Session.open(name, None, store)
        own.add("user", f"{name} {turn}")
        await own.flush()
    print(written, refused)

asyncio.run(main(*sys.argv[1:]))
"""


class TestSQLite:
    async def test_sessions_survive_in_a_file(self, tmp_path: Path) -> None:
        session = Session(id="chat", store=SQLiteSessions(tmp_path / "new" / "s.db"), messages=SAID)
        await session.flush()
        store = SQLiteSessions(tmp_path / "new" / "s.db")
        assert (await Session.open("chat", None, store)).turns == session.turns
        assert await store.ids() == ["chat"]
        await store.delete("chat")
        assert (await Session.open("chat", None, store)).messages == ()

    async def test_a_write_has_only_what_is_new(self, tmp_path: Path) -> None:
        session = Session(id="chat", store=SQLiteSessions(tmp_path / "s.db"), messages=SAID)
        await session.flush()
        connection = sqlite3.connect(tmp_path / "s.db")
        connection.execute("UPDATE records SET record = x'00' WHERE name LIKE 'turn:%'")
        connection.commit()
        connection.close()
        session.add("user", "more")
        await session.flush()  # the old turns are not written again, so they stay damaged
        with pytest.raises(SessionFormatError, match="'chat' is damaged"):
            await Session.open("chat", None, SQLiteSessions(tmp_path / "s.db"))

    async def test_the_second_write_of_one_revision_is_refused(self, tmp_path: Path) -> None:
        store = SQLiteSessions(tmp_path / "s.db")
        await Session(id="chat", store=store, messages=SAID).flush()
        first, second = await Session.open("chat", None, store), await Session.open("chat", None, store)
        first.add("user", "first")
        second.add("user", "second")
        await first.flush()
        with pytest.raises(SessionConflictError, match="changed by another process"):
            await second.flush()
        assert texts_of((await Session.open("chat", None, store)).messages)[-1] == "first"

    def test_several_processes_share_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "s.db"
        processes = [
            subprocess.Popen([sys.executable, "-c", PROCESS, str(path), name], stdout=subprocess.PIPE, text=True)
            for name in ("a", "b", "c")
        ]
        counts = [tuple(map(int, process.communicate()[0].split())) for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0]
        store = SQLiteSessions(path)
        shared = asyncio.run(Session.open("shared", None, store))
        assert len(shared.turns) == 2 * sum(written for written, _ in counts)  # no write of the three is lost
        for name in ("a", "b", "c"):
            assert len(asyncio.run(Session.open(name, None, store))) == 12

    async def test_files_of_others_are_refused(self, tmp_path: Path) -> None:
        other = sqlite3.connect(tmp_path / "other.db")
        other.execute("CREATE TABLE theirs (x)")
        other.close()
        with pytest.raises(SessionStoreError, match="another program's database"):
            await Session(store=SQLiteSessions(tmp_path / "other.db"), messages=SAID).flush()
        (tmp_path / "text.db").write_text("not a database, and long enough to be read as one" * 40)
        with pytest.raises(SessionStoreError, match="DatabaseError"):
            await Session(store=SQLiteSessions(tmp_path / "text.db"), messages=SAID).flush()
        assert (tmp_path / "text.db").read_text().startswith("not a database")

    async def test_the_layout_of_another_version_is_refused(self, tmp_path: Path) -> None:
        store = SQLiteSessions(tmp_path / "s.db")
        await Session(id="chat", store=store, messages=SAID).flush()
        connection = sqlite3.connect(tmp_path / "s.db")
        connection.execute("PRAGMA user_version = 2")
        connection.close()
        with pytest.raises(SessionFormatError, match="its layout is number 2"):
            await Session.open("chat", None, SQLiteSessions(tmp_path / "s.db"))

    async def test_a_file_that_was_removed_is_made_again(self, tmp_path: Path) -> None:
        store = SQLiteSessions(tmp_path / "s.db")
        await Session(id="chat", store=store, messages=SAID).flush()
        for each in tmp_path.iterdir():
            each.unlink()
        await Session(id="new", store=store, messages=SAID).flush()
        assert await store.ids() == ["new"]


EDITS = {
    "a result without its call": ('"type":"tool_call","id":"c1"', '"type":"tool_call","id":"c2"'),
    "a call of the user": ('"role":"assistant"', '"role":"user"'),
    "a target without a model": ('"affinity":{}', '"affinity":{"last":"nonsense"}'),
    "a branch without a name": ('"branches":{', '"branches":{"":[],'),
    "no id": ('"id":"chat"', '"id":""'),
}


@pytest.mark.parametrize("edit", list(EDITS))
def test_a_file_that_was_edited_wrong_is_refused_when_it_is_loaded(edit: str, tmp_path: Path) -> None:
    session = Session(id="chat")
    session.add("user", "Rain?")
    session.add("assistant", ToolCallPart("c1", "weather", "{}"))
    session.add("tool", ToolResultPart("c1", "weather", "rain"))
    path = tmp_path / "chat.json"
    session.save(path)
    text, (before, after) = path.read_text(), EDITS[edit]
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(SessionFormatError, match="is damaged"):
        Session.load(path)


class CancelledSessions(MemorySessions):
    """A store whose connections are cancelled, as a client's pool does when it is closed."""

    async def read(self, session: str, /) -> NoReturn:
        raise asyncio.CancelledError

    async def write(self, *arguments: object) -> NoReturn:
        raise asyncio.CancelledError


async def test_a_store_that_is_cancelled_has_failed_and_does_not_cancel_the_reader() -> None:
    session = Session(store=CancelledSessions())
    session.add("user", "Hi.")
    with pytest.raises(SessionStoreError, match="could not be stored"):
        await session.flush()
    with pytest.raises(SessionStoreError, match="could not be read"):
        await Session.open("chat", None, CancelledSessions())


def test_a_result_may_be_added_after_others_of_its_turn() -> None:
    session = Session()
    session.add("user", "Rain?")
    session.add("assistant", [ToolCallPart("c1", "weather", "{}"), ToolCallPart("c2", "weather", "{}")])
    session.add("tool", ToolResultPart("c1", "weather", "rain"))
    with pytest.raises(ValueError, match="belongs to no open call"):
        session.add("tool", ToolResultPart("c1", "weather", "rain"))
    session.add("tool", ToolResultPart("c2", "weather", "sun"))
    session.add("assistant", "Both.")
    with pytest.raises(ValueError, match="belongs to no open call"):
        session.add("tool", ToolResultPart("c2", "weather", "sun"))
