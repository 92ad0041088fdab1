"""A tree judged by the settings' shape: the settings, or every mistake in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .._hints import did_you_mean, nearest_or_all
from .._redaction import loggable
from .models import Settings
from .problems import Problem
from .schema import names_at, values_at
from .tree import KeyPath, Tree, child

_WANTED: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_or_mapping": "a list or a mapping",
}
_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
}
_TAGS: Final = ("list", "mapping")


def judged(tree: Tree) -> Settings | list[Problem]:
    """The settings that a tree describes, or everything that is wrong with it."""
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
    return [_problem(mistake, tree) for mistake in mistakes]


def _problem(mistake: ErrorDetails, tree: Tree) -> Problem:
    path = _path(mistake["loc"], tree)
    return Problem(path, loggable(_words(mistake, path)))


def _path(location: tuple[int | str, ...], tree: Tree) -> KeyPath:
    """pydantic's location without what is none of the user's keys: the tags of alternatives and `[key]`."""
    path: list[int | str] = []
    value: object = tree
    for part in location:
        try:
            value = child(value, part)
        except LookupError:
            if part == "[key]" or part in _TAGS:
                continue
        path.append(part)
    return tuple(path)


def _words(mistake: ErrorDetails, path: KeyPath) -> str:
    """What is wrong, without the value unless it is a number or a word of ours: others may be secret."""
    kind, given, context = mistake["type"], mistake["input"], mistake.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key{nearest_or_all(str(path[-1]), names_at(path[:-1]))}"
    if kind == "missing":
        return "is missing"
    if kind == "float_type" and isinstance(given, int) and not isinstance(given, bool):
        return "is out of range"
    if kind == "finite_number":
        return "must be a finite number"
    if kind == "int_type" and isinstance(given, float):
        return f"must be a whole number, got {given}"
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}, got {_called(given)}{_how_to_write(kind, given)}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"must be {words} {context[bound]:g}, got {given}"
    if kind == "enum":
        return f"unknown task type{nearest_or_all(str(given), names_at(path[:-1]))}"
    if kind == "literal_error":
        allowed = values_at(path)
        got = f"{given!r}{did_you_mean(given, allowed)}" if isinstance(given, str) else _called(given)
        return f"must be one of {', '.join(allowed)}; got {got}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    return mistake["msg"]


def _how_to_write(kind: str, given: object) -> str:
    """A hint to end a message with, where brackets or quotes are all that is missing."""
    if kind == "string_type" and given is not None and not isinstance(given, (dict, list)):
        return "; put it in quotes"
    if kind in ("list_type", "list_or_mapping") and isinstance(given, str):
        return '; a list is written ["…"]'
    return ""


def _called(value: object) -> str:
    """What a value is called in YAML."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case date():
            return "a date"
        case _:
            return type(value).__name__
