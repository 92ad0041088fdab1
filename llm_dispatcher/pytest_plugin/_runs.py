"""Runs a simulated test with all its seeds, and says what a person needs to know of a failure."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Final

import pytest
from msgspec import Struct

from ..testing._simulation.loop import SimulationStuckError
from ..testing._simulation.seeds import Seed
from ..testing._simulation.simulate import Failure, LeftProblemsError, failure_of
from ..testing._simulation.simulation import current
from ._simulated_providers import load_everything, script_error

SHOWN: Final = 120
"""Lines of a trace that are shown: the last ones."""


_ENDS_THE_RUNS: Final = (
    pytest.skip.Exception, pytest.xfail.Exception, KeyboardInterrupt, GeneratorExit,
)  # fmt: skip
"""What is no failure, and passes through the simulation to pytest."""


class Report(Struct, frozen=True):
    """A failed test: the error of its shrunk run, with notes, and what happened in that run."""

    error: BaseException
    title: str
    text: str


def run_test(
    item: pytest.Function,
    test: Callable[..., Coroutine[Any, Any, object]],
    arguments: Mapping[str, Any],
    *,
    seeds: int,
    seed: str | int | None = None,
) -> Report | None:
    """Run a test with each of its seeds, until one fails.

    Args:
        item: The test, as pytest knows it.
        test: The coroutine function of the test.
        arguments: Its arguments: fixtures and parameters.
        seeds: How many seeds it runs with.
        seed: One seed to run with instead.
    """
    load_everything()

    async def main() -> None:
        _forget_output(item.config)
        try:
            await test(**arguments)
        except (Exception, *_ENDS_THE_RUNS):
            raise
        except BaseException as error:  # noqa: BLE001 - `pytest.fail()`, a cancellation that nobody has taken back, …
            raise _Failed(error).with_traceback(error.__traceback__) from None
        simulation = current()
        if simulation is not None and (failed := script_error(simulation)) is not None:
            raise failed

    for each in _seeds(item.config, seeds, seed):
        failure = failure_of(each, main)
        if failure is not None:
            error = _shown(failure.error, _summary(failure, _address(item)))
            return Report(error, f"Simulated run of seed {failure.shrunk}", _story(failure.trace))
    return None


class _Failed(Exception):  # noqa: N818 - its name is shown in the trace
    """Holds an error that is no `Exception`: the simulation would not see a failure in it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error


def _shown(error: BaseException, summary: str) -> BaseException:
    """The error as pytest shows it, with the summary. Those of the simulation itself have no line of the test in their
    traceback, so it is left out.
    """
    if isinstance(error, (SimulationStuckError, LeftProblemsError)):
        return pytest.fail.Exception(f"{type(error).__name__}: {error}\n{summary}", pytrace=False)
    if isinstance(error, _Failed):
        error = error.error
    error.add_note(summary)
    return error


def _seeds(config: pytest.Config, seeds: int, seed: str | int | None) -> Iterator[Seed]:
    """The seeds to run with. The option of the command line wins over the marker."""
    only = config.getoption("simulated_seed") or seed
    if only is not None:
        yield Seed.parse(str(only))
        return
    first = int(config.getoption("simulated_first") or 0)
    yield from (Seed(number) for number in range(first, first + seeds))


def _forget_output(config: pytest.Config) -> None:
    """Drop what earlier runs have printed and logged, so that a failure shows the output of one run."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    if capture is not None and capture.is_globally_capturing():
        capture.read_global_capture()
    log: Any = config.pluginmanager.getplugin("logging-plugin")
    if log is not None:
        log.report_handler.reset()
        log.caplog_handler.clear()


# ── what is shown of a failure ─────────────────────────────────────────────────────────────────────────────────────

_NOT_REPEATED: Final = (
    "A second run of this seed did not fail in the same way, so something outside of the simulation decides: a real "
    "clock, the order of a set, or what an earlier run has left in a variable, a file or a fixture."
)


def _summary(failure: Failure, test: str) -> str:
    """The seed, how to replay it, and the shortest run that fails."""
    lines = [f"Seed {failure.seed} fails. To replay it:", f"    {_command(test, failure.seed)}"]
    if failure.shrunk != failure.seed and not failure.eventful:
        lines.append("No choice matters: the test fails without any of them.")
    elif failure.shrunk != failure.seed:
        prefix = f"the first {failure.shrunk.limit} of {failure.made} choices"
        lines += [
            f"The shortest run that fails in the same way has {prefix}, and these of them matter:",
            f"    {_by_stream(failure.eventful)}",
            "To replay it:",
            f"    {_command(test, failure.shrunk)}",
        ]
    elif not failure.seed.is_shrunk:
        lines.append(_NOT_REPEATED)
    return "\n".join(lines)


def _address(item: pytest.Function) -> str:
    """The test, as it is named on the command line in the folder where pytest was started."""
    folder, (path, colons, name) = item.config.invocation_params.dir, item.nodeid.partition("::")
    if item.config.rootpath != folder:
        path = os.path.relpath(item.path, folder)
    return path + colons + name


def _command(test: str, seed: Seed) -> str:
    return shlex.join(["pytest", test, f"--simulated-seed={seed}"])


def _by_stream(choices: tuple[tuple[int, str], ...]) -> str:
    """The numbers of choices, by the stream that they were drawn from."""
    streams: dict[str, list[int]] = {}
    for number, stream in choices:
        streams.setdefault(stream, []).append(number)
    return "; ".join(f"{stream} ({', '.join(map(str, numbers))})" for stream, numbers in streams.items())


def _story(trace: str) -> str:
    """The last lines of a trace: the virtual second, who, and what."""
    lines = trace.splitlines()
    left_out = [f"({len(lines) - SHOWN} lines before)"] if len(lines) > SHOWN else []
    return "\n".join([*left_out, *lines[-SHOWN:]])
