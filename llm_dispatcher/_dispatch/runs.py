"""Runs that a vendor keeps: the loop leaves those that nobody will read to the end (see `keeper`)."""

from __future__ import annotations

from .course import Course
from .job import Job


def leave_runs(job: Job, course: Course) -> None:
    """Have every run of this turn cancelled that its vendor still keeps. Nothing is waited for."""
    whole = [row.run for row in course.rows if row.finished is not None]
    for row in course.rows:
        row.run = None
    for keeper in course.keepers:
        keeper.leave(is_whole=any(run is keeper.run for run in whole))
        if job.open_streams is not None:
            job.open_streams.wait_for(keeper.task)
    course.keepers.clear()
