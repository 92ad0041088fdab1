"""The scripts that hold a floor or a release back."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import llm_dispatcher

ROOT = Path(__file__).parents[1]
TAG = f"v{llm_dispatcher.__version__}"
REPOSITORY = "https://github.com/llm-dispatcher/llm-stream-dispatcher"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counts(taken: int, there: int) -> dict[str, int]:
    """A file's summary: whatever its lines are, its branches count."""
    return {"covered_branches": taken, "num_branches": there, "covered_lines": 100, "num_statements": 100}


@pytest.mark.parametrize(("taken", "is_reached"), [(95, True), (94, False)])
def test_the_floor_is_one_of_branches_over_all_rooms(taken: int, is_reached: bool) -> None:
    files = {
        "llm_dispatcher/_cli/a.py": counts(0, 2),
        "llm_dispatcher/_cli/demo/b.py": counts(0, 3),
        "llm_dispatcher/events.py": counts(taken, 95),
    }
    lines, reached = script("coverage_floor").report(files, 95)
    assert reached is is_reached
    assert lines[0] == "   0.0 %  _cli (5 of 5 branches not taken)", "the room with the fewest comes first"


def test_a_release_of_this_repository_wants_a_heading_in_the_changelog(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = script("release_check")
    (tmp_path / "llm_dispatcher").mkdir()
    for name in ("pyproject.toml", "llm_dispatcher/__init__.py"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert [line.partition(" ")[0] for line in module.problems(TAG, REPOSITORY)] == ["CHANGELOG.md"]
    (tmp_path / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## Unreleased\n\n## {llm_dispatcher.__version__} (2026-12-01)\n"
    )
    assert module.problems(TAG, REPOSITORY) == []
    assert len(module.problems("v9.9.9", REPOSITORY)) == 1
    assert {line.partition(" ")[0] for line in module.problems(TAG, "https://github.com/somebody/else")} == {
        f"project.urls.{name}" for name in ("Source", "Documentation", "Changelog", "Issues")
    }
