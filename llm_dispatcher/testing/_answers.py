"""Answers that are ready to send: their bytes, the pauses between them, and what happens to the connection."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ._http import END_OF_BODY, chunk, head
from ._received import ChangeFrames, Ending
from ._script import Reply, Wire
from ._wires import WIRES, Frame, Rejection, WireModule, frames_of
from .faults import (
    Breaks,
    Cut,
    CutEach,
    ErrorFrame,
    Fault,
    Garbage,
    HttpError,
    KeepAlives,
    Linger,
    MalformedJson,
    OfARun,
    Redirect,
    Refuse,
    Resplit,
    Stall,
    Stops,
    UnaskedAnswer,
)


class HasContent(Protocol):
    """A part of an answer."""

    @property
    def content(self) -> bool:
        """Whether it counts as a piece of content."""
        ...


Part = TypeVar("Part", bound=HasContent)


class Write(Struct, frozen=True):
    """Bytes that are sent together, and the pause after them."""

    data: bytes
    pause: float = 0.0


class Answer(Struct, frozen=True):
    """The writes of a connection. `fault` is what it does besides. The body ends early once `is_stopped` is true."""

    status: int
    headers: Mapping[str, str]
    writes: tuple[Write, ...]
    ending: Ending = "served"
    fault: Fault | None = None
    keep_alive: bytes = b""
    unasked: bytes = b""
    is_stopped: Callable[[], bool] | None = None


class Ready(Struct, frozen=True):
    """How many frames of an answer are written already when it begins, and the seconds until the next one is."""

    frames: int = 0
    wait: float = 0.0


NOTHING_READY: Final = Ready()


def streamed(
    wire: Wire, reply: Reply, model: str, fallbacks: Sequence[str] = (), change: ChangeFrames | None = None
) -> Answer:
    """A reply as an answer on this wire. Raises a `ValueError` if the wire cannot express it.

    `fallbacks` are the models that the request names to continue the answer if the model declines. `change` makes other
    frames of the wire's own, for a request that asks for another form of its answer.
    """
    if isinstance(reply.fault, OfARun):
        raise ValueError(  # noqa: TRY004 - the type is right, its place is not
            f"{type(reply.fault).__name__} is for a run in the background, on the wire {Wire.OPENAI_RESPONSES}: "
            "the request has to set background: true, as the option background of a provider's entry does"
        )
    frames = frames_of(wire, reply, model, fallbacks)
    if change is not None:
        frames = change(frames)
    if isinstance(reply.fault, Breaks):
        check_place(wire, reply, model)
    return answer_with(wire, frames, reply, model)


def answer_with(wire: Wire, frames: list[Frame], reply: Reply, model: str, ready: Ready = NOTHING_READY) -> Answer:
    """These frames as an answer, with the fault of the reply. Those that are `ready` come without pauses."""
    module = WIRES[wire]
    frames = _with_fault(module, frames, reply.fault)
    writes = _resplit(frames, reply) if reply.resplit else _unchanged(frames, reply.pace, ready)
    if not isinstance(reply.fault, (Cut, CutEach, Stall, KeepAlives, Linger)):
        writes = [*writes, Write(END_OF_BODY)]
    return Answer(
        status=200,
        headers={"content-type": module.CONTENT_TYPE, "transfer-encoding": "chunked", **reply.headers},
        writes=tuple(writes if reply.resplit else _joined(writes)),
        ending="broken" if isinstance(reply.fault, (Breaks, CutEach)) else "served",
        fault=reply.fault,
        keep_alive=chunk(module.KEEP_ALIVE),
        unasked=_unasked(wire, reply.fault.text, model) if isinstance(reply.fault, UnaskedAnswer) else b"",
    )


def _unasked(wire: Wire, text: str, model: str) -> bytes:
    answer = streamed(wire, Reply(text), model)
    return head(answer.status, answer.headers) + b"".join(write.data for write in answer.writes)


def check(wire: Wire, reply: Reply) -> None:
    """Refuse a reply that is impossible on this wire."""
    if isinstance(reply.fault, OfARun) and wire == Wire.OPENAI_RESPONSES:
        check_place(wire, reply)
        reply = replace(reply, fault=None)
    streamed(wire, reply, "m")


def check_place(wire: Wire, reply: Reply, model: str = "m") -> None:
    """Refuse a fault past the end of the reply. The length depends on the wire: some send a tool call in one piece. A
    reply that declines is as long as it is for a request that names enough fallbacks.
    """
    if not isinstance(fault := reply.fault, Breaks):
        return
    frames = frames_of(wire, reply, model, [f"{model}-{place}" for place in range(len(reply.declines))])
    length = sum(frame.content for frame in frames)
    name = type(fault).__name__
    if fault.after > length:
        raise ValueError(
            f"{name}(after={fault.after}) is past the end: on the {wire} wire the reply has {length} pieces of content"
        )
    if isinstance(fault, Stops):
        following = frames[len(list(before(frames, fault.after))) :]
        if fault.into and (not following or fault.into >= len(following[0].data)):
            raise ValueError(f"{name}(into={fault.into}) is past the end of the event that follows")


def error_answer(
    wire: Wire, reason: HttpError | Rejection, request_id: str, extra: Mapping[str, str] | None = None
) -> Answer:
    """An HTTP error in the form of this wire's vendor, with extra headers."""
    error = (
        reason
        if isinstance(reason, HttpError)
        else HttpError(reason.status, message=reason.message, code=reason.code, param=reason.param)
    )
    body = WIRES[wire].error_body(error, request_id)
    data = msgspec.json.encode(body) if error.body is None else error.body.encode()
    headers = {"content-type": "application/json", "content-length": str(len(data)), **(extra or {})}
    if error.retry_after is not None:
        headers["retry-after"] = f"{error.retry_after:g}"
    return Answer(error.status, headers, (Write(data),), "refused")


def redirected(redirect: Redirect) -> Answer:
    """A redirect to another address."""
    return Answer(redirect.status, {"location": redirect.location, "content-length": "0"}, (), "refused")


def no_answer() -> Answer:
    """No answer: the connection is reset."""
    return Answer(0, {}, (), "refused", Refuse())


def json_answer(value: object) -> Answer:
    """A value as JSON."""
    data = msgspec.json.encode(value)
    return Answer(200, {"content-type": "application/json", "content-length": str(len(data))}, (Write(data),))


# ── frames to writes ────────────────────────────────────────────────────────────────────────────────────────────────


def _with_fault(module: WireModule, frames: list[Frame], fault: Fault | None) -> list[Frame]:
    """The frames before the fault, and the frames that the fault adds."""
    if isinstance(fault, CutEach):
        return frames[: fault.events]
    if not isinstance(fault, Breaks):
        return frames
    output = list(before(frames, fault.after))
    match fault:
        case ErrorFrame():
            output.append(Frame(module.error_frame(fault.message)))
        case MalformedJson():
            output.append(Frame(module.event(b'{"broken": [1, ')))
        case Garbage():
            output.append(Frame(module.event(fault.data)))
        case Stops() if fault.into and len(output) < len(frames):
            output.append(Frame(frames[len(output)].data[: fault.into]))
        case _:
            pass
    return output


def before(frames: Sequence[Part], after: int) -> Iterator[Part]:
    """The parts of an answer with the first `after` pieces of content, and all parts before the first piece."""
    count = 0
    for frame in frames:
        if count == after and (frame.content or count):
            return
        count += frame.content
        yield frame


def _unchanged(frames: Sequence[Frame], pace: float, ready: Ready) -> list[Write]:
    written = [Write(chunk(frame.data)) for frame in frames[: ready.frames]]
    coming = [Write(chunk(frame.data), pace if frame.content else 0.0) for frame in frames[ready.frames :]]
    return [*written, Write(b"", ready.wait), *coming] if ready.wait else [*written, *coming]


def _resplit(frames: list[Frame], reply: Reply) -> list[Write]:
    """The frames' bytes in other pieces. The pause of a piece of content follows the bytes that complete it."""
    assert reply.resplit is not None
    ends = list(_ends_of_content(frames))
    return [
        Write(chunk(data), reply.pace * (bisect_right(ends, end) - bisect_right(ends, end - len(data))))
        for data, end in _pieces(b"".join(frame.data for frame in frames), reply.resplit)
    ]


def _ends_of_content(frames: Iterable[Frame]) -> Iterator[int]:
    end = 0
    for frame in frames:
        end += len(frame.data)
        if frame.content:
            yield end


def _pieces(data: bytes, resplit: Resplit) -> Iterator[tuple[bytes, int]]:
    """Each piece, with the position of its end."""
    at = 0
    for length in resplit.lengths():
        if at >= len(data):
            return
        piece = data[at : at + length]
        at += len(piece)
        yield piece, at


def _joined(writes: Iterable[Write]) -> Iterator[Write]:
    """As few writes as the pauses allow: a stream without pauses is one write."""
    pending = bytearray()
    for write in writes:
        pending += write.data
        if write.pause:
            yield Write(bytes(pending), write.pause)
            pending.clear()
    if pending:
        yield Write(bytes(pending))
