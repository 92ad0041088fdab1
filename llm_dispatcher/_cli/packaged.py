"""Files of the repository that an installed package brings along (`force-include` in pyproject.toml)."""

from __future__ import annotations

from pathlib import Path


def packaged_file(name: str) -> Path:
    """A file by its path in the repository, such as `docs/survival.md`: the packaged copy, else the file itself."""
    copy = Path(__file__).parent / "files" / Path(name).name
    return copy if copy.exists() else Path(__file__).parents[2] / name
