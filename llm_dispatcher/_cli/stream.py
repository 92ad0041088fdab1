"""`llm-dispatcher stream`: sends a request and writes the answer while it arrives."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, aclosing
from pathlib import Path

from .._serving.switch import LLMSwitch
from ..streaming import ProgressTracker
from ..tasks import TaskRequest
from .early_end import ending_early
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
            stack.enter_context(ending_early())
            stack.enter_context(output)
            async with aclosing(answer.events()) as events:
                async for event in events:
                    output.event(event)
            output.end(answer.response)
    if answer.response.error is not None:
        raise answer.response.error
