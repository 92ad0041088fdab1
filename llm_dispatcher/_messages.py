"""The values of a conversation: messages and their parts."""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import force_setattr

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]

CacheTime: TypeAlias = Literal["5m", "1h"]
"""How long a vendor keeps a prompt in its prompt cache: five minutes or an hour."""


class Media(Struct, frozen=True):
    """A loaded image or sound: its content as base64, or its URL. The media type of a URL may be unknown."""

    media_type: str | None
    data: str = ""
    url: str | None = None

    @property
    def uri(self) -> str:
        """The URL, or the content as a data URI."""
        return f"data:{self.media_type};base64,{self.data}" if self.url is None else self.url

    @property
    def content(self) -> bytes:
        """The bytes. Empty if only the URL is known."""
        return b64decode(self.data)


MediaSource: TypeAlias = str | bytes | os.PathLike[str] | Media
"""A path, bytes, a data URI, bare base64, a loaded `Media`, or an https URL if the vendor takes URLs."""


def check_source(name: str, value: object) -> None:
    """Raise a `TypeError` if a value is not a `MediaSource`. The message calls the value by this name."""
    if not isinstance(value, (str, bytes, os.PathLike, Media)):
        fix = how_to_pass(value)
        raise TypeError(
            f"{name} is a path, bytes, a data URI or a URL, got {type(value).__name__}" + (f": {fix}" if fix else "")
        )


def how_to_pass(value: object) -> str | None:
    """A fix for an error message, if this object may hold an image or a sound in an unsupported form; else `None`."""
    if isinstance(value, (bytearray, memoryview)):
        return "convert it with bytes(…)"
    if type(value).__module__.partition(".")[0] == "PIL":
        return 'write `file = io.BytesIO(); picture.save(file, "PNG")`, and pass file.getvalue()'
    if hasattr(value, "__array_interface__") or hasattr(value, "__dlpack__"):
        return "an array holds pixels or samples, not a file: encode it as PNG or WAV, and pass the bytes"
    if callable(getattr(value, "read", None)):
        return "encode it with encode_image or encode_audio, and pass the result"
    return None


class TextPart(Struct, frozen=True, tag="text"):
    """Text in a message."""

    text: str


class ImagePart(Struct, frozen=True, tag="image"):
    """An image in a message."""

    source: MediaSource

    def __post_init__(self) -> None:
        check_source("an image", self.source)


class AudioPart(Struct, frozen=True, tag="audio"):
    """A sound in a message."""

    source: MediaSource

    def __post_init__(self) -> None:
        check_source("a sound", self.source)


class CachePoint(Struct, frozen=True, tag="cache_point"):
    """The vendor may keep the prompt up to here in its prompt cache, for about this long.

    A wire that has no such mark ignores it: docs/conversations.md says which.
    """

    ttl: CacheTime = "5m"

    def __post_init__(self) -> None:
        if self.ttl not in get_args(CacheTime):
            raise ValueError(f"the ttl of a CachePoint is one of {', '.join(get_args(CacheTime))}; got {self.ttl!r}")


class ReasoningPart(Struct, frozen=True, tag="reasoning"):
    """A model's reasoning, with the vendor's signature.

    With `provider`, it is sent to that provider only, because another vendor would refuse the signature. With `model`
    too, it is sent to that model only: most vendors let no other model of theirs read it.
    """

    text: str
    signature: str | None = None
    provider: str | None = None
    model: str | None = None


class ToolCallPart(Struct, frozen=True, tag="tool_call"):
    """A tool call that a model made earlier in the conversation."""

    id: str
    name: str
    arguments: str


class ToolResultPart(Struct, frozen=True, tag="tool_result"):
    """The result of a tool call. `error` says that the tool failed."""

    id: str
    name: str
    result: str
    error: bool = False


Part: TypeAlias = TextPart | ImagePart | AudioPart | CachePoint | ReasoningPart | ToolCallPart | ToolResultPart


class Message(Struct, frozen=True):
    """One turn of a conversation. `parts` may be passed as a string, a part, or an iterable of both."""

    role: Role
    parts: tuple[Part, ...]

    if TYPE_CHECKING:

        def __init__(self, role: Role, parts: str | Part | Iterable[str | Part]) -> None: ...

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(f"a message's role is one of {', '.join(get_args(Role))}; got {self.role!r}")
        force_setattr(self, "parts", _parts(self.parts))

    @property
    def text(self) -> str:
        """The text of all text parts."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


_HOLDS: Final[Mapping[Role, tuple[type[Part], ...]]] = {
    "system": (TextPart, CachePoint),
    "user": (TextPart, ImagePart, AudioPart, ToolResultPart, CachePoint),
    "assistant": (TextPart, ReasoningPart, ToolCallPart, CachePoint),
    "tool": (ToolResultPart, CachePoint),
}
"""The parts that a message of each role may hold, on every wire."""


def misplaced_part(message: Message) -> str | None:
    """What is wrong with a message that holds a part which no vendor takes from its role; `None` if nothing is."""
    holds = _HOLDS[message.role]
    for part in message.parts:
        if not isinstance(part, holds):
            names = ", ".join(f"{kind.__name__}s" for kind in holds)
            return f"a message of role {message.role!r} holds {names}, not {type(part).__name__}"
    return None


def _parts(parts: object) -> tuple[Part, ...]:
    """Normalise the parts of a message: from a string, a part, or an iterable of both."""
    if isinstance(parts, str):
        return (TextPart(parts),)
    if isinstance(parts, Part):
        return (parts,)
    if not isinstance(parts, Iterable):
        raise TypeError(f"a message's parts are a str or a sequence of parts, got {type(parts).__name__}")
    normalised: list[Part] = []
    for part in parts:
        if isinstance(part, str):
            normalised.append(TextPart(part))
        elif isinstance(part, Part):
            normalised.append(part)
        else:
            kinds = ", ".join(kind.__name__ for kind in get_args(Part))
            raise TypeError(
                f"a part of a message is a str or a part of llm_dispatcher.tasks ({kinds}), got {type(part).__name__}"
            )
    return tuple(normalised)
