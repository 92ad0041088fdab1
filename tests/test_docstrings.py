"""What a person reads in `help()` and in the reference is complete: CONTRIBUTING.md, "Docstrings", has the rules."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import FunctionType
from typing import Any, Final, NamedTuple

import pytest

import llm_dispatcher

MODULES: Final = (
    "cache",
    "events",
    "exceptions",
    "provider",
    "pytest_plugin",
    "streaming",
    "tasks",
    "testing",
    "testing.faults",
)
FEW: Final = 2
"""So many parameters explain themselves by their names."""

BLOCKING: Final = {"run_in_background", "_refuse_to_block"}
"""A function that calls one of these says from which thread or loop it may be called."""


class Documented(NamedTuple):
    """A public function, and all that is said of it: of a constructor, also what its class says."""

    name: str
    function: FunctionType
    text: str

    def parameters(self) -> list[str]:
        """Those that a caller passes; settings that are unpacked from a type are documented there."""
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        every = inspect.signature(self.function).parameters.values()
        return [each.name for each in every if each.kind not in kinds and each.name not in ("self", "cls")]

    def tree(self) -> ast.AST:
        return ast.parse(textwrap.dedent(inspect.getsource(self.function)))


def classes_and_functions() -> Iterator[tuple[str, Any]]:
    """Everything that the public modules show, once."""
    seen = set()
    for module in (llm_dispatcher, *(importlib.import_module(f"llm_dispatcher.{name}") for name in MODULES)):
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        for name in getattr(module, "__all__", None) or own:
            value = getattr(module, name)
            if isinstance(value, (type, FunctionType)) and not name.startswith("_") and value not in seen:
                seen.add(value)
                yield name, value


def documented() -> Iterator[Documented]:
    """Each public function, method and constructor."""
    for name, value in classes_and_functions():
        if isinstance(value, FunctionType):
            yield Documented(name, value, inspect.getdoc(value) or "")
            continue
        for attribute, found in vars(value).items():
            function = getattr(found, "__func__", found)
            is_public = attribute in ("__init__", "__call__") or not attribute.startswith("_")
            if isinstance(function, FunctionType) and is_public and function.__module__.startswith("llm_dispatcher"):
                text = inspect.getdoc(function) or "" if function.__doc__ else ""
                if attribute in ("__init__", "__call__"):
                    text = f"{inspect.getdoc(value) or ''}\n\n{text}"
                yield Documented(f"{name}.{attribute}", function, text)


PUBLIC: Final = list(documented())


def section(text: str, title: str) -> str:
    """The indented lines below `title:`."""
    found = re.search(rf"^{title}:\n((?:[ \t]+.*\n?|\n)*)", text, re.MULTILINE)
    return found[1] if found else ""


def without_text() -> set[str]:
    silent = {name for name, value in classes_and_functions() if not value.__doc__}
    return silent | {each.name for each in PUBLIC if not each.text.strip()}


def without_parameters() -> set[str]:
    wanting = set()
    for each in PUBLIC:
        described = section(each.text, "Args") + section(each.text, "Options")
        told = set(re.findall(r"^\s+(\w+):", described, re.MULTILINE))
        if len(each.parameters()) > FEW and not set(each.parameters()) <= told:
            wanting.add(each.name)
    return wanting


def without_errors() -> set[str]:
    """Errors that the function's own code raises; those of what it calls are where they are raised."""
    wanting = set()
    for each in PUBLIC:
        for node in ast.walk(each.tree()):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                error = node.exc.func.id
                if not error.startswith("_") and error not in section(each.text, "Raises"):
                    wanting.add(each.name)
    return wanting


def without_a_thread() -> set[str]:
    wanting = set()
    for each in PUBLIC:
        called = {
            node.func.id
            for node in ast.walk(each.tree())
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        if called & BLOCKING and not re.search(r"\b(thread|event loop|loop)\b", each.text):
            wanting.add(each.name)
    return wanting


RULES: Final = {
    "every public name has a docstring": without_text,
    "more than two parameters are documented under Args": without_parameters,
    "errors that are raised are named under Raises": without_errors,
    "a function that blocks says which thread or loop may call it": without_a_thread,
}


@pytest.mark.parametrize("rule", RULES)
def test_public_docstrings_are_complete(rule: str) -> None:
    assert RULES[rule]() == set()


def test_the_rules_look_at_what_they_should() -> None:
    """A rule that sees nothing would hold for ever."""
    names = {each.name for each in PUBLIC}
    assert {"LLM.__call__", "LLMSwitch.stream_request", "LLMStream.result", "init", "StreamingCache.__init__"} <= names
    assert (
        section("Say it.\n\nArgs:\n    name: Of what.\n\nRaises:\n    LookupError: No.\n", "Args")
        == "    name: Of what.\n\n"
    )
    result = next(each for each in PUBLIC if each.name == "LLMStream.result")
    assert "thread" in result.text
