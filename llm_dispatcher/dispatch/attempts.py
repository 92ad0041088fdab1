"""The loop: which target, retry, switch, give up. Everything else in the house only watches what comes out of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Final, Protocol

from msgspec import Struct

from ..config.policy import OnBreak, Resilience
from ..durations import in_seconds
from ..events import (
    Attempt,
    AttemptOutcome,
    Event,
    Failure,
    StreamCompleted,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    UsageReport,
)
from ..exceptions import (
    AllProvidersFailedError,
    BudgetExceededError,
    LLMDispatcherError,
    ProviderError,
    RequestTimeoutError,
    StreamBudgetExceededError,
    StreamingError,
    StreamTimeoutError,
)
from ..provider import BODY, Ask, Opened, Provider
from ..tasks import Target, TaskRequest
from .clocks import Clocks
from .ledger import Ledger, Row
from .patience import Patience
from .pieces import shown_pieces, too_slow
from .resume import GO_ON, Continuation, continued, joined, why_not
from .under_way import UnderWay

logger: Final = logging.getLogger("llm_dispatcher")


class Admission(Protocol):
    """Says before each attempt whether it may be made, and is told of each when it begins and when it is over."""

    def enter(self, target: Target, left: float | None, /) -> Awaitable[LLMDispatcherError | None]:
        """`None`, or why the target is not to be asked now: the loop passes it over. It may wait before it says so,
        but for no longer than the `total` clock has `left`.
        """
        ...

    def hear(self, target: Target, head: Opened, /) -> None:
        """The vendor has begun to answer."""
        ...

    def note(self, attempt: Attempt, /) -> None:
        """An attempt that was let in is over."""
        ...


class EverybodyIsLetIn:
    """The admission that refuses nothing."""

    async def enter(self, target: Target, left: float | None) -> None:
        return None

    def hear(self, target: Target, head: Opened) -> None:
        return None

    def note(self, attempt: Attempt) -> None:
        return None


class Dispatch(Struct, frozen=True):
    """One request with all that the loop needs to serve it; the switch puts it together.

    `style` says how a model continues a broken answer. `on_break` is `restart` only where the reader can take back
    what it has seen.
    """

    request: TaskRequest
    targets: tuple[Target, ...]
    provider: Callable[[Target], Provider]
    style: Callable[[Target], Continuation]
    resilience: Resilience
    ledger: Ledger
    admission: Admission = EverybodyIsLetIn()
    on_break: OnBreak = "continue"
    raw: bool = False
    under_way: UnderWay | None = None


class Delivered:
    """What the reader has: its text, and how many chunks of it have gone out."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.chunks = 0

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def add(self, text: str, row: Row) -> TextDelta:
        event = TextDelta(text, self.chunks, row.raw)
        self.chunks += 1
        self.pieces.append(text)
        row.delivered += len(text)
        return event


async def attempts(dispatch: Dispatch) -> AsyncGenerator[Event, None]:
    """The events of one stream: a legal order up to its `Failed` or `Cancelled`, which is raised here."""
    loop = asyncio.get_running_loop()
    clocks = Clocks(dispatch.resilience.timeouts)
    if dispatch.under_way is not None:
        dispatch.under_way.add(clocks)
    patience = Patience(dispatch.resilience)
    delivered = Delivered()
    rows: list[Row] = []
    failures: list[LLMDispatcherError] = []
    try:
        for place, target in enumerate(dispatch.targets):
            tries = 0
            while not (target.provider == BODY and _committed(rows)):
                # (A stand-in's answer is no continuation of a model's: it is asked before commit only.)
                with clocks.unless_closed():
                    refusal = await dispatch.admission.enter(target, clocks.left)
                if refusal is not None:
                    if clocks.are_over:  # all that was left went by in line
                        refusal = too_slow("total", target, clocks)
                    logger.warning("%s: passed over: %s", target, _in_short(refusal))
                    if not tries or not isinstance(refusal, ProviderError):
                        failures.append(refusal)
                    if not isinstance(refusal, ProviderError):
                        raise _final(dispatch, rows, delivered, failures) or refusal
                    break
                tries += 1
                clocks.share(place, len(dispatch.targets))
                row = Row(target, len(rows) + 1, loop.time())
                outcome: AttemptOutcome = "failed"
                try:
                    async with aclosing(_attempt(dispatch, row, rows, delivered, clocks)) as events:
                        async for event in events:
                            yield event
                    outcome = "completed"
                except LLMDispatcherError as error:
                    row.error = error
                    if isinstance(error, StreamingError):  # the switch was closed: nobody failed
                        outcome = "cancelled"
                except (asyncio.CancelledError, GeneratorExit):
                    outcome = "cancelled"
                    raise
                finally:
                    rows.append(row)
                    dispatch.admission.note(dispatch.ledger.close(row, dispatch.request, outcome, loop.time()))
                if row.error is None:
                    yield _completed(dispatch, row, delivered)
                    return
                failures.append(row.error)
                if row.shown:
                    yield StreamInterrupted(Failure.of(row.error), len(delivered.text))
                final = _final(dispatch, rows, delivered, failures)
                if final is row.error:
                    raise row.error  # (from what the SDK said, as it is already)
                if final is not None:
                    raise final from row.error
                seconds = patience.wait(row.error, tries, clocks.left)
                if seconds is None:
                    logger.warning("%s: giving it up after %s", target, _in_short(row.error, row.delivered))
                    break
                logger.info(
                    "%s: trying again in %s after %s", target, in_seconds(seconds), _in_short(row.error, row.delivered)
                )
                with clocks.unless_closed():
                    await asyncio.sleep(seconds)
    finally:
        clocks.close()
    if len(dispatch.targets) == 1 and not delivered.chunks:
        raise failures[-1]
    raise _exhausted(dispatch, delivered, failures) from failures[-1]


async def _attempt(
    dispatch: Dispatch, row: Row, rows: list[Row], delivered: Delivered, clocks: Clocks
) -> AsyncGenerator[Event, None]:
    """The events of one attempt. It returns on terminal evidence only; anything else is raised.

    `StreamStarted` waits for the first thing to show, so that an attempt which fails before it leaves no trace; and
    everything waits while the join looks for the seam.
    """
    request, join = dispatch.request, None
    if dispatch.on_break == "continue" and delivered.chunks:
        style = dispatch.style(row.target)
        request = continued(request, delivered.text, style, dispatch.resilience.continuation or GO_ON)
        row.join = join = joined(delivered.text, style)
    ask = Ask(request, row.target, dispatch.resilience.timeouts.connect, dispatch.raw)
    held: list[Event] = []
    seeking = join
    async with aclosing(
        shown_pieces(dispatch.provider(row.target), ask, row, clocks, dispatch.admission.hear)
    ) as pieces:
        async for piece in pieces:
            if seeking is not None:
                if not isinstance(piece, str):
                    held.append(piece)
                    continue
                piece = seeking.feed(piece)  # noqa: PLW2901 - what the join lets through of it
                seeking = None if seeking.decided else seeking
                if not piece:
                    continue
            if not row.shown:
                for event in _opening(dispatch, row, rows, delivered, held):
                    yield event
            yield delivered.add(piece, row) if isinstance(piece, str) else piece
    rest = seeking.close() if seeking is not None else ""
    if not row.shown:
        for event in _opening(dispatch, row, rows, delivered, held):
            yield event
    if rest:
        yield delivered.add(rest, row)
    if row.usage is not None:
        yield UsageReport(row.usage)


def _opening(dispatch: Dispatch, row: Row, rows: list[Row], delivered: Delivered, held: list[Event]) -> Iterator[Event]:
    """What comes before the first text that an attempt shows."""
    row.shown = True
    before = next((earlier for earlier in reversed(rows) if earlier.shown), None)
    if before is not None and before.target != row.target:
        reason = type(before.error).__name__
        yield StreamSwitched(before.target, row.target, reason, row.seam or "plain", row.trimmed)
    if dispatch.on_break == "restart" and _committed(rows):
        delivered.pieces.clear()
        yield StreamReset()
    yield StreamStarted(row.target, row.number, cached=False)
    yield from held


def _committed(rows: list[Row]) -> bool:
    """Whether the reader has content that cannot be taken back unseen."""
    return any(row.delivered or row.tool_calls for row in rows)


def _completed(dispatch: Dispatch, row: Row, delivered: Delivered) -> StreamCompleted:
    finished = row.finished
    assert finished is not None  # _attempt returns on terminal evidence only
    return StreamCompleted(delivered.text, dispatch.ledger.usage, finished.finish_reason, finished.raw_finish_reason)


def _final(
    dispatch: Dispatch, rows: list[Row], delivered: Delivered, failures: list[LLMDispatcherError]
) -> LLMDispatcherError | None:
    """The error to end with at once, or `None` where another try or target may still save the stream."""
    error = failures[-1]
    if not isinstance(error, ProviderError):
        return _broken(dispatch, str(error), delivered, failures) if _committed(rows) else error
    if not _committed(rows) or dispatch.on_break == "restart":
        return None
    reason = "on_break is 'raise'" if dispatch.on_break == "raise" else why_not(dispatch.request, rows)
    if reason is None:
        return None
    return _broken(dispatch, f"the stream broke and is not continued, because {reason}: {error}", delivered, failures)


def _exhausted(dispatch: Dispatch, delivered: Delivered, failures: list[LLMDispatcherError]) -> LLMDispatcherError:
    everyone = AllProvidersFailedError([failure for failure in failures if isinstance(failure, ProviderError)])
    return _broken(dispatch, everyone.message, delivered, failures) if delivered.chunks else everyone


def _broken(
    dispatch: Dispatch, message: str, delivered: Delivered, failures: list[LLMDispatcherError]
) -> StreamingError:
    kind = StreamingError
    if isinstance(failures[-1], RequestTimeoutError):
        kind = StreamTimeoutError
    elif isinstance(failures[-1], BudgetExceededError):
        kind = StreamBudgetExceededError
    return kind(message, partial=delivered.text, usage=dispatch.ledger.usage, failures=failures)


def _in_short(error: LLMDispatcherError, delivered: int = 0) -> str:
    failure = Failure.of(error)
    request = f" (request {failure.request_id})" if failure.request_id else ""
    broke = f", {delivered} characters into the answer" if delivered else ""
    return f"{failure.kind}: {failure.message}{request}{broke}"
