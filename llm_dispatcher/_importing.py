"""Imports: of packages that may be missing, and in threads of a process that may fork.

If a process forks while one of its threads imports a module, the child inherits the lock of that import, and no thread
of the child releases it: importing the same module there waits for ever. `gunicorn --preload` forks right after it has
loaded the application, which may have read a stream by then. So a thread that imports holds `_lock`, and a fork waits
until it is free. The lock is a native one, also where gevent has patched `threading`.
"""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_lock: Final = _thread.RLock()

if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def importing(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that imports something. A fork waits until it returns. Any thread may call this."""
    with _lock:
        return function(*args, **kwargs)


def not_installed(who: str, package: str, install: str | None = None) -> str:
    """The message for a Python package that is missing: who needs it, and how to install it."""
    return (
        f"{who} the Python package {package}, which is not installed; install it with: pip install {install or package}"
    )


@contextmanager
def needed_by(who: str, install: str) -> Generator[None, None, None]:
    """Say what to install if an optional package that is imported in the block is missing. `who` ends in "needs"."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or install).partition(".")[0]
        raise ModuleNotFoundError(not_installed(who, package, install), name=error.name) from error


def is_installed(module: str) -> bool:
    """Whether a module could be imported. Its parent packages are imported to find out, but not the module."""
    from importlib.util import find_spec  # most processes never ask

    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a missing parent package; or a module that something put there by hand
        return False
