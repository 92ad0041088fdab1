"""Events and ledgers in words, for people who watch a stream."""

from __future__ import annotations

from collections.abc import Iterable

from ..events import Attempt, Event, StreamCompleted, StreamFailed, StreamInterrupted, StreamStarted, StreamSwitched


def describe(event: Event) -> str | None:
    """An event in words; `None` for events that speak for themselves, such as text."""
    match event:
        case StreamStarted() if event.cached:
            return f"from the cache: an earlier answer of {event.target}"
        case StreamStarted():
            return f"{event.target} answers, attempt {event.attempt}"
        case StreamInterrupted():
            return f"broken after {event.delivered} characters: {event.failure.message}"
        case StreamSwitched():
            trimmed = f", {len(event.trimmed)} repeated characters removed" if event.trimmed else ""
            return f"{event.to_target} continues for {event.from_target} (seam: {event.seam}{trimmed})"
        case StreamCompleted():
            return f"complete: {event.finish_reason}"
        case StreamFailed():
            return f"failed: {event.failure}"
        case _:
            return None


def ledger_rows(attempts: Iterable[Attempt]) -> list[tuple[str, ...]]:
    """The ledger as a table: a heading, and a row for each attempt."""
    rows: list[tuple[str, ...]] = [("#", "target", "ended", "delivered", "trimmed", "tokens in/out")]
    for attempt in attempts:
        usage = attempt.usage
        tokens = f"{usage.input_tokens}/{usage.output_tokens} {usage.source}" if usage.source != "unknown" else "none"
        ending = attempt.failure.kind if attempt.failure is not None else attempt.outcome
        trimmed = str(len(attempt.trimmed))
        rows.append((str(attempt.number), str(attempt.target), ending, str(attempt.delivered), trimmed, tokens))
    return rows
