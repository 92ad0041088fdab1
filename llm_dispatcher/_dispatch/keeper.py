"""`Keeper`: it has a run that the vendor keeps cancelled, if nobody reads it to the end.

A run that is left goes on at its vendor, and its tokens are paid for. So each run has a keeper from the moment that its
name is known: a task that waits until the loop leaves the run, and then tells the vendor to stop. The loop does not
wait for that: a reader may be leaving, and the vendor may be the one that does not answer.

- The task exists before the run is left, so that asyncio waits for it if the loop of the program ends first, as
  `asyncio.run` does: it cancels the task, which then tells the vendor at once. A task that was begun only then would
  be lost with the loop.
- A task that tells the vendor belongs to the switch (`OpenStreams`), which waits for it when it is closed. If it is
  cancelled meanwhile, it tries once more.
- Only the loop's task begins and leaves keepers. `Course.keepers` has those of the runs that were not left yet.
"""

from __future__ import annotations

import asyncio
from typing import Final

from .._redaction import loggable_id
from ..events import Failure
from ..notices import Notify, RunNotCancelled
from ..provider import Run
from ..tasks import Target

PATIENCE: Final = 5.0
"""Seconds that a vendor may take to answer that it has cancelled a run."""


def name_of(run: Run) -> str:
    """The vendor's id of a run, as a log line may have it."""
    return loggable_id(run.id) or ""


class Keeper:
    """Has one run cancelled when it is left, or when the loop of the program ends."""

    def __init__(self, run: Run, target: Target, notify: Notify) -> None:
        loop = asyncio.get_running_loop()
        self.run: Final = run
        self._is_whole: Final[asyncio.Future[bool]] = loop.create_future()
        self.task: Final = loop.create_task(_keep(run, target, notify, self._is_whole))

    def leave(self, *, is_whole: bool) -> None:
        """Nobody reads the run any more. If its answer is whole, nothing is left to cancel."""
        if not self._is_whole.done():
            self._is_whole.set_result(is_whole)


async def _keep(run: Run, target: Target, notify: Notify, is_whole: asyncio.Future[bool]) -> None:
    try:
        try:
            if not await is_whole:
                await _cancel(run)
        except asyncio.CancelledError:  # the loop ends: this is the last chance
            await _cancel(run)
    except Exception as error:  # noqa: BLE001 - nobody awaits this task but the switch when it is closed
        notify(RunNotCancelled(target, name_of(run), Failure.of(error)))


async def _cancel(run: Run) -> None:
    if not run.is_over:
        async with asyncio.timeout(PATIENCE):
            await run.cancel()
