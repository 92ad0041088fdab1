"""`Writer`: stores a session, one write at a time.

Theory of operation
-------------------
- **One write at a time.** A write is a task of its own in the reader's loop. `store` waits for an earlier write that is
  still under way, stores what is not stored yet, and waits for that. Each write takes the state of the session when it
  begins, so a write that failed is made up for by the next one.
- **Cancellation.** If the reader is cancelled while it waits, the write goes on, and the next `store` waits for it.
  If its loop has ended with the write under way, nobody can say whether it was stored: see below.
- **Another writer.** The store refuses a write whose revision is not the next one. Then either another process has
  written the session, and this object is behind for good; or an earlier write of this object was stored, and its answer
  was lost. The head has the id of its write, so the two can be told apart.
- `_stored` is what the store is known to hold. Only a write that has succeeded, and `adopt`, change it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, NoReturn

from msgspec import Struct
from msgspec.structs import replace

from .. import _clock
from ..exceptions import SessionConflictError, SessionStoreError
from .format import Head, decoded_head, encoded
from .history import HEAD, MAIN, TURN, History, records_of
from .stores import SessionStore, answered, in_words
from .turns import SessionTurn

_MOST_UNANSWERED: Final = 8
"""Writes without an answer that are remembered: the last ones."""


class _State(Struct, frozen=True):
    """What one write stores."""

    revision: int
    head: Head
    turns: Mapping[str, SessionTurn]


class Writer:
    """Stores the history of one session in its store."""

    def __init__(self, session: str, history: Callable[[], History], store: SessionStore) -> None:
        self._session = session
        self._history = history
        self._store = store
        self._stored: _State | None = None
        self._unanswered: dict[str, _State] = {}
        self._task: asyncio.Task[None] | None = None
        self._conflict: str | None = None

    def adopt(self, revision: int) -> None:
        """The store holds the history as it is now, under this revision."""
        history = self._history()
        self._stored = _State(revision, history.head(self._session), dict(history.stored_turns()))

    @property
    def is_behind(self) -> bool:
        """Whether something of the session is not stored yet, or may not be."""
        history = self._history()
        if self._unanswered:
            return True
        if self._stored is None:
            return bool(history.stored_turns()) or list(history.branches) != [MAIN]
        turns, stored = history.stored_turns(), self._stored.turns
        if turns.keys() != stored.keys() or any(stored[each] is not turn for each, turn in turns.items()):
            return True
        return replace(self._stored.head, write="") != history.head(self._session)

    async def store(self) -> None:
        """Store what is not stored yet. The write is shielded from the cancellation of the caller.

        Raises:
            SessionStoreError: The store failed; its exception is the cause.
            SessionConflictError: Another process has written the session.
        """
        while (earlier := self._task) is not None and await _may_wait(earlier):
            continue
        if self._conflict is not None:
            raise SessionConflictError(self._conflict)
        if not self.is_behind:
            return
        self._task = task = asyncio.get_running_loop().create_task(self._write())
        task.add_done_callback(self._over)
        await asyncio.shield(task)

    def _over(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None
        if not task.cancelled():
            task.exception()  # the caller got it, unless it was cancelled; then the next write tries again

    async def _write(self) -> None:
        try:
            if not await self._write_next():
                await self._find_out()
                if not await self._write_next():
                    self._refuse()
        except SessionStoreError:
            raise
        except Exception as error:
            raise SessionStoreError(
                f"the session {self._session!r} could not be stored ({in_words(error)}); "
                "it is kept in memory, and the next turn stores it first"
            ) from error

    async def _write_next(self) -> bool:
        """Store the state of this moment as the next revision, if the store has the one before it."""
        history, stored = self._history(), self._stored
        write = _clock.hex_id(16)
        before = {} if stored is None else stored.turns
        state = _State(
            1 if stored is None else stored.revision + 1,
            history.head(self._session, write),
            dict(history.stored_turns()),
        )
        changed = {each: turn for each, turn in state.turns.items() if before.get(each) is not turn}
        removed = [f"{TURN}{each}" for each in before.keys() - state.turns.keys()]
        records = {HEAD: encoded(state.head), **records_of(changed)}
        self._unanswered[write] = state
        while len(self._unanswered) > _MOST_UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]
        is_stored: object = await answered(self._store.write(self._session, state.revision, records, removed))
        if not isinstance(is_stored, bool):
            raise TypeError(f"the write() of a store returns whether it has stored, got {is_stored!r:.60}")
        if is_stored:
            self._stored = state
            self._unanswered.clear()
        else:
            del self._unanswered[write]
        return is_stored

    async def _find_out(self) -> None:
        """After a refused write: take over what the store has, if an earlier write of this object stored it."""
        found = await answered(self._store.read(self._session))
        if found is not None and HEAD in found[1]:
            head = decoded_head(found[1][HEAD], f"the session {self._session!r}")
            ours = self._unanswered.get(head.write)
            if ours is not None and ours.revision == found[0]:
                self._stored = ours
                return
        self._refuse()

    def _refuse(self) -> NoReturn:
        if self._stored is None:
            what = f"a session {self._session!r} is stored already"
            fix = "go on with it by Session.open(), or choose another id"
        else:
            what = f"the session {self._session!r} was changed by another process or object"
            fix = "open it again with Session.open() to go on; save(path) keeps what this one has"
        self._conflict = f"{what}, so it was not stored: {fix}"
        raise SessionConflictError(self._conflict)


async def _may_wait(task: asyncio.Task[Any]) -> bool:
    """Wait until a task is over, in whichever loop it runs. False if it is over, or its loop does not run."""
    if task.done():
        return False
    loop = task.get_loop()
    if loop is asyncio.get_running_loop():
        await asyncio.wait([task])
    elif loop.is_running():
        await wait_in(loop, _over(task))
    else:
        return False
    return task.done()


async def _over(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])


async def wait_in(loop: asyncio.AbstractEventLoop, waiting: Coroutine[Any, Any, None]) -> None:
    """Await a coroutine in another loop, which runs."""
    await asyncio.wait([asyncio.wrap_future(asyncio.run_coroutine_threadsafe(waiting, loop))])
