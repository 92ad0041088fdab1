"""Readers: each asks a question in the way of its plan, and writes down what it gets in its `Reading`.

A reader runs in a task of its own. Whatever ends it, it notes the outcome and returns. An observer of the switch writes
`Reading.watched`: it knows the reading by a context variable that the reader's task has set.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from contextlib import aclosing
from pathlib import Path
from types import coroutine
from typing import Any, Final, cast

from llm_dispatcher import LLM, LLMSwitch, Session, SQLiteSessions, llm_stream, llm_stream_with_metadata
from llm_dispatcher._policy import Policy
from llm_dispatcher._serving.current import use_switch
from llm_dispatcher._stream import LLMStream
from llm_dispatcher.events import Event, StreamCompleted, StreamFailed, StreamReset, TextDelta, ToolResult
from llm_dispatcher.streaming import ProgressTracker, StreamingCallbacks
from llm_dispatcher.streaming._account import Account
from llm_dispatcher.streaming._observe import ObservedCall, Observer, Watcher
from llm_dispatcher.tasks import Message, TaskRequest, Tool
from llm_dispatcher.testing._simulation.choices import Choices
from tests.simulation.answers import answer_to, found_out, turns_of_tools
from tests.simulation.promises.kit import resilience_of
from tests.simulation.record import Reading, ToolRun
from tests.simulation.scenario import ReaderPlan, ToolPlan
from tests.simulation.witness import reading_now

_PARAMETERS: Final = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
TOOLS: Final = (
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Look up a part of a bird.",
            "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
        },
    },
)
WAITING: Final = 0.2
"""Seconds for which a callback for a chunk waits, if it does."""
WITH_TOOL: Final = " Then call the tool."


def note_policy(policy: Policy) -> None:
    """The stream of the reader that runs has this policy from now on."""
    reading = reading_now.get()
    if reading is None:
        return
    reading.policy = policy
    own, usual = reading.plan.options.get("timeout"), resilience_of(policy, reading, None).timeouts.total
    if own is None or reading.plan.through == "body":  # the streams of a body have the policy's
        reading.total = usual if own is None or (usual is not None and usual < own) else own
    else:
        reading.total = own


class Watch(Observer):
    """Writes the events of each reader's stream to its reading."""

    def begin(self, call: ObservedCall | None, account: Account) -> Watcher | None:
        reading = reading_now.get()
        return None if reading is None else _Watching(reading.watched)


class _Watching:
    def __init__(self, events: list[Event]) -> None:
        self._events = events

    def chunk(self, event: TextDelta, account: Account) -> None:
        self._events.append(event)

    def watch(self, event: Event, account: Account) -> None:
        self._events.append(event)


class Sessions:
    """The sessions of a process, which are in a file that the next process has as well."""

    def __init__(self, path: Path | None) -> None:
        self._store = None if path is None else SQLiteSessions(path)
        self._opened: dict[str, Session] = {}
        self._lock = asyncio.Lock()

    async def of(self, name: str) -> Session:
        """The session with a name. All readers of a process have the same one."""
        async with self._lock:
            if name not in self._opened:
                self._opened[name] = await self.read(name)
            return self._opened[name]

    async def read(self, name: str) -> Session:
        """The session as it is in the file."""
        return await Session.open(name, LLM(), self._store)


class Reader:
    """One reader. `stream` is there once it has asked; `note` writes a line of the trace."""

    def __init__(
        self,
        plan: ReaderPlan,
        reading: Reading,
        switch: LLMSwitch,
        choices: Choices,
        sessions: Sessions,
        note: Callable[[str, str], None],
    ) -> None:
        self.plan = plan
        self.reading = reading
        self.stream: LLMStream[Any] | None = None
        self._switch = switch
        self._choices = choices
        self._sessions = sessions
        self._is_complete = False
        self._turn_began = 0
        self._note = note
        self._tracker = ProgressTracker() if plan.has_progress else None

    async def run(self) -> None:
        """Wait for its moment, and read. It never raises an error of the stream."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self.plan.starts_at - loop.time()))
        reading, plan, task = self.reading, self.plan, asyncio.current_task()
        assert task is not None
        reading.began_at = reading.last_asked_at = loop.time()
        reading.process = plan.process
        self._note(plan.name, f"asks {plan.question!r} by {plan.through}, {plan.way}")
        reading_now.set(reading)
        closing = None
        timer = None if plan.cancelled_at is None else loop.call_later(plan.cancelled_at, self._cancel, task)
        try:
            with use_switch(self._switch):
                session = None if plan.session is None else await self._sessions.of(plan.session)
                reading.began_at = reading.last_asked_at = loop.time()
                self.stream = self._open(session)
                if plan.closed_after is not None:
                    closing = loop.create_task(self._close_later(plan.closed_after), name=f"closer of {plan.name}")
                work = self._read(self.stream)
                await (work if plan.cancelled_after is None else _cancelled_at(work, plan.cancelled_after, reading))
        except asyncio.CancelledError:
            reading.outcome = "cancelled"
            reading.ended_by_other = loop.time() if reading.ended_by_other is None else reading.ended_by_other
        except Exception as error:
            if getattr(loop, "is_killed", False):
                return  # its process is dead, and what is left of it is dropped
            was_closed = isinstance(error, RuntimeError) and "already running" in str(error)
            if was_closed and reading.ended_by_other is not None:
                reading.outcome = "left"  # Python's own error for a generator that another task is closing
            else:
                reading.outcome, reading.error = "failed", error
        reading.ended_at = loop.time()
        reading.cancellations = task.cancelling()
        if timer is not None:
            timer.cancel()
        self._note(plan.name, f"{reading.outcome} {len(reading.text)} {type(reading.error).__name__}")
        if closing is not None and reading.ended_by_other is None:
            closing.cancel()  # it still waits; once it closes the stream, it is left alone

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        self._note(f"canceller of {self.plan.name}", "cancels it")
        self.reading.cancelled_at = self.reading.ended_by_other = asyncio.get_running_loop().time()
        task.cancel()

    def finish(self) -> None:
        """Take the response, when late rows of its ledger are there as well."""
        if self.stream is not None:
            self.reading.response = self.stream.response

    # ── asking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, session: Session | None) -> LLMStream[Any]:
        plan = self.plan
        prompt = plan.question + (WITH_TOOL if plan.wants_tools else "")
        request: dict[str, Any] = {**plan.request, **({"tools": TOOLS} if plan.wants_tools else {})}
        if plan.tool is not None:
            prompt = plan.question + turns_of_tools(plan.tool.turns, plan.tool.calls)
            request["tools"] = (look_up(plan.tool, self.reading, self._choices),)
        options: dict[str, Any] = {**plan.options, "callbacks": self._callbacks(), "progress_tracker": self._tracker}
        through = "function" if plan.way == "metadata" and plan.through in ("request", "llm") else plan.through
        if session is not None:
            return session.stream(prompt, **request, **options)
        if through == "request":
            return self._switch.stream_request(_request(prompt, request, plan.open_turn), **options)
        if through == "llm":
            return LLM(**request, **options)(prompt)
        decorate = llm_stream_with_metadata if plan.way == "metadata" else llm_stream
        if through == "stand-in":
            options["body"] = "stand-in"
        body: Any = {"body": _from_body, "stand-in": _stand_in}.get(through, _prompt)
        function: Any = decorate(**request, **options)(body)
        stream: LLMStream[Any] = function(prompt)
        return stream

    def _callbacks(self) -> StreamingCallbacks | None:
        if not self.plan.has_callbacks:
            return None
        called, raises = self.reading.callbacks, self.plan.raises_in_callbacks

        def named(name: str) -> Callable[..., None]:
            def call(*arguments: Any) -> None:
                called.append(name)
                if raises:
                    raise ValueError(f"the callback {name} fails on purpose")

            return call

        async def on_stream_end(*arguments: Any) -> None:
            called.append("on_stream_end")
            await asyncio.sleep(0.01)

        async def on_chunk_received(*arguments: Any) -> None:
            called.append("on_chunk_received")
            await asyncio.sleep(WAITING)

        others = ("on_stream_start", "on_chunk_received", "on_error", "on_switch", "on_reasoning")
        others_of_tools = ("on_tool_call", "on_tool_result")
        callbacks: dict[str, Any] = {name: named(name) for name in (*others, *others_of_tools)}
        if self.plan.waits_in_callbacks:
            callbacks["on_chunk_received"] = on_chunk_received
        return StreamingCallbacks(on_stream_end=on_stream_end, **callbacks)

    # ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _read(self, stream: LLMStream[Any]) -> None:
        reading, plan = self.reading, self.plan
        if plan.way in ("await", "collect"):
            reading.text = await stream if plan.way == "await" else (await stream.collect()).text
            self._progress()
            reading.outcome = "completed"
            return
        items = aiter(stream) if plan.way != "events" else stream.events()
        if plan.is_dropped:
            await self._take(items)  # it drops the generator, as a `break` does
        else:
            async with aclosing(cast(AsyncGenerator[Any, None], items)):
                await self._take(items)
        if reading.outcome == "open":
            is_cancelled = stream.response.finish_reason == "cancelled"
            reading.outcome = "left" if is_cancelled else "completed"

    async def _take(self, items: AsyncIterator[Any]) -> None:
        reading, plan, loop = self.reading, self.plan, asyncio.get_running_loop()
        taken = 0
        while plan.leaves_after is None or taken < plan.leaves_after:
            reading.last_asked_at = loop.time()
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            taken += 1
            self._put_down(item)
            if plan.pause:
                await asyncio.sleep(plan.pause)
        reading.outcome = "completed" if self._is_complete else "left"

    def _put_down(self, item: Any) -> None:
        reading = self.reading
        self._progress()
        if isinstance(item, str):
            reading.text += item
        elif isinstance(item, dict):
            reading.text += item["chunk"]
            self._is_complete = item["finish_reason"] is not None
        else:
            reading.events.append(item)
            if isinstance(item, TextDelta):
                reading.text += item.text
            elif isinstance(item, ToolResult):
                self._turn_began = len(reading.text)
            elif isinstance(item, StreamReset):
                reading.text = reading.text[: self._turn_began]
            elif isinstance(item, StreamCompleted):
                self._is_complete = True
            elif isinstance(item, StreamFailed):
                assert self.stream is not None
                reading.outcome, reading.error = "failed", self.stream.response.error

    def _progress(self) -> None:
        if self._tracker is not None:
            self.reading.progress.append(self._tracker.get_progress())

    async def _close_later(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self.stream is not None and self.reading.ended_at is None:
            self.reading.ended_by_other = asyncio.get_running_loop().time()
            self._note(f"closer of {self.plan.name}", "closes the stream")
            await self.stream.aclose()


def look_up(plan: ToolPlan, reading: Reading, choices: Choices) -> Tool:
    """The tool of a reader, which writes its runs to the reading."""
    loop = asyncio.get_running_loop()

    def begin(arguments: dict[str, Any]) -> ToolRun:
        run = ToolRun(arguments.get("name", arguments), loop.time())
        reading.tool_runs.append(run)
        return run

    def end(run: ToolRun) -> str:
        is_hit = choices.chance(plan.share, f"tool of {reading.name}")
        if plan.trouble == "raises" and is_hit:
            raise ValueError("the tool fails on purpose")
        run.returned = found_out(str(run.argument))
        return run.returned

    async def look(**arguments: Any) -> str:
        run = begin(arguments)
        try:
            is_slow = plan.trouble == "is slow" and choices.chance(plan.share, f"tool of {reading.name}")
            await asyncio.sleep(plan.seconds + (1_000.0 if is_slow else 0.0))
            return end(run)
        finally:
            run.ended_at = loop.time()

    def look_in_a_thread(**arguments: Any) -> str:
        run = begin(arguments)
        run.ended_at = run.began_at
        return end(run)

    function: Any = look_in_a_thread if plan.trouble == "blocks" else look
    return Tool("look_up", "Look up a part of a bird.", _PARAMETERS, function, timeout=plan.timeout)


def _request(prompt: str, request: dict[str, Any], open_turn: int) -> TaskRequest:
    if not open_turn:
        return TaskRequest(prompt, **request)
    begun = answer_to(prompt)[:open_turn]
    return TaskRequest(messages=[Message("user", prompt), Message("assistant", begun)], **request)


async def _prompt(question: str) -> str:
    return question


async def _stand_in(question: str) -> AsyncIterator[str]:
    """Answers in place of a model, in pieces of seven characters."""
    answer = answer_to(question)
    for at in range(0, len(answer), 7):
        await asyncio.sleep(0.02)
        yield answer[at : at + 7]


async def _from_body(llm: LLM, question: str) -> AsyncIterator[str]:
    async for chunk in llm(question):
        yield chunk


@coroutine
def _cancelled_at(work: Coroutine[Any, Any, None], step: int, reading: Reading) -> Generator[Any, Any, None]:
    """Run a coroutine in this task, and cancel the task in its step number `step`, before what it does there."""
    steps, error = 0, None
    while True:
        task = asyncio.current_task()
        is_now = steps == step
        if is_now and task is not None:
            task.cancel()
        steps += 1
        try:
            awaited = work.send(None) if error is None else work.throw(error)
        except StopIteration:
            return
        error = None
        if is_now:  # and it waits, so its cancellation is raised there
            reading.cancelled_at = asyncio.get_running_loop().time()
        try:
            yield awaited
        except BaseException as raised:
            error = raised
