"""Reading a stored session."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from ..exceptions import SessionFormatError, SessionStoreError
from .format import Head, TurnRecord, decoded_head, decoded_turn
from .history import HEAD, TURN
from .stores import SessionStore, answered, in_words


class StoredSession(Struct, frozen=True):
    """A session as a store has it."""

    revision: int
    head: Head
    turns: Mapping[str, TurnRecord]


async def read_session(store: SessionStore, session: str, where: str) -> StoredSession | None:
    """A session of a store; `None` if it has none of this id. `where` names the session in errors.

    Raises:
        SessionStoreError: The store could not be read; its own exception is the cause.
        SessionFormatError: The session is damaged, or has another version.
    """
    try:
        found = await answered(store.read(session))
    except SessionFormatError:
        raise
    except Exception as error:
        raise SessionStoreError(f"{where} could not be read ({in_words(error)})") from error
    if found is None:
        return None
    revision, records = found
    if HEAD not in records:
        raise SessionFormatError(f"{where} is damaged: its head is missing; the session cannot be loaded")
    head = decoded_head(records[HEAD], where)
    turns = {name.removeprefix(TURN): record for name, record in records.items() if name.startswith(TURN)}
    return StoredSession(revision, head, {name: decoded_turn(record, where) for name, record in turns.items()})
