"""The text of a tool's result, as the model reads it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any, Final

import msgspec

_KNOWN: Final = frozenset((bool, type(None), list, tuple, dict, set, frozenset))
"""Types that msgspec knows, but not as keys."""


def text_of(value: object) -> str:
    """A result as text: a text as it is, and every other value as JSON.

    Dataclasses, pydantic models, msgspec structs, arrays, times, enums, sets and other collections have a form in JSON.

    Raises:
        ValueError: The value has no such form, or its text cannot be sent.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        text = str.__str__(value)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            broken = error.object[error.start]
            raise ValueError(f"its text holds {broken!r}, half of a character: there is no UTF-8 for it") from None
        return text
    try:
        return msgspec.json.encode(value, enc_hook=_plain).decode()
    except RecursionError:
        raise ValueError(f"a {type(value).__name__} that contains itself cannot be written as JSON") from None
    except Exception as error:
        raise ValueError(f"a {type(value).__name__} cannot be written as JSON ({error}): return a str") from error


def sendable(text: str) -> str:
    """An error for the model, with a question mark in place of each half of a character. Names of files have such."""
    return text.encode(errors="replace").decode()


def _plain(value: Any) -> Any:
    """The form of a value that msgspec does not know: of pydantic models and arrays, as they say themselves; of other
    collections and of subclasses, that of the plain type.
    """
    if type(value) in _KNOWN:
        raise TypeError("a key of a dict is text or a number")
    for name, settings in (("model_dump", {"mode": "json"}), ("tolist", {})):
        method = getattr(value, name, None)
        if callable(method) and not isinstance(value, type):
            return method(**settings)
    match value:
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case os.PathLike():
            return os.fspath(value)
        case Mapping():
            return dict(value)
        case Collection():
            return list(value)
        case _:
            raise TypeError(f"it has no form for {type(value).__name__}")
