"""Makes a request from the options, the prompt and standard input."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path
from typing import Any

from .._media import kind_of, with_its_task
from ..exceptions import InvalidRequestError
from ..tasks import MediaSource, TaskRequest, TaskType
from .options import RequestOptions

MAX_BYTES = 20_000_000
"""More than any model accepts. It stops a disk image that is piped in by mistake."""

WAIT_BEFORE_HINT = 2.0
"""Seconds without input after which a hint says that the command waits for standard input."""


def make_request(options: RequestOptions, *, quiet: bool = False, **settings: Any) -> TaskRequest:
    """The request of a command line. Piped input is put before the prompt, or is the prompt.

    Args:
        options: The options of the request. `None` is the default of a request.
        quiet: Whether no hint is written while the command waits for standard input.
        settings: Further fields of the request; `None` is the default again.
    """
    text = _read(quiet) if options.prompt == "-" else _joined(_piped(quiet), options.prompt)
    if not text and not options.image and not options.audio:
        raise InvalidRequestError("there is no prompt: write one after the command, or pipe one in")
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise InvalidRequestError("the prompt is not UTF-8 text") from None
    settings |= {
        "model": options.model,
        "providers": options.provider or None,
        "max_tokens": options.max_tokens,
        "namespace": options.namespace,
        "sticky": options.sticky,
    }
    request = TaskRequest(
        text,
        task_type=options.task or TaskType.TEXT_GENERATION,
        images=[media_source(image) for image in options.image or ()],
        audio=[media_source(recording) for recording in options.audio or ()],
        **{name: value for name, value in settings.items() if value is not None},
    )
    return with_its_task(request, () if options.task is None else ("task_type",))


def media_source(text: str) -> MediaSource:
    """A URL unchanged; anything else is the path of a file."""
    if text.startswith(("https://", "http://", "data:")):
        return text
    path = Path(text).expanduser()
    if not path.exists():
        raise InvalidRequestError(f"{text}: there is no such file")
    return path


def _joined(piped: str | None, prompt: str | None) -> str | None:
    """Piped input and then the prompt, as in `cat code.py | llm-dispatcher stream "Explain this"`."""
    if not piped or piped.isspace():
        return prompt
    return piped if not prompt else f"{piped.rstrip()}\n\n{prompt}"


def _piped(quiet: bool) -> str | None:
    """The text of a pipe or a file on standard input; `None` if it is a terminal, /dev/null or closed.

    A pipe is read to its end, however long that takes: a slow writer looks the same as one without output.
    """
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        # It is None, closed, or not a file: the replacement in a test has `buffer`.
        return _read(quiet) if hasattr(sys.stdin, "buffer") and not sys.stdin.closed else None
    return None if stat.S_ISCHR(mode) else _read(quiet)


def _read(quiet: bool) -> str:
    if sys.stdin is None or sys.stdin.closed:
        raise InvalidRequestError("standard input is closed: write a prompt instead of -")
    waiting = threading.Timer(WAIT_BEFORE_HINT, _write_hint)
    waiting.daemon = True
    if not quiet and not sys.stdin.isatty():
        waiting.start()
    try:
        data = sys.stdin.buffer.read(1)
        waiting.cancel()
        data += sys.stdin.buffer.read(MAX_BYTES)
    except OSError as error:
        raise InvalidRequestError(f"standard input cannot be read: {error.strerror or error}") from None
    finally:
        waiting.cancel()
    return _as_text(data)


def _write_hint() -> None:
    words = "[waiting for standard input to end; add `< /dev/null` if there is none]"
    print(words, file=sys.stderr, flush=True)  # noqa: T201 - beside the answer


def _as_text(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise InvalidRequestError(f"standard input is longer than {MAX_BYTES // 1_000_000} MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        kind = kind_of(data)
        if kind is not None:
            what, option = ("an image", "--image") if kind == "image" else ("a recording", "--audio")
            raise InvalidRequestError(
                f"standard input is {what} and not text: write it to a file, and pass the file with {option}"
            ) from None
        raise InvalidRequestError(f"standard input is not UTF-8 text (byte {error.start})") from None
