"""A request made of what was typed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..exceptions import InvalidRequestError
from ..media import with_its_task
from ..tasks import MediaSource, TaskRequest, TaskType

MOST_BYTES = 20_000_000
"""More than any model reads; who pipes a disk image by mistake is told so."""


def request_of(
    prompt: str | None, *, task: str | None, images: Sequence[str] | None, audio: Sequence[str] | None, **settings: Any
) -> TaskRequest:
    """The request; what is `None` overrides nothing."""
    if prompt is None and not images and not audio:
        raise InvalidRequestError("nothing was asked: give a prompt, or - to read it from standard input")
    asked = _from_stdin() if prompt == "-" else prompt
    try:
        (asked or "").encode()
    except UnicodeEncodeError:
        raise InvalidRequestError("the prompt is not UTF-8 text") from None
    request = TaskRequest(
        asked,
        task_type=task or TaskType.TEXT_GENERATION,
        images=[_source(image) for image in images or ()],
        audio=[_source(sound) for sound in audio or ()],
        **{name: value for name, value in settings.items() if value is not None},
    )
    return with_its_task(request, () if task is None else ("task_type",))


def _source(written: str) -> MediaSource:
    """An address as it stands; anything else is a file, whatever its name looks like."""
    if written.startswith(("https://", "http://", "data:")):
        return written
    path = Path(written).expanduser()
    if not path.exists():
        raise InvalidRequestError(f"{written}: there is no such file")
    return path


def _from_stdin() -> str:
    data = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise InvalidRequestError(f"standard input is longer than {MOST_BYTES // 1_000_000} MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"standard input is not UTF-8 text (byte {error.start})") from None
