"""What a stream costs while it is written: it ends where it passes what may be spent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from ..._routing.admission import Admission
from ..._usage import Usage
from ...events import Event, ReasoningDelta, StreamReset, TextDelta, ToolCallDelta
from ...exceptions import StreamBudgetExceededError


async def metered(
    events: AsyncGenerator[Event, None], admission: Admission, usage: Callable[[], Usage]
) -> AsyncGenerator[Event, None]:
    """The events; where they pass a budget, the vendor's stream is closed and the error says what came of it."""
    text: list[str] = []
    async with aclosing(events):
        async for event in events:
            yield event
            match event:
                case TextDelta():
                    text.append(event.text)
                    passed = admission.count(event.text)
                case ReasoningDelta():
                    passed = admission.count(event.text)
                case ToolCallDelta():
                    passed = admission.count(event.fragment)
                case StreamReset():
                    text.clear()
                    continue
                case _:
                    continue
            if passed is not None:
                await events.aclose()  # so that the ledger knows what this attempt came to
                raise StreamBudgetExceededError(passed.message, partial="".join(text), usage=usage(), failures=[passed])
