"""Sessions: what joins the history, who may read, and what is refused."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from llm_dispatcher import (
    LLM,
    MemorySessions,
    Message,
    RunContext,
    Session,
    SessionTurn,
    StreamingCallbacks,
    StreamingError,
    Target,
    llm_stream,
)
from llm_dispatcher._sessions.reading import read_session
from llm_dispatcher._sessions.turns import NOT_RUN
from llm_dispatcher.events import ToolCall
from llm_dispatcher.exceptions import (
    AllProvidersFailedError,
    InvalidRequestError,
    ProviderError,
    SessionBusyError,
    SessionConflictError,
    SessionStoreError,
)
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.tasks import ImagePart, TextPart, ToolCallPart, ToolResultPart
from llm_dispatcher.testing import Cut, HttpError, Reply, SaidToolCall, Stall
from tests.conversations.session_kit import (
    PNG,
    FailingSessions,
    PausedSessions,
    roles_of,
    texts_of,
)

TALE = "Once upon a time there was a fox who lived by the sea."


class TestHistory:
    async def test_each_turn_remembers_the_ones_before_it(self, simulated_switch: SimulatedSwitch) -> None:
        vendors = simulated_switch(anthropic=[Reply("Hello, Ada."), Reply("You are Ada.")])
        session = Session(LLM(system="Be brief."))
        assert await session.stream("I am Ada.") == "Hello, Ada."
        assert await session.stream("Who am I?") == "You are Ada."
        assert texts_of(session.messages) == ["I am Ada.", "Hello, Ada.", "Who am I?", "You are Ada."]
        sent = vendors["anthropic"].requests[-1].body
        assert [each["role"] for each in sent["messages"]] == ["user", "assistant", "user"]
        assert [turn.state for turn in session.turns] == ["complete", "complete"]
        assert session.turns[0].target == Target("anthropic", "simulated")
        assert len(session) == 4

    async def test_a_stream_that_is_not_read_adds_nothing(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=Reply("Yes."))
        session = Session()
        unread = session.stream("Never asked.")
        assert await session.stream("Asked.") == "Yes."
        assert texts_of(session.messages) == ["Asked.", "Yes."]
        await unread.aclose()

    async def test_what_was_said_before_or_elsewhere_is_sent(self, simulated_switch: SimulatedSwitch) -> None:
        vendors = simulated_switch(groq=Reply("Blue."))
        session = Session(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
        session.add("assistant", "Hello.")
        session.add("user", "Which colour has the sky?")
        assert await session.stream() == "Blue."  # without a prompt, what was added is answered
        assert [each["role"] for each in vendors["groq"].requests[0].body["messages"]] == [
            "system", "user", "assistant", "user",
        ]  # fmt: skip
        assert [turn.state for turn in session.turns] == ["added"] * 4 + ["complete"]

    async def test_with_nothing_to_answer_nothing_is_sent(self, simulated_switch: SimulatedSwitch) -> None:
        vendors = simulated_switch(openai=Reply("Yes."))
        session = Session(messages=[Message("user", "Hi"), Message("assistant", "Hello.")])
        with pytest.raises(InvalidRequestError, match="nothing to answer"):
            await session.stream()
        with pytest.raises(InvalidRequestError, match="the prompt is empty"):
            await session.stream("  ")
        assert not vendors["openai"].requests
        assert len(session) == 2

    async def test_an_image_is_read_once_and_stays(self, simulated_switch: SimulatedSwitch, tmp_path: Path) -> None:
        vendors = simulated_switch(anthropic=[Reply("A dot."), Reply("Red.")])
        picture = tmp_path / "dot.png"
        picture.write_bytes(PNG)
        session = Session()
        await session.stream("What is it?", images=picture)
        picture.unlink()
        await session.stream("Which colour?")
        kinds = [part["type"] for part in vendors["anthropic"].requests[-1].body["messages"][0]["content"]]
        assert kinds == ["image", "text"]
        assert isinstance(session.messages[0].parts[0], ImagePart)

    async def test_an_option_of_one_turn_is_not_one_of_the_session(self, simulated_switch: SimulatedSwitch) -> None:
        vendors = simulated_switch(openai=Reply("One."), anthropic=Reply("Two."))
        session = Session()
        await session.stream("a", model="anthropic/simulated", temperature=0.1)
        await session.stream("b")
        assert [len(vendor.requests) for vendor in vendors.values()] == [0, 2]  # it stays where it was
        assert "temperature" not in vendors["anthropic"].requests[-1].body

    async def test_requests_have_a_cache_key_that_is_not_the_id(self, simulated_switch: SimulatedSwitch) -> None:
        vendors = simulated_switch(openai=Reply("Yes."))
        await Session(id="ada@example.org").stream("hi")
        await Session(id="ada@example.org").stream("hi", cache_key="mine")
        first, second = (request.body["prompt_cache_key"] for request in vendors["openai"].requests)
        assert len(first) == 32 and "ada" not in first
        assert second == "mine"


class TestBrokenAnswers:
    async def test_a_broken_answer_is_kept_and_marked(self, simulated_switch: SimulatedSwitch) -> None:
        vendors = simulated_switch(openai=[Reply(TALE, fault=Cut(after=3)), Reply("Sorry.")])
        session = Session()
        with pytest.raises(StreamingError):
            await session.stream("A tale.", on_break="raise")
        turn = session.turns[-1]
        assert (turn.state, texts_of(turn.messages)) == ("partial", ["A tale.", "Once upon a"])
        assert turn.failure is not None and turn.failure.kind == "StreamingError"
        assert await session.stream("What?") == "Sorry."
        assert "Once upon a" in str(vendors["openai"].requests[-1].body)

    async def test_an_answer_that_was_left_is_kept_at_once(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply(TALE), Reply("Sorry.")])
        session = Session()
        async for _ in session.stream("A tale."):
            break
        assert texts_of(session.messages) == ["A tale.", "Once"]  # although the loop has not closed the stream yet
        assert await session.stream("What?") == "Sorry."
        assert [turn.state for turn in session.turns] == ["partial", "complete"]

    async def test_without_partial_answers_both_turns_are_dropped(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply(TALE), Reply("Sorry.")])
        session = Session(keep_partial=False)
        async for _ in session.stream("A tale."):
            break
        assert session.messages == ()
        assert await session.stream("What?") == "Sorry."
        assert texts_of(session.messages) == ["What?", "Sorry."]

    async def test_a_turn_without_any_answer_is_dropped(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply(fault=HttpError(503)), Reply("Yes.")])
        session = Session()
        with pytest.raises(ProviderError):
            await session.stream("Again?")
        assert session.messages == ()
        assert await session.stream("Again?") == "Yes."
        assert texts_of(session.messages) == ["Again?", "Yes."]

    async def test_an_empty_answer_keeps_the_turns_of_both(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(anthropic=[Reply(""), Reply("Yes.")])
        session = Session()
        assert not await session.stream("Say nothing.")
        assert roles_of(session.messages) == ["user", "assistant"]
        assert await session.stream("Thanks.") == "Yes."

    async def test_a_cancelled_reader_leaves_a_partial_turn(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply(TALE, fault=Stall(after=2)), Reply("Sorry.")])
        session = Session()
        received: list[str] = []

        async def read() -> None:
            async for chunk in session.stream("A tale."):
                received.append(chunk)
                if len(received) == 2:
                    task.cancel()

        task = asyncio.create_task(read())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert texts_of(session.messages) == ["A tale.", "".join(received)]
        assert await session.stream("What?") == "Sorry."


class TestReaders:
    async def test_two_readers_at_once_are_refused_by_name(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=Reply(TALE))
        session = Session(id="chat-7")
        first = session.stream("A tale.")
        reading = aiter(first)
        await anext(reading)
        with pytest.raises(SessionBusyError, match="'chat-7' cannot stream now, because another stream"):
            await session.stream("Another.")
        for change in (lambda: session.add("user", "x"), session.rewind, lambda: session.branch("b")):
            with pytest.raises(SessionBusyError, match="chat-7"):
                change()
        with pytest.raises(SessionBusyError, match="cannot trim"):
            await session.trim(turns=1)
        await first.aclose()
        assert await session.stream("Another.") == TALE

    async def test_a_reader_that_was_cancelled_long_ago_is_a_reader(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=Reply(TALE))
        session = Session()

        async def read() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)  # and it goes on, as some programs do
            first = session.stream("A tale.")
            reading = aiter(first)
            await anext(reading)
            with pytest.raises(SessionBusyError):
                await session.stream("Another.")
            with pytest.raises(SessionBusyError):
                await asyncio.gather(session.stream("Another.").text())
            await first.aclose()

        await asyncio.wait_for(asyncio.create_task(read()), 10)

    async def test_the_next_turn_may_follow_a_cancellation_at_once(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply(TALE, fault=Stall(after=2)), Reply("Sorry.")])
        session = Session()
        began = asyncio.Event()

        async def read() -> None:
            async for _ in session.stream("A tale."):
                began.set()

        reading = asyncio.create_task(read())
        await began.wait()
        reading.cancel()
        assert await session.stream("What?") == "Sorry."  # without awaiting the task that was cancelled
        assert [turn.state for turn in session.turns] == ["partial", "complete"]
        assert reading.done()

    async def test_a_callback_may_begin_the_next_turn(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply("One."), Reply("Two.")])
        session = Session()
        second: list[str] = []

        async def go_on(*_: object) -> None:
            second.append(await session.stream("b"))

        assert await session.stream("a", callbacks=StreamingCallbacks(on_stream_end=go_on)) == "One."
        assert second == ["Two."]
        assert texts_of(session.messages) == ["a", "One.", "b", "Two."]

    def test_the_next_turn_may_be_read_in_another_loop(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply(TALE), Reply("One."), Reply("Two."), Reply("Three.")])
        session = Session(store=MemorySessions())

        async def leave() -> None:
            async for _ in session.stream("A tale."):
                break

        asyncio.run(leave())
        assert session.stream("b").result().text == "One."
        assert list(session.stream("c")) == ["Two."]
        assert asyncio.run(session.stream("d").text()) == "Three."
        assert [turn.state for turn in session.turns] == ["partial", "complete", "complete", "complete"]

    @pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_loop_that_died_with_its_reader_does_not_hold_the_session(
        self, simulated_switch: SimulatedSwitch
    ) -> None:
        simulated_switch(openai=[Reply(TALE), Reply("One.")])
        session = Session()
        loop = asyncio.new_event_loop()
        reading = aiter(session.stream("A tale."))
        assert loop.run_until_complete(anext(reading)) == "Once"
        loop.close()
        assert texts_of(session.messages) == ["A tale.", "Once"]
        assert session.stream("b").result().text == "One."
        del reading
        gc.collect()  # what the dead loop has left open warns now, and in no other test
        assert [turn.state for turn in session.turns] == ["partial", "complete"]

    async def test_a_body_uses_its_own_llm(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply("One."), Reply("Two.")])

        @llm_stream
        async def chat(llm: LLM, first: str, second: str) -> AsyncIterator[str]:
            session = Session(llm)
            yield await session.stream(first)
            async for chunk in session.stream(second):
                yield chunk

        response = await chat("a", "b").collect()
        assert response.text == "One.Two."
        assert len(response.attempts) == 2  # the outer stream counts what the session has asked


class TestStores:
    async def test_a_session_goes_on_after_a_restart(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply("One."), Reply("Two.")])
        store = MemorySessions()
        session = Session(id="chat", store=store)
        await session.stream("a")
        again = await Session.open("chat", LLM(), store)
        assert again.messages == session.messages
        assert again.affinity == session.affinity
        assert await again.stream("b") == "Two."
        assert (await Session.open("chat", LLM(), store)).turns == again.turns

    async def test_a_session_that_is_not_stored_is_new(self) -> None:
        session = await Session.open("new", LLM(), MemorySessions())
        assert (session.id, session.messages) == ("new", ())

    async def test_a_store_that_fails_ends_the_stream_and_the_history_is_usable(
        self, simulated_switch: SimulatedSwitch
    ) -> None:
        vendors = simulated_switch(openai=[Reply("One."), Reply("Two.")])
        store = FailingSessions()
        session = Session(id="chat", store=store)
        store.fails = True
        chunks: list[str] = []
        with pytest.raises(SessionStoreError, match="'chat' could not be stored") as caught:
            async for chunk in session.stream("a"):
                chunks.append(chunk)
        assert (chunks, str(caught.value.__cause__)) == (["One."], "the disk of https://me:pass-word@db is full")
        assert "pass-word" not in str(caught.value)
        assert texts_of(session.messages) == ["a", "One."]
        with pytest.raises(SessionStoreError):
            await session.stream("b")
        assert len(vendors["openai"].requests) == 1  # nothing is asked while the store is behind
        store.fails = False
        assert await session.stream("b") == "Two."
        assert texts_of((await Session.open("chat", None, store)).messages) == ["a", "One.", "b", "Two."]

    async def test_a_left_turn_that_cannot_be_stored_is_stored_by_the_next(
        self, simulated_switch: SimulatedSwitch, caplog: pytest.LogCaptureFixture
    ) -> None:
        simulated_switch(openai=[Reply(TALE), Reply("Two.")])
        store = FailingSessions()
        session = Session(id="chat", store=store)
        store.fails = True
        stream = session.stream("a")
        async for _ in stream:
            break
        await stream.aclose()
        assert "the session chat is not stored yet: " in caplog.text
        store.fails = False
        await session.stream("b")
        assert [turn.state for turn in (await Session.open("chat", None, store)).turns] == ["partial", "complete"]

    async def test_a_write_goes_on_when_its_reader_is_cancelled(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply("One."), Reply("Two.")])
        store = PausedSessions()
        session = Session(id="chat", store=store)
        reading = asyncio.create_task(session.stream("a").text())
        await store.writing.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        store.go_on.set()
        await store.written.wait()  # although nobody waits for the session any more
        assert texts_of((await Session.open("chat", None, store)).messages) == ["a", "One."]

    async def test_the_next_turn_waits_for_the_write(self, simulated_switch: SimulatedSwitch) -> None:
        vendors = simulated_switch(openai=[Reply("One."), Reply("Two.")])
        store = PausedSessions()
        session = Session(id="chat", store=store)
        reading = asyncio.create_task(session.stream("a").text())
        await store.writing.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        following = asyncio.create_task(session.stream("b").text())
        await asyncio.wait([following], timeout=0.05)
        assert len(vendors["openai"].requests) == 1
        store.go_on.set()
        assert await following == "Two."
        assert texts_of((await Session.open("chat", None, store)).messages) == ["a", "One.", "b", "Two."]

    async def test_the_second_of_two_writers_is_refused(self, simulated_switch: SimulatedSwitch) -> None:
        vendors = simulated_switch(openai=Reply("Yes."))
        store = MemorySessions()
        first = Session(id="chat", store=store)
        await first.stream("a")
        second = await Session.open("chat", None, store)
        await second.stream("b")
        with pytest.raises(SessionConflictError, match="'chat' was changed by another process or object"):
            await first.stream("c")
        asked = len(vendors["openai"].requests)
        with pytest.raises(SessionConflictError):
            await first.stream("d")
        assert len(vendors["openai"].requests) == asked  # it costs no second answer
        assert texts_of((await Session.open("chat", None, store)).messages) == ["a", "Yes.", "b", "Yes."]

    async def test_a_store_that_does_not_say_whether_it_stored_is_named(self) -> None:
        class Silent(MemorySessions):
            async def write(self, *_: object) -> None:  # type: ignore[override]
                pass

        with pytest.raises(SessionStoreError, match="returns whether it has stored, got None"):
            await Session(store=Silent(), messages=[Message("user", "Hi")]).flush()  # type: ignore[arg-type]

    async def test_an_id_that_is_stored_already_is_refused(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=Reply("Yes."))
        store = MemorySessions()
        await Session(id="chat", store=store).stream("a")
        with pytest.raises(SessionConflictError, match="a session 'chat' is stored already"):
            await Session(id="chat", store=store).stream("b")

    async def test_a_write_whose_answer_was_lost_is_recognised(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply("One."), Reply("Two.")])
        store = FailingSessions()
        session = Session(id="chat", store=store)
        store.loses_answers = True
        with pytest.raises(SessionStoreError):
            await session.stream("a")
        store.loses_answers = False
        assert await session.stream("b") == "Two."
        assert texts_of((await Session.open("chat", None, store)).messages) == ["a", "One.", "b", "Two."]


class TestCallsAndResults:
    async def test_a_tool_sees_the_session_and_its_run_is_stored_before(
        self, simulated_switch: SimulatedSwitch
    ) -> None:
        simulated_switch(anthropic=[Reply("Let me see.", tool_calls=(SaidToolCall("look"),)), Reply("Nothing.")])
        store = MemorySessions()
        seen: list[SessionTurn] = []

        async def look(context: RunContext) -> str:
            """Look."""
            assert context.session is session
            assert session.messages == ()  # the turn joins the history at its end
            stored = await read_session(store, "chat", "the session")
            assert stored is not None
            [(name, record)] = stored.turns.items()
            seen.append(record.turn(name))
            assert [run.id for run in seen[0].runs] == [context.run_id]
            return "nothing"

        session = Session(LLM(tools=[look]), id="chat", store=store)
        assert await session.stream("Look.") == "Let me see.\n\nNothing."
        assert (seen[0].state, roles_of(seen[0].messages)) == ("running", ["user", "assistant"])
        assert (session.turns[0].id, session.turns[0].runs) == (seen[0].id, ())

    async def test_a_call_that_was_never_approved_was_not_run(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply(tool_calls=(SaidToolCall("pay", "{}"),)), Reply("It was not run.")])

        def pay() -> str:
            raise AssertionError("nobody approved this")

        def approve(call: ToolCall, context: RunContext) -> str:
            raise LookupError("nobody is at the desk")

        session = Session(LLM(tools=[pay]))
        with pytest.raises(LookupError):
            await session.stream("Pay.", tool_policy=approve)
        (result,) = [part for message in session.messages for part in message.parts if isinstance(part, ToolResultPart)]
        assert (result.result, result.error) == (NOT_RUN, True)
        assert await session.stream("Was it paid?") == "It was not run."

    async def test_reported_calls_wait_for_their_results(self, simulated_switch: SimulatedSwitch) -> None:
        call = SaidToolCall("weather", '{"city": "Oslo"}')
        vendors = simulated_switch(anthropic=[Reply("Let me see.", tool_calls=(call,)), Reply("Rain.")])
        session = Session(LLM(tools=[{"name": "weather", "parameters": {"type": "object"}}]))
        response = await session.stream("Oslo?").collect()
        [made] = response.tool_calls
        session.add("tool", ToolResultPart(made.id, made.name, "rain"))
        assert await session.stream() == "Rain."
        assert roles_of(session.messages) == ["user", "assistant", "tool", "assistant"]
        assert not any(part.error for part in session.messages[2].parts if isinstance(part, ToolResultPart))
        assert len(vendors["anthropic"].requests) == 2

    async def test_a_call_without_a_result_gets_one_that_says_so(self, simulated_switch: SimulatedSwitch) -> None:
        call = SaidToolCall("weather", '{"city": "Oslo"}')
        simulated_switch(anthropic=[Reply("Let me see.", tool_calls=(call,)), Reply("Never mind.")])
        session = Session(LLM(tools=[{"name": "weather", "parameters": {"type": "object"}}]))
        await session.stream("Oslo?")
        assert await session.stream("Forget it.") == "Never mind."
        result = session.messages[2].parts[0]
        assert isinstance(result, ToolResultPart) and result.error and "No result" in result.result

    def test_a_result_without_a_call_is_refused(self) -> None:
        session = Session()
        with pytest.raises(ValueError, match="the result of the tool 'weather' belongs to no open call"):
            session.add("tool", ToolResultPart("call_1", "weather", "rain"))
        session.add("assistant", ToolCallPart("call_1", "weather", "{}"))
        session.add("tool", ToolResultPart("call_1", "weather", "rain"))
        with pytest.raises(ValueError, match="no open call"):
            session.add("tool", ToolResultPart("call_1", "weather", "rain"))

    def test_a_part_that_no_vendor_takes_from_a_role_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"a message of role 'assistant' holds .*, not ImagePart"):
            Session().add("assistant", ImagePart(PNG))


class TestBranches:
    async def test_branches_part_and_keep_their_turns(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply("One."), Reply("Two."), Reply("Three.")])
        store = MemorySessions()
        session = Session(id="chat", store=store)
        await session.stream("a")
        session.branch("idea")
        await session.stream("b")
        session.switch_to("main")
        await session.stream("c")
        assert (session.branches, session.current_branch) == (("main", "idea"), "main")
        again = await Session.open("chat", None, store)
        assert texts_of(again.messages) == ["a", "One.", "c", "Three."]
        again.switch_to("idea")
        assert texts_of(again.messages) == ["a", "One.", "b", "Two."]
        again.switch_to("main")
        again.delete_branch("idea")
        await again.flush()
        assert (await Session.open("chat", None, store)).branches == ("main",)

    async def test_rewind_takes_turns_of_the_user_back(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=[Reply("One."), Reply("Two."), Reply("Three.")])
        store = MemorySessions()
        session = Session(id="chat", store=store, messages=[Message("system", "Be brief.")])
        await session.stream("a")
        await session.stream("b")
        [gone] = session.rewind()
        assert texts_of(gone.messages) == ["b", "Two."]
        await session.stream("c")
        assert texts_of(session.messages) == ["Be brief.", "a", "One.", "c", "Three."]
        found = await store.read("chat")
        assert found is not None
        assert not any("Two." in record.decode() for record in found[1].values())
        with pytest.raises(ValueError, match="has 2 turns of the user, got 3"):
            session.rewind(3)

    def test_names_are_checked(self) -> None:
        session = Session()
        with pytest.raises(ValueError, match="there is a branch 'main' already"):
            session.branch("main")
        with pytest.raises(ValueError, match="there is no branch 'x'; there are main"):
            session.switch_to("x")
        with pytest.raises(ValueError, match="the current branch"):
            session.delete_branch("main")
        with pytest.raises(ValueError, match="printable characters"):
            session.branch("")


class TestArguments:
    def test_wrong_arguments_are_refused_at_once(self) -> None:
        with pytest.raises(TypeError, match="a session needs an LLM, got str"):
            Session("openai/gpt")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"store is a SessionStore, got str; write SQLiteSessions\(path\)"):
            Session(store="chats.db")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="max_history_turns is 1 or more"):
            Session(max_history_turns=0)
        with pytest.raises(TypeError, match="summarize is a function"):
            Session(summarize="yes")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="there is no setting 'temprature'"):
            Session().stream("hi", temprature=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match=r"got messages=: add what was said elsewhere with session\.add\("):
            Session().stream("hi", messages=[])  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="the next prompt, got a list"):
            Session().stream([Message("user", "hi")])  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="is not an image"):
            Session().add("user", ImagePart("no-such-file.png"))

    def test_a_session_is_not_pickled_and_shows_what_it_is(self) -> None:
        session = Session(id="chat", messages=[Message("user", [TextPart("Hi")])])
        assert repr(session) == "<Session 'chat', 1 messages on the branch 'main'>"
        with pytest.raises(TypeError, match=r"save\(path\)"):
            pickle.dumps(session)
        assert bool(Session())

    async def test_all_providers_failing_is_the_error_of_the_stream(self, simulated_switch: SimulatedSwitch) -> None:
        simulated_switch(openai=Reply(fault=HttpError(503)), anthropic=Reply(fault=HttpError(503)))
        with pytest.raises(AllProvidersFailedError):
            await Session().stream("hi")


class Place(BaseModel):
    name: str
    people: int


class TestObjects:
    async def test_an_answer_may_be_an_object_of_the_conversation(self, simulated_switch: SimulatedSwitch) -> None:
        good = '{"name": "Oslo", "people": 700000}'
        vendors = simulated_switch(openai=[Reply("Oslo."), Reply('{"name": "Oslo"}'), Reply(good), Reply("Yes.")])
        session = Session()
        await session.stream("The capital of Norway?")
        place = await session.into(Place).stream("As an object.").parsed()
        assert place == Place(name="Oslo", people=700_000)
        assert texts_of(session.messages)[-2:] == ["As an object.", good]  # without the answer that was wrong
        assert await session.stream("Sure?") == "Yes."
        assert "Oslo." in str(vendors["openai"].requests[1].body)

    def test_the_type_is_checked_at_once(self) -> None:
        with pytest.raises(TypeError, match="response_format"):
            Session().into(Place).stream("x", response_format=Place)
        with pytest.raises(TypeError):
            Session().into("Place")
