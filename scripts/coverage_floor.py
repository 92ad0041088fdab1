"""Compare the branches that the tests have taken with the floor in pyproject.toml, and show each room of the package.

python scripts/coverage_floor.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "llm_dispatcher"


def floor() -> float:
    """The share of branches, in per cent, that has to be reached."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    return float(tool["coverage"]["report"]["fail_under"])


def measured() -> dict[str, dict[str, int]]:
    """Each file's counts, out of what the processes of the tests have written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        coverage = [sys.executable, "-m", "coverage"]
        subprocess.run([*coverage, "combine", "--quiet"], cwd=ROOT, check=False)  # (nothing to combine if it was done)
        subprocess.run([*coverage, "json", "--quiet", "--fail-under=0", "-o", str(path)], cwd=ROOT, check=True)
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
    return {name: each["summary"] for name, each in files.items()}


def room(file: str) -> str:
    """The folder of a file below the package, or the file itself."""
    return Path(file).relative_to(PACKAGE).parts[0]


def report(files: dict[str, dict[str, int]], wanted: float) -> tuple[list[str], bool]:
    """A line for each room and one for all of them; whether the floor is reached."""
    taken: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for file, counts in files.items():
        taken[room(file)] += counts["covered_branches"]
        there[room(file)] += counts["num_branches"]
    lines = []
    for name in sorted(there, key=lambda name: taken[name] / (there[name] or 1)):
        if there[name]:
            share = 100 * taken[name] / there[name]
            lines.append(f"{share:6.1f} %  {name} ({there[name] - taken[name]} of {there[name]} branches not taken)")
    total = 100 * taken.total() / (there.total() or 1)
    lines.append(f"{total:6.1f} %  of all branches are taken by the tests; the floor is {wanted:g} %")
    return lines, total >= wanted


if __name__ == "__main__":
    shown, is_reached = report(measured(), floor())
    sys.stdout.write("\n".join(shown) + "\n")
    sys.exit(not is_reached)
