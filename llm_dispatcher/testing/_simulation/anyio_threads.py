"""The threads of anyio in a simulation. FastAPI and Starlette run functions without `async` in them.

anyio starts its threads itself and does not use executors. While a simulation runs, `anyio.to_thread.run_sync` does the
work as `asyncio.to_thread` does: in the simulated loop, at a drawn moment. The package does not need anyio, so this
holds only if the program has imported it before.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import Any


@contextmanager
def anyio_threads_in(loop: asyncio.AbstractEventLoop) -> Generator[None, None, None]:
    """Have the threads of anyio do their work in a simulated loop, until the block ends."""
    anyio: Any = sys.modules.get("anyio")
    module: Any = sys.modules.get("anyio.to_thread")
    if anyio is None or module is None:
        yield
        return
    original = module.run_sync

    @wraps(original)
    async def run_sync(
        func: Callable[..., Any],
        *args: Any,
        abandon_on_cancel: bool = False,
        limiter: Any = None,
        **deprecated: Any,
    ) -> Any:
        if asyncio._get_running_loop() is not loop:  # noqa: SLF001 - unlike its public twin it does not raise
            return await original(func, *args, abandon_on_cancel=abandon_on_cancel, limiter=limiter, **deprecated)
        async with limiter or module.current_default_thread_limiter():
            with anyio.CancelScope(shield=not (abandon_on_cancel or deprecated.get("cancellable"))):
                return await asyncio.to_thread(func, *args)

    module.run_sync = run_sync
    try:
        yield
    finally:
        module.run_sync = original
