"""The faults of a simulated vendor. They are values; an impossible one raises an error when it is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from msgspec import Struct

from .. import _clock


class ScriptPart(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a script. In JSON, unknown keys are an error."""


class Refuse(ScriptPart, frozen=True, tag="refuse"):
    """Reset the connection when the request has arrived, without an answer.

    To refuse connections, use `vendor.down()`.
    """


class SlowHeaders(ScriptPart, frozen=True, tag="slow-headers"):
    """Wait this long before the head of the answer."""

    seconds: float

    def __post_init__(self) -> None:
        not_negative("SlowHeaders(seconds)", self.seconds)


class HttpError(ScriptPart, frozen=True, tag="http-error"):
    """Answer with an HTTP error in the vendor's form, or with this `body`.

    `code` and `param` are the vendor's words for the problem and its place. Not all wires have them.
    """

    status: int
    retry_after: float | None = None
    message: str = "simulated"
    code: str | None = None
    body: str | None = None
    param: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.status, int):
            raise TypeError(f"HttpError(status) is an int, got {type(self.status).__name__}")
        if not 400 <= self.status <= 599:
            raise ValueError(f"HttpError(status) is from 400 to 599, got {self.status}")
        not_negative("HttpError(retry_after)", self.retry_after or 0)


class Breaks(ScriptPart, frozen=True):
    """A fault in the stream, after this many pieces of content. With 0, it comes before the first piece."""

    after: int = 0

    def __post_init__(self) -> None:
        not_negative(f"{type(self).__name__}(after)", self.after)


class Stops(Breaks, frozen=True):
    """The stream stops there, or after the first `into` bytes of the next event."""

    into: int = 0

    def __post_init__(self) -> None:
        Breaks.__post_init__(self)
        not_negative(f"{type(self).__name__}(into)", self.into)


class Cut(Stops, frozen=True, tag="cut"):
    """Reset the connection, after everything before was sent and the reader had a `moment` to read it (seconds)."""

    moment: float = 0.02

    def __post_init__(self) -> None:
        Stops.__post_init__(self)
        not_negative("Cut(moment)", self.moment)


class CleanEnd(Stops, frozen=True, tag="clean-end"):
    """End the HTTP body correctly, but without the event that says that the answer is complete."""


class Stall(Stops, frozen=True, tag="stall"):
    """Send nothing more, and keep the connection open."""


class ErrorFrame(Breaks, frozen=True, tag="error-frame"):
    """Send an error in the stream, in the vendor's form, and end the stream."""

    message: str = "simulated"


class MalformedJson(Breaks, frozen=True, tag="malformed-json"):
    """Send an event with incomplete JSON, and end the stream."""


class Garbage(Breaks, frozen=True, tag="garbage"):
    """Send bytes that are not text in any encoding as an event, and end the stream."""

    data: bytes = b"\x00\xff\xfe\x80garbage\xc3\x28"


class KeepAlives(Breaks, frozen=True, tag="keep-alives"):
    """Send only keep-alive messages from there on, until the reader closes the connection."""

    every: float = 0.01

    def __post_init__(self) -> None:
        Breaks.__post_init__(self)
        if not self.every > 0:
            raise ValueError(f"KeepAlives(every) is more than 0, got {self.every}")


class CutEach(ScriptPart, frozen=True, tag="cut-each"):
    """Reset each connection on which a run in the background is read, after this many events of it.

    With `times`, only so many connections are reset, and the next one is served to the end.
    """

    events: int = 1
    times: int | None = None
    moment: float = 0.02

    def __post_init__(self) -> None:
        not_negative("CutEach(events)", self.events)
        not_negative("CutEach(times)", self.times or 0)
        not_negative("CutEach(moment)", self.moment)


class RunFails(Breaks, frozen=True, tag="run-fails"):
    """A run in the background fails there: its last event is `response.failed`."""

    message: str = "simulated"


class RunStalls(Breaks, frozen=True, tag="run-stalls"):
    """A run in the background writes nothing more. Connections to it stay open."""


class RunIsLost(Breaks, frozen=True, tag="run-is-lost"):
    """The vendor loses a run in the background there: the connection is reset, and the run does not exist any more."""

    moment: float = 0.02

    def __post_init__(self) -> None:
        Breaks.__post_init__(self)
        not_negative("RunIsLost(moment)", self.moment)


class HangUp(ScriptPart, frozen=True, tag="hang-up"):
    """Send the whole answer, then close the connection without announcing it, as llama.cpp does."""


class Linger(ScriptPart, frozen=True, tag="linger"):
    """Send the whole answer and the event that ends it, but leave the body and the connection open."""


class UnaskedAnswer(ScriptPart, frozen=True, tag="unasked-answer"):
    """Send the whole answer, and a moment later a second answer on the same connection, without a request."""

    text: str = "Nobody asked for this."
    moment: float = 0.02

    def __post_init__(self) -> None:
        not_negative("UnaskedAnswer(moment)", self.moment)


class Redirect(ScriptPart, frozen=True, tag="redirect"):
    """Redirect the request to another address."""

    location: str
    status: int = 307

    def __post_init__(self) -> None:
        if self.status not in (301, 302, 303, 307, 308):
            raise ValueError(f"Redirect(status) is 301, 302, 303, 307 or 308, got {self.status}")


Breaking: TypeAlias = Cut | CleanEnd | Stall | ErrorFrame | MalformedJson | Garbage | KeepAlives
AfterTheEnd: TypeAlias = HangUp | Linger | UnaskedAnswer
OfARun: TypeAlias = CutEach | RunFails | RunStalls | RunIsLost
Fault: TypeAlias = Refuse | SlowHeaders | HttpError | Redirect | Breaking | OfARun | AfterTheEnd


class Resplit(ScriptPart, frozen=True):
    """Send the bytes of the answer in pieces of these sizes, which may split characters and line ends.

    The sizes are repeated until the end. With a `seed`, they come in a random order, which is the same each time.
    """

    sizes: tuple[int, ...] = (1,)
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"Resplit(sizes) are 1 or more, got {self.sizes}")

    def lengths(self) -> Iterator[int]:
        """The length of each piece, without end."""
        dice = None if self.seed is None else _clock.generator(self.seed)
        while True:
            yield from self.sizes if dice is None else (dice.choice(self.sizes),)


def not_negative(what: str, value: float) -> None:
    """Check a number of a script.

    Raises:
        ValueError: It is negative, or NaN.
    """
    if not value >= 0:
        raise ValueError(f"{what} is 0 or more, got {value}")
