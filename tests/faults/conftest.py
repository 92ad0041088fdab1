"""Counts the cells of the fault matrix and the real trials, and says at the end how many there were."""

from __future__ import annotations

from collections.abc import Callable

import pytest

CELLS = pytest.StashKey[int]()
TRIALS = pytest.StashKey[str]()


@pytest.fixture
def count_cells(request: pytest.FixtureRequest) -> Callable[[int], None]:
    def count(cells: int) -> None:
        stash = request.config.stash
        stash[CELLS] = stash.get(CELLS, 0) + cells

    return count


@pytest.fixture
def say_of_trials(request: pytest.FixtureRequest) -> Callable[[str], None]:
    def say(counts: str) -> None:
        request.config.stash[TRIALS] = counts

    return say


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if CELLS in config.stash:
        terminalreporter.write_line(f"fault matrix: {config.stash[CELLS]} cells, each with the whole text, once")
    if TRIALS in config.stash:
        terminalreporter.write_line(f"real trials: {config.stash[TRIALS]}")
