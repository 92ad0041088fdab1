"""`Simulation`: one run of one seed.

How it works. A simulation holds what outlives a process: the choices, the virtual time, the wall clock and the trace.
Each `run` is one process with a loop of its own. While it runs, in this thread:

- time and randomness of the package come from the simulation (`_clock.use`), and the module `random` is seeded;
- executors run their work in the loop, and everything else that is real is refused;
- the garbage collector is off. It runs once at the end of each process, so that what it finds does not depend on the
  memory of the machine.

Only one simulation runs at a time, because all this holds for the whole process.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from collections.abc import Callable, Coroutine, Generator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from ... import _clock
from ...exceptions import EventLoopRunningError
from .anyio_threads import anyio_threads_in
from .choices import Choices
from .loop import SimulatedLoop
from .real_world import refused_for_this_thread, seeded
from .seeds import Seed
from .source import SimulatedSource
from .steps import SimulationStuckError
from .tasks import in_their_order
from .trace import Trace

T = TypeVar("T")

_running: list[Simulation] = []


def current() -> Simulation | None:
    """The simulation that is running, if one is."""
    return _running[-1] if _running else None


class Simulation:
    """One run of a program in virtual time, in which every scheduling decision comes from the seed.

    Use it in a `with` block, or call `close`. `problems` are exceptions that nobody retrieved and errors in callbacks;
    a correct program leaves none. `left_over` are the tasks and timers that were left when `main` had returned.

    Args:
        seed: The seed: a number, or a text as a report prints it.

    Raises:
        ValueError: The text is not a seed, or belongs to another version of the simulation.
    """

    def __init__(self, seed: Seed | int | str = 0) -> None:
        self.seed: Final = Seed.of(seed)
        self.choices: Final[Choices] = self.seed.choices()
        self.problems: Final[list[str]] = []
        self.left_over: list[str] = []
        self.trace: Final = Trace(lambda: self.now)
        self.source: Final = SimulatedSource(self.choices, lambda: self.now)
        self.loop: SimulatedLoop = self._new_loop(0.0)
        self._order = sha256()
        self._is_used = self._is_frozen = False
        self._remains: list[object] = []
        """What was left of killed processes. It is kept, because dropping it would run its `finally` blocks."""
        self._undo = ExitStack()

    @property
    def now(self) -> float:
        """The virtual seconds since the run began."""
        return self.loop.time()

    @property
    def digest(self) -> str:
        """A hash of the trace and of every scheduling decision: the same for two equal runs."""
        order = self._order.copy()
        order.update(self.loop.order)
        return self.trace.digest(order.digest())

    def note(self, who: str, what: str) -> None:
        """Add a line to the trace."""
        self.trace.add(who, what)

    def on_close(self, function: Callable[[], object]) -> None:
        """Call a function when this simulation is closed, such as one that undoes a replacement."""
        self._undo.callback(function)

    def run(self, main: Callable[[], Coroutine[Any, Any, T]], *, until: float | None = None) -> T | None:
        """Run a program to its end, as `asyncio.run` does, and return its result.

        Several runs of one simulation follow each other in time. Each is a process that starts anew.

        Args:
            main: The coroutine function to run.
            until: The virtual second of this simulation at which the process is killed. Then nothing of it runs on, not
                even a `finally`, and the result is `None`. If that second is over already, nothing runs at all.

        Raises:
            TypeError: `main` is not a coroutine function.
            RuntimeError: A simulation is running already.
            EventLoopRunningError: Another event loop is running in this thread.
            SimulationStuckError: Nothing can happen any more, or the program never ends.
            RealWorldError: The program touched something real.
            Exception: The error of the program.
        """
        check_program(main)
        if _running:
            raise RuntimeError("a simulation is running already, and only one can run at a time")
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - unlike its public twin it does not raise
            raise EventLoopRunningError(
                "an event loop is running in this thread, and a simulation brings its own: call it from synchronous "
                "code, from a thread (await asyncio.to_thread(…)), or mark the test with @pytest.mark.simulated"
            )
        if self._is_used:
            self._order.update(self.loop.order)
            self.loop = self._new_loop(self.now)
        self._is_used = True
        loop = self.loop
        with self._in_force():
            task: asyncio.Task[T] = loop.create_task(_begun(main), name="main")
            try:
                if until is None:
                    loop.run_until_complete(task)
                elif not loop.run_until(task, until):
                    self._remains.append((task, loop.kill()))
                    return None
            finally:
                if not loop.is_killed:
                    self._end(loop)
            return task.result()

    def close(self) -> None:
        """Drop what was killed. It belongs to no loop any more, so its errors are not reported."""
        self._undo.close()
        if self._remains:
            hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
            try:
                with self._in_force(), warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)  # a coroutine was never awaited
                    self._remains.clear()
                    for _ in range(3):  # a `finally` that runs now keeps what it uses until the next collection
                        gc.collect()
            finally:
                sys.unraisablehook = hook
        if self._is_frozen:
            gc.collect()  # while the rest is frozen, this costs little; otherwise many runs would fill the memory
            gc.unfreeze()
            self._is_frozen = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _new_loop(self, start: float) -> SimulatedLoop:
        return SimulatedLoop(  # type: ignore[abstract] # what is missing is refused (`loop._refused`)
            self.choices, start=start, report=self.problems.append, trace=self.trace
        )

    @contextmanager
    def _in_force(self) -> Generator[None, None, None]:
        was_enabled = gc.isenabled()
        gc.disable()
        if not self._is_frozen:
            gc.freeze()  # so that a collection looks only at what this simulation has made
            self._is_frozen = True
        _running.append(self)
        try:
            with (
                _clock.use(self.source),
                seeded(self.seed.number),
                refused_for_this_thread(),
                in_their_order(),
                self.loop.threads.in_force(),
                anyio_threads_in(self.loop),
            ):
                try:
                    yield
                finally:
                    gc.collect()
        finally:
            _running.remove(self)
            if was_enabled:
                gc.enable()

    def _end(self, loop: SimulatedLoop) -> None:
        """End a process as `asyncio.run` does: its tasks are cancelled, and its generators closed."""
        self.left_over = loop.left_over()
        loop.take_no_more_notes()
        try:
            for task in loop.unfinished_tasks():
                task.cancel()
            loop.run_until_complete(_until_over(loop))
            gc.collect()
            loop.run_until_complete(_until_over(loop))
        except SimulationStuckError as error:
            self.problems.append(f"the program cannot be ended: {error}")
        finally:
            loop.close()


def check_program(main: object) -> None:
    """Refuse what cannot be called, such as a coroutine in place of the coroutine function."""
    if not callable(main):
        raise TypeError(
            f"a simulation runs a coroutine function, got a {type(main).__name__}; pass the function itself, as in "
            "run(main), without calling it"
        )


def _begun(main: Callable[[], Coroutine[Any, Any, T]]) -> Coroutine[Any, Any, T]:
    coroutine = main()
    if not asyncio.iscoroutine(coroutine):
        raise TypeError(
            f"a simulation runs a coroutine function, and this function returned a {type(coroutine).__name__}; define "
            "it with `async def`"
        )
    return coroutine


async def _until_over(loop: SimulatedLoop) -> None:
    """Wait for all other tasks, and close the asynchronous generators."""
    while others := [task for task in loop.unfinished_tasks() if task is not asyncio.current_task()]:
        await asyncio.wait(others)
    await loop.shutdown_asyncgens()
