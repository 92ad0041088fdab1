"""The deliberate defects, by which the simulation proves that it finds bugs; `make mutants` runs all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from scripts.mutants import ROOT, SEEDS, Defect, all_defects, changed, copied, is_found
from tests.simulation.invariants import INVARIANTS

DEFECTS: Final = all_defects()
IN_CI: Final = [defect for defect in DEFECTS if defect.get("ci")]


def name_of(defect: Defect) -> str:
    return defect["name"]


@pytest.mark.parametrize("defect", DEFECTS, ids=name_of)
def test_a_defect_applies_to_one_place_and_is_python(defect: Defect) -> None:
    compile(changed(ROOT, defect), defect["file"], "exec")
    assert defect["rule"]
    assert defect["invariant"] in {invariant.__name__ for invariant in INVARIANTS}


def test_there_are_enough_defects_and_each_is_another_one() -> None:
    assert len(DEFECTS) >= 25
    assert len({name_of(defect) for defect in DEFECTS}) == len(DEFECTS)
    assert len({(defect["file"], defect["old"], defect["new"]) for defect in DEFECTS}) == len(DEFECTS)
    assert len(IN_CI) == 6


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One copy of the repository for all defects."""
    return copied(tmp_path_factory.mktemp("defects"))


@pytest.mark.slow
@pytest.mark.parametrize("defect", IN_CI, ids=name_of)
def test_the_simulation_finds_a_defect(copy: Path, defect: Defect) -> None:
    assert is_found(copy, defect, SEEDS)
