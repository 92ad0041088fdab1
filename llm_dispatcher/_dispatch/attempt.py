"""One attempt at one target: from a vendor's pieces to the events of a stream.

The attempt shows nothing before it has content, so that an attempt which fails before that leaves no trace. A
continuation shows nothing before its join has found where the new text meets the delivered text.

A tool call is whole only with its answer. From the first whole call on, the attempt shows fragments of calls only. The
rest waits (`Row.waiting`) until the vendor has said that the answer is complete. So an answer that breaks has shown no
whole call, and is continued or asked for again like any other. See docs/decisions/0047.

Each piece is read with the watchdog armed and shown with the watchdog disarmed: the time that a reader spends on a
chunk does not count as a delay of the vendor. If the reader leaves, the generator is closed at its `yield`, and closing
it closes the vendor's stream. See docs/decisions/0001.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from itertools import takewhile

from .._join.join import Join
from .._local_trouble import trouble_of_this_machine
from ..events import Event, StreamReset, StreamStarted, StreamSwitched, ToolCall, ToolCallDelta, UsageReport
from ..exceptions import StreamTruncatedError, UnprovenContinuationError
from ..provider import Handover, KeptRun, Opened, Piece
from .continuation import A_FEW_TOKENS, count_delivered_tokens, tokens_in
from .course import Course
from .ending import answer_of, repetition_error
from .flow import Content
from .job import Job, Pass
from .keeper import Keeper
from .ladder import ask_on_rung
from .refusals import handed_over, leads_on, refusal_of
from .row import Row
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
    pieces = await _pieces(job, course, row, watchdog)
    beginning, flow = _Beginning(job, course, row, watchdog), watchdog.flow
    is_underway = row.rung == "reattached" and course.is_committed
    with answer_of(row, watchdog, job.notify, "idle" if is_underway else "first_token"):
        async with aclosing(pieces) as stream:
            async for piece in stream:
                if isinstance(piece, str):
                    content: Content | Handover | None = piece
                else:
                    content = row.take(piece, job.notify)
                    _hear(piece, job, course, row, admitted)
                if not content:
                    continue
                watchdog.disarm()
                if flow is not None and not isinstance(content, Handover):
                    watchdog.count(flow, content)
                try:
                    if not row.passes:
                        for event in beginning.events(content):
                            yield event
                    elif isinstance(content, str):
                        yield course.deliver(content, row)
                    elif not isinstance(content, Handover):  # a handover does not pass
                        yield course.show(content, row)
                except GeneratorExit:
                    row.reader_left = True
                    raise
                watchdog.arm("idle")
    for event in beginning.rest():
        yield event


async def _pieces(job: Job, course: Course, row: Row, watchdog: Watchdog) -> AsyncGenerator[Piece, None]:
    """What the vendor sends: the rest of a run that it keeps, or the answer to a new request."""
    provider = job.provider(row.target)
    with watchdog.ends_with_the_switch(), trouble_of_this_machine(row.target):
        await provider.prepare()
    row.began = watchdog.now  # loading an SDK says nothing of how soon its vendor answers
    if row.rung == "reattached":
        assert row.run is not None  # `Row.read_on` has set both
        return row.run.read_on()
    return ask_on_rung(job, course, row, provider)


def _hear(piece: Piece, job: Job, course: Course, row: Row, admitted: Pass) -> None:
    """Pass on what others have to know at once: the head of the vendor's answer, and that it keeps a run."""
    if isinstance(piece, Opened):
        admitted.hear(piece)
    elif isinstance(piece, KeptRun):
        course.keepers.append(Keeper(piece.run, row.target, job.notify))


def _check_the_limit(job: Job, course: Course, row: Row) -> None:
    """Raise if a limit ended an answer too early, because most of it went to what the reader already had."""
    finished, limit = row.finished, job.request.max_tokens
    repeats = row.join is not None and row.join.seam == "restart"
    if limit is None or finished is None or finished.finish_reason != "length" or not repeats:
        return
    text = course.transcript.text[row.shown_from :] if row.is_shown else ""
    used = count_delivered_tokens(course, job.chunk_is_token)
    used += tokens_in(text, row, is_exact=job.chunk_is_token(row.target))
    if used + A_FEW_TOKENS < limit:
        raise StreamTruncatedError(
            f"it began the answer again, and its limit ended that after about {used} of max_tokens={limit}",
            provider=row.target.provider,
            model=row.target.model,
            request_id=row.request_id,
        )


class _Beginning:
    """The first events of an attempt, and the events that it holds back until then.

    `StreamStarted` waits for the first content. Everything waits while the join looks for the seam. The `idle` clock
    bounds that wait too, counted from the first text that is held back. It is read when a piece comes, so it costs no
    timer; if no piece comes, `idle` fires anyway. A text that the join refuses is never shown: the attempt fails.
    """

    def __init__(self, job: Job, course: Course, row: Row, watchdog: Watchdog) -> None:
        self._job = job
        self._course = course
        self._row = row
        self._watchdog = watchdog
        self._holds_since: float | None = None

    def events(self, content: Content | Handover) -> Iterator[Event]:
        """The events to show now that this content has come, while the attempt does not pass its text on unchanged."""
        row = self._row
        if isinstance(content, Handover):
            yield from self._handed_over(content)
            return
        if row.first_token_at is None:
            row.first_token_at = self._watchdog.now
        if isinstance(content, str):
            row.output.append(content)
        if row.has_whole_call:
            yield from self._after_a_call(content)
            return
        yield from self._next(content)
        if row.is_shown and (row.join is None or not row.join.is_watching):
            row.passes = True  # nothing is left to look for in its text
            row.unchanged_from = len(self._course.transcript.pieces)

    def _next(self, content: Content) -> Iterator[Event]:
        """What may be shown of this content, which comes next in the answer."""
        row, join = self._row, self._row.join
        if join is not None and not join.is_decided:
            if not isinstance(content, str):
                row.held.append(content)
                return
            content = join.feed(content) or self._after_silence(join)
            self._check(join, content)
            if not content:
                return
        elif join is not None and join.is_watching:
            yield from self._watched(join, content)
            return
        if not row.is_shown:
            yield from self._opening()
        yield self._shown(content)

    def _after_a_call(self, content: Content) -> Iterator[Event]:
        """Content that comes after a whole call waits until the answer is complete, and so does the call. Fragments of
        other calls do not wait, except for the join.
        """
        row, join = self._row, self._row.join
        self._course.add_unchanged(row)
        if isinstance(content, ToolCallDelta) and (join is None or join.is_decided):
            if not row.is_shown:
                yield from self._opening()
            yield self._shown(content)
        else:
            row.waiting.append(content)

    def _shown(self, content: Content) -> Event:
        course, row = self._course, self._row
        return course.deliver(content, row) if isinstance(content, str) else course.show(content, row)

    def rest(self) -> Iterator[Event]:
        """The events of an answer that is complete, as far as they were not shown yet. A refusal is an error here if
        another target is asked after it.
        """
        job, course, row = self._job, self._course, self._row
        if leads_on(job, course, row):
            raise refusal_of(row)
        if not row.passes:
            yield from self._last()
        yield from row.refusals
        if row.usage is not None:
            yield UsageReport(row.usage, row.usage_raw)
        if not row.has_whole_call:
            _check_the_limit(job, course, row)

    def _last(self) -> Iterator[Event]:
        row, join = self._row, self._row.join
        rest, row.waiting = row.waiting, []
        if join is not None:
            rest = self._through(join, rest)
        if row.has_whole_call:  # once a call was shown, the turn does not fail
            _check_the_limit(self._job, self._course, row)
        if not row.is_shown:
            yield from self._opening()
        for content in rest:
            yield self._shown(content)
        if join is not None and join.leak is not None:
            raise self._unproven(join.leak)

    def _through(self, join: Join, waiting: Sequence[Content]) -> list[Content]:
        """What has waited, with its text through the join, and the text that the join has held back to the end.

        If the join still held text back, all text comes before the calls. If it finds words of the request, no call is
        shown, because the attempt fails.
        """
        finished, is_late = self._row.finished, not join.is_decided or join.is_watching
        passed: list[Content] = [join.feed(content) if isinstance(content, str) else content for content in waiting]
        passed.append(join.close(finished is not None and finished.finish_reason == "length"))
        text = "".join(content for content in passed if isinstance(content, str))
        self._check(join, text)
        if is_late:
            passed = [text, *(content for content in passed if not isinstance(content, str))]
        if join.leak is not None:
            passed = list(takewhile(lambda content: isinstance(content, str), passed))
        return [content for content in passed if content]

    def _handed_over(self, handover: Handover) -> Iterator[Event]:
        """The vendor continues with another model, which has read the same request. So a join that still looks for
        words of the request goes on looking for them in the text of that model. A call of the model before is not made.
        """
        row = self._row
        waiting, row.waiting = row.waiting, []
        for content in waiting:
            if not isinstance(content, (ToolCall, ToolCallDelta)):
                yield from self._next(content)
        self._holds_since = None
        yield from handed_over(self._job, self._course, row, handover, self._watchdog.now)

    def _watched(self, join: Join, content: Content) -> Iterator[Event]:
        """What may be shown while the join still looks for words of the request in the text. Anything but text passes
        it by, also while it holds a few characters back.
        """
        text = join.feed(content) if isinstance(content, str) else ""
        if not self._row.is_shown and (text or not isinstance(content, str)):
            yield from self._opening()  # it reads on a run whose join is decided
        yield from self._joined(join, text)
        if not isinstance(content, str):
            yield self._shown(content)

    def _joined(self, join: Join, text: str) -> Iterator[Event]:
        """The text that has passed the join. The attempt ends here if words of the request came after it."""
        if text:
            yield self._course.deliver(text, self._row)
        if join.leak is not None:
            raise self._unproven(join.leak)

    def _check(self, join: Join, text: str) -> None:
        """Raise if the join refuses the text that it held back. Nothing of the attempt was shown then.

        Tool calls without new text need no proof, because nothing of them was delivered.
        """
        row = self._row
        if join.refusal is None or (row.has_whole_call and not text.strip()):
            if join.proof is not None and row.seam is not None:
                row.proof = join.proof if row.rung != "reattached" else f"from {row.run_began_at}, {join.proof}"
            return
        if self._job.resilience_of(row.target).on_unproven == "show" and join.may_show and not row.others:
            row.proof = "unproven"
            return
        raise self._unproven(join.refusal)

    def _unproven(self, why: str) -> UnprovenContinuationError:
        target, join, is_last = self._row.target, self._row.join, not self._row.others
        hint = " (resilience.on_unproven: show would show it)" if join is not None and join.may_show and is_last else ""
        return UnprovenContinuationError(
            f"the continuation does not prove itself: {why}{hint}",
            provider=target.provider,
            model=target.model,
            request_id=self._row.request_id,
        )

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
        if self._row.others:
            raise repetition_error(self._row.target, self._watchdog, self._row.request_id)
        return ""

    def _opening(self) -> Iterator[Event]:
        row, course = self._row, self._course
        row.is_shown = True
        row.shown_from = course.transcript.characters
        if row.way != "reattached":
            yield from course.drop_calls()
        before = next((earlier for earlier in reversed(course.rows) if earlier.is_shown), None)
        if before is not None and before.target != row.target:
            reason = type(before.error).__name__
            yield StreamSwitched(before.target, row.target, reason, row.seam or "plain", row.trimmed, row.way)
        if row.way == "restarted":
            row.is_new_answer = True
            if course.text:
                course.transcript.reset()
                row.shown_from = course.transcript.characters
                yield StreamReset()
        yield course.show(StreamStarted(row.target, row.number, cached=False, rung=row.way), row)
        held, row.held = row.held, []
        for content in held:
            yield course.show(content, row)
