"""Storeys above import the policy's types; that must not load what only reading a file needs."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["llm_dispatcher._config", "llm_dispatcher._policy"])
def test_importing_the_policy_imports_neither_pydantic_nor_yaml(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'pydantic', 'pydantic_settings', 'yaml'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_loading_a_configuration_imports_them() -> None:
    """So that the test above cannot pass for looking at the wrong names."""
    code = (
        "import sys; from llm_dispatcher._config import load;"
        "load({'providers': {'ollama': {'models': ['m']}}}, environ={});"
        "print({'pydantic', 'pydantic_settings', 'yaml'} <= set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True"
