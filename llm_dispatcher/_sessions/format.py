"""The form in which sessions are stored: JSON with a version.

A record of a turn holds its messages. Images and sounds are held as base64 or as their URL, so they are loaded before
they are encoded. The head holds everything else. A file, which `Session.save` writes, holds the head and all turns.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from .._tools import ToolRun
from ..events import Failure
from ..exceptions import SessionFormatError
from ..tasks import (
    AudioPart,
    CachePoint,
    ImagePart,
    Media,
    Message,
    Part,
    ReasoningPart,
    Role,
    Target,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from .turns import SessionTurn, TurnState

VERSION: Final = 1
"""The version of the form. It is raised when an older version of this library could not read what is written."""

MARK: Final = "llm_dispatcher.session"
"""How a file says that it is a session."""


class Image(Struct, frozen=True, tag="image"):
    source: Media


class Sound(Struct, frozen=True, tag="audio"):
    source: Media


class _Message(Struct, frozen=True):
    role: Role
    parts: tuple[
        TextPart | Image | Sound | CachePoint | ReasoningPart | ToolCallPart | ToolResultPart, ...
    ]  # `Part`, with media in the form that JSON has


class TurnRecord(Struct, frozen=True, omit_defaults=True):
    """A turn, as it is stored."""

    messages: tuple[_Message, ...]
    state: TurnState
    target: Target | None = None
    failure: Failure | None = None
    runs: tuple[ToolRun, ...] = ()

    @classmethod
    def of(cls, turn: SessionTurn) -> TurnRecord:
        """The record of a turn whose media are loaded."""
        messages = tuple(_Message(each.role, tuple(map(_to_record, each.parts))) for each in turn.messages)
        return cls(messages, turn.state, turn.target, turn.failure, turn.runs)

    def turn(self, identity: str) -> SessionTurn:
        """The turn of this record."""
        messages = tuple(Message(each.role, tuple(map(_from_record, each.parts))) for each in self.messages)
        return SessionTurn(
            id=identity,
            messages=messages,
            state=self.state,
            target=self.target,
            failure=self.failure,
            runs=self.runs,
        )


class Cached(Struct, frozen=True):
    """The tokens that a vendor has reported as cached, and the Unix time of that report."""

    tokens: int
    at: float


class Places(Struct, frozen=True, omit_defaults=True):
    """The affinity of a session, as it is stored. Targets are written `provider/model`."""

    last: str | None = None
    cached: dict[str, Cached] = {}


class Head(Struct, frozen=True, kw_only=True):
    """The head of a session. `write` identifies the write that stored it."""

    version: int = VERSION
    id: str
    branch: str
    branches: dict[str, tuple[str, ...]]
    affinity: Places = Places()
    write: str = ""


class File(Struct, frozen=True, kw_only=True):
    """A session as a file."""

    format: str = MARK
    version: int = VERSION
    session: Head
    turns: dict[str, TurnRecord]


class _Version(Struct, frozen=True):
    version: Any
    format: str | None = None


def encoded(value: Head | TurnRecord | File) -> bytes:
    """The JSON of a value.

    Raises:
        SessionFormatError: A text cannot be written as JSON.
    """
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise SessionFormatError(
            f"the session holds text that is not valid Unicode, and cannot be stored: {error.reason}; "
            "remove it with rewind()"
        ) from error


def decoded_head(content: bytes, where: str) -> Head:
    """The head of a stored session. `where` names the session in an error."""
    _check_version(content, where)
    head: Head = _decoded(content, Head, where)
    return head


def decoded_turn(content: bytes, where: str) -> TurnRecord:
    """A turn of a stored session."""
    record: TurnRecord = _decoded(content, TurnRecord, where)
    return record


def decoded_file(content: bytes, where: str) -> File:
    """The session in a file."""
    found = _check_version(content, where)
    if found.format != MARK:
        raise SessionFormatError(f"{where} is not a saved session: pass a file that session.save() has written")
    file: File = _decoded(content, File, where)
    return file


def _check_version(content: bytes, where: str) -> _Version:
    """Refuse another version of the form, before anything else of it is read."""
    try:
        found = msgspec.json.decode(content, type=_Version)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise SessionFormatError(
            f"{where} is not a saved session, or it is damaged ({error}): pass another one"
        ) from error
    if found.version != VERSION:
        is_newer = isinstance(found.version, int) and found.version > VERSION
        fix = "update llm_dispatcher to read it" if is_newer else "it is unknown here"
        raise SessionFormatError(
            f"{where} has version {found.version!r} of the form of sessions, and this library reads version "
            f"{VERSION}: {fix}"
        )
    return found


def _decoded(content: bytes, kind: Any, where: str) -> Any:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise SessionFormatError(f"{where} is damaged: {error}; the session cannot be loaded") from error


def _to_record(part: Part) -> Any:
    match part:
        case ImagePart():
            return Image(_loaded(part.source))
        case AudioPart():
            return Sound(_loaded(part.source))
        case _:
            return part


def _loaded(source: object) -> Media:
    assert isinstance(source, Media)  # the session loads all media before it stores them
    return source


def _from_record(part: Any) -> Part:
    match part:
        case Image():
            return ImagePart(part.source)
        case Sound():
            return AudioPart(part.source)
        case _:
            return part  # type: ignore[no-any-return]
