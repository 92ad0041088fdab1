"""The text of a tool's result, as the model reads it."""

from __future__ import annotations

from typing import Any

import msgspec


def text_of(value: object) -> str:
    """A result as text: a text as it is, and every other value as JSON.

    Dataclasses, pydantic models, msgspec structs, times, enums and sets have a form in JSON.

    Raises:
        ValueError: The value has no such form, or its text cannot be sent.
    """
    if isinstance(value, str):
        text = str(value)
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


def _plain(value: Any) -> Any:
    """The form of a value that msgspec does not know: of pydantic models, as they say themselves."""
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json")
    raise TypeError(f"it has no form for {type(value).__name__}")
