"""Compare the branches that the tests take with the floor in pyproject.toml, and show each room of the package.

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
    """Each file's counts, combined from the data files of all test processes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        coverage = [sys.executable, "-m", "coverage"]
        subprocess.run([*coverage, "combine", "--quiet"], cwd=ROOT, check=False)  # fails if there is nothing to combine
        subprocess.run([*coverage, "json", "--quiet", "--fail-under=0", "-o", str(path)], cwd=ROOT, check=True)
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
    return {name: each["summary"] for name, each in files.items()}


def room(file: str) -> str:
    """The folder of a file below the package, or the file itself."""
    return Path(file).relative_to(PACKAGE).parts[0]


def report(files: dict[str, dict[str, int]], floor_percent: float) -> tuple[list[str], bool]:
    """A line for each room and one for all of them; whether the floor is reached."""
    covered: Counter[str] = Counter()
    branches: Counter[str] = Counter()
    for file, counts in files.items():
        covered[room(file)] += counts["covered_branches"]
        branches[room(file)] += counts["num_branches"]
    lines = []
    for name in sorted(branches, key=lambda name: covered[name] / (branches[name] or 1)):
        if branches[name]:
            share = 100 * covered[name] / branches[name]
            lines.append(
                f"{share:6.1f} %  {name} ({branches[name] - covered[name]} of {branches[name]} branches not taken)"
            )
    total = 100 * covered.total() / (branches.total() or 1)
    lines.append(f"{total:6.1f} %  of all branches are taken by the tests; the floor is {floor_percent:g} %")
    return lines, total >= floor_percent


if __name__ == "__main__":
    lines, is_reached = report(measured(), floor())
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(not is_reached)
