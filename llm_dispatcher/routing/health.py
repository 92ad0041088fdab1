"""How each target has been doing, as seen from here."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from ..events import Attempt, Failure
from ..tasks import Target


class TargetHealth(Struct, frozen=True):
    """Counts since the switch was made; `first_token_after` is a running mean in seconds."""

    attempts: int = 0
    failures: int = 0
    failures_in_a_row: int = 0
    last_failure: Failure | None = None
    first_token_after: float | None = None


class Health:
    """The ledger's rows of all streams, folded into one value a target."""

    def __init__(self) -> None:
        self._targets: dict[Target, TargetHealth] = {}

    def note(self, attempt: Attempt) -> None:
        """Take in an attempt that is over. One that the reader left says nothing about the target."""
        if attempt.outcome == "cancelled":
            return
        known = self._targets.get(attempt.target, TargetHealth())
        failed = attempt.failure is not None
        first = attempt.first_token_after
        mean = known.first_token_after
        if first is not None:
            mean = first if mean is None else mean + (first - mean) / 8
        self._targets[attempt.target] = replace(
            known,
            attempts=known.attempts + 1,
            failures=known.failures + failed,
            failures_in_a_row=known.failures_in_a_row + 1 if failed else 0,
            last_failure=attempt.failure or known.last_failure,
            first_token_after=mean,
        )

    def snapshot(self) -> dict[Target, TargetHealth]:
        return dict(self._targets)
