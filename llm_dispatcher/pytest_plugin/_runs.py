"""Runs a simulated test with all its seeds, and says what a person needs to know of a failure."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any, Final

import pytest
from msgspec import Struct

from ..testing._simulation.seeds import Seed
from ..testing._simulation.simulate import LeftProblemsError, failure_of
from ..testing._simulation.simulation import current
from ..testing._simulation.steps import SimulationStuckError
from ._simulated_providers import load_everything, script_error

_ENDS_THE_RUNS: Final = (pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception)
"""Exceptions that do not count as failures. The simulation lets them pass to pytest."""
_KEEP_OUTPUT: Final = ("capsys", "capsysbinary", "capfd", "capfdbinary")
"""The fixtures that hold what a test has printed."""


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
        _forget_output(item)
        await test(**arguments)
        simulation = current()
        if simulation is not None and (failed := script_error(simulation)) is not None:
            raise failed

    for each in _seeds(item.config, seeds, seed):
        failure = failure_of(each, main, passing=_ENDS_THE_RUNS)
        if failure is not None:
            error = _shown(failure.error, failure.summary(partial(_command, _address(item))))
            return Report(error, f"Simulated run of seed {failure.shrunk}", failure.story)
    return None


def _shown(error: BaseException, summary: str) -> BaseException:
    """The error as pytest shows it, with the summary. Those of the simulation itself have no line of the test in their
    traceback, so it is left out.
    """
    if isinstance(error, (SimulationStuckError, LeftProblemsError)):
        return pytest.fail.Exception(f"{type(error).__name__}: {error}\n{summary}", pytrace=False)
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


def _forget_output(item: pytest.Function) -> None:
    """Drop what earlier runs have printed and logged: a test sees, and a failure shows, the output of one run."""
    config = item.config
    for name in _KEEP_OUTPUT:
        output: Any = item.funcargs.get(name)
        if output is not None:
            output.readouterr()
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    if capture is not None and capture.is_globally_capturing():
        capture.read_global_capture()
    log: Any = config.pluginmanager.getplugin("logging-plugin")
    if log is not None:
        log.report_handler.reset()
        log.caplog_handler.clear()


def _address(item: pytest.Function) -> str:
    """The test, as it is named on the command line in the folder where pytest was started."""
    folder, (path, colons, name) = item.config.invocation_params.dir, item.nodeid.partition("::")
    if item.config.rootpath != folder:
        path = os.path.relpath(item.path, folder)
    return path + colons + name


def _command(test: str, seed: Seed) -> str:
    return shlex.join(["pytest", test, f"--simulated-seed={seed}"])
