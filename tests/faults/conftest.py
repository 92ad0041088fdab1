"""Counts the cells of the fault matrix, and says at the end how many there were."""

from __future__ import annotations

from collections.abc import Callable

import pytest

CELLS = pytest.StashKey[int]()


@pytest.fixture
def count_cells(request: pytest.FixtureRequest) -> Callable[[int], None]:
    def count(cells: int) -> None:
        stash = request.config.stash
        stash[CELLS] = stash.get(CELLS, 0) + cells

    return count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if CELLS in config.stash:
        terminalreporter.write_line(f"fault matrix: {config.stash[CELLS]} cells, each with the whole text, once")
