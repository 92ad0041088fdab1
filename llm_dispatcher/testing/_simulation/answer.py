"""Answers of simulated providers: a reply and its fault become pieces, pauses and errors in one order.

`Pieces` is the same thing written by hand.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from copy import copy
from math import inf
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ...provider import Finished, Opened, Piece, RawEvent
from ...provider._decoding import LINGER
from ...provider._rate_limit_headers import allowance
from .._answers import before
from .._received import Ending
from .._script import Reply, Wire, numbered
from .._wires import WIRES
from ..faults import (
    Breaks,
    CleanEnd,
    Cut,
    ErrorFrame,
    Garbage,
    HttpError,
    KeepAlives,
    Linger,
    MalformedJson,
    OfARun,
    Redirect,
    Refuse,
    SlowHeaders,
    Stall,
    not_negative,
)
from . import vendor_errors
from .wire_steps import STEPS, Step

Moment: TypeAlias = Piece | float | BaseException
"""A piece that is yielded, seconds that pass, or an error that is raised."""


class Pieces:
    """An answer piece by piece, for vendors that do what no `Reply` says, such as one that lies about its usage.

    A number is a pause in seconds, and `math.inf` a silence that lasts until the reader leaves. An exception is raised,
    and becomes an error of this package as those of a transport do. An answer begins with `Opened`, and is complete
    with a `Finished`. Example: `Pieces(Opened(), "Once", 2.0, UsageReport(Usage(-5)), Finished("stop", None))`.
    """

    __slots__ = ("moments",)

    def __init__(self, *moments: Moment) -> None:
        for moment in moments:
            if isinstance(moment, (int, float)):
                not_negative("a pause of Pieces", moment)
        self.moments: Final = moments

    def __repr__(self) -> str:
        return f"Pieces({', '.join(map(repr, self.moments))})"


class Answer(Struct, frozen=True):
    """What happens when a request is answered. `silence` comes after the last piece; `ending` is `None` if nothing ends
    the answer but its reader.
    """

    moments: tuple[Moment, ...]
    silence: float
    ending: Ending | None
    status: int | None


class Asked(Struct, frozen=True):
    """What an answer depends on beside its reply. With `raw`, the vendor's events are wanted too."""

    wire: Wire
    model: str
    request_id: str
    raw: bool

    def headers(self, reply: Reply | None = None) -> dict[str, str]:
        """The headers of an answer, with names in lower case."""
        extra = {name.lower(): value for name, value in reply.headers.items()} if reply is not None else {}
        return {WIRES[self.wire].REQUEST_ID_HEADER: self.request_id, **extra}


def answer(asked: Asked, reply: Reply | Pieces) -> Answer:
    """A reply as an answer. Raises a `ValueError` if the reply is impossible on this wire."""
    if isinstance(reply, Pieces):
        is_complete = any(isinstance(moment, Finished) for moment in reply.moments)
        # An error is copied, because an instance that is raised again would collect what it went through before.
        moments = [copy(moment) if isinstance(moment, BaseException) else moment for moment in reply.moments]
        return _answer(_with_raw_events(moments, asked), "served" if is_complete else "broken", 200)
    reply = numbered(reply)
    if isinstance(reply.fault, OfARun):
        raise ValueError(  # noqa: TRY004 - the type is right, its place is not
            f"{type(reply.fault).__name__} is for a vendor that keeps runs: it needs background=, or in a simulated "
            "switch a policy with options: {background: true}"
        )
    if reply.declines:
        raise ValueError("Reply(declines) is for a simulated vendor: in a simulation, write Pieces with a Handover")
    match reply.fault:
        case Refuse():
            return _answer((_reset(),), "refused", None)
        case Redirect():
            return _answer((vendor_errors.not_followed(reply.fault),), "refused", reply.fault.status)
        case HttpError():
            return refusal(asked, reply.fault, reply)
        case _:
            ending: Ending = "broken" if isinstance(reply.fault, Breaks) else "served"
            return _answer(_streamed(asked, reply), ending, 200)


def answered(asked: Asked, reply: Reply) -> Iterator[Moment]:
    """The events of a reply without its fault."""
    return _streamed(asked, replace(reply, fault=None))


def refusal(asked: Asked, error: HttpError, reply: Reply | None = None) -> Answer:
    """An HTTP error, with the extra headers of a reply."""
    reason = vendor_errors.refused(asked.wire, error, asked.request_id, asked.headers(reply))
    return _answer((reason,), "refused", error.status)


def _answer(moments: Iterable[Moment], ending: Ending, status: int | None) -> Answer:
    inside, silence = list(moments), 0.0
    while inside and isinstance(last := inside[-1], (int, float)):
        silence += last
        inside.pop()
    return Answer(tuple(inside), silence, None if silence == inf else ending, status)


def _with_raw_events(moments: Iterable[Moment], asked: Asked) -> Iterator[Moment]:
    """With raw events before the pieces that have none, or without any if they are not wanted."""
    has_one = False
    for moment in moments:
        if isinstance(moment, RawEvent):
            has_one = True
            if asked.raw:
                yield moment
            continue
        if asked.raw and not has_one and not isinstance(moment, (int, float, BaseException, Opened)):
            yield RawEvent({"simulated": type(moment).__name__})
        has_one = False
        yield moment


def _streamed(asked: Asked, reply: Reply) -> Iterator[Moment]:
    """The head of an answer, its events, and what its fault does."""
    wire, fault = asked.wire, reply.fault
    steps = _with_raw_steps(asked, reply) if asked.raw else STEPS[wire](reply)
    if isinstance(fault, SlowHeaders):
        yield fault.seconds
    head = asked.headers(reply)
    # The provider of Ollama reads no id from the head.
    request_id = None if wire is Wire.OLLAMA else head.get(WIRES[wire].REQUEST_ID_HEADER)
    yield Opened(request_id, allowance(head))
    sent = list(before(steps, fault.after)) if isinstance(fault, Breaks) else steps
    for step in sent:
        yield from step.pieces
        if step.content and reply.pace:
            yield reply.pace
    if isinstance(fault, Breaks):
        check_place(wire, fault, steps)
        yield from _broken(asked, reply, steps, len(sent))
    elif isinstance(fault, Linger) and wire in _MAY_TRAIL:
        yield LINGER


_MAY_TRAIL: Final = frozenset({Wire.GOOGLE})
"""After the event that ends an answer, the providers of these wires read on for a moment."""


def check_place(wire: Wire, fault: Breaks, steps: Iterable[Step]) -> None:
    """Refuse a fault past the end of the reply."""
    length = sum(step.content for step in steps)
    if fault.after > length:
        raise ValueError(
            f"{type(fault).__name__}(after={fault.after}) is past the end: "
            f"on the {wire} wire the reply has {length} pieces of content"
        )


def _broken(asked: Asked, reply: Reply, steps: list[Step], place: int) -> Iterator[Moment]:
    """What a fault does after the first `place` steps of an answer."""
    fault = reply.fault
    is_over = any(step.ends for step in steps[:place])
    reads_on = not is_over or asked.wire in _MAY_TRAIL
    match fault:
        case ErrorFrame():
            yield from _raw_event(asked, WIRES[asked.wire].error_frame(fault.message))
            yield vendor_errors.in_the_stream(asked.wire, fault.message)
        case MalformedJson():
            yield from undecodable(b'{"broken": [1, ')
        case Garbage():
            yield from list(undecodable(fault.data)) or _raw_event(asked, WIRES[asked.wire].event(fault.data))
        case Cut() if reads_on:
            yield fault.moment
            yield _reset()
        case CleanEnd() if fault.into and place < len(steps):
            event = WIRES[asked.wire].frames(reply, asked.model)[place].data[: fault.into]
            decoded = list(undecodable(vendor_errors.data_of(asked.wire, event)))
            yield from decoded or (steps[place].pieces if _is_whole(asked.wire, event) else ())
        case Stall() | KeepAlives() if reads_on:
            yield LINGER if is_over else inf
        case _:
            pass


def undecodable(data: bytes) -> Iterator[BaseException]:
    """The error of a decoder for an event that is not JSON. An event without data is ignored."""
    try:
        if data:
            msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        yield error.with_traceback(None)


def _is_whole(wire: Wire, event: bytes) -> bool:
    """Whether an event that was cut off lacks no more than its line end."""
    return bool(vendor_errors.data_of(wire, event))


def _raw_event(asked: Asked, event: bytes) -> list[RawEvent]:
    """An event of a fault as a raw event, if these are wanted."""
    value = vendor_errors.raw_event(asked.wire, event) if asked.raw else None
    return [] if value is None else [RawEvent(value)]


def _with_raw_steps(asked: Asked, reply: Reply) -> list[Step]:
    """The steps, each with the vendor's event before its pieces."""
    frames = WIRES[asked.wire].frames(reply, asked.model)
    events = (vendor_errors.raw_event(asked.wire, frame.data) for frame in frames)
    return [
        step if event is None else replace(step, pieces=(RawEvent(event), *step.pieces))
        for step, event in zip(STEPS[asked.wire](reply), events, strict=True)
    ]


def _reset() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
