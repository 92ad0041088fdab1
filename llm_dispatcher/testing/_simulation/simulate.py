"""`simulate`: runs a program under many seeds. A failure is shrunk, and can be replayed by its seed."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Final

from msgspec import Struct

from .seeds import Seed
from .shrinking import MOST_RUNS, Outcome, shrunk
from .simulation import Simulation

SHOWN: Final = 120
"""Lines of a trace that are shown: the last ones."""


class LeftProblemsError(AssertionError):
    """A simulated program has left exceptions that nobody retrieved."""


class Failure(Struct, frozen=True):
    """A failed run, after shrinking.

    `seed` is the seed that failed first, `shrunk` the simplest run that fails in the same way, and `error` its error.
    `made` is how many choices the first run made, and `eventful` are the choices that matter in the shrunk one.
    """

    seed: Seed
    shrunk: Seed
    error: BaseException
    made: int
    eventful: tuple[tuple[int, str], ...]
    trace: str

    def report(self, replay: str) -> str:
        """What a person needs to know. `replay` is the command or call that replays a seed, with `{seed}` in it."""
        streams: dict[str, int] = {}
        for _, stream in self.eventful:
            streams[stream] = streams.get(stream, 0) + 1
        kinds = ", ".join(f"{count} of {stream!r}" for stream, count in streams.items()) or "none"
        lines = self.trace.splitlines()
        left_out = [f"… {len(lines) - SHOWN} lines before"] if len(lines) > SHOWN else []
        shortest = (
            f"the first {self.shrunk.limit} of {self.made} choices, of which {len(self.eventful)} matter ({kinds})"
        )
        return "\n".join(
            [
                f"seed {self.seed} fails; replay it with: {replay.format(seed=self.seed)}",
                f"shortest run that fails: {shortest}",
                f"replay that with: {replay.format(seed=self.shrunk)}",
                "what happened in it, by virtual second:",
                *left_out,
                *lines[-SHOWN:],
            ]
        )


def simulate(
    main: Callable[[], Coroutine[Any, Any, object]],
    *,
    seeds: int = 100,
    first: int = 0,
    seed: str | None = None,
) -> None:
    """Run a coroutine function under many seeds, each in a simulation of its own.

    Args:
        main: The program. It is called once for each seed, and fails by raising.
        seeds: How many seeds to run.
        first: The number of the first one.
        seed: One seed to run instead, as a report prints it.

    Raises:
        ValueError: `seed` is not a seed, or belongs to another version of the simulation.
        Exception: The error of the first seed that failed, in its shrunk run, with the report as a note.
    """
    all_seeds = [Seed(number) for number in range(first, first + seeds)] if seed is None else [Seed.parse(seed)]
    for each in all_seeds:
        failure = failure_of(each, main)
        if failure is not None:
            failure.error.add_note(failure.report('simulate(…, seed="{seed}")'))
            raise failure.error


def failure_of(
    seed: Seed, main: Callable[[], Coroutine[Any, Any, object]], *, most_runs: int = MOST_RUNS
) -> Failure | None:
    """Run a seed. If it fails, find the simplest run that fails in the same way.

    Args:
        seed: The seed. If it is shrunk already, it is not shrunk further.
        main: The program.
        most_runs: How many runs the shrinking may take.
    """
    first = _run(seed, main)
    if first.error is None:
        return None
    simplest, last = seed, first
    if not seed.is_shrunk:
        simplest = shrunk(seed, first.outcome, lambda other: _run(other, main).outcome, most_runs)
        last = _run(simplest, main)
        if last.outcome.failure != first.outcome.failure:  # the program itself is not deterministic
            simplest, last = seed, first
    assert last.error is not None
    return Failure(seed, simplest, last.error, first.outcome.made, last.outcome.eventful, last.trace)


class _Finished(Struct, frozen=True):
    error: BaseException | None
    outcome: Outcome
    trace: str


def _run(seed: Seed, main: Callable[[], Coroutine[Any, Any, object]]) -> _Finished:
    error: BaseException | None = None
    with Simulation(seed) as simulation:
        try:
            simulation.run(main)
        except Exception as raised:  # noqa: BLE001 - it is what the caller wants to know
            error = raised
        if error is None and simulation.problems:
            error = LeftProblemsError("the program left errors that nobody handled:\n" + "\n".join(simulation.problems))
        choices = simulation.choices
        outcome = Outcome(_way_of(error), choices.made, tuple(choices.eventful))
        return _Finished(error, outcome, str(simulation.trace))


def _way_of(error: BaseException | None) -> str | None:
    """In which way a run failed: the kind of the error, and the line that raised it."""
    if error is None:
        return None
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}" if frames else type(error).__name__
