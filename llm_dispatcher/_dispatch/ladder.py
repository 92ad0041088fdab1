"""The ladder: how an attempt continues an answer that broke, from the strongest way to the weakest.

`rung_now` chooses the rung of an attempt from what the reader has, what its target offers and what was tried before.
`ask_on_rung` writes it to the attempt's row and asks the target. Only the loop's task calls either. A run that the
vendor keeps is not chosen here: the loop reads it on at once (`Course.run`), because it belongs to one target.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from itertools import groupby
from typing import Final

from msgspec.structs import replace

from .._policy import Continues
from ..events import Rung
from ..exceptions import (
    InvalidRequestError,
    LocalResourceError,
    ModelNotFoundError,
    ProviderConnectionError,
    StreamTruncatedError,
    UnprovenContinuationError,
)
from ..provider import BODY, Ask, Opened, Piece, Provider, SupportsRung, SupportsTokens
from ..tasks import Target, TaskRequest
from .continuation import (
    CONTINUE_PROMPT,
    continuation_join,
    continuation_request,
    count_delivered_tokens,
    count_tokens_left_out,
    is_counted,
    obstacle_to_continuing,
)
from .course import Course
from .job import Job
from .row import Row

STRENGTH: Final[Mapping[Rung, int]] = {"reattached": 0, "exact": 1, "prefill": 2, "anchored": 3, "restarted": 4}
"""The place of each rung, from the strongest on."""

_REFUSALS: Final = frozenset((400, 422))
"""How a host that does not take an open assistant turn refuses a request that has one."""


def begins_again(job: Job, course: Course, target: Target) -> bool:
    """Whether the next attempt at a target begins the answer again.

    A reader of the whole answer gets one that was continued, unless that is not sound or this target has tried it.
    """
    if not job.may_begin_again:
        return False
    if job.on_break == "restart":
        return True
    return target in course.unproven or obstacle_to_continuing(job.request, course) is not None


def rung_now(job: Job, course: Course, target: Target) -> Rung | None:
    """The rung of the next attempt at a target; `None` if the reader has nothing of an answer yet."""
    if not course.is_committed:
        return None
    if target.provider == BODY or begins_again(job, course, target) or not course.text:
        return "restarted"
    return "exact" if _takes_tokens(job, course, target) else job.style(target)


def _takes_tokens(job: Job, course: Course, target: Target) -> bool:
    """Whether a target can go on from the token ids of the answer."""
    row, provider = course.trail_row, job.provider(target)
    if row is None or row.trail is None or target in course.without_tokens:
        return False
    return isinstance(provider, SupportsTokens) and provider.takes_tokens(target.model, row.trail)


def offered_rung(
    request: TaskRequest, provider: object, target: Target, style: Callable[[Target], Continues]
) -> Rung | None:
    """The strongest rung that a target offers for this request, before anything is asked; `None` for the body.

    An answer that has to follow a schema is not continued: it begins again for readers who have nothing of it yet.
    """
    if target.provider == BODY:
        return None
    best = provider.rung(target.model, request) if isinstance(provider, SupportsRung) else None
    if best == "reattached":
        return best
    if request.response_format is not None:
        return "restarted"
    return style(target) if best is None or request.tools else best


def by_strength(job: Job, course: Course, targets: Sequence[Target]) -> Iterable[Target]:
    """These targets in their order, except that a stronger rung comes first among targets that the plan holds equal."""
    figures = dict(zip(job.targets, job.figures, strict=False))  # none if the route itself sets the order
    for _, equal in groupby(targets, key=lambda target: figures.get(target, object())):
        yield from sorted(equal, key=lambda target: STRENGTH.get(rung_now(job, course, target) or "restarted", 4))


def is_worth_asking_again(job: Job, course: Course, target: Target, row: Row) -> bool:
    """Whether the same target continues best, although the policy may not retry: its connection broke, and it still has
    the answer in its cache. The row may be of another model, to which the target's vendor has handed over.
    """
    broke = isinstance(row.error, (ProviderConnectionError, StreamTruncatedError))
    broke = broke and not isinstance(row.error, LocalResourceError)  # this machine had no connection to break
    return broke and rung_now(job, course, target) in ("exact", "prefill") and job.is_certain(target)


def ask_on_rung(job: Job, course: Course, row: Row, provider: Provider) -> AsyncGenerator[Piece, None]:
    """Choose the rung of an attempt, and ask its target for the answer or the rest of it. Returns the pieces."""
    ask = _ask(job, course, row)
    if row.rung == "exact":
        return _pieces_from_tokens(job, course, row, provider, ask)
    return _pieces_in_style(job, course, row, provider, ask)


def _ask(job: Job, course: Course, row: Row) -> Ask:
    row.rung = rung_now(job, course, row.target)
    ask = Ask(job.request, row.target, job.resilience_of(row.target).timeouts.connect, job.raw)
    if row.rung == "exact":
        return _exact(job, course, row, ask)
    if row.rung == "restarted":
        row.proof = "a new answer"
    if row.rung in (None, "restarted"):
        row.request = ask.request
        return ask
    return replace(ask, request=_continued(job, course, row))


def _exact(job: Job, course: Course, row: Row, ask: Ask) -> Ask:
    """The request that goes on from exactly the tokens of the answer. Its limit is what is left, to the token.

    If an open turn was continued, the ids of its text stand behind the request for that, and not behind the first one.
    """
    before = course.trail_row
    assert before is not None and before.trail is not None and before.request is not None  # `rung_now` has looked
    trail = row.trail = before.trail
    request = row.request = before.request
    row.tokens_before = len(trail.output)
    # A host that makes the ids itself has told none.
    row.proof = f"from {row.tokens_before} tokens" if row.tokens_before else "from the tokens of the same text"
    limit = job.request.max_tokens
    if limit is not None:
        left = max(1, limit - count_delivered_tokens(course, job.chunk_is_token))
        request = replace(request, max_tokens=left)
    return replace(ask, request=request, tokens=trail)


def _continued(job: Job, course: Course, row: Row) -> TaskRequest:
    """The request for the rest of an answer, in the style of the row's rung. The row gets the join for it."""
    style: Continues = "prefill" if row.rung == "prefill" else "anchored"
    prompt, text = job.resilience_of(row.target).continuation or CONTINUE_PROMPT, course.text
    is_certain = style == "anchored" or job.is_certain(row.target)
    row.join = continuation_join(job.request, text, style, prompt, is_certain=is_certain)
    row.proof = "an open turn" if style == "prefill" else None
    used = count_delivered_tokens(course, job.chunk_is_token)
    if style == "prefill":
        used -= count_tokens_left_out(course)
    row.request = continuation_request(
        job.request,
        text,
        style,
        prompt,
        delivered_tokens=used,
        is_counted=style == "prefill" and is_counted(course, job.chunk_is_token),
        repeats_all=any(each.target == row.target and each.seam == "restart" for each in course.rows),
    )
    return row.request


async def _pieces_from_tokens(
    job: Job, course: Course, row: Row, provider: Provider, ask: Ask
) -> AsyncGenerator[Piece, None]:
    """The pieces from a host that goes on from token ids. If it does not take these, the same attempt asks it again, in
    the style of its model.
    """
    try:
        async with aclosing(provider.stream(ask)) as stream:
            async for piece in stream:
                yield piece
        return
    except (InvalidRequestError, ModelNotFoundError, UnprovenContinuationError):
        if row.opened:
            raise
    course.without_tokens.add(row.target)
    row.rung, row.trail, row.tokens_before = job.style(row.target), None, 0
    ask = replace(ask, request=_continued(job, course, row), tokens=None)
    async with aclosing(_pieces_in_style(job, course, row, provider, ask)) as stream:
        async for piece in stream:
            yield piece


def _pieces_in_style(job: Job, course: Course, row: Row, provider: Provider, ask: Ask) -> AsyncGenerator[Piece, None]:
    """The pieces from a host that is asked in the style of the row's rung, if it is known to take that."""
    if row.rung == "prefill" and not job.is_certain(row.target):
        return _pieces_in_either_style(job, course, row, provider, ask)
    return provider.stream(ask)


async def _pieces_in_either_style(
    job: Job, course: Course, row: Row, provider: Provider, ask: Ask
) -> AsyncGenerator[Piece, None]:
    """The pieces from a host that is not known to take an open assistant turn. If it refuses one, it is asked again in
    the same attempt, with an anchor, and is not asked for an open turn again.
    """
    try:
        async with aclosing(provider.stream(ask)) as stream:
            async for piece in stream:
                yield piece
        return
    except InvalidRequestError as error:
        if row.opened or error.status not in _REFUSALS:
            raise
    row.rung = "anchored"
    ask = replace(ask, request=_continued(job, course, row))
    async with aclosing(provider.stream(ask)) as stream:
        async for piece in stream:
            if isinstance(piece, Opened):  # it was the open turn that it had refused
                job.takes_no_prefill(row.target)
            yield piece
