"""How one attempt ends: by the vendor's word, by an error, by a clock, or because the switch was closed."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

from .._durations import in_seconds
from ..events import Failure
from ..exceptions import (
    LLMDispatcherError,
    ProviderError,
    ProviderTimeoutError,
    RequestTimeoutError,
    StreamTruncatedError,
)
from ..notices import FailedAfterCompletion, Notify
from ..tasks import Target
from .row import Row
from .watchdog import Cause, Clock, Watchdog, switch_closed


@contextmanager
def answer_of(
    row: Row, watchdog: Watchdog, notify: Notify, clock: Literal["first_token", "idle"]
) -> Generator[None, None, None]:
    """Guard the reading of a vendor's answer. Whatever ends it becomes one of the package's errors.

    `clock` is the clock for the first piece.

    - A cancellation by the watchdog becomes the error of the clock that ran out. Any other cancellation passes.
    - After the vendor has said that the answer is complete, no later error makes it incomplete.
    - An answer that ends without that word was cut short: `StreamTruncatedError`.
    """
    watchdog.arm(clock)
    try:
        yield
    except asyncio.CancelledError:
        cause = watchdog.fired()
        if cause is None:
            raise
        if row.finished is None:
            raise _error_of(cause, row, watchdog) from None
    except ProviderError as error:
        if row.reader_left:  # the reader has already left; an error while closing must not replace that
            raise GeneratorExit from error
        cause = watchdog.fired()  # a cancelled read may end in an error of the transport
        if row.finished is None:
            if cause is not None:
                raise _error_of(cause, row, watchdog) from error
            raise
        notify(FailedAfterCompletion(row.target, Failure.of(error)))
    finally:
        watchdog.release()  # from here on nobody waits for this vendor, however long the reader or a retry may take
    if row.finished is None:
        raise StreamTruncatedError(
            "the stream ended without the vendor's word that the answer is complete",
            provider=row.target.provider,
            model=row.target.model,
            request_id=row.request_id,
        )


def _error_of(cause: Cause, row: Row, watchdog: Watchdog) -> LLMDispatcherError:
    return switch_closed() if cause == "closed" else clock_error(cause, row.target, watchdog, row.request_id)


def clock_error(clock: Clock, target: Target, watchdog: Watchdog, request_id: str | None = None) -> LLMDispatcherError:
    """The error for a clock that ran out."""
    if clock == "total":
        return RequestTimeoutError(f"not complete within {in_seconds(watchdog.seconds(clock))} (the total clock)")
    what, seconds, setting = _missed(clock, watchdog)
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


def _missed(clock: Literal["first_token", "idle", "flow"], watchdog: Watchdog) -> tuple[str, float, float | None]:
    """What did not come in time, in how many seconds, and how many the clock has by the configuration."""
    timeouts, flow = watchdog.timeouts, watchdog.flow
    if clock == "first_token":
        return "nothing came", watchdog.seconds(clock), timeouts.first_token
    if clock == "flow" and flow is not None:
        return str(flow), flow.seconds, None if timeouts.flow is None else timeouts.flow.seconds
    return "nothing more came", watchdog.seconds("idle"), timeouts.idle


def repetition_error(target: Target, watchdog: Watchdog, request_id: str | None) -> ProviderTimeoutError:
    """The error for a continuation that has only repeated the delivered text for the seconds of the `idle` clock."""
    return ProviderTimeoutError(
        f"it only repeated what was delivered for {in_seconds(watchdog.seconds('idle'))} (the idle clock)",
        clock="idle",
        provider=target.provider,
        model=target.model,
        request_id=request_id,
    )
