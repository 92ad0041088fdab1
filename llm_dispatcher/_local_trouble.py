"""Errors that this machine or this process causes, and no vendor.

A process that has no file descriptor left, or a machine without memory or a free port, cannot reach any vendor. The
operating system's errors look like those of a broken connection. This module recognises them.
See docs/decisions/0021.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

from .exceptions import LocalResourceError
from .tasks import Target

_LACKING: Final[Mapping[int, str]] = {
    errno.EMFILE: "this process has no file descriptor left; raise its limit (ulimit -n) or open fewer streams",
    errno.ENFILE: "this machine has no file descriptor left; raise its limit (fs.file-max)",
    errno.ENOMEM: "this machine has no memory left",
    errno.ENOBUFS: "this machine has no memory left for its network",
    errno.EADDRNOTAVAIL: "this machine has no free port or no address to connect from",
}
_NO_THREAD: Final = "can't start new thread"
"""CPython's message. The error has no class or code of its own."""


def what_is_lacking(error: BaseException) -> str | None:
    """Words for an error message, if this machine lacks something and that caused the error; else `None`."""
    match error:
        case socket.gaierror() | ImportError():
            # Looking up a name and loading a library open files. These errors do not say why that failed.
            return _descriptors()
        case OSError(errno=int() as code):
            return _LACKING.get(code)
        case MemoryError():
            return _LACKING[errno.ENOMEM]
        case RuntimeError() if _NO_THREAD in str(error):
            return "this process cannot start another thread"
        case _:
            return None


@contextmanager
def trouble_of_this_machine(target: Target | None = None) -> Generator[None, None, None]:
    """Replace an error by a `LocalResourceError` if this machine lacked something."""
    try:
        yield
    except Exception as error:
        if isinstance(error, LocalResourceError) or (lacking := what_is_lacking(error)) is None:
            raise
        provider, model = (None, None) if target is None else (target.provider, target.model)
        raise LocalResourceError(lacking, provider=provider, model=model) from error


def _descriptors() -> str | None:
    """Try to open a file. If that fails, return the words for the missing resource."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return _LACKING.get(error.errno or 0)
    return None
