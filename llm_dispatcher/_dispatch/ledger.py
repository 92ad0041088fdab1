"""The ledger: one row for each attempt, aborted ones included. Every total is the sum of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, overload

from msgspec.structs import replace

from .._bookkeeping import reported_not_raised
from .._tokens import estimated_tokens
from .._usage import Usage
from ..events import Attempt, AttemptOutcome, Failure
from ..notices import Notify
from ..tasks import Target, TaskRequest
from .row import Row

Price: TypeAlias = Callable[[Target, Usage], float | None]
"""US dollars for what an attempt used, `None` if no price is known."""


def no_price(target: Target, usage: Usage) -> None:
    """The `Price` that knows none."""


class Ledger(Sequence[Attempt]):
    """The rows of all turns of one stream, in order. Only the loop adds rows; anybody may read them at any time."""

    def __init__(self) -> None:
        self._attempts: list[Attempt] = []

    @overload
    def __getitem__(self, index: int) -> Attempt: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Attempt]: ...
    def __getitem__(self, index: int | slice) -> Attempt | Sequence[Attempt]:
        return self._attempts[index]

    def __len__(self) -> int:
        return len(self._attempts)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self._attempts)

    @property
    def usage(self) -> Usage:
        return Usage.sum(attempt.usage for attempt in self._attempts)

    def add(self, attempt: Attempt) -> None:
        """Add the row of an attempt that is over."""
        self._attempts.append(attempt)

    def settle(self, row: Row, price: Price, notify: Notify) -> float:
        """The last attempt has read a run to its end, and the vendor has reported the usage of the whole run. If more
        was charged for it before, as an estimate, the surplus is taken off those attempts, the latest first. Returns
        the US dollars that were taken off.
        """
        dollars = 0.0
        if row.rung != "reattached" or row.finished is None or row.usage is None or row.usage.source != "reported":
            return dollars
        surplus = _less(row.run_usage, row.usage)
        for place in range(len(self._attempts) - 2, -1, -1):
            attempt = self._attempts[place]
            usage = _priced(_less(attempt.usage, surplus), attempt.target, price, notify)
            self._attempts[place] = replace(attempt, usage=usage)
            dollars += (attempt.usage.cost or 0.0) - (usage.cost or 0.0)
            surplus = _less(surplus, attempt.usage)
            if attempt.rung != "reattached":  # the run began here
                break
        return dollars


def attempt_of(row: Row, request: TaskRequest, outcome: AttemptOutcome, price: Price, notify: Notify) -> Attempt:
    """The ledger's row of an attempt that is over. If its price cannot be calculated, its cost is `None`."""
    usage = _priced(_usage(row, request), row.target, price, notify)
    return Attempt(
        target=row.target,
        number=row.number,
        outcome=outcome,
        failure=Failure.of(row.error) if row.error is not None and outcome == "failed" else None,
        delivered=row.delivered,
        trimmed=row.trimmed,
        seam=row.seam,
        usage=usage,
        request_id=row.request_id or getattr(row.error, "request_id", None),
        first_token_after=None if row.first_token_at is None else row.first_token_at - row.began,
        elapsed=row.ended - row.began,
        rung=row.rung,
        proof=row.proof,
    )


def _priced(usage: Usage, target: Target, price: Price, notify: Notify) -> Usage:
    if usage.source != "unknown":
        with reported_not_raised(target, "price", notify):
            return replace(usage, cost=price(target, usage))
    return usage


def _usage(row: Row, request: TaskRequest) -> Usage:
    """What the vendor reported at the end of its answer; else an estimate, if the vendor has accepted the request."""
    reported, finished = row.usage, row.finished is not None or row.usage_is_final
    if reported is not None and finished and reported.source == "reported":
        return _less(reported, row.run_usage) if row.rung == "reattached" else reported
    if not row.opened:
        return Usage()
    output = estimated_tokens("".join(row.output))
    if reported is not None:
        # Anthropic and Google report along the way: the output is as of the vendor's last word on it.
        output = reported.output_tokens if finished else max(reported.output_tokens, output)
        if reported.source == "reported":
            estimate = replace(reported, output_tokens=output, source="estimated")
            return _less(estimate, row.run_usage) if row.rung == "reattached" else estimate
    if row.rung == "reattached":  # its input was counted when the run began
        return Usage(output_tokens=output, source="estimated")
    asked = row.request or request
    words = [asked.system or "", *(message.text for message in asked.conversation)]
    tokens_in = sum(map(estimated_tokens, words)) + row.tokens_before
    return Usage(input_tokens=tokens_in, output_tokens=output, source="estimated")


def _less(usage: Usage, other: Usage) -> Usage:
    """The usage of a run, less what was charged for it elsewhere. No count is less than 0."""
    names = (
        "input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens", "cache_write_tokens",
        "cache_write_1h_tokens",
    )  # fmt: skip
    return replace(usage, **{name: max(0, getattr(usage, name) - getattr(other, name)) for name in names})
