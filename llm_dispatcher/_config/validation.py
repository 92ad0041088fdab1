"""Validation: a tree becomes `Settings`, or a list of problems in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .._hints import did_you_mean, nearest_or_all
from .._redaction import loggable
from .layers import Tree, child
from .models import Settings
from .problems import KeyPath, Problem
from .schema import names_at, values_at

_EXPECTED: Final[Mapping[str, str]] = {
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
_FOR_A_REQUEST: Final = "is for a whole request: write it under resilience, or under a route's resilience"
_FOR_ALL_ROUTES: Final = (
    "is the same for all routes: write it under resilience, or under a provider's or a model's resilience"
)
_MISPLACED: Final[Mapping[str, str]] = {
    "total": "is for a whole request: write it under resilience.timeouts, or under a route's resilience.timeouts",
    "fallback_enabled": _FOR_A_REQUEST,
    "on_break": _FOR_A_REQUEST,
    "on_unproven": _FOR_A_REQUEST,
    "durability": _FOR_ALL_ROUTES,
    "retry_budget": "is for a whole provider: write it under resilience, or under a provider's resilience",
}
"""Why a part of `resilience` cannot be set for a provider, a model or a route, and where it can."""
_INNER: Final = ("resilience", "timeouts", "limits", "breaker", "retry_budget")
_OUTER: Final = ("routing", "resilience")
_OPTIONS: Final = frozenset({"background", "token_ids", "quirks", "max_event_bytes", "api_version", "vertex"})
"""Some options of the kinds of this package. Each kind has its own, which its provider checks."""
_FEW: Final = 4
_UNION_TAGS: Final = ("list", "mapping")


def validated(tree: Tree) -> Settings | list[Problem]:
    """The settings that a tree describes, or all of its problems."""
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        details = error.errors(include_url=False)
    return [_problem(each, tree) for each in details]


def _problem(details: ErrorDetails, tree: Tree) -> Problem:
    path = _path(details["loc"], tree)
    return Problem(path, loggable(_message(details, path)))


def _path(location: tuple[int | str, ...], tree: Tree) -> KeyPath:
    """pydantic's location without union tags and `[key]`, which are not keys in the file."""
    path: list[int | str] = []
    value: object = tree
    for part in location:
        try:
            value = child(value, part)
        except LookupError:
            if part == "[key]" or part in _UNION_TAGS:
                continue
        path.append(part)
    return tuple(path)


def _message(details: ErrorDetails, path: KeyPath) -> str:
    """The problem in words. It quotes numbers and words of fixed lists only, because other values may be secret."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return (
            _misplaced(path) or _elsewhere(path) or f"unknown key{nearest_or_all(str(path[-1]), names_at(path[:-1]))}"
        )
    if kind == "missing":
        return "is missing"
    if kind == "float_type" and isinstance(value, int) and not isinstance(value, bool):
        return "is out of range"
    if kind == "finite_number":
        return "must be a finite number"
    if kind == "int_type" and isinstance(value, float):
        return f"must be a whole number, got {value}"
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, got {_type_name(value)}{_hint(kind, value, path)}"
    if kind in _BOUNDS:
        words, limit = _BOUNDS[kind]
        return f"must be {words} {context[limit]:g}, got {value}"
    if kind == "enum":
        return f"unknown task type{nearest_or_all(str(value), names_at(path[:-1]))}"
    if kind == "literal_error":
        choices = values_at(path)
        actual = f"{value!r}{did_you_mean(value, choices)}" if isinstance(value, str) else _type_name(value)
        return f"must be one of {', '.join(choices)}; got {actual}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    return details["msg"]


def _misplaced(path: KeyPath) -> str | None:
    """The problem of a key that `resilience` has, but that the `resilience` at this level does not."""
    if "resilience" not in path[1:-1]:
        return None
    key, section = str(path[-1]), path[path.index("resilience") : -1]
    return _MISPLACED.get(key) if key in names_at(section) else None


def _elsewhere(path: KeyPath) -> str | None:
    """The problem of a key that a section below this one has, or another section of the file."""
    key, level = str(path[-1]), path[:-1]
    if key in _OPTIONS:
        is_beside = level[:1] == ("providers",) and len(level) == 2
        return (
            f"is an option{'' if is_beside else ' of a provider'}: write it under {'' if is_beside else 'its '}options"
        )
    if key == "options" and level[:1] == ("providers",) and len(level) > 2:
        return f"is for a whole provider: write it under {'.'.join(map(str, level[:2]))}"
    for section in _INNER:
        if section in names_at(level) and key in names_at((*level, section)):
            return f"is not a key here: write it under {'.'.join(map(str, (*level, section)))}"
    for section in _OUTER:
        if level[:1] != (section,) and key in names_at((section,)):
            return f"is not a key here: write it under {section}"
    return None


def _hint(kind: str, value: object, path: KeyPath) -> str:
    """The end of a message about a value that only needs brackets or quotes, or that is a few keys."""
    if kind == "string_type" and value is not None and not isinstance(value, (dict, list)):
        return "; put it in quotes"
    if kind in ("list_type", "list_or_mapping") and isinstance(value, str):
        return '; a list is written ["…"]'
    if kind in ("model_type", "model_attributes_type") and 0 < len(keys := names_at(path)) <= _FEW:
        return f"; its keys are {', '.join(keys)}"
    return ""


def _type_name(value: object) -> str:
    """The type of a value, in the words of YAML."""
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
