"""Which request to a vendor belongs to which row of which reader's ledger."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from llm_dispatcher._policy import BODY
from llm_dispatcher._routing.health import LOCAL, REFUSED
from llm_dispatcher.events import Attempt
from llm_dispatcher.provider import Finished, Handover, Opened, Piece, ServedBy
from llm_dispatcher.tasks import Message, Target, TaskRequest
from tests.simulation.answers import last_question
from tests.simulation.promises.kit import UNPROVEN, asks_the_same, attempts_of, everyone, fail, is_buffered, may_share
from tests.simulation.record import Process, Reading, Run, Served, Vendor

_HANDED_OVER: Final = re.compile(r"^the model stopped \(.*, and .* continues")


class Part:
    """What one model has sent of an answer in which its vendor has handed over to others. It has the times of the whole
    answer.
    """

    def __init__(self, whole: Served, pieces: list[Piece], finished: bool) -> None:
        self.whole = whole
        self.pieces = pieces
        self.finished = finished

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def __repr__(self) -> str:
        return f"a part of {self.whole!r}"


@dataclass(frozen=True, eq=False)
class Request:
    """One request that reached a vendor. `row` is its row in the ledger; `None` if its process was killed before.

    If the vendor hands over to other models, each of them has a row, and counts as a request with a `part`.
    """

    reading: Reading
    vendor: Vendor
    served: Served
    place: int
    row: Attempt | None = None
    refused: tuple[Served, ...] = ()
    """What the same attempt had asked before: with token ids, then with an open turn. Its host has refused that."""
    part: int = 0
    """The place of its model among those to which the vendor has handed over in this answer."""

    @property
    def turn(self) -> int:
        """The turn of its stream, counted from 0: how often the results of tools had come before."""
        return turn_of(self.served.request)

    @property
    def began_at(self) -> float:
        """When the attempt first asked."""
        return self.refused[0].asked_at if self.refused else self.served.asked_at

    @property
    def refused_at(self) -> float | None:
        """When the same attempt had asked with an open turn."""
        return next((each.asked_at for each in self.refused if not self.had_tokens(each)), None)

    @property
    def whole(self) -> Served:
        """What the vendor has sent in this answer, by all of its models."""
        return self.served.whole if isinstance(self.served, Part) else self.served

    def had_tokens(self, served: Served | None = None) -> bool:
        """Whether it, or another request of its attempt, had the token ids of the answer."""
        return id(self.whole if served is None else served) in self.vendor.with_tokens

    @property
    def reads_on(self) -> bool:
        """Whether it has read on a run that the vendor keeps, and has asked for nothing new."""
        return self.served.reads_on

    @property
    def is_local(self) -> bool:
        """Whether this machine failed, and the request was not sent."""
        return self.row is not None and self.row.failure is not None and self.row.failure.kind == LOCAL


def turn_of(request: TaskRequest) -> int:
    """The turn of a request, counted from 0, in a stream that runs tools."""
    own = list(takewhile(lambda message: not is_question(message), reversed(request.messages)))
    return sum(message.role == "tool" for message in own)


def is_question(message: Message) -> bool:
    """Whether a message asks what a reader asks."""
    return message.role == "user" and bool(last_question(message.text))


def turns_of_rows(run: Run, reading: Reading) -> dict[int, int]:
    """The turn of each row of a reader, by the row's number. A row without a request is of the turn before it."""
    sent = {each.row.number: each.turn for each in of_reading(run, reading) if each.row is not None}
    turns: dict[int, int] = {}
    for row in attempts_of(reading):
        turns[row.number] = sent.get(row.number, turns.get(row.number - 1, 0))
    return turns


def requests(run: Run) -> Sequence[Request]:
    """Every request that reached a vendor, in order, with its row.

    Those of a reader whose ledger does not fit are left out: `check_requests` says what is wrong with it.
    """
    return _matched(run).every


def of_process(run: Run, process: Process) -> list[Request]:
    """The requests of one process, in order."""
    return [each for each in requests(run) if each.reading.process == process.number]


def sent_by(run: Run, process: Process) -> list[Request]:
    """The requests of one process for an answer, in order. Reading a run on is none, and neither is a handover."""
    return [each for each in of_process(run, process) if not each.reads_on and not each.part]


def of_reading(run: Run, reading: Reading) -> Sequence[Request]:
    """The requests that one reader has caused, in order."""
    return _matched(run).by_reading.get(id(reading), ())


def answers(run: Run) -> list[list[Request]]:
    """The requests, each with those that have read on its run, and with those to which its vendor has handed over."""
    found: list[list[Request]] = []
    of_run: dict[int, list[Request]] = {}
    for request in requests(run):
        kept = request.served.run
        if request.part:
            next(each for each in reversed(found) if each[0].whole is request.whole).append(request)
            continue
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

        Four exceptions. A host that refuses token ids or an open turn is asked again in the same attempt.
        If a vendor hands over to other models, each of them has a row.
        The last row may be of an attempt that was stopped before its request was sent: it says that
        nothing is known of it. The last request may have no row if its process was killed meanwhile
        (`_is_under_way`).
        """
        sent.sort(key=lambda each: each[0])
        rows = [row for row in attempts_of(reading) if row.target.provider != BODY]  # it sends no request
        sent, again = _without_refused(sent, rows)
        parts = list(_parts(sent, rows))
        if len(rows) == len(parts) + 1 and rows[-1].outcome == "cancelled" and rows[-1].usage.source == "unknown":
            del rows[-1]
        if len(parts) == len(rows) + 1 and self._is_under_way(reading, sent[-1][2]):
            place, vendor, served = sent[-1]
            del parts[-1]
            yield Request(reading, vendor, served, place)
        targets = [each[2] for each in parts]
        if targets != [row.target for row in rows]:
            self.unfit = self.unfit or (reading, targets, [row.target for row in rows])
            return
        for row, ((place, vendor, served), seen, _, number) in zip(rows, parts, strict=True):
            refused = again.get(id(served), ()) if not number else ()
            yield Request(reading, vendor, seen, place, row, refused, number)

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


def _parts(
    sent: list[tuple[int, Vendor, Served]], rows: Sequence[Attempt]
) -> Iterator[tuple[tuple[int, Vendor, Served], Served, Target, int]]:
    """Each request, what it or one of its models has sent, the target of that, and its number in the answer. A handover
    counts if the row of the model before it says so: a reader may leave, or a text be refused, in its very moment.
    """
    at = 0
    for each in sent:
        served = each[2]
        target, pieces, number = served.target, served.pieces, 0
        for place, piece in enumerate(served.pieces):
            if not isinstance(piece, Handover) or at >= len(rows) or not has_handed_over(rows[at]):
                continue
            left = len(served.pieces) - place - 1
            yield each, _part(served, pieces[: len(pieces) - left - 1]), target, number
            at, number = at + 1, number + 1
            target = Target(served.target.provider, piece.to_model)
            pieces = [*(one for one in served.pieces[:1] if isinstance(one, Opened)), *served.pieces[place + 1 :]]
        served_by = next((piece for piece in pieces if isinstance(piece, ServedBy)), None)
        if served_by is not None and not any(isinstance(piece, Handover) for piece in served.pieces):
            target = Target(served.target.provider, served_by.model)
        yield each, _part(served, pieces) if number else served, target, number
        at += 1


def _part(served: Served, pieces: list[Piece]) -> Served:
    return Part(served, pieces, any(isinstance(piece, Finished) for piece in pieces))


def has_handed_over(row: Attempt) -> bool:
    """Whether the vendor has gone on with another model after this attempt, in the same answer."""
    failure = row.failure
    return failure is not None and failure.kind == REFUSED and _HANDED_OVER.match(failure.message) is not None


def asked_targets(run: Run, reading: Reading) -> list[Target]:
    """The target that was asked for each row of a reader: the vendor may have gone on with another model by itself."""
    asked = {each.row.number: each.served.target for each in of_reading(run, reading) if each.row is not None}
    return [asked.get(row.number, row.target) for row in attempts_of(reading)]


def handed_over(run: Run, reading: Reading) -> set[int]:
    """The numbers of the rows that continue another model's in the same answer of a vendor."""
    return {each.row.number for each in of_reading(run, reading) if each.row is not None and each.part}


def by_other_models(run: Run, reading: Reading) -> dict[int, Target]:
    """The models that have written for another one that was asked, by the number of the row."""
    with_rows = [(each.row, each) for each in of_reading(run, reading) if each.row is not None]
    return {row.number: row.target for row, each in with_rows if row.target != each.served.target}


def begins_again(run: Run, reading: Reading) -> list[bool]:
    """For each row, whether it is of the last turn of a target that could not continue the answer: when nobody else
    could, it begins the answer again.
    """
    rows, asked, by_vendor = attempts_of(reading), asked_targets(run, reading), handed_over(run, reading)
    again: list[bool] = []
    unproven: set[Target] = set()
    for at, row in enumerate(rows):
        if row.rung == "reattached" or row.number in by_vendor:
            again.append(at > 0 and again[at - 1])
        else:
            again.append(row.rung == "restarted" and asked[at] in unproven)
        if row.failure is not None and row.failure.kind == UNPROVEN:
            unproven.add(asked[at])
    return again


def _without_refused(
    sent: list[tuple[int, Vendor, Served]], rows: Sequence[Attempt]
) -> tuple[list[tuple[int, Vendor, Served]], dict[int, tuple[Served, ...]]]:
    """The requests without those whose attempt asked the same target again, and what came before those that did."""
    kept: list[tuple[int, Vendor, Served]] = []
    again: dict[int, tuple[Served, ...]] = {}
    at = 0
    for place, (_, vendor, served) in enumerate(sent):
        after = sent[place + 1][2] if place + 1 < len(sent) else None
        row = rows[at] if at < len(rows) else None
        had_tokens = id(served) in vendor.with_tokens and not served.pieces
        is_refused = had_tokens or _is_refused_open_turn(served)
        rungs = ("anchored", "prefill") if had_tokens else ("anchored",)
        is_one_attempt = is_refused and (row is None or row.rung in rungs)
        if after is not None and is_one_attempt and _is_asked_again(served, after, by_text=had_tokens):
            again[id(after)] = (*again.get(id(served), ()), served)
            continue
        kept.append(sent[place])
        at += 1
        for _ in (piece for piece in served.pieces if isinstance(piece, Handover)):
            if at <= len(rows) and has_handed_over(rows[at - 1]):
                at += 1
    return kept, again


def _is_refused_open_turn(served: Served) -> bool:
    conversation = served.request.conversation
    return not served.pieces and bool(conversation) and conversation[-1].role == "assistant"


def _is_asked_again(served: Served, after: Served, *, by_text: bool) -> bool:
    """Whether a host is asked again in the same moment: with an anchor, or in any way after it has refused tokens."""
    roles = [message.role for message in after.request.conversation[-2:]]
    is_at_once = after.target == served.target and after.asked_at == served.ended_at
    return is_at_once and (by_text or roles == ["assistant", "user"])


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
