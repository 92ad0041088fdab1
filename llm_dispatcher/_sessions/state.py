"""`State`: what a session and its streams share."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from .._policy import Affinity
from .affinity import affinity_of
from .claims import Claims
from .format import Head, TurnRecord
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
    def cache_key(self) -> str:
        """The `cache_key` of requests that name none: a hash of the id, because an id may name a person."""
        return blake2b(self.id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    @property
    def affinity(self) -> Affinity | None:
        """Where the conversation has been."""
        return affinity_of(self.history.places, self.history.messages)

    async def flush(self) -> None:
        """Store what is not stored yet; see `Session.flush`."""
        if self.writer is not None:
            await self.writer.store()

    def adopt(
        self,
        head: Head,
        turns: Mapping[str, TurnRecord],
        where: str,
        revision: int | None = None,
        *,
        keep_partial: bool,
    ) -> None:
        """Take over a stored history, and repair it. What was repaired is stored with the next turn.

        Args:
            head: Its head.
            turns: Its turns by their ids.
            where: The place that it comes from, for errors.
            revision: Its revision, if it comes from the store of the session.
            keep_partial: Whether a turn whose tools were running is kept.
        """
        self.history = History.of(head, turns, where)
        if self.writer is not None and revision is not None:
            self.writer.adopt(revision)
        self.history.mend(keep_partial=keep_partial)
