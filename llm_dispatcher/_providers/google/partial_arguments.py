"""Assembling a tool call's arguments from Google's `partialArgs`: values in pieces, each with its path."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, Final

from msgspec import Struct

from ...exceptions import ProviderProtocolError

_STEP: Final = re.compile(r"""\.([^.\[\]]+)|\[(\d+)\]|\['([^']*)'\]|\["([^"]*)"\]""")


class PartialArgument(Struct, rename="camel"):
    """A value, or a piece of a string."""

    json_path: str = ""
    string_value: str | None = None
    number_value: float | None = None
    bool_value: bool | None = None


class PartialArguments:
    """The arguments so far."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}

    def add(self, part: PartialArgument) -> None:
        at: Any = self.value
        steps = _steps(part.json_path)
        for step, following in pairwise(steps):
            at = _entered(at, step, [] if isinstance(following, int) else {})
        if part.string_value is None:
            number = part.number_value
            whole = int(number) if number is not None and number.is_integer() else number
            _put(at, steps[-1], part.bool_value if number is None else whole)
        else:
            before = _item(at, steps[-1])
            _put(at, steps[-1], (before if isinstance(before, str) else "") + part.string_value)


def _steps(path: str) -> list[str | int]:
    """The steps of a path such as `$.orders[0].name`."""
    steps: list[str | int] = []
    at = 1
    while path.startswith("$") and (step := _STEP.match(path, at)):
        at = step.end()
        name, index, *quoted = step.groups()
        steps.append(int(index) if index is not None else name or quoted[0] or quoted[1] or "")
    if not steps or at != len(path):
        raise ProviderProtocolError("the vendor sent a tool call's argument without a path that can be followed")
    return steps


def _item(at: Any, step: str | int) -> Any:
    if isinstance(step, str) and isinstance(at, dict):
        return at.get(step)
    if isinstance(step, int) and isinstance(at, list) and step <= len(at):
        return at[step] if step < len(at) else None
    raise ProviderProtocolError("the vendor sent a tool call's arguments that contradict each other")


def _put(at: Any, step: str | int, value: Any) -> None:
    _item(at, step)
    if isinstance(step, int) and step == len(at):
        at.append(value)
    else:
        at[step] = value


def _entered(at: Any, step: str | int, empty: dict[str, Any] | list[Any]) -> Any:
    """The object or list at a step, created if it is missing."""
    inside = _item(at, step)
    if inside is None:
        inside = empty
        _put(at, step, inside)
    return inside
