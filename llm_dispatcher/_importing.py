"""Imports that happen in threads, and forks.

A process that forks while one of its threads imports a module leaves the child with a lock of that import, which no
thread will ever release: importing the same module there waits for ever. `gunicorn --preload` forks right after it has
loaded the application, which may have read a stream by then. So a thread that imports holds `_lock`, and a fork waits
until it is free. The lock is a native one, also where gevent has patched `threading`.
"""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_lock: Final = _thread.RLock()

if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def importing(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that imports something, for a thread: no process is forked meanwhile."""
    with _lock:
        return function(*args, **kwargs)
