"""What the tests of the configuration share: a folder of their own to work in, and a way to load text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from llm_dispatcher._config import load
from llm_dispatcher._policy import Policy

FILE = "policy.yaml"


class LoadText(Protocol):
    """Write `policy.yaml` and load it, in an environment that holds nothing else."""

    def __call__(
        self, text: str | bytes, environ: Mapping[str, str] | None = None, keys: Mapping[str, str] | None = None
    ) -> Policy: ...


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def load_text() -> LoadText:
    def load_it(
        text: str | bytes, environ: Mapping[str, str] | None = None, keys: Mapping[str, str] | None = None
    ) -> Policy:
        Path(FILE).write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(FILE, environ=environ or {}, keys=keys)

    return load_it
