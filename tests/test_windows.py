"""What would break on Windows, tried here: the modules that it lacks are blocked, and its event loop is imitated."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import llm_dispatcher
from llm_dispatcher.testing import Reply, SimulatedVendor
from tests.conftest import KINDS, first_is_fast

PACKAGE: Final = Path(llm_dispatcher.__file__).parent
POSIX_ONLY: Final = (
    "curses", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog",
    "termios", "tty",
)  # fmt: skip
WINDOWS: Final = """
import asyncio, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None  # importing it is an ImportError
def not_implemented(*_):
    raise NotImplementedError
for name in ("add_reader", "add_signal_handler"):  # what Windows' usual event loop does not have
    setattr(asyncio.SelectorEventLoop, name, not_implemented)
"""


def run(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own that looks like Windows."""
    return subprocess.run(
        [sys.executable, "-c", WINDOWS + code, *arguments], capture_output=True, text=True, check=False, **options
    )


def imported_at_once(tree: ast.Module) -> Iterator[str]:
    """Modules whose import is part of importing this one, and is not guarded by a `try`."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.Try)):
            pending.extend(ast.iter_child_nodes(node))


@pytest.mark.found("N-A1", "H-4")
def test_no_module_imports_a_posix_only_module_at_import() -> None:
    may_import = re.compile(rf"\b(import|from)\b.*\b({'|'.join(POSIX_ONLY)})\b")
    needs = {
        path.relative_to(PACKAGE).as_posix(): sorted(names)
        for path in PACKAGE.rglob("*.py")
        if may_import.search(code := path.read_text())  # to parse them all takes half a second
        and (names := set(imported_at_once(ast.parse(code))) & set(POSIX_ONLY))
    }
    assert needs == {}


@pytest.mark.found("N-A1")
def test_our_plugin_lets_the_tests_of_another_project_run(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_theirs.py").write_text("def test_theirs():\n    pass\n")
    code = """
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "llm_dispatcher.pytest_plugin", "test_theirs.py"]))
"""
    others = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # those of other projects, which take most of the time
    done = run(code, cwd=tmp_path, env={**os.environ, **others})
    assert done.returncode == 0, done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.found("N-A1")
def test_our_plugin_loads_nothing_of_ours_that_another_project_does_not_use() -> None:
    code = "import sys, llm_dispatcher.pytest_plugin; print(*(m for m in sys.modules if 'llm_dispatcher' in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {
        "llm_dispatcher", "llm_dispatcher.pytest_plugin", "llm_dispatcher.pytest_plugin._fixtures",
        "llm_dispatcher.pytest_plugin._simulated_tests",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.found("N-A1", "H-4")
@pytest.mark.parametrize("wire", first_is_fast("ollama", "openai-chat"))
def test_a_simulated_vendor_breaks_an_answer_and_another_continues_it(wire: str) -> None:
    code = """
import json
from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher.testing import Continuing, Cut, Reply, SimulatedVendor
text = "One two three four."
broken = SimulatedVendor(sys.argv[1], Reply(text, fault=Cut(2)))
with broken as a, SimulatedVendor("ollama", Continuing(text)) as b:
    switch = LLMSwitch({"providers": {
        "a": {**json.loads(sys.argv[2]), "api_key": "test-key", "base_url": a.base_url, "models": ["m"]},
        "b": {"kind": "ollama", "base_url": b.base_url, "models": ["m"]},
    }, "routing": {"default": ["a/m", "b/m"]}, "resilience": {"max_retries": 0}})
    print("".join(switch.stream_request(TaskRequest("Count."))))
"""
    done = run(code, wire, json.dumps(KINDS[wire]))
    assert (done.stdout, done.stderr) == ("One two three four.\n", "")


@pytest.mark.slow
@pytest.mark.found("N-A1")
def test_the_command_writes_an_answer_into_a_pipe(simulated_vendor: Callable[..., SimulatedVendor]) -> None:
    vendor = simulated_vendor("ollama", Reply("One two three."))
    policy = json.dumps({"providers": {"a": {"kind": "ollama", "base_url": vendor.base_url, "models": ["m"]}}})
    code = """
import os, tempfile
from llm_dispatcher._cli import main
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "policy.yaml")
    with open(path, "w") as file:
        file.write(sys.argv.pop())
    sys.argv[1:] = ["stream", "--quiet", "--config", path, "Count."]
    main()
"""
    done = run(code, policy)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "One two three.", "")


@pytest.mark.found("N-A1")
def test_a_simulated_vendor_of_the_command_ends_when_its_standard_input_closes() -> None:
    code = """
from llm_dispatcher._cli import main
sys.argv[1:] = ["simulate", "--wire", "ollama", "--until-stdin-closes"]
main()
"""
    done = run(code, input="")
    assert (done.returncode, done.stderr) == (0, "")
    assert "base_url" in done.stdout


@pytest.mark.found("N-A1")
def test_a_system_without_time_zones_is_told_what_to_install() -> None:
    code = """
sys.modules["tzdata"] = None
from llm_dispatcher import LLMSwitch
from llm_dispatcher.exceptions import ConfigurationError
try:
    LLMSwitch({"providers": {"openai": {"api_key": "x"}}, "budgets": {"time_zone": "Europe/Berlin"}})
except ConfigurationError as error:
    print(error)
"""
    done = run(code, env={**os.environ, "PYTHONTZPATH": ""})
    assert re.search("budgets.time_zone: .* no time zones: `pip install tzdata`", done.stdout), (
        done.stdout + done.stderr
    )
