"""Break the source in one place at a time, and see whether the tests and the simulation notice: `make mutants`.

The mutations are data, in mutants.toml beside this file. Each is applied to a copy of the repository, alone, and its
tests run there as `make test` runs them. A mutation that the tests do not notice has survived: no test checks that rule
of the code.

The defects are data, too, in tests/simulation/defects.toml. Each is applied in the same way, and the simulation runs
there until a seed breaks an invariant. A defect that breaks none within 2,000 seeds is missed: no scenario leads to it,
or no invariant states its rule.

The exit status is 1 if a mutation has survived or a defect was missed. It is 2 if something is wrong with the lists: a
text that is no longer in its file, tests or seeds that fail without any change, or a run that ends in another error
than a failed test or a broken invariant.

    python scripts/mutants.py                 all of them
    python scripts/mutants.py anchor breaker  those with one of these words in their name or file
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, NoReturn, NotRequired, TypeAlias, TypedDict

ROOT: Final = Path(__file__).resolve().parent.parent
LEFT_OUT: Final = (".*", "__pycache__", "site", "dist")
LONGEST: Final = 300
"""Seconds that the tests of one mutation may take. A mutation that makes them wait for ever is killed, too."""
LONGEST_SEARCH: Final = 1_200
"""Seconds that the search for one defect may take."""
DEFECTS: Final = Path("tests/simulation/defects.toml")
SEEDS: Final = 2_000
"""Seeds within which the simulation has to find a defect."""
SOUND_SEEDS: Final = 50
"""Seeds that have to pass without any defect."""


class Mutant(TypedDict):
    name: str
    rule: str
    file: str
    old: str
    new: str
    tests: list[str]


class Defect(TypedDict):
    name: str
    rule: str
    file: str
    old: str
    new: str
    invariant: str
    ci: NotRequired[bool]


Change: TypeAlias = Mutant | Defect


class Search(NamedTuple):
    """What the simulation found in a copy: which invariant broke ("" if none did), and after how many seeds."""

    seeds: int
    invariant: str
    message: str


def main(words: list[str]) -> int:
    mutants: list[Mutant] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["mutant"]
    mutants = [mutant for mutant in mutants if is_meant(mutant, words)]
    defects = [defect for defect in all_defects() if is_meant(defect, words)]
    if not mutants and not defects:
        give_up(f"no mutation and no defect has one of these words in its name or file: {', '.join(words)}")
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        changes: list[Change] = [*mutants, *defects]
        for change in changes:  # check both lists before anything runs
            changed(copy, change)
        survivors = survivors_of(copy, mutants) if mutants else []
        missed = missed_by_simulation(copy, defects) if defects else []
    return 1 if survivors or missed else 0


def all_defects() -> list[Defect]:
    """The list of defects."""
    defects: list[Defect] = tomllib.loads((ROOT / DEFECTS).read_text())["defect"]
    return defects


def is_meant(change: Change, words: list[str]) -> bool:
    return not words or any(word in change["name"] + change["file"] for word in words)


def copied(folder: Path) -> Path:
    """A copy of the repository in this folder."""
    copy = folder / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return copy


@contextmanager
def applied(copy: Path, change: Change) -> Generator[None, None, None]:
    """Apply a change to the copy until the block ends."""
    file = copy / change["file"]
    before = file.read_text()
    file.write_text(changed(copy, change))
    try:
        yield
    finally:
        file.write_text(before)


def changed(copy: Path, change: Change) -> str:
    """The text of the change's file with the change."""
    file = copy / change["file"]
    text = file.read_text() if file.exists() else ""
    count = text.count(change["old"])
    if count != 1:
        source = DEFECTS if "invariant" in change else "scripts/mutants.toml"
        give_up(
            f"{change['name']}: its old text occurs {count} times in {change['file']}, and has to occur once; "
            f"change {source}:\n{change['old']}"
        )
    return text.replace(change["old"], change["new"])


# ── mutations, which tests kill ────────────────────────────────────────────────────────────────────────────────────


def survivors_of(copy: Path, mutants: list[Mutant]) -> list[Mutant]:
    """The mutations that their tests do not notice."""
    status, output = tests_pass(copy, sorted({test for mutant in mutants for test in mutant["tests"]}))
    if status != 0:
        give_up(f"the tests fail without any mutation:\n{output}")
    survivors = [mutant for mutant in mutants if survives(copy, mutant)]
    print(f"{len(mutants) - len(survivors)} killed, {len(survivors)} survived")
    return survivors


def survives(copy: Path, mutant: Mutant) -> bool:
    """Whether the tests of a mutation pass although it is applied."""
    with applied(copy, mutant):
        status, output = tests_pass(copy, mutant["tests"])
    if status not in (0, 1):
        give_up(f"{mutant['name']}: its tests did not run (pytest's exit status is {status}):\n{output}")
    print(f"{'SURVIVED' if status == 0 else 'killed  '}  {mutant['name']}  ({mutant['file']})", flush=True)
    if status == 0:
        print(f"          the rule that no test checks: {mutant['rule']}", flush=True)
    return status == 0


def tests_pass(copy: Path, tests: Iterable[str]) -> tuple[int, str]:
    """pytest's exit status and output."""
    try:
        run = python(copy, "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *tests, seconds=LONGEST)
    except subprocess.TimeoutExpired:
        return 1, f"not over within {LONGEST} s"
    return run.returncode, run.stdout + run.stderr


# ── defects, which the simulation finds ────────────────────────────────────────────────────────────────────────────


def missed_by_simulation(copy: Path, defects: list[Defect]) -> list[Defect]:
    """The defects that the simulation does not find."""
    sound = search(copy, SOUND_SEEDS)
    if sound.invariant:
        give_up(f"seed {sound.seeds} breaks {sound.invariant} without any defect: {sound.message}")
    missed = [defect for defect in defects if not is_found(copy, defect)]
    print(f"{len(defects) - len(missed)} found, {len(missed)} missed")
    return missed


def is_found(copy: Path, defect: Defect, seeds: int = SEEDS) -> bool:
    """Whether the simulation finds a defect within this many seeds."""
    began = time.monotonic()
    with applied(copy, defect):
        result = search(copy, seeds, because_of=f"{defect['name']}: ")
    seconds = time.monotonic() - began
    what = f"{result.seeds:5} seeds, {seconds:3.0f} s, {result.invariant}" if result.invariant else f"{defect['file']}"
    print(f"{'found   ' if result.invariant else 'MISSED  '}  {defect['name']}  ({what})", flush=True)
    if not result.invariant:
        print(f"          the rule that no seed breaks: {defect['rule']}", flush=True)
    return bool(result.invariant)


def search(copy: Path, seeds: int, because_of: str = "") -> Search:
    """Run the simulation in the copy until a seed breaks an invariant."""
    try:
        run = python(copy, "tests.simulation", "--seeds", str(seeds), "--stop", "--json", seconds=LONGEST_SEARCH)
    except subprocess.TimeoutExpired:
        give_up(f"{because_of}the simulation was not over within {LONGEST_SEARCH} s")
    lines = run.stdout.splitlines()
    if run.returncode not in (0, 1) or not lines:
        give_up(
            f"{because_of}the simulation did not run (its exit status is {run.returncode}):\n{run.stdout}{run.stderr}"
        )
    result = json.loads(lines[-1])
    return Search(result["seeds"], result["invariant"], result["message"])


def python(copy: Path, module: str, *arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a module in the copy, with the copy's code."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


def give_up(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
