"""The user's tools: functions in files of Python, and the question whether one of them may run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

from ..._hints import nearest_or_all
from ..._serving.preparing import prepared_tools
from ..._tools import Deny, RunContext
from ...events import ToolCall
from ...exceptions import InvalidRequestError
from ...tasks import Tool
from ..printing import one_line
from .keyboard import Keyboard
from .screen import Screen, in_python

HOW: Final = "write --tool FILE:FUNCTION, as in --tool tools.py:weather"


def load_tools(references: Iterable[str]) -> tuple[Any, ...]:
    """The tools that these references, such as `tools.py:weather`, stand for. Each file is run once.

    Raises:
        InvalidRequestError: A file or a function is not there, fails, or cannot be a tool.
    """
    modules: dict[Path, ModuleType] = {}
    tools: list[Any] = []
    for reference in references:
        written, _, name = reference.rpartition(":")
        if not written.endswith(".py") or not name.isidentifier():
            raise InvalidRequestError(f"{reference}: this is not a tool: {HOW}")
        path = Path(written).expanduser().resolve()
        if path not in modules:
            modules[path] = _module(path, written, len(modules))
        found = vars(modules[path])
        if name not in found:
            functions = [each for each, value in found.items() if callable(value) and not each.startswith("_")]
            raise InvalidRequestError(f"{written} has no function {name!r}{nearest_or_all(name, functions)}")
        try:
            tools += prepared_tools([found[name]])
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(f"{reference}: {error}") from error
    return tuple(tools)


def _module(path: Path, written: str, number: int) -> ModuleType:
    """Run a file. It may import the files beside it."""
    if not path.is_file():
        raise InvalidRequestError(f"{written}: there is no such file: {HOW}")
    name = f"llm_dispatcher_tools_{number}_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # its name ends with .py
    module = module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks annotations up there
    if (folder := str(path.parent)) not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InvalidRequestError(f"{written} cannot be run: {type(error).__name__}: {error}") from error
    return module


class Approval:
    """A `tool_policy` that asks the user before some tools run."""

    def __init__(self, tools: Iterable[object], keyboard: Keyboard, screen: Screen) -> None:
        self._asked_for = {tool.name for tool in tools if isinstance(tool, Tool)}
        self._keyboard = keyboard
        self._screen = screen

    async def __call__(self, call: ToolCall, context: RunContext) -> Literal["run"] | Deny:
        """Ask about one call. Everything but yes refuses it, and other words are told to the model."""
        if call.name not in self._asked_for:
            return "run"
        if not self._keyboard.is_terminal:
            return Deny("This tool needs the user's approval, and nobody is at the keyboard.")
        question = f"run {one_line(in_python(call))}? [y]es, [n]o, [a]lways, or say why not: "
        with self._screen.without_spinner():
            answer = await self._keyboard.answer(question)
        match (answer or "").lower():
            case "y" | "yes":
                return "run"
            case "a" | "always":
                self._asked_for.discard(call.name)
                return "run"
            case "" | "n" | "no":
                return Deny("The user does not want this tool to run.")
            case _:
                return Deny(f"The user does not want this tool to run: {answer}")
