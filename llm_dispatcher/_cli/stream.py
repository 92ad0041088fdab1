"""`llm-dispatcher stream`: sends a request and writes the answer while it arrives.

The command ends early in three cases: Ctrl-C, SIGTERM, and a reader of its output that closes the pipe. For the last
two, a callback of the event loop cancels the task and notes the exit code. The cancellation is taken back once, and
the connection with the vendor is closed before the process ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Generator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from pathlib import Path

import typer

from .._cancellation import cancellations, forgiven
from .._serving.switch import LLMSwitch
from ..streaming import ProgressTracker
from ..tasks import TaskRequest
from .exit_codes import PIPE_CLOSED, TERMINATED
from .options import RequestOptions
from .output import JsonOutput, Output, TextOutput


def stream(
    request: TaskRequest,
    options: RequestOptions,
    *,
    config: Path | None,
    timeout: float | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write the answer to a request while it arrives. Raises the error that the stream ends with."""
    asyncio.run(_stream(request, options, config=config, timeout=timeout, quiet=quiet, as_json=as_json))


async def _stream(
    request: TaskRequest,
    options: RequestOptions,
    *,
    config: Path | None,
    timeout: float | None,
    quiet: bool,
    as_json: bool,
) -> None:
    tracker = ProgressTracker()
    output: Output = JsonOutput() if as_json else TextOutput(tracker, quiet=quiet)
    async with LLMSwitch(config) as switch:
        # Text that is written cannot be taken back, so only the events of --json can restart.
        cannot_restart = switch.policy.resilience_of(request.task_type, None).on_break == "restart" and not as_json
        answer = switch.stream_request(
            request,
            progress_tracker=tracker,
            timeout=timeout,
            on_break="continue" if cannot_restart else None,
            optimization_strategy=options.strategy,
            max_cost=options.max_cost,
            max_latency=options.max_latency,
        )
        with ExitStack() as stack:
            stack.enter_context(_ending_early())
            stack.enter_context(output)
            async with aclosing(answer.events()) as events:
                async for event in events:
                    output.event(event)
            output.end(answer.response)
    if answer.response.error is not None:
        raise answer.response.error


@contextmanager
def _ending_early() -> Generator[None, None, None]:
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


def _output_pipe() -> int | None:
    """The descriptor of standard output if it is a pipe."""
    try:
        descriptor = sys.stdout.fileno()
        return descriptor if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else None
    except (OSError, ValueError):
        return None  # Standard output is closed, or is not a file.
