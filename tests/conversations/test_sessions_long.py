"""A session over ten turns and three vendors; and where a history may be cut."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher import LLM, MemorySessions, Message, Session, SessionTurn, SQLiteSessions, Target
from llm_dispatcher._serving.history import check_pairs
from llm_dispatcher._sessions.trimming import SUMMARY, leading, tokens_in
from llm_dispatcher.exceptions import InvalidRequestError, SessionBusyError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.tasks import ImagePart, ToolCallPart, ToolResultPart
from llm_dispatcher.testing import Cut, HttpError, Reply, SaidToolCall, SaidUsage
from tests.conversations.session_kit import PNG, PausedSessions, roles_of, texts_of


class TestTenTurns:
    async def test_ten_turns_over_three_vendors_with_images_and_tools(
        self, simulated_switch: SimulatedSwitch, tmp_path: Path
    ) -> None:
        ran: list[str] = []

        def weather(city: str, days: int = 1) -> str:
            """The weather of a city."""
            ran.append(f"{city} {days}")
            return f"rain in {city}"

        oslo, rome = SaidToolCall("weather", '{"city": "Oslo"}'), SaidToolCall("weather", '{"city": "Rome", "days": 2}')
        vendors = simulated_switch(
            anthropic=[
                Reply("Hello, Ada.", reasoning=("She greets.",)),
                Reply("Let me look.", tool_calls=(oslo, rome), reasoning=("Two calls.",)),
                Reply("Rain in both."),
                Reply("Claude again."),
                Reply("The last one."),
            ],
            google=[
                Reply("A red dot."),
                Reply(tool_calls=(oslo,)),
                Reply("Still rain."),
                Reply("It is the same dot."),
            ],
            openai=[
                Reply("I am GPT."),
                Reply("Once upon a time, a fox", fault=Cut(after=4)),
                Reply("Let me see.", tool_calls=(rome,)),
                Reply("Rome is wet."),
            ],
        )
        store = SQLiteSessions(tmp_path / "chats.db")
        llm = LLM(tools=[weather], system="Be brief.")
        session = Session(llm, id="ten", store=store)

        async def ask(prompt: str, vendor: str, **more: object) -> str:
            return await session.stream(prompt, model=f"{vendor}/simulated", **more)  # type: ignore[arg-type]

        assert await ask("I am Ada.", "anthropic") == "Hello, Ada."
        assert await ask("How is the weather in Oslo and Rome?", "anthropic") == "Let me look.\n\nRain in both."
        assert await ask("What is this?", "google", images=PNG) == "A red dot."
        assert await ask("Who are you?", "openai") == "I am GPT."
        session = await Session.open("ten", llm, store)  # the process is another one from here on
        assert await ask("And Oslo now?", "google") == "Still rain."
        async for chunk in session.stream("A tale.", model="openai/simulated", on_break="raise").events():
            if getattr(chunk, "text", "") == " a":
                break
        assert session.turns[-1].state == "partial"
        assert await ask("Rome?", "openai") == "Let me see.\n\nRome is wet."
        assert await ask("Compare the dots.", "google", images=[PNG, PNG]) == "It is the same dot."
        session.save(tmp_path / "ten.json")
        session = Session.load(tmp_path / "ten.json", llm)
        assert await ask("Who are you now?", "anthropic") == "Claude again."
        assert await session.stream("And without a name?") == "The last one."  # it stays where it was

        assert ran == ["Oslo 1", "Rome 2", "Oslo 1", "Rome 2"]
        assert [str(turn.target) for turn in session.turns] == [
            f"{vendor}/simulated"
            for vendor in (
                "anthropic", "anthropic", "google", "openai", "google", "openai", "openai", "google", "anthropic",
                "anthropic",
            )
        ]  # fmt: skip
        check_pairs(session.messages)
        for vendor in vendors.values():
            assert {request.status for request in vendor.requests} == {200}
        last = vendors["anthropic"].requests[-1]
        assert [turn.text for turn in last.turns if turn.role == "user" and turn.text][-1] == "And without a name?"
        assert len([call for turn in last.turns for call in turn.calls]) == 4
        assert len([result for turn in last.turns for result in turn.results]) == 4
        assert str(last.body).count("image/png") == 3
        assert str(last.body).count("Two calls.") <= 1  # its own reasoning only, and none of the others'

    async def test_a_conversation_moves_for_good_after_a_hard_failure(self, simulated_switch: SimulatedSwitch) -> None:
        vendors = simulated_switch(
            openai=[Reply("One."), Reply(fault=HttpError(503)), Reply("not asked")],
            anthropic=[Reply("Two."), Reply("Three.")],
        )
        session = Session()
        assert [await session.stream(prompt) for prompt in "abc"] == ["One.", "Two.", "Three."]
        assert [turn.target for turn in session.turns] == [
            Target(vendor, "simulated") for vendor in ("openai", "anthropic", "anthropic")
        ]
        assert len(vendors["openai"].requests) == 2

    async def test_cached_tokens_are_known_and_explained(self, simulated_switch: SimulatedSwitch) -> None:
        usage = SaidUsage(2000, 3, cached=1500)
        simulated_switch(openai=Reply("One."), anthropic=Reply("Two.", usage=usage))
        store = MemorySessions()
        session = Session(id="chat", store=store)
        await session.stream("a", model="anthropic/simulated")
        home = Target("anthropic", "simulated")
        again = await Session.open("chat", None, store)
        for each in (session, again):
            assert each.affinity is not None and (each.affinity.last, each.affinity.cached) == (home, {home: 1500})
        plan = await asyncio.to_thread(again.explain, "b")
        assert plan.targets[0] == home
        assert "it answered last, and has about 1,500 tokens" in plan.reasons[home]


# ── trimming ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _turn(number: int, size: int, calls: int) -> list[Message]:
    """A turn of the user, an answer of so many words, and calls with their results."""
    said = [Message("user", f"question {number}")]
    if calls:
        ids = [f"call_{number}_{each}" for each in range(calls)]
        said.append(Message("assistant", [ToolCallPart(each, "look", "{}") for each in ids]))
        said.append(Message("tool", [ToolResultPart(each, "look", "x" * size) for each in ids]))
    return [*said, Message("assistant", f"answer {number} " + "word " * size)]


_turns = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3)), max_size=8)


class TestTrimming:
    @given(
        sizes=_turns,
        system=st.booleans(),
        tokens=st.none() | st.integers(1, 400),
        turns=st.none() | st.integers(1, 9),
        summarize=st.booleans(),
    )
    def test_a_trim_keeps_pairs_and_the_system_message_and_fits(
        self, sizes: list[tuple[int, int]], system: bool, tokens: int | None, turns: int | None, summarize: bool
    ) -> None:
        if tokens is None and turns is None:
            tokens = 50
        said = [message for number, (size, calls) in enumerate(sizes) for message in _turn(number, size, calls)]
        first = [Message("system", "Be brief.")] if system else []
        trimmed: list[tuple[Message, ...]] = []

        def sum_up(messages: tuple[Message, ...]) -> str:
            trimmed.append(messages)
            return "In short."

        session = Session(messages=[*first, *said], summarize=sum_up if summarize else None)
        before = session.messages
        gone = asyncio.run(session.trim(tokens=tokens, turns=turns))
        check_pairs(session.messages)
        kept = [turn for turn in session.turns if turn.begins]
        assert [*first] == list(session.messages[: len(first)])
        assert turns is None or len(kept) <= turns
        if tokens is not None and len(kept) > 1:
            pair = 2 if gone and summarize else 0  # the summary is made by the application, of whatever length
            rest = (*session.messages[: len(first)], *session.messages[len(first) + pair :])
            assert tokens_in(rest) <= tokens
        if sizes:
            assert texts_of(kept[-1].messages)[0] == f"question {len(sizes) - 1}"  # the last turn always stays
        lost = tuple(message for turn in gone for message in turn.messages)
        kept_messages = session.messages[len(first) :]
        if gone and summarize:
            assert trimmed == [lost]
            assert texts_of(kept_messages[:2]) == [SUMMARY, "In short."]
            kept_messages = kept_messages[2:]
        assert (*first, *lost, *kept_messages) == before  # nothing else has changed

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_a_history_is_trimmed_before_a_request(
        self, simulated_switch: SimulatedSwitch, is_async: bool
    ) -> None:
        vendors = simulated_switch(openai=[Reply(f"answer {number}") for number in range(9)])
        made: list[list[str]] = []

        async def sum_up_async(messages: tuple[Message, ...]) -> str:
            return sum_up(messages)

        def sum_up(messages: tuple[Message, ...]) -> str:
            made.append(texts_of(messages))
            return f"Summary {len(made)}."

        session = Session(max_history_turns=4, summarize=sum_up_async if is_async else sum_up)
        for number in range(9):
            await session.stream(f"question {number}")
            assert len([turn for turn in session.turns if turn.begins]) <= 5
        assert len(made) == 2  # half is kept, so it is not made at each turn
        assert made[1][:2] == [SUMMARY, "Summary 1."]
        last = vendors["openai"].requests[-1]
        assert "Summary 2." in str(last.body) and "Summary 1." not in str(last.body)
        assert roles_of(session.messages)[:2] == ["user", "assistant"]

    async def test_tokens_are_trimmed_before_a_request(self, simulated_switch: SimulatedSwitch) -> None:
        vendors = simulated_switch(openai=[Reply("word " * 100) for _ in range(5)])
        session = Session(max_history_tokens=300)
        for number in range(5):
            await session.stream(f"question {number}")
        sent = [len([turn for turn in request.turns if turn.role == "user"]) for request in vendors["openai"].requests]
        assert sent == [1, 2, 3, 3, 3]

    async def test_a_summary_that_fails_ends_the_stream_and_changes_nothing(
        self, simulated_switch: SimulatedSwitch
    ) -> None:
        vendors = simulated_switch(openai=Reply("Yes."))

        def fails(messages: tuple[Message, ...]) -> str:
            raise RuntimeError("no summary today")

        said = [message for number in range(3) for message in _turn(number, 1, 1)]
        session = Session(messages=said, max_history_turns=1, summarize=fails)
        with pytest.raises(RuntimeError, match="no summary today"):
            await session.stream("a")
        assert session.messages == tuple(said)
        assert not vendors["openai"].requests
        session.summarize = None
        assert await session.stream("a") == "Yes."
        with pytest.raises(TypeError, match="summarize has to return a text, got None"):
            await Session(messages=said, summarize=lambda _: None).trim(turns=1)  # type: ignore[arg-type, return-value]

    async def test_a_summary_holds_the_session(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=Reply("Yes."))
        asked = asyncio.Event()

        async def sum_up(messages: tuple[Message, ...]) -> str:
            asked.set()
            await asyncio.Event().wait()
            return "never"

        session = Session(messages=[each for n in range(3) for each in _turn(n, 1, 0)], summarize=sum_up)
        trimming = asyncio.create_task(session.trim(turns=1))
        await asked.wait()
        with pytest.raises(SessionBusyError, match="its trim is at work"):
            await session.stream("a")
        trimming.cancel()
        await asyncio.wait([trimming])
        assert await session.stream("a") == "Yes."

    async def test_a_trim_waits_for_a_stream_that_is_ending(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=Reply("Yes."))
        store = PausedSessions()
        session = Session(store=store)
        for number in range(3):
            store.go_on.set()
            await session.stream(f"question {number}")
        store.go_on.clear()
        store.writing.clear()
        reading = asyncio.create_task(session.stream("the last one").text())
        await store.writing.wait()
        trimming = asyncio.create_task(session.trim(turns=2))
        await asyncio.wait([trimming], timeout=0.02)
        assert not trimming.done()
        store.go_on.set()
        assert (await reading, len(await trimming)) == ("Yes.", 2)

    async def test_trim_needs_a_measure(self) -> None:
        with pytest.raises(TypeError, match="trim needs tokens= or turns="):
            await Session().trim()
        assert await Session().trim(turns=1) == ()

    def test_leading_system_messages_are_found(self) -> None:
        system = SessionTurn(id="a", messages=(Message("system", "x"),), state="added")
        user = SessionTurn(id="b", messages=(Message("user", "x"),), state="added")
        assert [leading(turns) for turns in ([], [system], [system, user], [user, system])] == [0, 1, 1, 0]


# ── rewinding and branches ───────────────────────────────────────────────────────────────────────────────────────────

_steps = st.lists(
    st.tuples(st.sampled_from(["add", "rewind", "branch", "switch", "delete", "trim", "flush"]), st.integers(0, 5)),
    max_size=25,
)


class TestAnyChanges:
    @given(steps=_steps)
    def test_a_session_and_its_store_follow_a_simple_model(self, steps: list[tuple[str, int]]) -> None:
        """The model: a dict of branches, each a list of turns, each a list of messages."""

        async def play() -> None:
            store = MemorySessions()
            session = Session(id="chat", store=store)
            model: dict[str, list[list[Message]]] = {"main": []}
            here = "main"
            for number, (step, choice) in enumerate(steps):
                names = list(model)
                name = names[choice % len(names)]
                match step:
                    case "add":
                        said = _turn(number, choice, choice % 3)
                        for message in said:
                            for part in message.parts:
                                pass
                            session.add(message.role, message.parts)
                        model[here].append(said)
                    case "rewind":
                        if not 1 <= choice <= len(model[here]):
                            with pytest.raises(ValueError, match=r"1 or more|turns of the user"):
                                session.rewind(choice)
                        else:
                            gone = session.rewind(choice)
                            assert [m for t in gone for m in t.messages] == [
                                m for t in model[here][-choice:] for m in t
                            ]
                            del model[here][-choice:]
                    case "branch":
                        here = _branch(session, model, here, f"b{choice}")
                    case "switch":
                        session.switch_to(name)
                        here = name
                    case "delete" if name != here:
                        session.delete_branch(name)
                        del model[name]
                    case "trim":
                        await session.trim(turns=choice + 1)
                        model[here] = model[here][-(choice + 1) :]
                    case _:
                        await session.flush()
                assert list(session.messages) == [m for turn in model[here] for m in turn]
                assert (session.branches, session.current_branch) == (tuple(model), here)
            await session.flush()
            again = await Session.open("chat", None, store)
            for branch, turns in model.items():
                again.switch_to(branch)
                assert list(again.messages) == [m for turn in turns for m in turn]
            found = await store.read("chat")
            used = {turn.id for branch in model for turn in _turns_of(again, branch)}
            assert found is None or {name for name in found[1] if name != "head"} == {f"turn:{each}" for each in used}

        asyncio.run(play())


def _branch(session: Session, model: dict[str, list[list[Message]]], here: str, new: str) -> str:
    if new in model:
        with pytest.raises(ValueError, match=r"there is a branch .* already"):
            session.branch(new)
        return here
    session.branch(new)
    model[new] = list(model[here])
    return new


def _rewind(session: Session, turns: list[list[Message]], count: int) -> None:
    if not 1 <= count <= len(turns):
        with pytest.raises(ValueError, match=r"1 or more|turns of the user"):
            session.rewind(count)
        return
    gone = session.rewind(count)
    assert [message for turn in gone for message in turn.messages] == [each for turn in turns[-count:] for each in turn]
    del turns[-count:]


def _turns_of(session: Session, branch: str) -> tuple[SessionTurn, ...]:
    session.switch_to(branch)
    return session.turns


async def test_a_file_that_is_no_image_stops_only_its_turn(simulated_switch: SimulatedSwitch, tmp_path: Path) -> None:
    simulated_switch(openai=Reply("Yes."))
    session = Session()
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InvalidRequestError, match="not those of an image"):
        await session.stream("What is it?", images=tmp_path / "text.png")
    assert await session.stream("Never mind.") == "Yes."
    assert not any(isinstance(part, ImagePart) for each in session.messages for part in each.parts)
