"""Which request to a vendor belongs to which row of which reader's ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llm_dispatcher._policy import BODY
from llm_dispatcher._routing.health import LOCAL
from llm_dispatcher.events import Attempt
from tests.simulation.promises.kit import asks_the_same, attempts_of, everyone, fail, is_buffered, may_share
from tests.simulation.record import Process, Reading, Run, Served, Vendor


@dataclass(frozen=True, eq=False)
class Request:
    """One request that reached a vendor. `row` is its row in the ledger; `None` if its process was killed before."""

    reading: Reading
    vendor: Vendor
    served: Served
    place: int
    row: Attempt | None = None
    refused_at: float | None = None
    """When the same attempt had asked with an open turn before, which its host has refused."""

    @property
    def began_at(self) -> float:
        """When the attempt first asked."""
        return self.served.asked_at if self.refused_at is None else self.refused_at

    @property
    def reads_on(self) -> bool:
        """Whether it has read on a run that the vendor keeps, and has asked for nothing new."""
        return self.served.reads_on

    @property
    def is_local(self) -> bool:
        """Whether this machine failed, and the request was not sent."""
        return self.row is not None and self.row.failure is not None and self.row.failure.kind == LOCAL


def requests(run: Run) -> Sequence[Request]:
    """Every request that reached a vendor, in order, with its row.

    Those of a reader whose ledger does not fit are left out: `check_requests` says what is wrong with it.
    """
    return _matched(run).every


def of_process(run: Run, process: Process) -> list[Request]:
    """The requests of one process, in order."""
    return [each for each in requests(run) if each.reading.process == process.number]


def sent_by(run: Run, process: Process) -> list[Request]:
    """The requests of one process for an answer, in order. Reading a run on is none."""
    return [each for each in of_process(run, process) if not each.reads_on]


def of_reading(run: Run, reading: Reading) -> Sequence[Request]:
    """The requests that one reader has caused, in order."""
    return _matched(run).by_reading.get(id(reading), ())


def answers(run: Run) -> list[list[Request]]:
    """The requests, each with those that have read on its run."""
    found: list[list[Request]] = []
    of_run: dict[int, list[Request]] = {}
    for request in requests(run):
        kept = request.served.run
        if kept is not None and id(kept) in of_run:
            of_run[id(kept)].append(request)
            continue
        found.append([request])
        if kept is not None:
            of_run[id(kept)] = found[-1]
    return found


def check_requests(run: Run) -> None:
    """Fail if the requests to vendors and the rows of ledgers do not fit."""
    matched = _matched(run)
    if matched.unasked is not None:
        fail(f"a request to {matched.unasked.target}", "a reader that asked for it", "none")
    if matched.unfit is not None:
        reading, targets, rows = matched.unfit
        fail(reading, f"one row for each request that reached a vendor: {_listed(targets)}", _listed(rows))


class _Matched:
    """The requests of a run, worked out once for all invariants."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.unasked: Served | None = None
        self.unfit: tuple[Reading, Sequence[object], Sequence[object]] | None = None
        self.by_reading: dict[int, list[Request]] = {}
        sent = self._sent(run)
        for reading in everyone(run):
            self.by_reading[id(reading)] = list(self._with_rows(reading, sent.get(id(reading), [])))
        self.every = sorted((each for some in self.by_reading.values() for each in some), key=lambda each: each.place)

    def _sent(self, run: Run) -> dict[int, list[tuple[int, Vendor, Served]]]:
        sent: dict[int, list[tuple[int, Vendor, Served]]] = {}
        for vendors in run.vendors.values():
            for vendor in vendors:
                for place, served, reading in zip(vendor.asked_in_order, vendor.served, vendor.asked_by, strict=True):
                    if reading is None:
                        self.unasked = served
                    else:
                        sent.setdefault(id(reading), []).append((place, vendor, served))
        return sent

    def _with_rows(self, reading: Reading, sent: list[tuple[int, Vendor, Served]]) -> Iterator[Request]:
        """The requests of one reader with their rows. Each has one, and each row is of one.

        Three exceptions. A host that refuses an open turn is asked again in the same attempt.
        The last row may be of an attempt that was stopped before its request was sent: it says that
        nothing is known of it. The last request may have no row if its process was killed meanwhile
        (`_is_under_way`).
        """
        sent.sort(key=lambda each: each[0])
        rows = [row for row in attempts_of(reading) if row.target.provider != BODY]  # it sends no request
        sent, again = _without_refused(sent, rows)
        if len(rows) == len(sent) + 1 and rows[-1].outcome == "cancelled" and rows[-1].usage.source == "unknown":
            del rows[-1]
        if len(sent) == len(rows) + 1 and self._is_under_way(reading, sent[-1][2]):
            place, vendor, served = sent.pop()
            yield Request(reading, vendor, served, place)
        targets = [served.target for _, _, served in sent]
        if targets != [row.target for row in rows]:
            self.unfit = self.unfit or (reading, targets, [row.target for row in rows])
            return
        for row, (place, vendor, served) in zip(rows, sent, strict=True):
            yield Request(reading, vendor, served, place, row, again.get(id(served)))

    def _is_under_way(self, reading: Reading, served: Served) -> bool:
        """Whether the process was killed before this last request of a reader could get its row.

        The row of a request that is over is written when its reader asks for more, or when its shared stream does. The
        request of a reader that has ended goes on for another reader of the same stream, and a stream that was dropped
        is closed a moment later. A buffer gives its text first when it gets another event: then two asks of its reader
        are one ask of the stream.
        """
        if not self.run.processes[reading.process].was_killed:
            return False
        if reading.outcome != "open":
            return served.ended_at is None and (reading.plan.is_dropped or self._is_read_on(reading))
        is_not_asked = served.ended_at is None or served.ended_at >= reading.last_asked_at
        return is_not_asked or self._is_shared(reading) or is_buffered(reading)

    def _is_read_on(self, reading: Reading) -> bool:
        """Whether another reader may have been reading this one's stream when their process was killed."""
        return self._is_shared(reading) and any(
            other.process == reading.process
            and other.outcome == "open"
            and self._is_shared(other)
            and asks_the_same(self.run, reading, other)
            for other in self.run.readings
        )

    def _is_shared(self, reading: Reading) -> bool:
        has_cache = reading.policy is not None and reading.policy.cache is not None
        return has_cache and may_share(reading)


def _without_refused(
    sent: list[tuple[int, Vendor, Served]], rows: Sequence[Attempt]
) -> tuple[list[tuple[int, Vendor, Served]], dict[int, float]]:
    """The requests without those whose attempt asked the same target again, and when those that did had asked first."""
    kept: list[tuple[int, Vendor, Served]] = []
    again: dict[int, float] = {}
    for place, each in enumerate(sent):
        after = sent[place + 1][2] if place + 1 < len(sent) else None
        row = rows[len(kept)] if len(kept) < len(rows) else None
        is_one_attempt = row is None or row.rung == "anchored"
        if after is not None and is_one_attempt and _is_refused_open_turn(each[2]) and _is_asked_again(each[2], after):
            again[id(after)] = each[2].asked_at
        else:
            kept.append(each)
    return kept, again


def _is_refused_open_turn(served: Served) -> bool:
    conversation = served.request.conversation
    return not served.pieces and bool(conversation) and conversation[-1].role == "assistant"


def _is_asked_again(served: Served, after: Served) -> bool:
    roles = [message.role for message in after.request.conversation[-2:]]
    return after.target == served.target and after.asked_at == served.ended_at and roles == ["assistant", "user"]


_latest: list[_Matched] = []
"""The requests of the run that was looked at last."""


def _matched(run: Run) -> _Matched:
    if not _latest or _latest[0].run is not run:
        _latest[:] = [_Matched(run)]
    return _latest[0]


def forget() -> None:
    """Forget the last run: a test has changed it."""
    _latest.clear()


def _listed(targets: Sequence[object]) -> str:
    return ", ".join(map(str, targets)) or "none"
