"""Loading images and audio: from a path, bytes, an open file, base64, a data URI or a URL to a `Media` value.

Only files that a request names are read. URLs are passed on and never fetched. The functions block
while they read a file; call them in a thread where an event loop is running.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

from .._local_trouble import what_is_lacking
from .._messages import how_to_pass
from ..exceptions import InvalidRequestError, LocalResourceError
from ..tasks import Media, MediaSource
from .recognition import DATA_URI, HEAD, SUFFIXES, Kind, decode_base64, media_type_of

MOST_BYTES: Final = 100_000_000
"""A larger file is refused before it is read. No vendor takes that much in a request."""

_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\-\s]++=*\s*")
_LONGEST_PATH: Final = 4096
_NAMES: Final[dict[Kind, str]] = {"image": "an image", "audio": "a sound"}


def encode_image(source: MediaSource | IO[bytes]) -> str:
    """Encode an image as a data URI with its true media type.

    Args:
        source: A path, bytes, base64, a data URI, or a file that is open for reading in binary mode.

    Raises:
        InvalidRequestError: It is not an image of a known type, or cannot be read.
        TypeError: `source` has another type.
    """
    return _load(_content_of(source), "image").uri


def encode_audio(source: MediaSource | IO[bytes]) -> str:
    """Encode a sound as a data URI with its true media type.

    Args:
        source: A path, bytes, base64, a data URI, or a file that is open for reading in binary mode.

    Raises:
        InvalidRequestError: It is not a sound of a known type, or cannot be read.
        TypeError: `source` has another type.
    """
    return _load(_content_of(source), "audio").uri


def load_image(source: MediaSource) -> Media:
    """Load an image from any form that a request may hold."""
    return _load(source, "image")


def load_audio(source: MediaSource) -> Media:
    """Load a sound from any form that a request may hold."""
    return _load(source, "audio")


def _content_of(source: object) -> MediaSource:
    """The content of an open file; any other source is returned unchanged."""
    read = getattr(source, "read", None)
    if callable(read):
        content = read()
        if not isinstance(content, bytes):
            raise TypeError('an open file of an image or a sound must give bytes: open it with mode "rb"')
        return content
    if not isinstance(source, (str, bytes, os.PathLike, Media)):
        fix = how_to_pass(source)
        raise TypeError(
            f"an image or a sound must be a path, bytes or an open file, got {type(source).__name__}"
            + (f": {fix}" if fix else "")
        )
    return source


def _load(source: MediaSource, kind: Kind) -> Media:
    if isinstance(source, Media):
        if source.media_type is not None and not source.media_type.startswith(f"{kind}/"):
            raise InvalidRequestError(f"{source.media_type} is not the type of {_NAMES[kind]}")
        return source
    if isinstance(source, bytes):
        return _from_bytes(source, kind, f"of these {len(source)} bytes")
    if not isinstance(source, str):
        return _from_file(Path(source), kind)
    if source[:5].lower() == "data:":
        return _from_data_uri(source, kind)
    if source[:8].lower() == "https://":
        suffix = Path(urlsplit(source).path).suffix.lower()
        return Media(SUFFIXES[kind].get(suffix), url=source)
    if "://" in source[:16]:
        raise InvalidRequestError(f"the URL of {_NAMES[kind]} must begin with https://, got {source[:40]!r}")
    return _from_text(source, kind)


def _from_text(source: str, kind: Kind) -> Media:
    """Load from a path or from bare base64. If a file with this name exists, it is a path."""
    if len(source) <= _LONGEST_PATH and os.path.lexists(source):
        return _from_file(Path(source), kind)
    if _BASE64.fullmatch(source):
        try:
            content = decode_base64(source)
        except ValueError:
            content = b""
        if media_type_of(content[:HEAD], kind) is not None:
            return _from_bytes(content, kind, "of the base64")
    text = repr(source) if len(source) <= 200 else f"{source[:40]!r}…"
    raise InvalidRequestError(
        f"{text} is not {_NAMES[kind]}: it is not the path of a file, not a data URI, and not base64 of one"
    )


def _from_file(path: Path, kind: Kind) -> Media:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for a writer
            raise InvalidRequestError(f"{str(path)!r} is not a regular file, so it cannot hold {_NAMES[kind]}")
        if status.st_size > MOST_BYTES:
            raise InvalidRequestError(f"{str(path)!r} is larger than {MOST_BYTES // 1_000_000} MB")
        with path.open("rb") as file:
            head = file.read(HEAD)
            if media_type_of(head, kind) is None:
                raise _wrong_type(head, kind, f"in {str(path)!r}")
            return _from_bytes(head + file.read(), kind, f"in {str(path)!r}")
    except OSError as error:
        if (lacking := what_is_lacking(error)) is not None:
            raise LocalResourceError(f"{str(path)!r} cannot be read: {lacking}") from error
        raise InvalidRequestError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error


def _from_data_uri(source: str, kind: Kind) -> Media:
    prefix = DATA_URI.match(source)
    if prefix is None:
        raise InvalidRequestError(
            f"a data URI of {_NAMES[kind]} must begin with data:{kind}/…;base64, but this one begins with "
            f"{source[:40]!r}"
        )
    try:
        content = decode_base64(source[prefix.end() :])
    except ValueError as error:
        raise InvalidRequestError(f"the data URI of {_NAMES[kind]} is not valid base64: {error}") from error
    return _from_bytes(content, kind, "of the data URI")


def _from_bytes(content: bytes, kind: Kind, where: str) -> Media:
    media_type = media_type_of(content[:HEAD], kind)
    if media_type is None:
        raise _wrong_type(content[:HEAD], kind, where)
    return Media(media_type, base64.b64encode(content).decode("ascii"))


def _wrong_type(head: bytes, kind: Kind, where: str) -> InvalidRequestError:
    other: Kind = "audio" if kind == "image" else "image"
    actual = media_type_of(head, other)
    if actual is None and head.startswith(b"%PDF-"):
        actual = "a PDF"
    types = ", ".join(sorted({name.partition("/")[2] for name in SUFFIXES[kind].values()}))
    return InvalidRequestError(
        f"the first bytes {where} are not those of {_NAMES[kind]} ({types}): "
        + (f"they are those of {actual}" if actual else "they are unknown")
    )
