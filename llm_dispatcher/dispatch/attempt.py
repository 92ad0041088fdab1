"""One try of one target: from a vendor's pieces to the events of a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from ..events import Event, StreamReset, StreamStarted, StreamSwitched, TextDelta, UsageReport
from ..provider import Ask
from .clocks import Clocks
from .given import Dispatch
from .ledger import Row, committed
from .pieces import Shown, kept, listening
from .resume import GO_ON, continued, joined


class Delivered:
    """What the reader has: its text, and how many chunks of it have gone out."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.chunks = 0

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def add(self, text: str, row: Row) -> TextDelta:
        event = TextDelta(text, self.chunks, row.raw)
        self.chunks += 1
        self.pieces.append(text)
        row.delivered += len(text)
        return event


async def attempt(
    dispatch: Dispatch, row: Row, rows: list[Row], delivered: Delivered, clocks: Clocks
) -> AsyncGenerator[Event, None]:
    """The events of one attempt. It returns on terminal evidence only; anything else is raised."""
    request = dispatch.request
    if dispatch.on_break == "continue" and delivered.chunks:
        style = dispatch.style(row.target)
        request = continued(request, delivered.text, style, dispatch.resilience.continuation or GO_ON)
        row.join = joined(delivered.text, style)
    ask = Ask(request, row.target, dispatch.resilience.timeouts.connect, dispatch.raw)
    provider = dispatch.provider(row.target)
    with clocks.unless_closed():
        await provider.prepare()
    row.began = clocks.now  # loading an SDK says nothing of how soon its vendor answers
    beginning = _Beginning(dispatch, row, rows, delivered)
    with listening(row, clocks):
        async with aclosing(provider.stream(ask)) as stream:
            async for piece in stream:
                shown = piece if isinstance(piece, str) else kept(piece, row, dispatch.admission)
                if not shown:
                    continue
                clocks.rest()
                try:
                    if not row.shown:
                        for event in beginning.events(shown, clocks.now):
                            yield event
                    elif isinstance(shown, str):
                        row.produced.append(shown)
                        yield delivered.add(shown, row)
                    else:
                        yield shown
                except GeneratorExit:
                    row.left = True
                    raise
                clocks.wait("idle")
    for event in beginning.rest():
        yield event
    if row.usage is not None:
        yield UsageReport(row.usage, row.usage_raw)


class _Beginning:
    """What an attempt shows first, and what it holds back until then.

    `StreamStarted` waits for the first thing to show, so that an attempt which fails before it leaves no trace; and
    everything waits while the join looks for the seam.
    """

    def __init__(self, dispatch: Dispatch, row: Row, rows: list[Row], delivered: Delivered) -> None:
        self._dispatch = dispatch
        self._row = row
        self._rows = rows
        self._delivered = delivered
        self._held: list[Event] = []

    def events(self, piece: Shown, now: float) -> Iterator[Event]:
        """What may be shown now that this has come, while nothing was."""
        row = self._row
        if row.first_token_at is None:
            row.first_token_at = now
        if isinstance(piece, str):
            row.produced.append(piece)
        if row.join is not None and not row.join.decided:
            if not isinstance(piece, str):
                self._held.append(piece)
                return
            piece = row.join.feed(piece)
            if not piece:
                return
        yield from self._opening()
        yield self._delivered.add(piece, row) if isinstance(piece, str) else piece

    def rest(self) -> Iterator[Event]:
        """What is to be shown of an answer that is complete, if nothing was so far."""
        row = self._row
        if row.shown:
            return
        rest = row.join.close() if row.join is not None else ""
        yield from self._opening()
        if rest:
            yield self._delivered.add(rest, row)

    def _opening(self) -> Iterator[Event]:
        row = self._row
        row.shown = True
        before = next((earlier for earlier in reversed(self._rows) if earlier.shown), None)
        if before is not None and before.target != row.target:
            reason = type(before.error).__name__
            yield StreamSwitched(before.target, row.target, reason, row.seam or "plain", row.trimmed)
        if self._dispatch.on_break == "restart" and committed(self._rows):
            self._delivered.pieces.clear()
            yield StreamReset()
        yield StreamStarted(row.target, row.number, cached=False)
        yield from self._held
