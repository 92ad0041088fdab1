"""Whether a value is an image or audio, and its media type, told by its first bytes.

A file is opened only if its suffix is unknown. URLs are never fetched.
"""

from __future__ import annotations

import binascii
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, TypeAlias

from ..tasks import AudioPart, ImagePart, Media

Kind: TypeAlias = Literal["image", "audio"]

KINDS: Final[tuple[Kind, ...]] = ("image", "audio")
HEAD: Final = 64
"""The number of first bytes that are enough to recognise every known type."""
DATA_URI: Final = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_DECLARED: Final = re.compile(r"data:(image|audio)/[^\s,;]+[;,]", re.IGNORECASE)

SUFFIXES: Final[dict[Kind, dict[str, str]]] = {
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
"""The media type by the suffix of a path or a URL, for content that is not read here."""


def kind_of(value: object) -> Kind | None:
    """Whether a value of any type is an image or audio; `None` if it is neither.

    Bytes are recognised by their content, a path by its suffix, and a string only if it is a data URI. A file with an
    unknown suffix is opened for its first bytes.
    """
    match value:
        case str():
            return _kind_of_uri(value) if value[:5].lower() == "data:" else None
        case bytes():
            return _kind(value[:HEAD])
        case os.PathLike():
            return _kind_of_path(Path(value))
        case ImagePart():
            return "image"
        case AudioPart():
            return "audio"
        case Media():
            return next((kind for kind in KINDS if (value.media_type or "").startswith(f"{kind}/")), None)
        case _:
            return None


def kind_of_name(name: str) -> Kind | None:
    """Whether a text looks like the path or the URL of an image or of audio. No file is read."""
    address = name.partition("?")[0] if name[:8].lower() == "https://" else name
    suffix = "" if any(map(str.isspace, address)) else Path(address).suffix.lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def media_type_of(head: bytes, kind: Kind) -> str | None:
    """The media type of content with these first bytes; `None` if it is not of this kind."""
    return _TYPES[kind](head)


def decode_base64(text: str) -> bytes:
    """Decode base64 of either alphabet, with or without padding and line breaks. Raises a `ValueError`."""
    compact = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    return binascii.a2b_base64(compact + "=" * (-len(compact) % 4), strict_mode=True)


def _kind(head: bytes) -> Kind | None:
    return next((kind for kind in KINDS if media_type_of(head, kind) is not None), None)


def _kind_of_uri(uri: str) -> Kind | None:
    """The kind of a data URI's content, else the kind that the URI declares."""
    if (prefix := DATA_URI.match(uri)) is not None:
        head = "".join(uri[prefix.end() : prefix.end() + 4 * HEAD].split())
        try:
            kind = _kind(decode_base64(head[:-1] if len(head) % 4 == 1 else head))
        except ValueError:
            kind = None
        if kind is not None:
            return kind
    declared = _DECLARED.match(uri)
    return None if declared is None else "image" if declared[1].lower() == "image" else "audio"


def _kind_of_path(path: Path) -> Kind | None:
    for kind, suffixes in SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return kind
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as file:
            return _kind(file.read(HEAD))
    except (OSError, ValueError):  # a name with a null character raises a ValueError
        return None


# ── first bytes ────────────────────────────────────────────────────────────────────────────────────────────────────


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
    return _frame_type(head)


def _frame_type(head: bytes) -> str | None:
    """The type of audio that begins with a frame header: 11 bits set, then the version and the layer."""
    if len(head) < 3 or head[0] != 0xFF:
        return None
    if head[1] & 0xF6 == 0xF0:
        return "audio/aac"
    is_layer_3 = head[1] & 0xE6 == 0xE2
    # Version 1, bit rate 15 and sample rate 3 are reserved: no MP3 file has them.
    is_legal = head[1] & 0x18 != 0x08 and head[2] & 0xF0 != 0xF0 and head[2] & 0x0C != 0x0C
    return "audio/mpeg" if is_layer_3 and is_legal else None


def _brands(head: bytes) -> set[bytes]:
    """The brands of a file in the ISO base media format: its major brand and the compatible ones."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4]), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}


_TYPES: Final[dict[Kind, Callable[[bytes], str | None]]] = {"image": _image_type, "audio": _audio_type}
