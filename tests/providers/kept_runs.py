"""Reading an answer that its vendor keeps, over as many connections as it takes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from llm_dispatcher.exceptions import ProviderError
from llm_dispatcher.provider import Ask, Finished, KeptRun, Opened, Piece, Provider, Run


class Reading:
    """What a reader gets of one answer, over as many connections as it takes."""

    def __init__(self, provider: Provider, ask: Ask) -> None:
        self.provider = provider
        self.ask = ask
        self.run: Run | None = None
        self.is_kept = asyncio.Event()
        self.pieces: list[Piece] = []
        self.opened = 0
        self.errors: list[ProviderError] = []

    async def once(self, pieces: int | None = None) -> bool:
        """Read one connection, to its end or up to so many pieces. Returns whether the answer is complete."""
        stream = self.provider.stream(self.ask) if self.run is None else self.run.read_on()
        async with aclosing(stream):
            try:
                async for piece in stream:
                    if isinstance(piece, Opened):
                        self.opened += 1
                    elif isinstance(piece, KeptRun):
                        assert self.run is None
                        self.run = piece.run
                        self.is_kept.set()
                    else:
                        self.pieces.append(piece)
                        if pieces is not None and len(self.pieces) >= pieces:
                            break
            except ProviderError as error:
                self.errors.append(error)
        return any(isinstance(piece, Finished) for piece in self.pieces)

    async def to_the_end(self) -> list[Piece]:
        while not await self.once():
            assert self.run is not None and not self.run.is_over, self.errors
        assert self.run is not None and self.run.is_over
        return self.pieces
