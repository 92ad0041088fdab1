"""The refusal of everything real: a simulated program that opens a socket or sleeps is told so, with the place.

How it works. `refused_for_this_thread` replaces a few functions of the standard library for as long as a simulation
runs. In the thread of the simulation they raise a `RealWorldError`; all other threads get the original function. Files
are allowed, and with them SQLite.

This is a help and not a wall: C code that opens a socket by itself is not noticed.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

_OURS: Final = str(Path(__file__).parent)
_PACKAGE: Final = str(Path(__file__).parents[2])
_BACKGROUND: Final = str(Path(__file__).parents[2] / "_background.py")
_LIBRARIES: Final = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_PACKAGES: Final = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})

_REFUSALS: Final[tuple[tuple[Any, str, str], ...]] = (
    (socket.socket, "__init__", "a simulated program may not open a socket"),
    (socket, "getaddrinfo", "a simulated program may not look up a host name"),
    (
        threading.Thread,
        "start",
        "a simulated program may not start a thread; asyncio.to_thread and executors can be used",
    ),
    (time, "sleep", "a simulated program may not block its thread; await asyncio.sleep instead"),
    (
        threading.Condition,
        "wait",
        "a simulated program may not wait for another thread; result() of an executor's future can be used",
    ),
    (subprocess.Popen, "__init__", "a simulated program may not start a process"),
    (os, "system", "a simulated program may not start a process"),
)

REAL_METHODS: Final = (
    "create_connection", "create_server", "create_unix_connection", "create_unix_server", "create_datagram_endpoint",
    "getaddrinfo", "getnameinfo", "start_tls", "sendfile", "sock_recv", "sock_recv_into", "sock_recvfrom",
    "sock_recvfrom_into", "sock_sendall", "sock_sendto", "sock_connect", "sock_accept", "sock_sendfile", "add_reader",
    "remove_reader", "add_writer", "remove_writer", "connect_accepted_socket", "connect_read_pipe",
    "connect_write_pipe", "subprocess_shell", "subprocess_exec", "add_signal_handler", "remove_signal_handler",
)  # fmt: skip
"""The methods of an event loop that need something real."""


class RealWorldError(RuntimeError):
    """A simulated program has touched something real. The message names the place in the program."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(f"{message}\n  at {where}" if where else message)
        self.where = where


@contextmanager
def refused_for_this_thread() -> Generator[None, None, None]:
    """Refuse sockets, threads, processes, sleeps and waits for threads in this thread until the block ends."""
    owner = threading.get_ident()
    with ExitStack() as undo:
        for holder, name, message in _REFUSALS:
            original = getattr(holder, name)
            setattr(holder, name, _refusal(original, message, owner))
            undo.callback(setattr, holder, name, original)
        yield


@contextmanager
def seeded(seed: int) -> Generator[None, None, None]:
    """Seed the module `random` for a program that uses it, and restore its state afterwards."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def place() -> str:
    """Where the running program has touched something real: its innermost line outside this package and libraries.

    If the program has no such line on the stack, it is the innermost line of this package, or of a library.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the only way to see the callers
    inside: dict[bool, FrameType] = {}
    while frame is not None:
        file = frame.f_code.co_filename
        if is_of_the_program(frame):
            return line_of(frame)
        if not file.startswith(_OURS):
            inside.setdefault(is_of_a_library(frame), frame)
        elif inside:
            break  # what called the loop is not a part of the program
        frame = frame.f_back
    nearest = inside.get(False) or inside.get(True)
    return "an unknown place" if nearest is None else line_of(nearest)


def refused(message: str) -> Callable[..., NoReturn]:
    """A function that refuses to be called."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise RealWorldError(message, place())

    return refuse


def is_of_a_library(frame: FrameType) -> bool:
    """Whether a frame belongs to Python's own library or to an installed package."""
    return frame.f_code.co_filename.startswith((*_LIBRARIES, *_PACKAGES, "<"))


def is_of_the_program(frame: FrameType) -> bool:
    """Whether a frame belongs to the program, and neither to a library nor to this package."""
    return not is_of_a_library(frame) and not frame.f_code.co_filename.startswith(_PACKAGE)


def line_of(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"


def _refusal(original: Callable[..., Any], message: str, owner: int) -> Callable[..., Any]:
    @wraps(original)
    def refuse(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if threading.get_ident() == owner and not _waits_for_the_background():
            raise RealWorldError(message, place())
        return original(*args, **kwargs)

    return refuse


def _waits_for_the_background() -> bool:
    """Whether the background loop of this package is waited for. A simulated vendor in it refuses, and says why."""
    frame = sys._getframe(3)  # noqa: SLF001 - above are this function, the refusal, and the method of `threading.Event`
    return frame.f_code.co_name == "run_in_background" and frame.f_code.co_filename == _BACKGROUND
