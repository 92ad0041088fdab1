"""Scripts as JSON, for a vendor in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from ._continuing import Continuing
from ._script import Reply

WrittenPart: TypeAlias = Reply | Continuing
WrittenScript: TypeAlias = WrittenPart | Sequence[WrittenPart]
"""A script that can be written down: any but a function."""


def script_to_json(script: WrittenScript) -> bytes:
    """A script as JSON, for `llm-dispatcher simulate --script`."""
    return msgspec.json.encode(script)


def script_from_json(data: bytes) -> WrittenScript:
    """The script that `script_to_json` wrote, or a person; a `ValueError` says what is wrong with it."""
    try:
        value: Any = msgspec.json.decode(data)
        return [_part(each) for each in value] if isinstance(value, list) else _part(value)
    except msgspec.DecodeError as error:
        raise ValueError(f"this is no script: {error}") from None


def _part(value: Any) -> WrittenPart:
    # A reply is what is usually meant, so that it needs no tag; which a union of types would ask for.
    if isinstance(value, dict) and value.get("type") == "continuing":
        return msgspec.convert(value, Continuing)
    return msgspec.convert(value, Reply)
