"""The stages of a call, outermost first. A new stage is a file here and an entry in `STAGES`.

`open_events` builds the chain for one call: each wanted stage is opened with a function that opens the rest, and the
innermost one plans the request and runs the loop. A stage may hand a changed copy of the call onward.
See docs/decisions/0037.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

from ...events import Event
from ..call import Call, Stage
from .acting import Acting
from .answering import answer
from .buffering import Buffering
from .caching import Caching
from .structuring import Structuring

STAGES: Final[tuple[Stage, ...]] = (Buffering(), Structuring(), Caching(), Acting())


async def open_events(call: Call, stages: tuple[Stage, ...] | None = None) -> AsyncGenerator[Event, None]:
    """Open the events of a call, through each of these stages that is `wanted`. The default is all stages."""
    stages = STAGES if stages is None else stages
    for place, stage in enumerate(stages):
        if stage.wanted(call):
            return await stage.open(call, partial(open_events, stages=stages[place + 1 :]))
    return await answer(call)
