"""`State`: what a session and its streams share."""

from __future__ import annotations

from typing import Final

from .._policy import Affinity
from .affinity import affinity_of
from .claims import Claims
from .history import History
from .stores import SessionStore
from .writing import Writer


class State:
    """The history of a session, who may change it, and what stores it."""

    def __init__(self, session: str, store: SessionStore | None) -> None:
        self.id: Final = session
        self.store: Final = store
        self.history = History()
        self.claims: Final = Claims(session)
        self.writer: Final = None if store is None else Writer(session, lambda: self.history, store)

    @property
    def affinity(self) -> Affinity | None:
        """Where the conversation has been."""
        return affinity_of(self.history.places, self.history.messages)

    async def flush(self) -> None:
        """Store what is not stored yet; see `Session.flush`."""
        if self.writer is not None:
            await self.writer.store()
