"""Ends an answer early: the reader of the output closes the pipe, or the process gets SIGTERM.

A callback of the event loop cancels the task and notes the exit code. The cancellation is taken back once, and the
connection with the vendor is closed before the process ends. Ctrl-C needs nothing of this: asyncio cancels the task.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress

import typer

from .._cancellation import cancellations, forgiven
from .exit_codes import PIPE_CLOSED, TERMINATED


@contextmanager
def ending_early() -> Generator[None, None, None]:
    """End the block when the reader of the output closes the pipe, or when the process gets SIGTERM.

    A write would notice the closed pipe too, but only when there is something to write, and a vendor may be silent for
    a long time.
    """
    task = asyncio.current_task()
    assert task is not None, "this runs in a coroutine"
    loop, descriptor = asyncio.get_running_loop(), _output_pipe()
    code: int | None = None
    before = cancellations()

    def leave(reason: int) -> None:
        nonlocal code
        if code is None:  # The loop reports the closed pipe again and again, but a cancellation is taken back once.
            code = reason
            task.cancel()

    # Windows' event loop watches neither pipes nor signals. There, the next write to the pipe fails instead.
    with suppress(NotImplementedError):
        if descriptor is not None:
            # The writing end of a pipe is never readable. The loop reports it when the pipe has no reader any more.
            loop.add_reader(descriptor, leave, PIPE_CLOSED)
    with suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGTERM, leave, TERMINATED)
    try:
        yield
    except asyncio.CancelledError:
        if code is None or not forgiven(before):
            raise
        raise typer.Exit(code) from None
    finally:
        with suppress(NotImplementedError):
            if descriptor is not None:
                loop.remove_reader(descriptor)
        with suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGTERM)


def _output_pipe() -> int | None:
    """The descriptor of standard output if it is a pipe."""
    try:
        descriptor = sys.stdout.fileno()
        return descriptor if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else None
    except (OSError, ValueError):
        return None  # Standard output is closed, or is not a file.
