"""Images and audio are recognised by their first bytes, in whatever form they come."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher import LLMSwitch, TaskRequest, encode_audio, encode_image
from llm_dispatcher import _media as media
from llm_dispatcher.exceptions import InvalidRequestError
from llm_dispatcher.tasks import AudioPart, ImagePart, Media, Message
from llm_dispatcher.testing import HttpError, Reply, SimulatedVendor


def ftyp(*brands: bytes) -> bytes:
    box = brands[0] + bytes(4) + b"".join(brands[1:])
    return (len(box) + 8).to_bytes(4) + b"ftyp" + box


IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/gif": b"GIF89a",
    "image/webp": b"RIFF\x10\x00\x00\x00WEBPVP8 ",
    "image/bmp": b"BM\x46\x00\x00\x00\x00\x00\x00\x00",
    "image/tiff": b"II*\x00",
    "image/heic": ftyp(b"heic", b"mif1", b"heic"),
    "image/heif": ftyp(b"mif1", b"mif1"),
    "image/avif": ftyp(b"avif", b"mif1", b"miaf"),
}
SOUNDS = {
    "audio/wav": b"RIFF\x10\x00\x00\x00WAVEfmt ",
    "audio/mpeg": b"ID3\x04\x00",
    "audio/flac": b"fLaC",
    "audio/ogg": b"OggS",
    "audio/mp4": ftyp(b"M4A ", b"isom"),
    "audio/webm": b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm",
    "audio/aac": b"\xff\xf1\x50\x80",
    "audio/aiff": b"FORM\x10\x00\x00\x00AIFFCOMM",
}
MORE = [
    ("image/gif", b"GIF87a"),
    ("image/tiff", b"MM\x00*"),
    ("image/avif", ftyp(b"mif1", b"avif")),
    ("image/heic", ftyp(b"mif1", b"heic")),
    ("audio/mpeg", b"\xff\xfb\x90\x64"),
    ("audio/mpeg", b"\xff\xf3\x40\xc4"),
    ("audio/aac", b"\xff\xf9\x50\x80"),
    ("audio/aiff", b"FORM\x10\x00\x00\x00AIFCCOMM"),
    ("audio/mp4", ftyp(b"isom", b"mp41")),
]
ALL = [*IMAGES.items(), *SOUNDS.items(), *MORE]
PNG = IMAGES["image/png"] + b" and what follows" * 20


def coded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def encode(media_type: str, source: Any) -> str:
    return encode_image(source) if media_type.startswith("image/") else encode_audio(source)


@pytest.mark.parametrize(("media_type", "head"), ALL)
def test_first_bytes_give_the_type_in_every_form(media_type: str, head: bytes, tmp_path: Path) -> None:
    content = head + b" and what follows"
    path = tmp_path / "picture.txt"
    path.write_bytes(content)
    uri = f"data:{media_type};base64,{coded(content)}"
    with path.open("rb") as opened:
        assert encode(media_type, opened) == uri
    for source in (
        content,
        path,
        str(path),
        io.BytesIO(content),
        uri,
        f"data:text/plain;charset=x;base64,{coded(content)}",
        coded(content),
        base64.urlsafe_b64encode(content).decode().rstrip("="),
        "\n".join(coded(content)[at : at + 16] for at in range(0, len(coded(content)), 16)),
    ):
        assert encode(media_type, source) == uri


NOT_MP3 = {
    "no sync bits": b"\xff\x1b\x90\x64",
    "layer II": b"\xff\xfd\x90\x64",
    "reserved version": b"\xff\xeb\x90\x64",
    "reserved bit rate": b"\xff\xfb\xf0\x64",
    "reserved sample rate": b"\xff\xfb\x9c\x64",
}
"""The frame header `ff fb 90 64` of an MP3 file, with one field changed."""


@pytest.mark.parametrize("head", NOT_MP3.values(), ids=NOT_MP3)
def test_a_frame_header_with_a_reserved_field_is_not_mp3(head: bytes) -> None:
    assert media.load_audio(b"\xff\xfb\x90\x64").media_type == "audio/mpeg"
    with pytest.raises(InvalidRequestError, match="are not those of a sound"):
        encode_audio(head)


@pytest.mark.parametrize("head", [*IMAGES.values(), b"", b"plain text", b"%PDF-1.7", b"\xff\xfe", b"RIFF1234AVI "])
def test_other_content_is_not_audio(head: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="are not those of a sound"):
        encode_audio(head)


@pytest.mark.parametrize("head", [*SOUNDS.values(), b"", b"plain text", b"<svg>", b"BM is a word", ftyp(b"qt  ")])
def test_other_content_is_not_an_image(head: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="are not those of an image"):
        encode_image(head)


def test_an_error_names_the_type_that_was_found() -> None:
    with pytest.raises(InvalidRequestError, match="audio/wav is not the type of an image"):
        media.load_image(Media("audio/wav", coded(b"RIFF")))
    with pytest.raises(InvalidRequestError, match="they are those of audio/ogg"):
        encode_image(b"OggS")
    with pytest.raises(InvalidRequestError, match="they are those of a PDF"):
        encode_image(b"%PDF-1.7")


def test_an_error_names_the_source_that_cannot_be_read(tmp_path: Path) -> None:
    words = tmp_path / "words.png"
    words.write_text("not a picture")
    hole = tmp_path / "hole"
    os.mkfifo(hole)
    for source, message in (
        (
            str(tmp_path / "absent.png"),
            "absent.png' is not an image: it is not the path of a file, not a data URI, and not base64",
        ),
        (tmp_path / "absent.png", r"absent.png' cannot be read: No such file"),
        (tmp_path, "is not a regular file, so it cannot hold an image"),
        (hole, "is not a regular file, so it cannot hold an image"),
        (words, "the first bytes in '.*words.png' are not those of an image"),
        ("data:image/png,abc", "must begin with data:image/…;base64,"),
        ("data:image/png;base64,a$b", "is not valid base64"),
        ("data:image/png;base64," + coded(b"words"), "of the data URI are not those of an image"),
        ("http://example.org/a.png", "must begin with https://"),
        ("ftp://example.org/a.png", "must begin with https://"),
        ("A" * 5000, "is not the path of a file"),
        ("a\0b", "is not the path of a file"),
    ):
        with pytest.raises(InvalidRequestError, match=message):
            media.load_image(source)


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    huge = tmp_path / "huge.png"
    with huge.open("wb") as opened:
        opened.write(PNG)
        opened.truncate(media.MOST_BYTES + 1)
    with pytest.raises(InvalidRequestError, match="larger than 100 MB"):
        encode_image(huge)


def test_an_open_file_must_be_open_in_binary_mode(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match='mode "rb"'):
        encode_image(io.StringIO("words"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got int"):
        encode_image(5)  # type: ignore[arg-type]
    for part in (ImagePart, AudioPart):
        with pytest.raises(TypeError, match="encode it with encode_image or encode_audio"):
            part(io.BytesIO(PNG))  # type: ignore[arg-type]


def test_a_url_is_passed_on_with_the_type_of_its_suffix() -> None:
    for url, kind in (
        ("https://example.org/a.JPG?size=2#x", "image/jpeg"),
        ("HTTPS://example.org/a.webp", "image/webp"),
        ("https://example.org/a.mp3", None),
        ("https://example.org/", None),
    ):
        assert media.load_image(url) == Media(kind, url=url)
        assert media.load_image(url).uri == url
    assert media.load_audio("https://example.org/a.mp3").media_type == "audio/mpeg"


def test_a_path_of_an_existing_file_wins_over_base64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = coded(IMAGES["image/gif"])
    assert "/" not in name
    assert media.load_image(name).media_type == "image/gif"
    (tmp_path / name).write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    assert media.load_image(name).media_type == "image/png"


@given(st.binary(max_size=200), st.sampled_from([b"", *IMAGES.values(), *SOUNDS.values()]))
def test_encoding_keeps_the_bytes(tail: bytes, head: bytes) -> None:
    """Any bytes are encoded or refused with an `InvalidRequestError`."""
    for encoded in (encode_image, encode_audio):
        try:
            uri = encoded(head + tail)
        except InvalidRequestError:
            continue
        assert base64.b64decode(uri.partition(",")[2]) == head + tail
        assert encoded(uri) == uri


@given(st.text(max_size=60))
def test_any_text_is_loaded_or_refused(text: str) -> None:
    try:
        found = media.load_image(text)
    except InvalidRequestError:
        return
    assert found.url == text or found.data


def test_all_media_of_a_request_are_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    sound = SOUNDS["audio/wav"]
    request = TaskRequest(
        "What?", images=[path, "https://example.org/a.png"], audio=[sound],
        messages=[Message("user", ["See.", ImagePart(str(path)), AudioPart(sound)]), Message("assistant", "Yes.")],
    )  # fmt: skip
    normal = media.load_media(request)
    seen, heard = Media("image/png", coded(PNG)), Media("audio/wav", coded(sound))
    assert (normal.images, normal.audio) == ((seen, Media("image/png", url="https://example.org/a.png")), (heard,))
    assert normal.messages == (
        Message("user", ["See.", ImagePart(seen), AudioPart(heard)]), Message("assistant", "Yes."),
    )  # fmt: skip
    assert (seen.content, seen.uri, heard.uri) == (PNG, encode_image(PNG), encode_audio(sound))
    assert media.load_media(normal) == normal
    assert media.load_image(normal.images[0]) is normal.images[0], "loaded media is not loaded again"
    words = TaskRequest("What?", messages=[Message("user", "See.")])
    assert media.load_media(words) is words


def policy(*vendors: SimulatedVendor) -> dict[str, Any]:
    return {
        "providers": {
            f"p{number}": {
                "kind": "openai_compatible",
                "api_key": "test-key",
                "base_url": vendor.base_url,
                "models": ["m"],
            }
            for number, vendor in enumerate(vendors)
        },
        "resilience": {"max_retries": 0},
    }


async def test_a_file_is_read_once_for_several_targets(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)

    def gone(_: Any) -> Reply:
        path.unlink()
        return Reply(fault=HttpError(500))

    with SimulatedVendor("openai-chat", gone) as first, SimulatedVendor("openai-chat", Reply("A fox.")) as second:
        async with LLMSwitch(policy(first, second)) as switch:
            assert await switch.stream_request(TaskRequest("What?", images=path)) == "A fox."
    sent = [vendor.requests[0].body["messages"][0]["content"][0] for vendor in (first, second)]
    assert sent[0] == sent[1] == {"type": "image_url", "image_url": {"url": encode_image(PNG)}}


async def test_a_missing_file_is_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    with SimulatedVendor("openai-chat", Reply("A fox.")) as vendor:
        async with LLMSwitch(policy(vendor)) as switch:
            for request in (
                TaskRequest("What?", images="absent.png"),
                TaskRequest("What?", messages=[Message("user", AudioPart(tmp_path / "absent.wav"))]),
            ):
                with pytest.raises(InvalidRequestError, match=r"absent\."):
                    await switch.stream_request(request)
    assert vendor.requests == []
