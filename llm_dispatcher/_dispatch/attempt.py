"""One attempt at one target: from a vendor's pieces to the events of a stream.

The attempt shows nothing before it has content, so that an attempt which fails before that leaves no trace. A
continuation shows nothing before its join has found where the new text meets the delivered text.

Each piece is read with the watchdog armed and shown with the watchdog disarmed: the time that a reader spends on a
chunk does not count as a delay of the vendor. If the reader leaves, the generator is closed at its `yield`, and closing
it closes the vendor's stream. See docs/decisions/0001.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from .._join.join import Join
from .._local_trouble import trouble_of_this_machine
from .._policy import BODY
from ..events import Event, StreamReset, StreamStarted, StreamSwitched, UsageReport
from ..provider import Ask, Opened
from ..tasks import TaskRequest
from .continuation import (
    CONTINUE_PROMPT,
    continuation_join,
    continuation_request,
    count_delivered_tokens,
    may_restart,
)
from .course import Course
from .ending import answer_of, repetition_error
from .job import Job, Pass
from .row import Content, Row
from .watchdog import Watchdog


async def attempt(
    job: Job, course: Course, row: Row, admitted: Pass, watchdog: Watchdog
) -> AsyncGenerator[Event, None]:
    """The events of one attempt. It returns on terminal evidence only; anything else is raised.

    Args:
        job: The request and what serves it.
        course: The stream so far. The text that this attempt shows is added to it.
        row: The row of this attempt, which is filled in.
        admitted: The pass of this attempt. It hears of the vendor's headers; the loop gives it back.
        watchdog: The clocks of the stream.
    """
    request = _request(job, course, row)
    provider = job.provider(row.target)
    with watchdog.ends_with_the_switch(), trouble_of_this_machine(row.target):
        await provider.prepare()
    row.began = watchdog.now  # loading an SDK says nothing of how soon its vendor answers
    beginning = _Beginning(job, course, row, watchdog)
    ask = Ask(request, row.target, job.resilience_of(row.target).timeouts.connect, job.raw)
    with answer_of(row, watchdog, job.notify):
        async with aclosing(provider.stream(ask)) as stream:
            async for piece in stream:
                if isinstance(piece, str):
                    content: str | Content | None = piece
                else:
                    content = row.take(piece, job.notify)
                    if isinstance(piece, Opened):
                        admitted.hear(piece)
                if not content:
                    continue
                watchdog.disarm()
                try:
                    if not row.is_shown:
                        for event in beginning.events(content):
                            yield event
                    elif isinstance(content, str):
                        yield course.deliver(content, row)
                    else:
                        yield content
                except GeneratorExit:
                    row.reader_left = True
                    raise
                watchdog.arm("idle")
    for event in beginning.rest():
        yield event
    if row.usage is not None:
        yield UsageReport(row.usage, row.usage_raw)


def _request(job: Job, course: Course, row: Row) -> TaskRequest:
    """The request to send: the job's own, or the one for the rest of an answer that the reader has in part."""
    text = course.text
    if not text or may_restart(job, course):
        return job.request
    style = job.style(row.target)
    row.join = continuation_join(job.request, text, style)
    prompt = job.resilience_of(row.target).continuation or CONTINUE_PROMPT
    return continuation_request(job.request, text, style, prompt, delivered_tokens=count_delivered_tokens(course))


class _Beginning:
    """The first events of an attempt, and the events that it holds back until then.

    `StreamStarted` waits for the first content. Everything waits while the join looks for the seam. The `idle` clock
    bounds that wait too, counted from the first text that is held back. It is read when a piece comes, so it costs no
    timer; if no piece comes, `idle` fires anyway.
    """

    def __init__(self, job: Job, course: Course, row: Row, watchdog: Watchdog) -> None:
        self._job = job
        self._course = course
        self._row = row
        self._watchdog = watchdog
        self._pending: list[Event] = []
        self._holds_since: float | None = None

    def events(self, content: str | Content) -> Iterator[Event]:
        """The events to show now that this content has come, while nothing was shown yet."""
        row = self._row
        if row.first_token_at is None:
            row.first_token_at = self._watchdog.now
        if isinstance(content, str):
            row.output.append(content)
        if row.join is not None and not row.join.is_decided:
            if not isinstance(content, str):
                self._pending.append(content)
                return
            content = row.join.feed(content) or self._after_silence(row.join)
            if not content:
                return
        yield from self._opening()
        event = self._course.deliver(content, row) if isinstance(content, str) else content
        row.unchanged_from = len(self._course.transcript.pieces)
        yield event

    def rest(self) -> Iterator[Event]:
        """The events of an answer that is complete and of which nothing was shown so far."""
        row = self._row
        if row.is_shown:
            return
        is_cut_by_limit = row.finished is not None and row.finished.finish_reason == "length"
        text = row.join.close(is_cut_by_limit) if row.join is not None else ""
        yield from self._opening()
        if text:
            yield self._course.deliver(text, row)

    def _after_silence(self, join: Join) -> str:
        """The text to show although the seam is not certain, if the reader has waited for as long as `idle` says.

        A model that has only repeated the delivered text, word for word, has said nothing that could be shown. Then
        another target is asked, if there is one; otherwise the model gets more time. If the repetition has just begun,
        or is complete up to its closing marks, the next piece decides: else a part of it would be shown as text.
        """
        now = self._watchdog.now
        if self._holds_since is None:
            self._holds_since = now
        if join.is_decided or now - self._holds_since < self._watchdog.seconds("idle"):
            return ""
        if join.is_at_the_seam or join.is_too_short_to_tell:
            return ""
        if not join.is_repeating:
            return join.close()
        targets, target = self._job.targets, self._row.target
        if any(other.provider != BODY for other in targets[targets.index(target) + 1 :]):
            raise repetition_error(target, self._watchdog, self._row.request_id)
        return ""

    def _opening(self) -> Iterator[Event]:
        row, course = self._row, self._course
        row.is_shown = True
        row.shown_from = course.transcript.characters
        before = next((earlier for earlier in reversed(course.rows) if earlier.is_shown), None)
        if before is not None and before.target != row.target:
            reason = type(before.error).__name__
            yield StreamSwitched(before.target, row.target, reason, row.seam or "plain", row.trimmed)
        if may_restart(self._job, course) and course.is_committed:
            course.transcript.reset()
            row.shown_from = 0
            yield StreamReset()
        yield StreamStarted(row.target, row.number, cached=False)
        yield from self._pending
