"""`History`: the turns of a session and its branches.

It holds values only, and knows no store and no event loop. The session that owns it calls it, one call at a time. A
turn is a value under an id. A branch is a list of ids, so branches share the turns before the place where they part,
and a turn that no branch lists is gone. `pending` is the turn of the stream that is being read: it is stored with its
branch while its tools run, but it is no part of the history yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from .. import _clock
from ..exceptions import SessionFormatError
from ..tasks import Message, Target, ToolResultPart
from .checks import name_of
from .format import File, Head, Places, TurnRecord, encoded
from .turns import SessionTurn, TurnState, check_parts, check_results, interrupted, repaired

MAIN: Final = "main"
"""The branch that a session begins with."""

HEAD: Final = "head"
TURN: Final = "turn:"
"""Names of records in a store."""


class History:
    """The turns of a session by branch."""

    def __init__(self) -> None:
        self.branch: str = MAIN
        self.branches: dict[str, list[str]] = {MAIN: []}
        self.places: Places = Places()
        self.pending: SessionTurn | None = None
        self._turns: dict[str, SessionTurn] = {}

    # ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def turns(self) -> tuple[SessionTurn, ...]:
        """The turns of the current branch."""
        return tuple(self._turns[each] for each in self.branches[self.branch])

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation of the current branch. Each call in it has its result."""
        return repaired(self.all_messages())

    def open_messages(self) -> tuple[Message, ...]:
        """The last message of the current branch without results of tools, and all after it: only its calls may still
        wait for results.
        """
        turns = (self._turns[each] for each in reversed(self.branches[self.branch]))
        last: list[Message] = []
        for message in (message for turn in turns for message in reversed(turn.messages)):
            last.append(message)
            if not any(isinstance(part, ToolResultPart) for part in message.parts):
                break
        return tuple(reversed(last))

    def all_messages(self) -> Iterator[Message]:
        """The messages of the current branch, in which the last calls may still wait for their results."""
        for turn in self.turns:
            yield from turn.messages

    # ── changing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, messages: Iterable[Message], state: TurnState) -> SessionTurn:
        """Add a turn to the current branch."""
        return self.append(SessionTurn(id=new_id(), messages=tuple(messages), state=state))

    def append(self, turn: SessionTurn) -> SessionTurn:
        """Add this turn to the current branch."""
        self._turns[turn.id] = turn
        self.branches[self.branch].append(turn.id)
        return turn

    def cut(self, first: int, last: int, instead: Iterable[SessionTurn] = ()) -> tuple[SessionTurn, ...]:
        """Take the turns from `first` up to `last` out of the current branch, and put others in their place."""
        gone = self.turns[first:last]
        new = list(instead)
        self._turns.update((turn.id, turn) for turn in new)
        self.branches[self.branch][first:last] = [turn.id for turn in new]
        self._forget_unlisted()
        return gone

    def fork(self, name: str) -> None:
        """Begin a branch at the end of the current one, and go on there."""
        self.branches[name] = list(self.branches[self.branch])
        self.branch = name

    def drop(self, name: str) -> None:
        """Remove a branch that is not the current one."""
        del self.branches[name]
        self._forget_unlisted()

    def mend(self, *, keep_partial: bool) -> None:
        """After loading: repair the turns whose tools were running when their process ended, or drop them."""
        for turn in [each for each in self._turns.values() if each.state == "running"]:
            mended = interrupted(turn)
            if keep_partial and mended.messages:
                self._turns[turn.id] = mended
                continue
            for ids in self.branches.values():
                ids[:] = [each for each in ids if each != turn.id]
        self._forget_unlisted()

    def _check(self, where: str) -> None:
        """Refuse what this library never writes, and what would spoil every later request.

        Raises:
            SessionFormatError: There is such a thing. `where` names the session.
        """
        places = filter(None, (self.places.last, *self.places.cached))
        try:
            for target in places:
                Target.parse(target)
            for name, ids in self.branches.items():
                name_of("the name of a branch", name)
                messages = [message for each in ids for message in self._turns[each].messages]
                check_parts(messages)
                check_results(messages)
        except (TypeError, ValueError) as error:
            raise SessionFormatError(f"{where} is damaged: {error}; the session cannot be loaded") from error

    def _forget_unlisted(self) -> None:
        listed = {each for ids in self.branches.values() for each in ids}
        self._turns = {identity: turn for identity, turn in self._turns.items() if identity in listed}

    # ── storing ────────────────────────────────────────────────────────────────────────────────────────────────────

    def stored_turns(self) -> dict[str, SessionTurn]:
        """All turns that a store has to hold, by their ids."""
        return self._turns if self.pending is None else {**self._turns, self.pending.id: self.pending}

    def head(self, session: str, write: str = "") -> Head:
        """The head of the session."""
        branches = {name: tuple(ids) for name, ids in self.branches.items()}
        if self.pending is not None:
            branches[self.branch] = (*branches[self.branch], self.pending.id)
        return Head(id=session, branch=self.branch, branches=branches, affinity=self.places, write=write)

    def file(self, session: str) -> File:
        """The session as a file."""
        turns = {identity: TurnRecord.of(turn) for identity, turn in self.stored_turns().items()}
        return File(session=self.head(session), turns=turns)

    @classmethod
    def of(cls, head: Head, records: Mapping[str, TurnRecord], where: str) -> History:
        """The history of a stored session. `mend` repairs it.

        Raises:
            SessionFormatError: It is damaged. `where` names the session.
        """
        history = cls()
        history.branch, history.places = head.branch, head.affinity
        history.branches = {name: list(ids) for name, ids in head.branches.items()}
        missing = {each for ids in head.branches.values() for each in ids} - records.keys()
        if missing or head.branch not in head.branches:
            what = f"the turn {min(missing)}" if missing else f"the branch {head.branch!r}"
            raise SessionFormatError(f"{where} is damaged: {what} is missing; the session cannot be loaded")
        history._turns = {identity: record.turn(identity) for identity, record in records.items()}
        history._forget_unlisted()
        history._check(where)
        return history


def records_of(turns: Mapping[str, SessionTurn]) -> dict[str, bytes]:
    """The records of these turns, by name."""
    return {f"{TURN}{identity}": encoded(TurnRecord.of(turn)) for identity, turn in turns.items()}


def new_id() -> str:
    """The id of a new turn."""
    return _clock.hex_id(12)
