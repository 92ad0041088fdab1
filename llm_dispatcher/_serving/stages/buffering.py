"""The stage that joins small chunks into fewer and larger ones.

See docs/decisions/0008.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ...events import Event, TextDelta
from ..call import Call, Onward
from ..settings import CallSettings


class Buffering:
    """Gives the reader chunks of the size that the call asks for."""

    def wanted(self, call: Call) -> bool:
        return call.settings.is_buffered

    async def open(self, call: Call, onward: Onward) -> AsyncGenerator[Event, None]:
        return in_chunks(await onward(call), call.settings)


def in_chunks(events: AsyncGenerator[Event, None], settings: CallSettings) -> AsyncGenerator[Event, None]:
    """The events with their text in chunks of the size that the settings ask for; unchanged if they ask for none."""
    if not settings.is_buffered:
        return events
    return buffered(events, buffer_size=settings.buffer_size or 1, min_chunk_size=settings.min_chunk_size or 1)


async def buffered(
    events: AsyncGenerator[Event, None], *, buffer_size: int = 1, min_chunk_size: int = 1
) -> AsyncGenerator[Event, None]:
    """Join pieces of text into chunks of at least `buffer_size` pieces and `min_chunk_size` characters.

    Every other event is passed on at once, after the pending text. So no text is held back at a tool call, at a
    break, at a switch, at an error or at the end, and no timer is needed.
    """
    pending: list[TextDelta] = []
    characters = chunks = 0
    async with aclosing(events):
        try:
            async for event in events:
                if isinstance(event, TextDelta):
                    pending.append(event)
                    characters += len(event.text)
                    if len(pending) < buffer_size or characters < min_chunk_size:
                        continue
                if pending:
                    yield _joined(pending, chunks)
                    pending, characters, chunks = [], 0, chunks + 1
                if not isinstance(event, TextDelta):
                    yield event
        except Exception:
            if pending:
                yield _joined(pending, chunks)
            raise
    if pending:
        yield _joined(pending, chunks)


def _joined(deltas: Sequence[TextDelta], index: int) -> TextDelta:
    """One delta for several. Its `raw` holds everything that the vendor sent for them."""
    if len(deltas) == 1:
        return TextDelta(deltas[0].text, index, deltas[0].raw)
    raws = [delta.raw for delta in deltas if delta.raw is not None]
    return TextDelta("".join(delta.text for delta in deltas), index, {"events": raws} if raws else None)
