"""What an image or a sound is: told by its first bytes, in whatever form it comes, and brought into one form.

Nothing here touches anything but the files that a request names; addresses are passed on, never fetched.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from typing import IO, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from msgspec.structs import replace

from ._local_trouble import what_is_lacking
from ._messages import how_to_pass
from .exceptions import InvalidRequestError, LocalResourceError
from .tasks import AudioPart, ImagePart, Media, MediaSource, Message, Part, TaskRequest, TaskType

Kind: TypeAlias = Literal["image", "audio"]

MOST_BYTES: Final = 100_000_000
"""More than any vendor takes in a request; who names a disk image by mistake is told so before it is in memory."""


def encode_image(source: MediaSource | IO[bytes]) -> str:
    """A data URI, with the true media type, of an image given as a path, as bytes, or as a file open for reading."""
    return _media(_contents(source), "image").uri


def encode_audio(source: MediaSource | IO[bytes]) -> str:
    """A data URI, with the true media type, of a sound given as a path, as bytes, or as a file open for reading."""
    return _media(_contents(source), "audio").uri


def image(source: MediaSource) -> Media:
    """An image in any of the forms that a request may hold."""
    return _media(source, "image")


def sound(source: MediaSource) -> Media:
    """A sound in any of the forms that a request may hold."""
    return _media(source, "audio")


def has_media(request: TaskRequest) -> bool:
    return bool(request.images or request.audio) or any(
        isinstance(part, (ImagePart, AudioPart)) for message in request.messages for part in message.parts
    )


def with_its_task(request: TaskRequest, settings: Container[str]) -> TaskRequest:
    """The request; if its caller's `settings` name no task, its images and sounds decide which one it is."""
    if "task_type" in settings or request.task_type is not TaskType.TEXT_GENERATION or not has_media(request):
        return request
    kinds = {type(part) for message in request.conversation for part in message.parts} & {ImagePart, AudioPart}
    if len(kinds) > 1:
        return replace(request, task_type=TaskType.MULTIMODAL_ANALYSIS)
    task = TaskType.VISION_ANALYSIS if ImagePart in kinds else TaskType.AUDIO_ANALYSIS
    return replace(request, task_type=task)


def kind_of(value: object) -> Kind | None:
    """Whether a value of any type is an image or a sound; `None` if it is neither.

    Bytes are judged by their content, a string only if it is a data URI, and a path by its suffix. A file whose suffix
    is unknown is opened for its first bytes.
    """
    match value:
        case str():
            return _kind_of_uri(value) if value[:5].lower() == "data:" else None
        case bytes():
            return _kind(value[:_HEAD])
        case os.PathLike():
            return _kind_of_path(Path(value))
        case ImagePart():
            return "image"
        case AudioPart():
            return "audio"
        case Media():
            return next((kind for kind in _A if (value.media_type or "").startswith(f"{kind}/")), None)
        case _:
            return None


def request_with_media(request: TaskRequest, data_uris: Iterable[str]) -> TaskRequest:
    """The request with these images and sounds where their data URIs stand in its prompt, instead of those."""
    prompt = request.prompt
    if prompt is None or not (written := [uri for uri in data_uris if uri in prompt]):
        return request
    pieces: list[str | Part] = [prompt]
    for uri in written:
        part = AudioPart(uri) if kind_of(uri) == "audio" else ImagePart(uri)
        pieces = [new for old in pieces for new in (_cut(old, uri, part) if isinstance(old, str) else [old])]
    images = tuple(source for source in request.images if source not in written)
    audio = tuple(source for source in request.audio if source not in written)
    beside = replace(request, prompt=None, messages=(), images=images, audio=audio).conversation
    parts = [*(part for message in beside for part in message.parts), *pieces]
    turn = Message("user", [part for part in parts if not isinstance(part, str) or part.strip()])
    return replace(request, prompt=None, messages=(*request.messages, turn), images=(), audio=())


def _cut(text: str, uri: str, part: Part) -> list[str | Part]:
    first, *rest = text.split(uri)
    return [first, *(piece for each in rest for piece in (part, each))]


def normal(request: TaskRequest) -> TaskRequest:
    """The request with every image and sound read and known: once, however often it is sent."""
    if not has_media(request):
        return request
    return replace(
        request,
        images=tuple(image(source) for source in request.images),
        audio=tuple(sound(source) for source in request.audio),
        messages=tuple(
            replace(message, parts=tuple(_normal_part(part) for part in message.parts)) for message in request.messages
        ),
    )


def _normal_part(part: Part) -> Part:
    match part:
        case ImagePart():
            return ImagePart(image(part.source))
        case AudioPart():
            return AudioPart(sound(part.source))
        case _:
            return part


# ── from any form to one ───────────────────────────────────────────────────────────────────────────────────────────

_DECLARED: Final = re.compile(r"data:(image|audio)/[^\s,;]+[;,]", re.IGNORECASE)
_DATA_URI: Final = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\-\s]++=*\s*")
_LONGEST_PATH: Final = 4096
_HEAD: Final = 64
"""So many bytes tell what something is."""


def _contents(source: object) -> MediaSource:
    """What an open file holds; any other source is its own."""
    read = getattr(source, "read", None)
    if callable(read):
        content = read()
        if not isinstance(content, bytes):
            raise TypeError('a file of an image or a sound is read as bytes: open it with mode "rb"')
        return content
    if not isinstance(source, (str, bytes, os.PathLike, Media)):
        fix = how_to_pass(source)
        raise TypeError(
            f"an image or a sound is a path, bytes or an open file, got {type(source).__name__}"
            + (f": {fix}" if fix else "")
        )
    return source


def _media(source: MediaSource, kind: Kind) -> Media:
    if isinstance(source, Media):
        if source.media_type is not None and not source.media_type.startswith(f"{kind}/"):
            raise InvalidRequestError(f"{source.media_type} is no {kind}")
        return source
    if isinstance(source, bytes):
        return _of_bytes(source, kind, f"of these {len(source)} bytes")
    if not isinstance(source, str):
        return _of_file(Path(source), kind)
    if source[:5].lower() == "data:":
        return _of_data_uri(source, kind)
    if source[:8].lower() == "https://":
        suffix = Path(urlsplit(source).path).suffix.lower()
        return Media(_SUFFIXES[kind].get(suffix), url=source)
    if "://" in source[:16]:
        raise InvalidRequestError(f"{_A[kind]}'s address begins with https://, got {source[:40]!r}")
    return _of_text(source, kind)


def _of_text(source: str, kind: Kind) -> Media:
    """A path or bare base64: a file that exists is meant, else what decodes to an image or a sound."""
    if len(source) <= _LONGEST_PATH and os.path.lexists(source):
        return _of_file(Path(source), kind)
    if _BASE64.fullmatch(source):
        try:
            content = _decoded(source)
        except ValueError:
            content = b""
        if _type(content[:_HEAD], kind) is not None:
            return _of_bytes(content, kind, "of the base64")
    shown = repr(source) if len(source) <= 200 else f"{source[:40]!r}…"
    raise InvalidRequestError(f"{_A[kind]} is given as {shown}, which is no file, no data URI and no base64 of one")


def _of_file(path: Path, kind: Kind) -> Media:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for someone to write into it
            raise InvalidRequestError(f"{str(path)!r} is no file that could hold {_A[kind]}")
        if status.st_size > MOST_BYTES:
            raise InvalidRequestError(f"{str(path)!r} is larger than {MOST_BYTES // 1_000_000} MB")
        with path.open("rb") as opened:
            head = opened.read(_HEAD)
            if _type(head, kind) is None:
                raise _not_one(head, kind, f"in {str(path)!r}")
            return _of_bytes(head + opened.read(), kind, f"in {str(path)!r}")
    except OSError as error:
        if (lacking := what_is_lacking(error)) is not None:
            raise LocalResourceError(f"{str(path)!r} cannot be read: {lacking}") from error
        raise InvalidRequestError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error


def _of_data_uri(source: str, kind: Kind) -> Media:
    found = _DATA_URI.match(source)
    if found is None:
        raise InvalidRequestError(f"a data URI of {_A[kind]} begins with data:{kind}/…;base64, got {source[:40]!r}")
    try:
        content = _decoded(source[found.end() :])
    except ValueError as error:
        raise InvalidRequestError(f"a data URI of {_A[kind]} holds no base64: {error}") from error
    return _of_bytes(content, kind, "of the data URI")


def _decoded(text: str) -> bytes:
    """Base64 of either alphabet, with or without its padding and line breaks."""
    compact = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    return binascii.a2b_base64(compact + "=" * (-len(compact) % 4), strict_mode=True)


def _kind_of_uri(uri: str) -> Kind | None:
    """The kind that the content of a data URI has, else the kind that it declares."""
    if (found := _DATA_URI.match(uri)) is not None:
        head = "".join(uri[found.end() : found.end() + 4 * _HEAD].split())
        try:
            kind = _kind(_decoded(head[:-1] if len(head) % 4 == 1 else head))
        except ValueError:
            kind = None
        if kind is not None:
            return kind
    declared = _DECLARED.match(uri)
    return None if declared is None else "image" if declared[1].lower() == "image" else "audio"


def kind_of_name(name: str) -> Kind | None:
    """Whether a text looks like the path or the address of an image or a sound. No file is looked at."""
    address = name.partition("?")[0] if name[:8].lower() == "https://" else name
    suffix = "" if any(map(str.isspace, address)) else Path(address).suffix.lower()
    return next((kind for kind, suffixes in _SUFFIXES.items() if suffix in suffixes), None)


def _kind_of_path(path: Path) -> Kind | None:
    for kind, suffixes in _SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return kind
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as opened:
            return _kind(opened.read(_HEAD))
    except (OSError, ValueError):  # (a name with a null character in it is a ValueError)
        return None


def _kind(head: bytes) -> Kind | None:
    return next((kind for kind in _A if _type(head, kind) is not None), None)


def _of_bytes(content: bytes, kind: Kind, where: str) -> Media:
    media_type = _type(content[:_HEAD], kind)
    if media_type is None:
        raise _not_one(content[:_HEAD], kind, where)
    return Media(media_type, base64.b64encode(content).decode("ascii"))


def _not_one(head: bytes, kind: Kind, where: str) -> InvalidRequestError:
    other: Kind = "audio" if kind == "image" else "image"
    found = _type(head, other)
    instead = f"they are {found}" if found else "a PDF is no image" if head.startswith(b"%PDF-") else "they are unknown"
    known = ", ".join(sorted({name.partition("/")[2] for name in _SUFFIXES[kind].values()}))
    return InvalidRequestError(f"the first bytes {where} are not {_A[kind]}'s ({known}): {instead}")


# ── first bytes ────────────────────────────────────────────────────────────────────────────────────────────────────

_A: Final[dict[Kind, str]] = {"image": "an image", "audio": "a sound"}
_SUFFIXES: Final[dict[Kind, dict[str, str]]] = {
    "image": {
        ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp",
        ".heic": "image/heic", ".heif": "image/heif", ".avif": "image/avif", ".bmp": "image/bmp", ".tif": "image/tiff",
        ".tiff": "image/tiff",
    },
    "audio": {
        ".wav": "audio/wav", ".mp3": "audio/mpeg", ".flac": "audio/flac", ".ogg": "audio/ogg", ".oga": "audio/ogg",
        ".opus": "audio/ogg", ".m4a": "audio/mp4", ".mp4": "audio/mp4", ".webm": "audio/webm", ".aac": "audio/aac",
        ".aif": "audio/aiff", ".aiff": "audio/aiff",
    },
}  # fmt: skip
"""What an address may be of; its bytes are never seen here."""


def _type(head: bytes, kind: Kind) -> str | None:
    return _TYPES[kind](head)


def _image_type(head: bytes) -> str | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head.startswith((b"II*\x00", b"MM\x00*")):
        return "image/tiff"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "image/bmp"
    brands = _brands(head)
    if brands & {b"avif", b"avis"}:
        return "image/avif"
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}:
        return "image/heic"
    return "image/heif" if brands & {b"mif1", b"msf1"} else None


def _audio_type(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "audio/wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "audio/aiff"
    if head.startswith(b"fLaC"):
        return "audio/flac"
    if head.startswith(b"OggS"):
        return "audio/ogg"
    if head.startswith(b"\x1a\x45\xdf\xa3") and b"webm" in head:
        return "audio/webm"
    if _brands(head) & {b"M4A ", b"M4B ", b"mp41", b"mp42", b"isom", b"iso2", b"dash"}:
        return "audio/mp4"
    if head.startswith(b"ID3"):
        return "audio/mpeg"
    if len(head) > 2 and head[0] == 0xFF:  # a frame's head: eleven ones, the version, the layer
        if head[1] & 0xF6 == 0xF0:
            return "audio/aac"
        if head[1] & 0xE6 == 0xE2 and head[1] & 0x18 != 0x08 and head[2] & 0xF0 != 0xF0 and head[2] & 0x0C != 0x0C:
            return "audio/mpeg"
    return None


def _brands(head: bytes) -> set[bytes]:
    """What a file of ISO's base format says that it is: its own brand and those that it can be read as."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4]), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}


_TYPES: Final[dict[Kind, Callable[[bytes], str | None]]] = {"image": _image_type, "audio": _audio_type}
