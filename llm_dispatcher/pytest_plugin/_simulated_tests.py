"""The marker `simulated`: an async test runs in a simulated event loop, once for each seed.

How it works. `pytest_runtest_setup` checks a marked test before its fixtures are made. While pytest calls the test,
`pytest_pyfunc_call` replaces its function by a synchronous one that runs all seeds. So the test runs in the same way
whether pytest itself calls it, or pytest-asyncio, or anyio: each of them finds a plain function.

pytest imports this file in every project, so it imports nothing of the package before a marked test runs.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Generator
from typing import Any, Final

import pytest

SEEDS: Final = 100
"""How many seeds a test runs with if its marker does not say it."""
NAMES: Final = ("seeds", "seed")
_REPORT: Final = pytest.StashKey[tuple[str, str]]()
"""The title and the text of what is shown below the traceback of a failed test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options `--simulated-seed` and `--simulated-first`."""
    group = parser.getgroup("llm_dispatcher", "simulated tests")
    group.addoption(
        "--simulated-seed",
        metavar="SEED",
        help="run simulated tests with this seed only, as the report of a failure names it (1-48213)",
    )
    group.addoption(
        "--simulated-first",
        metavar="NUMBER",
        type=int,
        default=0,
        help="the first seed of each simulated test (0 by default, so that two sessions run the same seeds)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker, and check the options."""
    config.addinivalue_line(
        "markers",
        f"simulated(seeds={SEEDS}, seed=None): run an async test in a simulated event loop, once for each seed, or with"
        " one seed only, as the report of a failure names it.",
    )
    if int(config.getoption("simulated_first") or 0) < 0:
        raise pytest.UsageError("--simulated-first is the number of a seed: 0 or more")
    seed = config.getoption("simulated_seed")
    if seed is not None and (problem := _problem_of_seed(seed)) is not None:
        raise pytest.UsageError(f"--simulated-seed: {problem}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check a simulated test before its fixtures are made."""
    marker = item.get_closest_marker("simulated")
    if marker is None or not isinstance(item, pytest.Function):
        return
    problem = _problem_of_marker(marker) or _problem_of_test(item)
    if problem is not None:
        pytest.fail(problem, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Have a simulated test run with all its seeds."""
    marker = pyfuncitem.get_closest_marker("simulated")
    if marker is None:
        return (yield)
    from ._runs import run_test

    around = pyfuncitem.obj
    test = inspect.unwrap(around, stop=inspect.iscoroutinefunction)

    def run_all_seeds(**arguments: Any) -> None:
        __tracebackhide__ = True
        report = run_test(pyfuncitem, test, arguments, **{"seeds": SEEDS, **marker.kwargs})
        if report is not None:
            pyfuncitem.stash[_REPORT] = report.title, report.text
            raise report.error

    pyfuncitem.obj = run_all_seeds
    try:
        return (yield)
    finally:
        pyfuncitem.obj = around


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what happened in the failed run of a simulated test, below its traceback."""
    report = yield
    if report.when == "call" and (section := item.stash.get(_REPORT, None)) is not None:
        report.sections.append(section)
    return report


def is_simulated(node: Any) -> bool:
    """Whether a test is marked as simulated."""
    return isinstance(node, pytest.Item) and node.get_closest_marker("simulated") is not None


# ── what cannot be simulated ───────────────────────────────────────────────────────────────────────────────────────


def _problem_of_marker(marker: pytest.Mark) -> str | None:
    """What is wrong with the arguments of a marker."""
    if marker.args:
        return f"@pytest.mark.simulated takes its arguments by name; write seeds={marker.args[0]!r}"
    if unknown := [name for name in marker.kwargs if name not in NAMES]:
        return f"@pytest.mark.simulated has no argument {unknown[0]!r}; it has {' and '.join(NAMES)}"
    seeds, seed = marker.kwargs.get("seeds", SEEDS), marker.kwargs.get("seed")
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        return f"@pytest.mark.simulated(seeds={seeds!r}): seeds is a number of runs, 1 or more"
    if seed is None:
        return None
    if "seeds" in marker.kwargs:
        return "@pytest.mark.simulated takes seeds=, or seed= for one run only, and not both; remove one of them"
    if isinstance(seed, bool) or not isinstance(seed, (str, int)):
        return f'@pytest.mark.simulated(seed={seed!r}): seed is a text, as in seed="1-48213"'
    problem = _problem_of_seed(str(seed))
    return None if problem is None else f"@pytest.mark.simulated(seed={seed!r}): {problem}"


def _problem_of_seed(text: str) -> str | None:
    from ..testing._simulation.seeds import Seed

    try:
        Seed.parse(text)
    except ValueError as error:
        return str(error)
    return None


def _problem_of_test(item: pytest.Function) -> str | None:
    """Why a test cannot run in a simulated event loop."""
    name = item.originalname
    if getattr(item.obj, "is_hypothesis_test", False):
        return (
            f"{name} has @given and @pytest.mark.simulated, and both of them draw and shrink; remove @given, and draw"
            " with @pytest.mark.parametrize or in the test, with the module random, which is seeded in a simulation"
        )
    unittest = sys.modules.get("unittest")
    if unittest is not None and item.cls is not None and issubclass(item.cls, unittest.TestCase):
        return f"{name} is a test of a unittest.TestCase, which runs its tests itself; write it as a function"
    if not inspect.iscoroutinefunction(inspect.unwrap(item.obj, stop=inspect.iscoroutinefunction)):
        return (
            f"{name} is not an `async def` function, and @pytest.mark.simulated runs a coroutine in a simulated event"
            " loop; write `async def`, or remove the marker"
        )
    for fixture, definitions in item._fixtureinfo.name2fixturedefs.items():  # noqa: SLF001 - as pytest-asyncio finds them
        function = definitions[-1].func
        if fixture in item.fixturenames and (
            inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        ):
            return (
                f"{name} uses the async fixture {fixture!r}, which would run in another event loop than the test;"
                " make it a plain fixture that returns an async context manager, and enter that in the test"
            )
    return None
