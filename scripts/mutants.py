"""Break the source in one place at a time, and see whether the tests notice: `make mutants`.

The mutations are data, in mutants.toml beside this file. Each is applied to a copy of the repository, alone, and its
tests run there as `make test` runs them. A mutation that the tests do not notice has survived: no test checks that rule
of the code. The exit status is 1 if one has survived, and 2 if something is wrong with the list: a text that is no
longer in its file, or tests that cannot be run or that fail without the mutation.

    python scripts/mutants.py                 all of them
    python scripts/mutants.py anchor breaker  mutations with one of these words in their name or file
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NoReturn, TypedDict

ROOT: Final = Path(__file__).resolve().parent.parent
LEFT_OUT: Final = (".*", "__pycache__", "site", "dist")
LONGEST: Final = 300
"""Seconds that the tests of one mutation may take. A mutation that makes them wait for ever is killed, too."""


class Mutant(TypedDict):
    name: str
    rule: str
    file: str
    old: str
    new: str
    tests: list[str]


def main(words: list[str]) -> int:
    mutants: list[Mutant] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["mutant"]
    selection = [each for each in mutants if not words or any(word in each["name"] + each["file"] for word in words)]
    if not selection:
        give_up(f"no mutation has one of these words in its name or file: {', '.join(words)}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for mutant in selection:  # check the whole list before any tests run
            mutated(copy, mutant)
        status, output = tests_pass(copy, sorted({test for mutant in selection for test in mutant["tests"]}))
        if status != 0:
            give_up(f"the tests fail without any mutation:\n{output}")
        survivors = [mutant for mutant in selection if survives(copy, mutant)]
    print(f"{len(selection) - len(survivors)} killed, {len(survivors)} survived")
    return 1 if survivors else 0


def survives(copy: Path, mutant: Mutant) -> bool:
    """Whether the tests of a mutation pass although it is applied."""
    file = copy / mutant["file"]
    before = file.read_text()
    file.write_text(mutated(copy, mutant))
    try:
        status, output = tests_pass(copy, mutant["tests"])
    finally:
        file.write_text(before)
    if status not in (0, 1):
        give_up(f"{mutant['name']}: its tests did not run (pytest's exit status is {status}):\n{output}")
    print(f"{'SURVIVED' if status == 0 else 'killed  '}  {mutant['name']}  ({mutant['file']})", flush=True)
    if status == 0:
        print(f"          the rule that no test checks: {mutant['rule']}", flush=True)
    return status == 0


def mutated(copy: Path, mutant: Mutant) -> str:
    """The text of the mutant's file with the mutation."""
    file = copy / mutant["file"]
    text = file.read_text() if file.exists() else ""
    count = text.count(mutant["old"])
    if count != 1:
        give_up(
            f"{mutant['name']}: its old text occurs {count} times in {mutant['file']}, and has to occur once; "
            f"change scripts/mutants.toml:\n{mutant['old']}"
        )
    return text.replace(mutant["old"], mutant["new"])


def tests_pass(copy: Path, tests: Iterable[str]) -> tuple[int, str]:
    """pytest's exit status and output."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, f"not over within {LONGEST} s"
    return run.returncode, run.stdout + run.stderr


def give_up(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
