"""`SessionOpening`: begins one stream of a session, and puts its turn into the history however it ends.

Theory of operation
-------------------
- **One reader.** `begin` claims the session, and the end of the stream releases it. Until then nothing else changes the
  history. A stream that was made and is not read claims nothing.
- **The end.** A complete answer joins the history, and is stored, before its `StreamCompleted` is passed on: a reader
  that has seen the end can rely on it. Any other end keeps what the reader has received, marked as partial, or nothing.
  The history in memory changes first and at once, without a wait, so it is whole also if the loop is gone. Then it is
  stored, in a write that the cancellation of the reader does not reach, and then the end goes on.
- **Tools.** Before tools run, the turn with its calls is stored as running; then their results, before the model is
  asked again. If the process dies in between, whoever opens the session finds the calls and repairs the turn.
- The transcript is that of the stream's account: it has exactly what the reader has received. Only the tap writes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from threading import Lock
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from .._cancellation import cancellations
from .._llm import open_conversation
from .._policy import Affinity
from .._stream import LLMStream, is_left
from .._tools import ToolRun
from ..events import Event, Failure, StreamCompleted
from ..exceptions import SessionStoreError
from ..notices import Notify, SessionNotStored
from ..streaming._account import Account
from ..streaming._observe import Observer, OpenedStream
from ..streaming._shape import Shape
from ..streaming._turns import turns_of
from ..tasks import Message, TaskRequest
from .affinity import after_stream
from .history import new_id
from .state import State
from .turns import SessionTurn, TurnState, ended

if TYPE_CHECKING:
    from .._llm import LLM


class SessionOpening:
    """How one stream of a session begins, and the conversation that its call belongs to."""

    def __init__(
        self,
        session: object,
        state: State,
        llm: LLM,
        request: Callable[[], Awaitable[tuple[TaskRequest, Message | None]]],
        *,
        keep_partial: bool,
    ) -> None:
        """Prepare a stream.

        Args:
            session: The session, for tools.
            state: Its state.
            llm: The `LLM` that answers.
            request: Makes the request from the history when the stream is read, and returns the user's message in it.
            keep_partial: Whether the turn of a broken answer is kept.
        """
        self._session = session
        self._state = state
        self._keep_partial = keep_partial
        self._request = request
        self._call = open_conversation(llm, self._make_request, self)
        self._asked: tuple[Message, ...] = ()
        self._is_complete = False
        self._joining = Lock()
        self._turn = SessionTurn(id=new_id(), messages=(), state="running")
        self._notify: Notify | None = None
        self.stream: LLMStream[Any] | None = None
        self.has_joined = False
        """Whether the turn has joined the history, or was dropped: the rest of the stream changes nothing."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: asyncio.Task[object] | None = None
        self._cancelled_before = 0
        self._over: Future[None] = Future()

    # ── an opening ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def account(self) -> Account:
        return self._call.account

    @property
    def observers(self) -> Sequence[Observer]:
        return self._call.observers

    async def begin(self, shape: Shape) -> OpenedStream:
        """Claim the session, and make the request from its history and the new turn."""
        self._loop, self._reader = asyncio.get_running_loop(), asyncio.current_task()
        self._cancelled_before = cancellations()
        await self._state.claims.claim(self)
        try:
            opened = await self._call.begin(shape)
        except BaseException:
            self._release()
            raise
        self._notify = opened.call.notify

        async def events() -> AsyncGenerator[Event, None]:
            try:
                return self._followed(await opened.events())
            except BaseException:
                self._release()
                raise

        return replace(opened, events=events)

    async def _make_request(self) -> TaskRequest:
        request, asked = await self._request()
        self._asked = () if asked is None else (asked,)
        return request

    async def _followed(self, source: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """The events. The turn joins the history before the stream ends."""
        error: BaseException | None = None
        try:
            async with aclosing(source):
                async for event in source:
                    if type(event) is StreamCompleted:
                        self._complete()
                        await self._state.flush()
                        self._release()  # a callback may begin the next turn
                    yield event
        except BaseException as raised:
            error = raised
            raise
        finally:
            await self._end(error)

    # ── a conversation ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def session(self) -> object:
        return self._session

    @property
    def affinity(self) -> Affinity | None:
        return self._state.affinity

    async def begin_runs(self, messages: Sequence[Message], runs: Sequence[ToolRun]) -> None:
        """Store the turn with its calls, before the tools run."""
        await self._store_running((*self._asked, *messages), tuple(runs))

    async def end_runs(self, results: Message) -> None:
        """Store the results, before the model is asked again."""
        await self._store_running((*self._turn.messages, results), ())

    async def _store_running(self, messages: tuple[Message, ...], runs: tuple[ToolRun, ...]) -> None:
        if self.has_joined:
            return
        self._turn = replace(self._turn, messages=messages, runs=runs, target=self.account.target)
        self._state.history.pending = self._turn
        await self._state.flush()

    # ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────

    def interrupt(self, error: BaseException | None = None) -> None:
        """Put what the reader has received into the history, as a partial turn. Nothing is awaited."""
        if not self.has_joined:
            messages, runs = turns_of(self.account.transcript), self._turn.runs
            kept = ended(messages, complete=False, runs=runs) if self._keep_partial else ()
            self._join(kept, "partial", Failure.of(error) if isinstance(error, Exception) else None)

    def _complete(self) -> None:
        self._is_complete = True
        self._note_places()
        self._join(ended(turns_of(self.account.transcript), complete=True), "complete")

    def _join(self, answer: tuple[Message, ...], state: TurnState, failure: Failure | None = None) -> None:
        """End the turn: with an answer, it joins the history; without one, nothing is left of it."""
        with self._joining:
            if self.has_joined:
                return
            self.has_joined = True
        history = self._state.history
        history.pending = None
        target = self.account.target
        if answer:
            messages = (*self._asked, *answer)
            turn = replace(self._turn, messages=messages, state=state, target=target, failure=failure, runs=())
            history.append(turn)

    def _note_places(self) -> None:
        """Note which target has answered, and what the vendors have cached. All attempts are in the ledger now."""
        history = self._state.history
        history.places = after_stream(history.places, self.account.ledger)

    async def _end(self, error: BaseException | None) -> None:
        """After the last event: keep what was received of a broken stream, and release the session."""
        try:
            self.interrupt(error)
            if not self._is_complete:
                self._note_places()
                if _has_loop():
                    await self._state.flush()
        except SessionStoreError as failed:
            # The stream has an end of its own, which goes on. The next turn stores this one first, or fails.
            if self._notify is not None:
                self._notify(SessionNotStored(self._state.id, Failure.of(failed)))
        finally:
            self._release()

    def _release(self) -> None:
        self.has_joined = True
        self._state.claims.release(self)
        if not self._over.done():
            self._over.set_result(None)

    # ── for the next stream ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_gone(self) -> bool:
        """Whether the loop that read the stream has stopped with it, so that the stream never ends by itself."""
        loop = self._loop
        if loop is None:
            return False
        return loop.is_closed() or (self.is_left and not loop.is_running())

    @property
    def is_left(self) -> bool:
        """Whether the reader has dropped its iterator. The loop is closing the stream then."""
        return self.stream is not None and is_left(self.stream)

    @property
    def is_ending(self) -> bool:
        """Whether the stream is about to end: its turn is being stored, or its reader has left or was cancelled."""
        return self.has_joined or self.is_left or self._is_cancelled

    @property
    def _is_cancelled(self) -> bool:
        """Whether another task has cancelled the reader since it began to read, and the reader has yet to notice it."""
        reader = self._reader
        if reader is None or reader.done() or reader is asyncio.current_task():
            return False
        return reader.cancelling() > self._cancelled_before

    async def wait_for_the_end(self) -> None:
        """Wait until the session is released, in whichever loop the stream is read."""
        await asyncio.wait([asyncio.wrap_future(self._over)])

    def abandon(self) -> None:
        """End the turn of a stream whose loop is gone."""
        self.interrupt()
        self._release()


def _has_loop() -> bool:
    """Whether an event loop runs here. The garbage collector may close a stream whose loop is gone."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
