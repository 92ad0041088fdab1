"""One try of one target: from a vendor's pieces to the events of a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from .._join.join import Join
from .._local_trouble import trouble_of_this_machine
from .._policy import BODY
from ..events import Event, StreamReset, StreamStarted, StreamSwitched, TextDelta, UsageReport
from ..provider import Ask
from .continuation import GO_ON, continued, joined, tokens_delivered
from .ending import Shown, kept, listening, only_repeats
from .job import Dispatch
from .ledger import Row, committed
from .watchdog import Clocks


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
        text = delivered.text
        wording = dispatch.resilience.continuation or GO_ON
        request = continued(request, text, style, wording, tokens=tokens_delivered(rows, text))
        row.join = joined(dispatch.request, text, style)
    ask = Ask(request, row.target, dispatch.resilience.timeouts.connect, dispatch.raw)
    provider = dispatch.provider(row.target)
    with clocks.unless_closed(), trouble_of_this_machine(row.target):
        await provider.prepare()
    row.began = clocks.now  # loading an SDK says nothing of how soon its vendor answers
    beginning = _Beginning(dispatch, row, rows, delivered, clocks)
    with listening(row, clocks, dispatch.notify):
        async with aclosing(provider.stream(ask)) as stream:
            async for piece in stream:
                shown = piece if isinstance(piece, str) else kept(piece, row, dispatch.admission, dispatch.notify)
                if not shown:
                    continue
                clocks.rest()
                try:
                    if not row.shown:
                        for event in beginning.events(shown):
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
    everything waits while the join looks for the seam. The `idle` clock bounds that wait too, counted from the first
    text that is held back. It is read when a piece comes, so it costs no timer. If no piece comes, `idle` rings anyway.
    """

    def __init__(self, dispatch: Dispatch, row: Row, rows: list[Row], delivered: Delivered, clocks: Clocks) -> None:
        self._dispatch = dispatch
        self._row = row
        self._rows = rows
        self._delivered = delivered
        self._clocks = clocks
        self._held: list[Event] = []
        self._holds_since: float | None = None

    def events(self, piece: Shown) -> Iterator[Event]:
        """What may be shown now that this has come, while nothing was."""
        row = self._row
        if row.first_token_at is None:
            row.first_token_at = self._clocks.now
        if isinstance(piece, str):
            row.produced.append(piece)
        if row.join is not None and not row.join.decided:
            if not isinstance(piece, str):
                self._held.append(piece)
                return
            piece = row.join.feed(piece) or self._after_silence(row.join)
            if not piece:
                return
        yield from self._opening()
        yield self._delivered.add(piece, row) if isinstance(piece, str) else piece

    def rest(self) -> Iterator[Event]:
        """What is to be shown of an answer that is complete, if nothing was so far."""
        row = self._row
        if row.shown:
            return
        spent = row.finished is not None and row.finished.finish_reason == "length"
        rest = row.join.close(spent) if row.join is not None else ""
        yield from self._opening()
        if rest:
            yield self._delivered.add(rest, row)

    def _after_silence(self, join: Join) -> str:
        """What may be shown although the seam is not certain, because the reader has waited for as long as `idle` says.

        A model that has only repeated what the reader has, word for word, has said nothing that could be shown. Then
        another target is asked, if there is one; else it is waited for.
        """
        now = self._clocks.now
        if self._holds_since is None:
            self._holds_since = now
        if join.decided or now - self._holds_since < self._clocks.seconds("idle"):
            return ""
        if not join.is_repeating:
            return join.close()
        targets, target = self._dispatch.targets, self._row.target
        if any(other.provider != BODY for other in targets[targets.index(target) + 1 :]):
            raise only_repeats(target, self._clocks, self._row.request_id)
        return ""

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
