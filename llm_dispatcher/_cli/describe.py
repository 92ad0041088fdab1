"""Events and ledgers in words, for people who watch a stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ..events import (
    Attempt,
    Event,
    Rung,
    StreamCompleted,
    StreamFailed,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    ToolCallDropped,
)

_STARTS: Final[Mapping[Rung | None, str]] = {
    None: "answers",
    "reattached": "is read on where it broke",
    "exact": "goes on from the delivered tokens",
    "prefill": "goes on with the open turn",
    "anchored": "goes on from the last words",
    "restarted": "begins the answer again",
}


def describe(event: Event) -> str | None:
    """An event in words; `None` for events that speak for themselves, such as text."""
    match event:
        case StreamStarted() if event.cached:
            return f"from the cache: an earlier answer of {event.target}"
        case StreamStarted():
            return f"{event.target} {_STARTS[event.rung]}, attempt {event.attempt}"
        case StreamInterrupted():
            return f"broken after {event.delivered} characters: {event.failure.message}"
        case StreamSwitched():
            if event.rung == "restarted":
                return f"{event.to_target} answers anew for {event.from_target}"
            rung = f"{event.rung}, " if event.rung else ""
            trimmed = f", {len(event.trimmed)} repeated characters removed" if event.trimmed else ""
            return f"{event.to_target} continues for {event.from_target} ({rung}seam: {event.seam}{trimmed})"
        case StreamReset():
            return "the answer begins again: the text so far no longer counts"
        case ToolCallDropped():
            return f"the call of {event.name} was broken off and is dropped"
        case StreamCompleted():
            return f"complete: {event.finish_reason}"
        case StreamFailed():
            return f"failed: {event.failure}"
        case _:
            return None


def ledger_rows(attempts: Iterable[Attempt]) -> list[tuple[str, ...]]:
    """The ledger as a table: a heading, and a row for each attempt."""
    rows: list[tuple[str, ...]] = [("#", "target", "ended", "delivered", "trimmed", "rung", "tokens in/out")]
    for attempt in attempts:
        usage = attempt.usage
        tokens = f"{usage.input_tokens}/{usage.output_tokens} {usage.source}" if usage.source != "unknown" else "none"
        ending = attempt.failure.kind if attempt.failure is not None else attempt.outcome
        trimmed = str(len(attempt.trimmed))
        rung = attempt.rung or ""
        rows.append((str(attempt.number), str(attempt.target), ending, str(attempt.delivered), trimmed, rung, tokens))
    return rows
