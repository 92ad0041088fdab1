"""A conversation's vocabulary: messages, and what they hold."""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import force_setattr

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


class Media(Struct, frozen=True):
    """An image or a sound that is known: its bytes as base64, or its address, of which the type may not be known."""

    media_type: str | None
    data: str = ""
    url: str | None = None

    @property
    def uri(self) -> str:
        return f"data:{self.media_type};base64,{self.data}" if self.url is None else self.url

    @property
    def content(self) -> bytes:
        return b64decode(self.data)


MediaSource: TypeAlias = str | bytes | os.PathLike[str] | Media
"""A path, raw bytes, a data URI, bare base64 or, where the vendor takes them, an https URL; or what is known of one."""


def check_source(name: str, value: object) -> None:
    if not isinstance(value, (str, bytes, os.PathLike, Media)):
        fix = how_to_pass(value)
        raise TypeError(
            f"{name} is a path, bytes, a data URI or a URL, got {type(value).__name__}" + (f": {fix}" if fix else "")
        )


def how_to_pass(value: object) -> str | None:
    """What to write for a value that may hold an image or a sound, but in a form that no request takes."""
    if isinstance(value, (bytearray, memoryview)):
        return "write bytes(…) around it"
    if type(value).__module__.partition(".")[0] == "PIL":
        return 'write `file = io.BytesIO(); picture.save(file, "PNG")`, and pass file.getvalue()'
    if hasattr(value, "__array_interface__") or hasattr(value, "__dlpack__"):
        return "an array holds pixels or samples, no file: encode it as PNG or WAV, and pass the bytes"
    if callable(getattr(value, "read", None)):
        return "encode_image and encode_audio take open files: pass what they return"
    return None


class TextPart(Struct, frozen=True, tag="text"):
    """Words in a message."""

    text: str


class ImagePart(Struct, frozen=True, tag="image"):
    """A picture in a message."""

    source: MediaSource

    def __post_init__(self) -> None:
        check_source("an image", self.source)


class AudioPart(Struct, frozen=True, tag="audio"):
    """A sound in a message."""

    source: MediaSource

    def __post_init__(self) -> None:
        check_source("a sound", self.source)


class ReasoningPart(Struct, frozen=True, tag="reasoning"):
    """What a model thought, with the vendor's signature. With the name of its provider it goes back to that one only:
    another would refuse the signature.
    """

    text: str
    signature: str | None = None
    provider: str | None = None


class ToolCallPart(Struct, frozen=True, tag="tool_call"):
    """A tool call that a model made earlier in the conversation."""

    id: str
    name: str
    arguments: str


class ToolResultPart(Struct, frozen=True, tag="tool_result"):
    """What came of a tool call."""

    id: str
    name: str
    result: str
    error: bool = False


Part: TypeAlias = TextPart | ImagePart | AudioPart | ReasoningPart | ToolCallPart | ToolResultPart


class Message(Struct, frozen=True):
    """One turn of a conversation."""

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
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


def _parts(parts: object) -> tuple[Part, ...]:
    """A message's parts, given as a string, a part, or any iterable of these."""
    if isinstance(parts, str):
        return (TextPart(parts),)
    if isinstance(parts, Part):
        return (parts,)
    if not isinstance(parts, Iterable):
        raise TypeError(f"a message's parts are a str or a sequence of parts, got {type(parts).__name__}")
    made: list[Part] = []
    for part in parts:
        if isinstance(part, str):
            made.append(TextPart(part))
        elif isinstance(part, Part):
            made.append(part)
        else:
            kinds = ", ".join(kind.__name__ for kind in get_args(Part))
            raise TypeError(
                f"a message's part is a str or one of llm_dispatcher.tasks: {kinds}; got {type(part).__name__}"
            )
    return tuple(made)
