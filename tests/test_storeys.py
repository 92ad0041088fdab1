"""No import gets round the storeys of `pyproject.toml`.

import-linter holds the imports that it sees. It does not see an import for type checkers only, `import_module("…")`, or
a name taken from the package itself, which `__getattr__` in `llm_dispatcher/__init__` fetches from any storey. Here all
of these count as imports of the module that they lead to.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

import pytest

import llm_dispatcher

ROOT = "llm_dispatcher"
PACKAGE = Path(llm_dispatcher.__file__).parent
CONTRACTS = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
MODULES = {
    ".".join([ROOT, *(part for part in path.relative_to(PACKAGE).with_suffix("").parts if part != "__init__")]): path
    for path in PACKAGE.rglob("*.py")
}


@cache
def imports_of(module: str) -> tuple[str, ...]:
    """The modules of ours that one of them imports."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    return tuple(imports_in(MODULES[module].read_text(), package))


def imports_in(code: str, package: str) -> Iterator[str]:
    """The modules of ours that a module in this package imports, wherever in its code, and by whatever means."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == ROOT)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            if source.split(".")[0] == ROOT:
                yield from (_home(source, name.name) for name in node.names if name.name != "__version__")
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = str(node.args[0].value)
            if ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
                name = resolve_name(name, package) if name.startswith(".") else name
                yield from [name] * (name.split(".")[0] == ROOT)


def _home(source: str, name: str) -> str:
    """The module that `from source import name` leads to."""
    if f"{source}.{name}" in MODULES:
        return f"{source}.{name}"
    if source == ROOT and name in llm_dispatcher._HOMES:
        return f"{ROOT}.{llm_dispatcher._HOMES[name]}"
    return source


def breach(importer: str, imported: str) -> str | None:
    """The contract that this import breaks. The package itself is no module of any storey."""
    if imported == ROOT:
        return "only applications import the package itself"
    for contract in CONTRACTS:
        if f"{importer} -> {imported}" in contract.get("ignore_imports", ()):
            continue
        if contract["type"] == "layers" and _goes_up(contract, importer, imported):
            return str(contract["name"])
        sources, forbidden = contract.get("source_modules", ()), contract.get("forbidden_modules", ())
        if _is_in(importer, sources) and _is_in(imported, [each for each in forbidden if each.startswith(ROOT)]):
            return str(contract["name"])
        protected, allowed = contract.get("protected_modules", ()), contract.get("allowed_importers", ())
        if _is_in(imported, protected) and not _is_in(importer, [*allowed, *protected]):
            return str(contract["name"])
    return None


@cache
def _storeys(layers: tuple[str, ...]) -> dict[str, int]:
    """The height of each room."""
    return {
        room.strip(" ()"): height
        for height, storey in enumerate(reversed(layers))
        for room in storey.replace(":", "|").split("|")
    }


def _goes_up(contract: dict[str, Any], importer: str, imported: str) -> bool:
    storeys = _storeys(tuple(contract["layers"]))
    for container in contract.get("containers", ()):
        here, there = (_room(module, container) for module in (importer, imported))
        if here in storeys and there in storeys and here != there and storeys[there] >= storeys[here]:
            return True
    return False


def _room(module: str, container: str) -> str | None:
    return module.removeprefix(f"{container}.").split(".")[0] if module.startswith(f"{container}.") else None


def _is_in(module: str, packages: list[str]) -> bool:
    return any(fnmatchcase(module, package) or fnmatchcase(module, f"{package}.*") for package in packages)


def breaches(importer: str, imports: Iterable[str]) -> list[tuple[str, str]]:
    """The imports of a module that break a contract, and the contract. `llm_dispatcher/__init__` only names things."""
    found = [(imported, breach(importer, imported)) for imported in imports]
    return [(imported, name) for imported, name in found if name is not None]


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {ROOT}))
def test_no_import_gets_round_the_storeys(module: str) -> None:
    assert breaches(module, imports_of(module)) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        module: {each for each in imports_of(module) if each in MODULES} - {module, ROOT}
        for module in MODULES
        if module != ROOT
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)  # or a CycleError shows the circle


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("streaming._reader", "def f():\n    from .._routing import plan"),
        ("streaming._reader", "if TYPE_CHECKING:\n    from .._serving.switch import LLMSwitch"),
        ("streaming._reader", "def f():\n    from llm_dispatcher import LLMSwitch"),
        ("streaming._reader", "from .. import LLM"),
        ("streaming._reader", "from .. import _routing"),
        ("streaming._reader", "import_module('llm_dispatcher._dispatch.loop')"),
        ("streaming._reader", "importlib.import_module('.._dispatch', 'anything')"),
        ("_cli.stream", "import llm_dispatcher"),
        ("_routing.plan", "import llm_dispatcher._dispatch.loop"),  # the same storey
        ("testing._player", "def f():\n    from llm_dispatcher import LLMSwitch"),
        ("_dispatch.loop", "if TYPE_CHECKING:\n    from ..testing import Reply"),
        ("_policy", "from .events import Event"),
    ],
)
def test_an_import_that_goes_up_is_noticed(module: str, code: str) -> None:
    module = f"{ROOT}.{module}"
    assert breaches(module, imports_in(code, module.rpartition(".")[0]))


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("_serving.switch", "def f():\n    from ..streaming._reader import Reader"),
        ("streaming._reader", "from ._account import Account"),
        ("_cli.stream", "from .. import __version__\nfrom ..testing import Reply"),
        ("testing._player", "from .. import _clock\nfrom . import faults"),
    ],
)
def test_an_import_that_goes_down_is_not(module: str, code: str) -> None:
    module = f"{ROOT}.{module}"
    assert breaches(module, imports_in(code, module.rpartition(".")[0])) == []
