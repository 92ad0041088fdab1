"""One try of one target: the vendor's pieces under the clocks, with what they tell kept in the ledger's row."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, TypeAlias

from msgspec.structs import replace

from ..durations import in_seconds
from ..events import ProviderEvent, ReasoningDelta, ToolCall, ToolCallDelta, UsageReport
from ..exceptions import (
    LLMDispatcherError,
    ProviderError,
    ProviderTimeoutError,
    RequestTimeoutError,
    StreamTruncatedError,
)
from ..provider import Ask, Finished, Opened, Provider, RawEvent
from ..tasks import Target
from .clocks import Clock, Clocks, Rang, closed
from .ledger import Row

logger: Final = logging.getLogger("llm_dispatcher")

ShownPiece: TypeAlias = str | ReasoningDelta | ToolCallDelta | ToolCall | ProviderEvent


async def shown_pieces(
    provider: Provider, ask: Ask, row: Row, clocks: Clocks, hear: Callable[[Target, Opened], None]
) -> AsyncGenerator[ShownPiece, None]:
    """What a reader may be shown of an attempt. It returns on terminal evidence only. `hear` is told of its head.

    Once the vendor has said that the answer is complete, nothing that goes wrong afterwards makes it less so.
    """
    with clocks.unless_closed():
        await provider.prepare()
    row.began = clocks.now  # loading an SDK says nothing of how soon its vendor answers
    clocks.wait("first_token")
    try:
        async with aclosing(provider.stream(ask)) as stream:
            async for piece in stream:
                if isinstance(piece, str):
                    if not piece:
                        continue
                    row.produced.append(piece)
                    shown: ShownPiece = piece
                elif (noted := _note(piece, row)) is not None:
                    shown = noted
                else:
                    if isinstance(piece, Opened):
                        hear(row.target, piece)
                    continue
                clocks.rest()
                if row.first_token_at is None:
                    row.first_token_at = clocks.now
                yield shown
                clocks.wait("idle")
    except asyncio.CancelledError:
        rang = clocks.rang()
        if rang is None:
            raise
        if row.finished is None:
            raise _ended(rang, row, clocks) from None
    except ProviderError as error:
        rang = clocks.rang()  # what was cancelled may end in an error of its own
        if row.finished is None:
            if rang is not None:
                raise _ended(rang, row, clocks) from error
            raise
        logger.debug("%s: %s after the answer was complete", row.target, error)
    finally:
        clocks.rest()  # from here on nobody waits on this vendor, however long the reader or a retry may take
    if row.finished is None:
        raise StreamTruncatedError(
            "the stream ended without the vendor's word that the answer is complete",
            provider=row.target.provider,
            model=row.target.model,
            request_id=row.request_id,
        )


def _note(
    piece: Opened | RawEvent | UsageReport | Finished | ReasoningDelta | ToolCallDelta | ToolCall | ProviderEvent,
    row: Row,
) -> ReasoningDelta | ToolCallDelta | ToolCall | ProviderEvent | None:
    """Keep in the row what a piece says of the attempt; return it, with the vendor's event, if it is to be shown."""
    match piece:
        case Opened():
            row.opened = True
            row.request_id = piece.request_id
        case RawEvent():
            row.raw = piece.data
        case UsageReport():
            row.usage = piece.usage
        case Finished():
            row.finished = piece
        case _:
            if isinstance(piece, ReasoningDelta):
                row.produced.append(piece.text)
            elif not isinstance(piece, ProviderEvent):
                row.tool_calls = True
            return piece if row.raw is None else replace(piece, raw=row.raw)
    return None


def _ended(rang: Rang, row: Row, clocks: Clocks) -> LLMDispatcherError:
    return closed() if rang == "closed" else too_slow(rang, row.target, clocks, row.request_id)


def too_slow(clock: Clock, target: Target, clocks: Clocks, request_id: str | None = None) -> LLMDispatcherError:
    """The error for a clock that ran out."""
    seconds = clocks.seconds(clock)
    if clock == "total":
        return RequestTimeoutError(f"not complete within {in_seconds(seconds or 0)} (the total clock)")
    what = "nothing came" if clock == "first_token" else "nothing more came"
    return ProviderTimeoutError(
        f"{what} within {in_seconds(seconds or 0)} (the {clock} clock)",
        clock=clock,
        provider=target.provider,
        model=target.model,
        request_id=request_id,
    )
