"""Metering: count the cost of a stream while it runs, and end it if it passes a budget."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from ..._routing.admission import FREE, Admission
from ..._usage import Usage
from ...events import Event, ReasoningDelta, StreamStarted, TextDelta, ToolCallDelta
from ...exceptions import StreamBudgetExceededError
from ...streaming._transcript import Transcript


async def metered(
    events: AsyncGenerator[Event, None], admission: Admission, transcript: Transcript, usage: Callable[[], Usage]
) -> AsyncGenerator[Event, None]:
    """The events. If they pass a budget, the vendor's stream is closed, and the error has the delivered text.

    Args:
        events: The events of the loop.
        admission: The loop's admission. The text of an attempt is counted on the attempt's pass.
        transcript: The loop's transcript, which has the delivered text.
        usage: A function that returns the usage of the stream when it ends.
    """
    admitted = FREE
    async with aclosing(events):
        async for event in events:
            yield event
            match event:
                case StreamStarted():
                    admitted = admission.pass_of(event.target)
                    continue
                case TextDelta() | ReasoningDelta():
                    error = admitted.count(event.text)
                case ToolCallDelta():
                    error = admitted.count(event.fragment)
                case _:
                    continue
            if error is not None:
                await events.aclose()  # this writes the cost of the attempt to the ledger
                raise StreamBudgetExceededError(error.message, partial=transcript.text, usage=usage(), failures=[error])
