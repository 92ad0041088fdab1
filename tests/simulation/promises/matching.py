"""Which request to a vendor belongs to which row of which reader's ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llm_dispatcher.events import Attempt
from tests.simulation.promises.kit import attempts_of, everyone, fail
from tests.simulation.record import Process, Reading, Run, Served, Vendor


@dataclass(frozen=True)
class Request:
    """One request that reached a vendor. `row` is its row in the ledger; `None` if its process was killed before."""

    reading: Reading
    vendor: Vendor
    served: Served
    row: Attempt | None = None


def requests(run: Run) -> list[Request]:
    """Every request that reached a vendor, in the order of time, with its row. It fails if they do not match."""
    cached = _known.get(id(run))
    if cached is None or cached[0] is not run:
        _known.clear()
        cached = _known[id(run)] = (run, sorted(_requests(run), key=lambda each: each.served.asked_at))
    return cached[1]


_known: dict[int, tuple[Run, list[Request]]] = {}
"""The requests of the run that was checked last: several invariants ask for them."""


def of_process(run: Run, process: Process) -> list[Request]:
    return [each for each in requests(run) if each.reading.process == process.number]


def _requests(run: Run) -> Iterator[Request]:
    by_reading: dict[int, list[tuple[Vendor, Served]]] = {}
    for vendors in run.vendors.values():
        for vendor in vendors:
            for served, reading in zip(vendor.served, vendor.asked_by, strict=True):
                if reading is None:
                    fail(f"a request to {served.target}", "a reader that asked for it", "none")
                by_reading.setdefault(id(reading), []).append((vendor, served))
    for reading in everyone(run):
        sent = by_reading.get(id(reading), [])
        yield from _matched(run, reading, sorted(sent, key=lambda each: each[1].asked_at))


def _matched(run: Run, reading: Reading, sent: list[tuple[Vendor, Served]]) -> Iterator[Request]:
    """The requests of one reader with their rows. Each has one, and each row is of one.

    Two exceptions. The last row may be of an attempt that was stopped before its request was sent: it says that nothing
    is known of it. The last request may have no row if its process was killed meanwhile.
    """
    rows = list(attempts_of(reading))
    if len(rows) == len(sent) + 1 and rows[-1].outcome == "cancelled" and rows[-1].usage.source == "unknown":
        del rows[-1]
    is_killed = run.processes[reading.process].was_killed
    if len(sent) == len(rows) + 1 and is_killed and sent[-1][1].ended_at is None:
        yield Request(reading, *sent.pop())
    targets = [row.target for row in rows], [served.target for _, served in sent]
    if targets[0] != targets[1]:
        fail(reading, f"one row for each request that reached a vendor: {_listed(targets[1])}", _listed(targets[0]))
    for row, (vendor, served) in zip(rows, sent, strict=True):
        yield Request(reading, vendor, served, row)


def _listed(targets: Sequence[object]) -> str:
    return ", ".join(map(str, targets)) or "none"
