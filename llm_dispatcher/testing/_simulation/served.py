"""`Served`: what one attempt got from a simulated provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...events import UsageReport
from ...provider import Finished, KeptRun, Opened, Piece, RawEvent, ServedBy
from ...tasks import Target, TaskRequest

if TYPE_CHECKING:
    from .kept_runs import ScriptedRun

_NO_CONTENT: Final = (Opened, RawEvent, KeptRun, UsageReport, ServedBy, Finished)


class Served:
    """What one attempt got from a vendor. Times are those of the event loop.

    `pieces` are the pieces that were yielded, and `finished` says whether a `Finished` was among them. `silence` is the
    longest time for which the reader had to wait for content, also for content that never came. As for the clocks of a
    stream, a report of usage, a `RawEvent` or an empty text does not end a silence. `waits` has the
    seconds for which the reader waited for each piece, and then for the end. `fault` is the class name of the
    fault of the script, or "". `ended_at` is `None` while the stream is open. `run` is the run that the vendor keeps;
    with `reads_on`, this attempt has read it on, and sent no new request.

    Args:
        target: The target that was asked.
        request: The request that was sent.
        asked_at: When it was sent.
    """

    __slots__ = (
        "_waited", "_waits_since", "asked_at", "ended_at", "fault", "finished", "pieces", "reads_on", "request",
        "run", "silence", "target", "waits",
    )  # fmt: skip

    def __init__(self, target: Target, request: TaskRequest, asked_at: float) -> None:
        self.target: Target = target
        self.request: TaskRequest = request
        self.asked_at: float = asked_at
        self.ended_at: float | None = None
        self.pieces: list[Piece] = []
        self.finished: bool = False
        self.silence: float = 0.0
        self.waits: list[float] = []
        self.fault: str = ""
        self.run: ScriptedRun | None = None
        self.reads_on: bool = False
        self._waited = 0.0  # since the last content
        self._waits_since: float | None = asked_at

    def take(self, piece: Piece, now: float) -> None:
        """The reader gets a piece."""
        self._end_wait(now)
        if piece and not isinstance(piece, _NO_CONTENT):
            self._waited = 0.0
        self.pieces.append(piece)
        self.finished = self.finished or isinstance(piece, Finished)

    def wait(self, now: float) -> None:
        """The reader begins to wait for the next piece."""
        self._waits_since = now

    def end(self, now: float) -> None:
        """The stream is closed."""
        self._end_wait(now)
        self.ended_at = now

    def _end_wait(self, now: float) -> None:
        self.waits.append(0.0 if self._waits_since is None else now - self._waits_since)
        if self._waits_since is not None:
            self._waited += now - self._waits_since
            self._waits_since = None
            self.silence = max(self.silence, self._waited)

    def __repr__(self) -> str:
        state = "open" if self.ended_at is None else f"ended at {self.ended_at:g}"
        return f"<{self.target} asked at {self.asked_at:g}: {len(self.pieces)} pieces, {state}>"
