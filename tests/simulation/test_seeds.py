"""Seeds: many of them keep every invariant, each is the same run every time, and kept ones stay fixed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from llm_dispatcher.testing._simulation.choices import Choices
from llm_dispatcher.testing._simulation.seeds import Seed
from tests.simulation import checking
from tests.simulation.__main__ import main, results
from tests.simulation.checking import Kept, check_batch, checked, kept_seeds
from tests.simulation.drawing import draw
from tests.simulation.good_runs import config, vendors
from tests.simulation.record import Run
from tests.simulation.scenario import VERSION, Happening, Scenario

DRAWN = Path(__file__).parent / "drawn.txt"
KEPT = kept_seeds()

DIGESTS = """
import sys
from tests.simulation.checking import checked
print(*(checked(int(number)).digest for number in sys.argv[1:]))
"""


FIRST = 40
"""So many seeds does `make test` run."""


def test_the_first_seeds_keep_every_invariant() -> None:
    failed, figures = check_batch(range(FIRST))
    assert [(str(each.seed), each.broken[0]) for each in failed] == []
    assert figures.seeds == FIRST


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_many_seeds_keep_every_invariant() -> None:
    """As many as take about three minutes on two cores."""
    failed = [each for failures, _ in results(FIRST, 12_100 - FIRST, jobs=2) for each in failures]
    assert [(str(each.seed), each.broken[0]) for each in failed] == []


@pytest.mark.slow
def test_a_seed_is_the_same_run_in_every_process() -> None:
    numbers = [str(number) for number in range(6)]
    one, other = _digests(numbers, "1", "2")
    assert one == other
    assert len(set(one)) == len(numbers)


def test_what_ran_before_does_not_matter() -> None:
    numbers = ["7", "3", "0"]
    assert _digests(numbers, "3") == [[checked(int(number)).digest for number in numbers]]


def test_the_name_of_a_runs_folder_does_not_matter() -> None:
    """The spending file cannot be read when a person looks, and the error in the trace names the file."""
    scenario = Scenario(
        config=config(budgets={"daily": 100.0, "path": "{folder}/spending.db"}),
        vendors=vendors(),
        readers=(),
        happenings=(Happening(at=1.0, kind="disk", seconds=9.0), Happening(at=3.0, kind="look")),
    )
    one, other = (checked(Seed(1, version=VERSION), Kept("1-1", "", scenario), with_trace=True) for _ in range(2))
    assert "ConfigurationError: {folder}/spending.db" in one.trace
    assert one.digest == other.digest


def _digests(numbers: list[str], *hash_seeds: str) -> list[list[str]]:
    """The digests of these seeds, from one process for each hash seed. The processes run at once."""
    command = [sys.executable, "-c", DIGESTS, *numbers]
    with ExitStack() as running:
        processes = [
            running.enter_context(
                subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": each}, stdout=subprocess.PIPE, text=True)
            )
            for each in hash_seeds
        ]
        digests = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return digests


def test_what_a_seed_draws_changes_only_with_the_version() -> None:
    drawn = sha256()
    for number in range(100):
        drawn.update(msgspec.json.encode(draw(Choices(number))))
    line = f"{VERSION} {drawn.hexdigest()}"
    recorded = DRAWN.read_text().splitlines()
    version = recorded[-1].split()[0]
    advice = (
        f"the first hundred seeds draw other scenarios than those recorded for version {version}: "
        f"raise VERSION in tests/simulation/scenario.py, so that no printed seed is run as another one, and add to "
        f"{DRAWN}:\n"
        f"VERSION {drawn.hexdigest()}"
    )
    assert recorded[-1] == line, advice
    assert [int(each.split()[0]) for each in recorded] == list(range(1, VERSION + 1))


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_seed_stays_fixed(name: str) -> None:
    kept = KEPT[name]
    assert checked(kept.seed, kept).broken == [], f"{name} was kept because {kept.why}"


def test_a_kept_scenario_runs_as_its_seed_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "KEPT", tmp_path / "kept")
    assert main(["--replay", f"{VERSION}-5", "--keep", "a test"]) == 0
    kept = checking.kept_seeds()[f"{VERSION}-5"]
    assert kept.why == "a test"
    assert checked(kept.seed, kept).digest == checked(5).digest


def test_a_scenario_survives_json() -> None:
    for number in range(20):
        scenario = draw(Choices(number))
        assert msgspec.json.decode(msgspec.json.encode(scenario), type=Scenario) == scenario


def test_a_seed_of_another_version_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--replay", f"{VERSION + 1}-5"]) == 2
    assert (
        f"belongs to version {VERSION + 1} of the scenarios, and this is version {VERSION}" in capsys.readouterr().err
    )


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────


def no_reader_is_cancelled(run: Run) -> list[tuple[str, str]]:
    """What breaks in many seeds, and is no fault."""
    cancelled = [reading.name for reading in run.readings if reading.outcome == "cancelled"]
    return [("no_reader_is_cancelled", ", ".join(cancelled))] if cancelled else []


@pytest.mark.slow
def test_a_broken_invariant_is_shrunk_and_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checking, "broken", no_reader_is_cancelled)
    monkeypatch.setattr(checking, "MOST_RUNS", 25)
    assert main(["--seeds", "40", "--jobs", "1", "--stop"]) == 1
    shown = capsys.readouterr().out
    whole, shortest = [line.split("--replay ")[1].split()[0] for line in shown.splitlines() if "--replay " in line]
    seed = shortest.strip("'")
    assert seed.startswith(f"{whole}:")
    assert main(["--replay", seed, "--trace"]) == 1
    again = capsys.readouterr().out
    assert f"seed {seed} breaks no_reader_is_cancelled: reader" in again
    assert " s  main " in again


@pytest.mark.slow
def test_the_result_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "3", "--jobs", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"seeds": 3, "invariant": "", "message": ""}
    monkeypatch.setattr(checking, "broken", lambda run: [("nothing_is_right", "as ever")])
    assert main(["--seeds", "3", "--first", "8", "--jobs", "1", "--json", "--stop"]) == 1
    assert json.loads(capsys.readouterr().out) == {"seeds": 1, "invariant": "nothing_is_right", "message": "as ever"}
