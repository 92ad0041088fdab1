"""`llm-dispatcher stream`: an answer, live."""

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
from msgspec import Struct

from .._cancellation import cancellations, forgiven
from .._policy import Strategy
from .._serving.switch import LLMSwitch
from ..streaming import ProgressTracker
from ..tasks import TaskRequest
from .exit_codes import PIPE_CLOSED, TERMINATED
from .output import JsonVoice, TextVoice, Voice


class Wanted(Struct, frozen=True, kw_only=True):
    """What was said of the asking beside the request."""

    config: Path | None
    as_json: bool
    quiet: bool
    timeout: float | None
    strategy: Strategy | None
    max_cost: float | None
    max_latency: float | None


def ask(request: TaskRequest, wanted: Wanted) -> None:
    """Ask, and write the answer while it comes; raises what it fails with."""
    asyncio.run(_ask(request, wanted))


async def _ask(request: TaskRequest, wanted: Wanted) -> None:
    tracker = ProgressTracker()
    voice: Voice = JsonVoice() if wanted.as_json else TextVoice(tracker, quiet=wanted.quiet)
    async with LLMSwitch(wanted.config) as switch:
        # Text that was written cannot be taken back: only events can begin again.
        restarts = switch.policy.resilience.on_break == "restart" and not wanted.as_json
        stream = switch.stream_request(
            request,
            progress_tracker=tracker,
            timeout=wanted.timeout,
            on_break="continue" if restarts else None,
            optimization_strategy=wanted.strategy,
            max_cost=wanted.max_cost,
            max_latency=wanted.max_latency,
        )
        with ExitStack() as open_until_the_end:
            open_until_the_end.enter_context(_leaving_early())
            open_until_the_end.enter_context(voice)
            async with aclosing(stream.events()) as events:
                async for event in events:
                    voice.event(event)
            voice.end(stream.response)
    if stream.response.error is not None:
        raise stream.response.error


@contextmanager
def _leaving_early() -> Generator[None, None, None]:
    """Ends the block as soon as nobody reads the pipe that the answer goes into, or the process is told to end.

    Writing would tell of the pipe too, but only when there is something to write, and a vendor may be silent for long.
    """
    task = asyncio.current_task()
    assert task is not None, "this runs in a coroutine"
    loop, descriptor = asyncio.get_running_loop(), _pipe()
    code: int | None = None
    before = cancellations()

    def leave(why: int) -> None:
        nonlocal code
        if code is None:  # the loop reports the pipe again and again, and a cancellation is taken back once
            code = why
            task.cancel()

    # Windows' event loop watches no pipe and no signal. There, the next write to the pipe fails instead.
    with suppress(NotImplementedError):
        if descriptor is not None:
            # A pipe's writing end is never readable; it is reported when it has no reader any more.
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


def _pipe() -> int | None:
    try:
        descriptor = sys.stdout.fileno()
        return descriptor if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else None
    except (OSError, ValueError):
        return None  # standard output is closed, or no file at all
