"""What a vendor's pieces tell of an attempt, and how its answer ends."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeAlias

from msgspec.structs import replace

from .._durations import in_seconds
from .._redaction import loggable_id
from .._usage import Usage
from ..events import Failure, ProviderEvent, ReasoningDelta, ToolCall, ToolCallDelta, UsageReport
from ..exceptions import (
    LLMDispatcherError,
    ProviderError,
    ProviderTimeoutError,
    RequestTimeoutError,
    StreamTruncatedError,
)
from ..notices import FailedAfterCompletion, Notify, UsageReportRejected
from ..provider import Finished, Opened, RawEvent
from ..tasks import MOST_TOKENS, Target
from .job import Admission
from .ledger import Row
from .watchdog import Clock, Clocks, Rang, closed

Shown: TypeAlias = str | ReasoningDelta | ToolCallDelta | ToolCall | ProviderEvent


@contextmanager
def listening(row: Row, clocks: Clocks, notify: Notify) -> Generator[None, None, None]:
    """While a vendor's answer is read: what ends it becomes one of our errors, and a clock that rang is one of them.

    Once the vendor has said that the answer is complete, nothing that goes wrong afterwards makes it less so; and an
    answer that ends without that word was cut short.
    """
    clocks.wait("first_token")
    try:
        yield
    except asyncio.CancelledError:
        rang = clocks.rang()
        if rang is None:
            raise
        if row.finished is None:
            raise _ended(rang, row, clocks) from None
    except ProviderError as error:
        if row.left:  # closing the vendor's stream has failed: who left has left all the same
            raise GeneratorExit from error
        rang = clocks.rang()  # what was cancelled may end in an error of its own
        if row.finished is None:
            if rang is not None:
                raise _ended(rang, row, clocks) from error
            raise
        notify(FailedAfterCompletion(row.target, Failure.of(error)))
    finally:
        clocks.leave()  # from here on nobody waits on this vendor, however long the reader or a retry may take
    if row.finished is None:
        raise StreamTruncatedError(
            "the stream ended without the vendor's word that the answer is complete",
            provider=row.target.provider,
            model=row.target.model,
            request_id=row.request_id,
        )


def kept(
    piece: Opened | RawEvent | UsageReport | Finished | ReasoningDelta | ToolCallDelta | ToolCall | ProviderEvent,
    row: Row,
    admission: Admission,
    notify: Notify,
) -> Shown | None:
    """Keep in the row what a piece says of the attempt; return it, with the vendor's event, if it is to be shown."""
    match piece:
        case Opened():
            row.opened = True
            row.request_id = loggable_id(piece.request_id)
            admission.hear(row.target, piece)
        case RawEvent():
            row.raw = piece.data
        case UsageReport():
            row.usage, row.usage_raw = _believable(piece.usage, row.target, notify), row.raw
        case Finished():
            row.finished, row.finished_raw = piece, row.raw
        case _:
            if isinstance(piece, ReasoningDelta):
                row.produced.append(piece.text)
            elif not isinstance(piece, ProviderEvent):
                row.tool_calls = True
            return piece if row.raw is None else replace(piece, raw=row.raw)
    return None


def _believable(usage: Usage, target: Target, notify: Notify) -> Usage | None:
    """A vendor's report of its usage, or `None` if a count in it is impossible: then the ledger estimates instead.

    Every provider's report passes here, so nothing behind this has to handle a negative count or one of 400 digits.
    """
    counts = (
        usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.cache_read_tokens,
        usage.cache_write_tokens,
    )  # fmt: skip
    if all(0 <= count <= MOST_TOKENS for count in counts):
        return usage
    notify(UsageReportRejected(target, MOST_TOKENS))
    return None


def _ended(rang: Rang, row: Row, clocks: Clocks) -> LLMDispatcherError:
    return closed() if rang == "closed" else too_slow(rang, row.target, clocks, row.request_id)


def too_slow(clock: Clock, target: Target, clocks: Clocks, request_id: str | None = None) -> LLMDispatcherError:
    """The error for a clock that ran out."""
    seconds = clocks.seconds(clock)
    if clock == "total":
        return RequestTimeoutError(f"not complete within {in_seconds(seconds)} (the total clock)")
    what = "nothing came" if clock == "first_token" else "nothing more came"
    setting = clocks.setting(clock)
    share = ""
    if setting is not None and seconds < setting:
        share = f", shortened from {in_seconds(setting)} to leave time for the next attempt"
    return ProviderTimeoutError(
        f"{what} within {in_seconds(seconds)} (the {clock} clock){share}",
        clock=clock,
        provider=target.provider,
        model=target.model,
        request_id=request_id,
    )


def only_repeats(target: Target, clocks: Clocks, request_id: str | None) -> ProviderTimeoutError:
    """The error for a continuation that has said nothing new for as long as the `idle` clock says."""
    return ProviderTimeoutError(
        f"it only repeated what was delivered for {in_seconds(clocks.seconds('idle'))} (the idle clock)",
        clock="idle",
        provider=target.provider,
        model=target.model,
        request_id=request_id,
    )
