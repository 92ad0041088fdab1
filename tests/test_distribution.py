"""The name under which this is installed, its one version, and the other project that has the same import name."""

from __future__ import annotations

import re
import sys
import tomllib
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest

import llm_dispatcher
from llm_dispatcher import LLMSwitch
from llm_dispatcher._distribution import DISTRIBUTION, OTHER, warn_of_the_other

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
POLICY = {"providers": {"openai": {"api_key": "test-key", "models": ["m"]}}}


@pytest.fixture(autouse=True)
def _not_warned_yet() -> None:
    warn_of_the_other.cache_clear()


def install(folder: Path, *files: str) -> None:
    """What pip leaves in a folder of installed packages."""
    about = folder / "llm_dispatcher-1.0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {OTHER}\nVersion: 1.0.0\n")
    (about / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def test_the_first_switch_warns_of_the_other_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "llm_dispatcher/__init__.py", "llm_dispatcher/core/base.py")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with warnings.catch_warnings(record=True, action="always") as seen:
        LLMSwitch(POLICY)
        LLMSwitch(POLICY)
    (warning,) = seen
    assert warning.category is RuntimeWarning
    assert str(warning.message) == (
        "llm-dispatcher 1.0.0, another project with the same import name, is installed beside llm-stream-dispatcher: "
        "both write the folder llm_dispatcher, so that files of one are missing or are the other's; "
        "run: pip uninstall llm-dispatcher llm-stream-dispatcher, then install llm-stream-dispatcher again"
    )
    assert warning.filename == __file__, "it is shown at the line that makes the switch"


@pytest.mark.parametrize("files", [(), ("_editable_impl_llm_dispatcher.pth", "llm_dispatcher/cli/files/demo.yaml")])
def test_a_checkout_installed_under_the_former_name_is_not_another_project(
    files: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if files:
        install(tmp_path, *files)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LLMSwitch(POLICY)


def test_the_version_is_written_once() -> None:
    project = PYPROJECT["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["hatch"]["version"] == {"path": "llm_dispatcher/__init__.py"}
    written = re.findall(
        r'^__version__ = "(\d+\.\d+\.\d+)"$', (ROOT / "llm_dispatcher" / "__init__.py").read_text(), re.MULTILINE
    )
    assert written == [llm_dispatcher.__version__]


def test_what_is_installed_has_the_name_and_the_version_of_the_source() -> None:
    """If not: `make test` installs this checkout again."""
    assert PYPROJECT["project"]["name"] == DISTRIBUTION
    assert version(DISTRIBUTION) == llm_dispatcher.__version__


def test_classifiers_and_workflow_name_the_same_pythons() -> None:
    classified = re.findall(r"Python :: (3\.\d+)", " ".join(PYPROJECT["project"]["classifiers"]))
    matrix = re.search(r"python: \[(.*)\]", (ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert matrix is not None
    assert classified == re.findall(r"3\.\d+", matrix[1])
    assert PYPROJECT["project"]["requires-python"] == f">={classified[0]}"
