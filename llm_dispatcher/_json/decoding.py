"""Reading a whole JSON text strictly, and writing a value in the one form in which equal values are equal."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import jiter

FENCE: Final = re.compile(r"\s*```(?:json|JSON)?[ \t]*\r?\n")
"""The line that opens a fence around an answer."""

DEEPEST: Final = 200
"""So many levels jiter reads."""

_CLOSING: Final = re.compile(r"\s*```\s*\Z")


def decode(text: str) -> Any:
    """The value of a JSON text, as plain data.

    Duplicate keys, `NaN`, half a surrogate pair, numbers of thousands of digits and more than 200 levels are refused.

    Raises:
        ValueError: It is not such a text. The message says where, in one line.
    """
    try:
        return jiter.from_json(text.encode(), allow_inf_nan=False, catch_duplicate_keys=True)
    except UnicodeEncodeError as error:
        raise ValueError(f"it is not JSON: {error.object[error.start]!r} is half of a character") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None


def unfenced(text: str) -> str:
    """The text without a fence of three backticks around all of it. Any other words around the JSON stay."""
    opening = FENCE.match(text)
    if opening is None:
        return text
    return _CLOSING.sub("", text[opening.end() :])


def canonical(value: Any) -> str:
    """A text that is equal for values that are equal as JSON, and for no others: `1` is `1.0`, and not `true`."""
    return json.dumps(_with_whole_numbers(value), sort_keys=True)


def _with_whole_numbers(value: Any) -> Any:
    """The value with `1` in place of `1.0`."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_with_whole_numbers(each) for each in value]
    if isinstance(value, dict):
        return {name: _with_whole_numbers(each) for name, each in value.items()}
    return value
