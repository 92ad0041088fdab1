"""Runs of simulated providers: a vendor keeps an answer, and it is read on where a connection broke.

How it works: a run is never executed. Each of its events has an age at which it is written. So a run goes on while
nobody reads it, and needs no task. A connection sends at once what is written, and the rest as it comes. Its first
connection has the fault of the reply; `CutEach` and the faults of a run have their own meaning.

A run is used by the tasks of one loop. The task that reads it moves its cursor (`hear`); `cancel` may run in another.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from math import inf
from typing import Final, Literal, Protocol

from ...events import UsageReport
from ...exceptions import ProviderError, StreamTruncatedError
from ...provider import Ask, Finished, KeptRun, Opened, Piece, RawEvent
from ...provider._errors import translated
from .._runs import Background, Trouble
from .._script import Reply
from ..faults import (
    Breaks,
    Cut,
    CutEach,
    ErrorFrame,
    Garbage,
    HttpError,
    KeepAlives,
    MalformedJson,
    OfARun,
    Refuse,
    RunFails,
    RunIsLost,
    RunStalls,
    SlowHeaders,
    Stall,
)
from . import vendor_errors
from .answer import Answer, Asked, Moment, answered, undecodable

_NO_CONTENT: Final = (Opened, RawEvent, UsageReport, Finished)


class Reader(Protocol):
    """Plays the connections of a run."""

    def read_on(self, run: ScriptedRun) -> AsyncGenerator[Piece, None]:
        """Read a run on."""
        ...

    def trouble(self, what: Literal["read", "cancel"]) -> Trouble | None:
        """What happens to a request that reads a run on or cancels it."""
        ...


class ScriptedRun:
    """One run that a simulated provider's vendor keeps.

    `read` counts the events that the reader got, `connections` the times that it was read. The reader knows of it once
    it `is_known`. `over_at` is when it was over, and `cancelled_at` when it was cancelled, in the time of the loop.

    Args:
        id: The vendor's name for it.
        reader: The provider that reads it.
        ask: What was asked.
        asked: What the events depend on.
        reply: The answer.
        background: For how long the vendor keeps it.
        latency: Seconds before each event, beside the pace of the reply.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - the vendor's own word
        reader: Reader,
        ask: Ask,
        asked: Asked,
        reply: Reply,
        background: Background,
        latency: Callable[[], float] | None = None,
    ) -> None:
        self.id: Final = id
        self.ask: Final = ask
        self.reply: Final = reply
        self.is_known: bool = False
        self.over_at: float | None = None
        self.read: int = 0
        self.connections: int = 0
        self.cancelled_at: float | None = None
        self.began_at: Final[float] = asyncio.get_running_loop().time()
        self._reader = reader
        self._asked = asked
        self._background = background
        self._is_lost = False
        self.events: Final[list[tuple[float, Piece]]] = list(_events(asked, reply, latency))
        """Each piece of the run, with the age at which it is written."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to read or to cancel."""
        return self.over_at is not None

    @property
    def position(self) -> str:
        return f"event {self.read}"

    @property
    def is_whole(self) -> bool:
        """Whether the vendor ends the run by itself, with its last event."""
        return any(isinstance(piece, Finished) for _, piece in self.events)

    @property
    def age(self) -> float:
        return asyncio.get_running_loop().time() - self.began_at

    def read_on(self) -> AsyncGenerator[Piece, None]:
        return self._reader.read_on(self)

    async def cancel(self) -> None:
        if self.is_over:
            return
        trouble = self._reader.trouble("cancel")
        with translated(self.ask):
            if isinstance(trouble, SlowHeaders):
                await asyncio.sleep(trouble.seconds)
            elif trouble is not None:
                raise self._failed(trouble)
        self._end()
        self.cancelled_at = self.over_at

    # ── connections ────────────────────────────────────────────────────────────────────────────────────────────────

    def first(self) -> Answer:
        """The answer that begins the run."""
        return self._connection(KeptRun(self))

    def again(self) -> Answer:
        """The answer to a request that reads it on."""
        trouble = self._reader.trouble("read")
        if trouble is not None and not isinstance(trouble, SlowHeaders):
            return Answer((self._failed(trouble),), 0.0, "refused", getattr(trouble, "status", None))
        age = self.age + (trouble.seconds if isinstance(trouble, SlowHeaders) else 0.0)
        if self._is_lost or self.is_over or age >= min(self._background.stream_for, self._background.keep_for):
            self._end()
            return Answer((self._gone(),), 0.0, "refused", 404)
        return self._connection(pause=age - self.age)

    def hear(self, moment: Piece | BaseException) -> None:
        """The reader gets this."""
        if isinstance(moment, BaseException):
            is_end = self.read == len(self.events)
            if is_end and isinstance(self.reply.fault, RunFails):
                self._end()
            self._is_lost = self._is_lost or (is_end and isinstance(self.reply.fault, RunIsLost))
        elif isinstance(moment, KeptRun):
            self.is_known = True
        elif not isinstance(moment, Opened):
            self.read += 1
            if isinstance(moment, Finished):
                self._end()

    def _end(self) -> None:
        if self.over_at is None:
            self.over_at = asyncio.get_running_loop().time()

    def _connection(self, *head: Piece, pause: float = 0.0) -> Answer:
        self.connections += 1
        moments: list[Moment] = [pause, Opened(f"req_{self.id}_{self.connections}"), *head]
        at, stop, fault = self.age + pause, *self._break()
        for due, piece in self.events[self.read : stop]:
            if due > at:
                moments.append(due - at)
                at = due
            moments.append(piece)
        moments += fault
        silence = 0.0
        while isinstance(last := moments[-1], (int, float)):
            silence += last
            moments.pop()
        return Answer(tuple(moments), silence, None if silence == inf else "served", 200)

    def _break(self) -> tuple[int, list[Moment]]:
        """Where this connection breaks, and how."""
        fault, end = self.reply.fault, len(self.events)
        match fault:
            case CutEach(times=times) if times is None or self.connections <= times:
                return self.read + fault.events, [fault.moment, _reset()] if self.read + fault.events <= end else []
            case RunFails():
                return end, [vendor_errors.in_the_stream(self._asked.wire, fault.message)]
            case RunIsLost():
                return end, [fault.moment, _reset()]
            case RunStalls():
                return end, [inf]
            case Breaks() if self.connections == 1:
                return _place(self.events, fault.after), self._broken(fault)
            case _:
                return end, []

    def _broken(self, fault: Breaks) -> list[Moment]:
        match fault:
            case Cut():
                return [fault.moment, _reset()]
            case ErrorFrame():
                return [vendor_errors.in_the_stream(self._asked.wire, fault.message)]
            case MalformedJson():
                return list(undecodable(b'{"broken": [1, '))
            case Garbage():
                return list(undecodable(fault.data))
            case Stall() | KeepAlives():
                return [inf]
            case _:  # a clean end
                return []

    def _failed(self, trouble: HttpError | Refuse) -> BaseException:
        if isinstance(trouble, Refuse):
            return _reset()
        return vendor_errors.refused(self._asked.wire, trouble, self.id, self._asked.headers())

    def _gone(self) -> ProviderError:
        target = self.ask.target
        return StreamTruncatedError(
            f"the run {self.id} cannot be read on", provider=target.provider, model=target.model, status=404
        )

    def __repr__(self) -> str:
        return f"<run {self.id}, of which {self.read} of {len(self.events)} events were read>"


def _events(asked: Asked, reply: Reply, latency: Callable[[], float] | None) -> Iterator[tuple[float, Piece]]:
    """The events of a run, as far as it writes them."""
    fault = reply.fault
    age = fault.seconds if isinstance(fault, SlowHeaders) else 0.0
    content = 0
    for moment in answered(asked, reply):
        if isinstance(moment, (int, float)):
            age += moment
        elif not isinstance(moment, (Opened, BaseException)):
            is_content = bool(moment) and not isinstance(moment, _NO_CONTENT)
            content += is_content
            if (
                isinstance(fault, OfARun)
                and not isinstance(fault, CutEach)
                and (content > fault.after or (content == fault.after and not is_content))
            ):
                return
            age += 0.0 if latency is None else latency()
            yield age, moment


def _place(events: list[tuple[float, Piece]], after: int) -> int:
    """The place of the event before which so many pieces of content have come."""
    content = 0
    for place, (_, piece) in enumerate(events):
        if content >= after:
            return place
        content += bool(piece) and not isinstance(piece, _NO_CONTENT)
    return len(events)


def _reset() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
