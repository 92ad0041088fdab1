"""The ways in which a simulated vendor breaks. They are values: one that cannot be is refused when it is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from msgspec import Struct

from .. import _clock


class Written(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a script; one that comes as JSON may hold no key that is not known."""


class Refuse(Written, frozen=True, tag="refuse"):
    """Reset the connection as soon as the request is here, without a word.

    A vendor that nobody can even connect to is `vendor.down()`.
    """


class SlowHeaders(Written, frozen=True, tag="slow-headers"):
    """Answer, but let the head of the answer wait this long."""

    seconds: float

    def __post_init__(self) -> None:
        not_negative("SlowHeaders(seconds)", self.seconds)


class HttpError(Written, frozen=True, tag="http-error"):
    """Answer with an HTTP error, in the vendor's own form unless there is a `body`.

    `code` and `param` are the vendor's words for what is wrong and where, on the wires that have them.
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


class Breaks(Written, frozen=True):
    """A fault in the stream, after this many pieces of content: 0 is before the first, their number after the last."""

    after: int = 0

    def __post_init__(self) -> None:
        not_negative(f"{type(self).__name__}(after)", self.after)


class Stops(Breaks, frozen=True):
    """The stream stops there, or `into` so many bytes of the next event."""

    into: int = 0

    def __post_init__(self) -> None:
        Breaks.__post_init__(self)
        not_negative(f"{type(self).__name__}(into)", self.into)


class Cut(Stops, frozen=True, tag="cut"):
    """Reset the connection, when what was sent before has arrived and had a moment to be read."""

    moment: float = 0.02

    def __post_init__(self) -> None:
        Stops.__post_init__(self)
        not_negative("Cut(moment)", self.moment)


class CleanEnd(Stops, frozen=True, tag="clean-end"):
    """End the body in good order, without the vendor's word that the answer is complete."""


class Stall(Stops, frozen=True, tag="stall"):
    """Send nothing more, and keep the connection."""


class ErrorFrame(Breaks, frozen=True, tag="error-frame"):
    """Send an error in the stream, in the vendor's own form, and end."""

    message: str = "simulated"


class MalformedJson(Breaks, frozen=True, tag="malformed-json"):
    """Send an event whose JSON breaks off, and end."""


class Garbage(Breaks, frozen=True, tag="garbage"):
    """Send bytes that are no text in any encoding, as an event, and end."""

    data: bytes = b"\x00\xff\xfe\x80garbage\xc3\x28"


class KeepAlives(Breaks, frozen=True, tag="keep-alives"):
    """Send nothing but keep-alives from here on, until the reader leaves."""

    every: float = 0.01

    def __post_init__(self) -> None:
        Breaks.__post_init__(self)
        if not self.every > 0:
            raise ValueError(f"KeepAlives(every) is more than 0, got {self.every}")


class HangUp(Written, frozen=True, tag="hang-up"):
    """Answer in full, then close the connection, although nothing announced that: llama.cpp does this."""


class Linger(Written, frozen=True, tag="linger"):
    """Answer in full, with the vendor's word that it is complete, but leave the body and the connection open."""


class UnaskedAnswer(Written, frozen=True, tag="unasked-answer"):
    """Answer in full, and a moment later send a second answer on the same connection, which no request asked for."""

    text: str = "Nobody asked for this."
    moment: float = 0.02

    def __post_init__(self) -> None:
        not_negative("UnaskedAnswer(moment)", self.moment)


class Redirect(Written, frozen=True, tag="redirect"):
    """Send the request elsewhere."""

    location: str
    status: int = 307

    def __post_init__(self) -> None:
        if self.status not in (301, 302, 303, 307, 308):
            raise ValueError(f"Redirect(status) is 301, 302, 303, 307 or 308, got {self.status}")


Breaking: TypeAlias = Cut | CleanEnd | Stall | ErrorFrame | MalformedJson | Garbage | KeepAlives
AfterTheEnd: TypeAlias = HangUp | Linger | UnaskedAnswer
Fault: TypeAlias = Refuse | SlowHeaders | HttpError | Redirect | Breaking | AfterTheEnd


class Resplit(Written, frozen=True):
    """Cut the answer's bytes anew, wherever that may be, characters and line ends included.

    They come in pieces of these sizes, over and over; with a `seed`, in a random order of them that is always the same.
    """

    sizes: tuple[int, ...] = (1,)
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"Resplit(sizes) are 1 or more, got {self.sizes}")

    def lengths(self) -> Iterator[int]:
        """How long each piece is, without end."""
        dice = None if self.seed is None else _clock.generator(self.seed)
        while True:
            yield from self.sizes if dice is None else (dice.choice(self.sizes),)


def not_negative(what: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{what} is 0 or more, got {value}")
