"""Buffering: fewer and larger chunks, for readers who want them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ...events import Event, TextDelta


async def buffered(
    events: AsyncGenerator[Event, None], *, buffer_size: int = 1, min_chunk_size: int = 1
) -> AsyncGenerator[Event, None]:
    """The events with their text in chunks of at least `buffer_size` pieces and `min_chunk_size` characters.

    All that is not text goes on at once, and what is held goes before it. So nothing is held back at a tool call, at a
    break, at a switch, at an error or at the end; and no timer is needed to see to that.
    """
    held: list[TextDelta] = []
    characters = chunks = 0
    async with aclosing(events):
        try:
            async for event in events:
                if isinstance(event, TextDelta):
                    held.append(event)
                    characters += len(event.text)
                    if len(held) < buffer_size or characters < min_chunk_size:
                        continue
                if held:
                    yield _joined(held, chunks)
                    held, characters, chunks = [], 0, chunks + 1
                if not isinstance(event, TextDelta):
                    yield event
        except Exception:
            if held:
                yield _joined(held, chunks)
            raise
    if held:
        yield _joined(held, chunks)


def _joined(deltas: Sequence[TextDelta], index: int) -> TextDelta:
    """One delta for several; `raw` holds all that the vendor sent for them."""
    if len(deltas) == 1:
        return TextDelta(deltas[0].text, index, deltas[0].raw)
    raws = [delta.raw for delta in deltas if delta.raw is not None]
    return TextDelta("".join(delta.text for delta in deltas), index, {"events": raws} if raws else None)
