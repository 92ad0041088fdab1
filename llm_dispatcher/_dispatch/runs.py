"""Runs that a vendor keeps: what happens to those that nobody will read to the end.

A run that is left goes on at its vendor, and its tokens are paid for. So the loop cancels each run that it leaves. It
does not wait for that: a reader may be leaving, and the vendor may be the one that does not answer. The task that tells
the vendor belongs to the switch (`OpenStreams`), which waits for it when it is closed. If the loop of the program ends
first, asyncio cancels the task and waits for it. The task then tries once more.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..events import Failure
from ..notices import Notify, RunNotCancelled
from ..provider import Run
from ..tasks import Target
from .course import Course
from .job import Job

PATIENCE: Final = 5.0
"""Seconds that a vendor may take to answer that it has cancelled a run."""


def leave_runs(job: Job, course: Course) -> None:
    """Cancel every run of this turn that its vendor still keeps. Nothing is waited for."""
    for row in course.rows:
        run, row.run = row.run, None
        if (
            run is not None
            and not run.is_over
            and row.finished is None
            and not any(other.run is run for other in course.rows)
        ):
            task = asyncio.get_running_loop().create_task(_cancel(run, row.target, job.notify))
            if job.open_streams is not None:
                job.open_streams.wait_for(task)


async def _cancel(run: Run, target: Target, notify: Notify) -> None:
    try:
        try:
            async with asyncio.timeout(PATIENCE):
                await run.cancel()
        except asyncio.CancelledError:  # the loop ends: this is the last chance
            async with asyncio.timeout(PATIENCE):
                await run.cancel()
    except Exception as error:  # noqa: BLE001 - nobody awaits this task but the switch when it is closed
        notify(RunNotCancelled(target, run.id, Failure.of(error)))
