"""The house itself: what importing it costs, what it names, and that tests stay on this machine."""

from __future__ import annotations

import ast
import asyncio
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import llm_dispatcher

PACKAGE = Path(llm_dispatcher.__file__).parent
SDKS = ("openai", "anthropic", "google", "aiohttp", "httpx2")
HEAVY = (*SDKS, "pydantic", "rich", "typer", "yaml", "genai_prices", "rapidfuzz", "cachetools")

OPTIONAL = {"pytest", "click", "gevent"}
"""Imported where somebody else has brought them."""

DECORATE = """
import sys
from llm_dispatcher import llm_stream, TaskType
@llm_stream(task_type=TaskType.TEXT_GENERATION)
async def story(topic: str) -> str:
    return topic
story("foxes") if False else None
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_every_public_name_is_there() -> None:
    for name in llm_dispatcher.__all__:
        assert getattr(llm_dispatcher, name) is not None
    assert set(llm_dispatcher.__all__) <= set(dir(llm_dispatcher))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = llm_dispatcher.nothing


@pytest.mark.found("N-C17")
def test_every_public_name_is_listed_and_importable() -> None:
    code = "import llm_dispatcher as it; print(*[name for name in dir(it) if hasattr(it, name)])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"__version__", "exceptions", "events", "tasks", "testing", "streaming", "cache", "provider"} <= set(shown)
    assert set(llm_dispatcher.__all__) <= set(shown)


@pytest.mark.found("N-C17")
def test_every_package_that_is_imported_is_declared() -> None:
    """Beside what the extras are for: the tests' own plugin, and a notebook's."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\[<>=]", dependency)[0].lower() for dependency in project["dependencies"]}
    imported = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.partition(".")[0])
    named = {"google": "google-genai", "yaml": "pyyaml", "pydantic_core": "pydantic"}
    outside = imported - sys.stdlib_module_names - {"llm_dispatcher"} - OPTIONAL
    assert {named.get(name, name).replace("_", "-") for name in outside} <= declared


def test_decorating_a_function_loads_nothing_heavy() -> None:
    loaded = subprocess.run([sys.executable, "-c", DECORATE], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & set(HEAVY)


@pytest.mark.parametrize(
    "module",
    [
        "llm_dispatcher",
        "llm_dispatcher.streaming",
        "llm_dispatcher.exceptions",
        "llm_dispatcher.pytest_plugin",
    ],
)
def test_fixed_import_paths_are_light(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)


PUBLIC = {
    "__main__", "cache", "events", "exceptions", "notices", "provider", "provider.kit", "pytest_plugin", "streaming",
    "tasks", "testing", "testing.faults",
}  # fmt: skip
"""The modules that an application may import. Every other module, or a package that it is in, begins with `_`.

See docs/decisions/0034.
"""


def test_only_the_documented_modules_are_public() -> None:
    modules = [path.relative_to(PACKAGE).with_suffix("").parts for path in PACKAGE.rglob("*.py")]
    names = {".".join(part for part in parts if part != "__init__") for parts in modules}
    public = {name for name in names - {""} if not any(re.match("_(?!_)", part) for part in name.split("."))}
    assert public == PUBLIC


_SOURCES = {"time", "random", "secrets", "uuid"}
_MOMENTS = {"now", "utcnow", "today", "urandom", "getrandom"}
"""What `datetime`, `date` and `os` offer besides these modules."""


def sources_in(code: str) -> list[str]:
    """Where a module takes time or randomness from elsewhere than `_clock`."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name in _SOURCES]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [node.module or ""] if node.module in _SOURCES else []
            found += [name.name for name in node.names if node.module == "os" and name.name in _MOMENTS]
            found += [name.name for name in node.names if node.module == "datetime" and name.asname is not None]
        elif isinstance(node, ast.Attribute) and node.attr in _MOMENTS:
            owner = ast.unparse(node.value).rpartition(".")[2]
            found += [ast.unparse(node)] if owner in ("datetime", "date", "os") else []
    return found


def test_only_the_clock_reads_time_and_makes_random_numbers() -> None:
    """`real_world.py` imports these modules to replace what is in them while a simulation runs."""
    allowed = ("_clock.py", "real_world.py")
    elsewhere = {path.name: sources_in(path.read_text()) for path in PACKAGE.rglob("*.py") if path.name not in allowed}
    assert {name: found for name, found in elsewhere.items() if found} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import time", "from time import monotonic", "def f():\n    from random import uniform", "import os, secrets",
        "datetime.now(UTC)", "f = datetime.datetime.utcnow", "date.today()", "os.urandom(8)", "from os import urandom",
        "from datetime import datetime as moment",
    ],
)  # fmt: skip
def test_another_source_of_time_or_randomness_is_noticed(code: str) -> None:
    assert sources_in(code)


def test_files_hold_one_idea() -> None:
    long = {path.name: lines for path in PACKAGE.rglob("*.py") if (lines := len(path.read_text().splitlines())) > 400}
    assert long == {}


def test_each_file_says_what_it_is_for() -> None:
    silent = [
        path.name for path in PACKAGE.rglob("*.py") if path.stat().st_size and not path.read_text().startswith('"""')
    ]
    assert silent == []


async def test_no_test_reaches_beyond_this_machine() -> None:
    with pytest.raises(RuntimeError, match="connect to"):
        await asyncio.open_connection("192.0.2.1", 80)
    with socket.socket() as plug, pytest.raises(RuntimeError, match="connect to"):
        plug.connect(("198.51.100.7", 443))
    with pytest.raises(RuntimeError, match="look-up of"):
        socket.getaddrinfo("example.org", 443)
