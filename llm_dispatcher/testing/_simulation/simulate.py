"""`simulate`: runs a program under many seeds. A failure is shrunk, and can be replayed by its seed."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from msgspec import Struct

from .real_world import is_of_the_program
from .seeds import Seed
from .shrinking import MOST_RUNS, Outcome, shrunk
from .simulation import Simulation, check_program
from .steps import SimulationStuckError

SHOWN: Final = 120
"""Lines of a trace that are shown: the last ones."""


class LeftProblemsError(AssertionError):
    """A simulated program raised exceptions that no code handled. `problems` are their texts."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("the program raised errors that no code handled:\n" + "\n".join(problems))
        self.problems = tuple(problems)


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
        summary = self.summary(lambda seed: replay.replace("{seed}", str(seed)))
        return f"{summary}\nWhat happened in it, by virtual second:\n{self.story}"

    def summary(self, replay: Callable[[Seed], str]) -> str:
        """The seed, the shortest run, and how to see them again. `replay` makes the command that replays a seed."""
        lines = [f"Seed {self.seed} fails. To replay it:", f"    {replay(self.seed)}"]
        if self.shrunk == self.seed:
            if not self.seed.is_shrunk:
                lines.append(_NOT_REPEATED)
        elif not self.eventful:
            lines.append("No choice matters: the test fails without any of them.")
        else:
            prefix = f"the first {self.shrunk.limit} of {self.made} choices"
            lines += [
                f"The shortest run that fails in the same way has {prefix}, and these of them matter:",
                f"    {_by_stream(self.eventful)}",
                "To replay it:",
                f"    {replay(self.shrunk)}",
            ]
        return "\n".join(lines)

    @property
    def story(self) -> str:
        """The last lines of the trace: the virtual second, who, and what."""
        lines = self.trace.splitlines()
        left_out = [f"({len(lines) - SHOWN} lines before)"] if len(lines) > SHOWN else []
        return "\n".join([*left_out, *lines[-SHOWN:]])


MANY: Final = 12
"""Choices of one stream whose numbers are shown."""

_NOT_REPEATED: Final = (
    "A second run of this seed did not fail in the same way, so something outside of the simulation decides: a real "
    "clock, the order of a set, or what an earlier run has left in a variable, a file or a fixture."
)


def _by_stream(choices: tuple[tuple[int, str], ...]) -> str:
    """The numbers of choices, by the stream that they were drawn from; only how many, where there are many."""
    streams: dict[str, list[int]] = {}
    for number, stream in choices:
        streams.setdefault(stream, []).append(number)
    return "; ".join(
        f"{stream} ({', '.join(map(str, numbers)) if len(numbers) <= MANY else len(numbers)})"
        for stream, numbers in streams.items()
    )


def simulate(
    main: Callable[[], Coroutine[Any, Any, object]],
    *,
    seeds: int = 100,
    first: int = 0,
    seed: str | int | None = None,
) -> None:
    """Run a coroutine function under many seeds, each in a simulation of its own.

    Args:
        main: The program. It is called once for each seed, and fails by raising.
        seeds: How many seeds to run.
        first: The number of the first one.
        seed: One seed to run instead, as a report prints it.

    Raises:
        TypeError: `main` is not a coroutine function.
        ValueError: `seeds` is less than 1, `seed` is not the text of a seed, or another version of the simulation has
            printed it.
        Exception: The error of the first seed that failed, in its shrunk run, with the report as a note.
    """
    check_program(main)
    if seeds < 1:
        raise ValueError(f"simulate(seeds={seeds}): seeds is a number of runs, 1 or more")
    all_seeds = map(Seed.of, range(first, first + seeds) if seed is None else [seed])
    for each in all_seeds:
        failure = failure_of(each, main)
        if failure is not None:
            failure.error.add_note(failure.report('simulate(…, seed="{seed}")'))
            raise failure.error


def failure_of(
    seed: Seed,
    main: Callable[[], Coroutine[Any, Any, object]],
    *,
    most_runs: int = MOST_RUNS,
    passing: tuple[type[BaseException], ...] = (),
) -> Failure | None:
    """Run a seed. If it fails, find the simplest run that fails in the same way.

    Args:
        seed: The seed. If it is shrunk already, it is not shrunk further.
        main: The program.
        most_runs: How many runs the shrinking may take.
        passing: Exceptions of these types do not count as failures and are raised unchanged. `KeyboardInterrupt` is
            always one of them.
    """
    passing = (*passing, KeyboardInterrupt, GeneratorExit)
    first = _run(seed, main, passing)
    if first.error is None:
        return None
    simplest, last = seed, first
    if not seed.is_shrunk:
        simplest = shrunk(seed, first.outcome, lambda other: _run(other, main, passing).outcome, most_runs)
        last = _run(simplest, main, passing)
        if last.outcome.failure != first.outcome.failure:  # the program itself is not deterministic
            simplest, last = seed, first
    assert last.error is not None
    return Failure(seed, simplest, last.error, first.outcome.made, last.outcome.eventful, last.trace)


class _Finished(Struct, frozen=True):
    error: BaseException | None
    outcome: Outcome
    trace: str


def _run(
    seed: Seed, main: Callable[[], Coroutine[Any, Any, object]], passing: tuple[type[BaseException], ...]
) -> _Finished:
    error: BaseException | None = None
    with Simulation(seed) as simulation:
        try:
            simulation.run(main)
        except passing:
            raise
        except BaseException as raised:  # noqa: BLE001 - it is what the caller wants to know
            error = raised
        if error is None and simulation.problems:
            error = LeftProblemsError(simulation.problems)
        choices = simulation.choices
        outcome = Outcome(_way_of(error), choices.made, tuple(choices.eventful), simulation.loop.steps.done)
        return _Finished(error, outcome, str(simulation.trace))


def _way_of(error: BaseException | None) -> str | None:
    """In which way a run failed. A smaller run that fails in another way is another failure."""
    match error:
        case None:
            return None
        case BaseExceptionGroup():
            ways = sorted({str(_way_of(each)) for each in error.exceptions})
        case LeftProblemsError():
            ways = sorted({": ".join(problem.split(": ")[:2]) for problem in error.problems})
        case SimulationStuckError():
            ways = list(error.places)
        case _:
            ways = _lines_of(error)
    return f"{type(error).__name__} ({'; '.join(ways)})"


def _lines_of(error: BaseException) -> list[str]:
    """The line that raised an error, and the innermost line of the program that led to it."""
    frames = list(traceback.walk_tb(error.__traceback__))
    inside = [(frame, line) for frame, line in frames if is_of_the_program(frame)]
    return [f"{frame.f_code.co_filename}:{line}" for frame, line in (*inside[-1:], *frames[-1:])]
