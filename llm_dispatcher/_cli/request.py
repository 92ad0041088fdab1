"""A request made of what was typed."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._media import kind_of, with_its_task
from ..exceptions import InvalidRequestError
from ..tasks import MediaSource, TaskRequest, TaskType

MOST_BYTES = 20_000_000
"""More than any model reads; who pipes a disk image by mistake is told so."""

SILENT_FOR = 2.0
"""Seconds after which a person is told that standard input is being waited for."""


def request_of(
    prompt: str | None,
    *,
    task: str | None,
    images: Sequence[str] | None,
    audio: Sequence[str] | None,
    quiet: bool = False,
    **settings: Any,
) -> TaskRequest:
    """The request; what is `None` overrides nothing. What is piped in stands before the prompt, or is the prompt."""
    asked = _read(quiet) if prompt == "-" else _joined(_piped(quiet), prompt)
    if not asked and not images and not audio:
        raise InvalidRequestError("nothing was asked: give a prompt, or pipe one in")
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


def _joined(piped: str | None, prompt: str | None) -> str | None:
    """As in `cat code.py | llm-dispatcher stream "Explain this"`: what is piped first, then the prompt."""
    if not piped or piped.isspace():
        return prompt
    return piped if not prompt else f"{piped.rstrip()}\n\n{prompt}"


def _piped(quiet: bool) -> str | None:
    """What a pipe or a file on standard input holds; nothing if it is a terminal, /dev/null or closed.

    A pipe is read to its end, however long that takes: nobody can tell a slow writer from one that will never write.
    """
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (
        AttributeError,
        OSError,
        ValueError,
    ):  # None, closed, or no file: what stands in for it in a test has `buffer`
        return _read(quiet) if hasattr(sys.stdin, "buffer") and not sys.stdin.closed else None
    return None if stat.S_ISCHR(mode) else _read(quiet)


def _read(quiet: bool) -> str:
    if sys.stdin is None or sys.stdin.closed:
        raise InvalidRequestError("standard input is closed: give a prompt instead of -")
    waiting = threading.Timer(SILENT_FOR, _tell_of_waiting)
    waiting.daemon = True
    if not quiet and not sys.stdin.isatty():
        waiting.start()
    try:
        data = sys.stdin.buffer.read(1)
        waiting.cancel()
        data += sys.stdin.buffer.read(MOST_BYTES)
    except OSError as error:
        raise InvalidRequestError(f"standard input cannot be read: {error.strerror or error}") from None
    finally:
        waiting.cancel()
    return _as_text(data)


def _tell_of_waiting() -> None:
    words = "[waiting for standard input to end; `< /dev/null` says that there is none]"
    print(words, file=sys.stderr, flush=True)  # noqa: T201 - beside the answer


def _as_text(data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise InvalidRequestError(f"standard input is longer than {MOST_BYTES // 1_000_000} MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        kind = kind_of(data)
        if kind is not None:
            what, option = ("an image", "--image") if kind == "image" else ("a sound", "--audio")
            raise InvalidRequestError(
                f"standard input is {what}, not a text: write it to a file, and give the file with {option}"
            ) from None
        raise InvalidRequestError(f"standard input is not UTF-8 text (byte {error.start})") from None
