"""Scripts as JSON, for a vendor in another process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from ._continuing import Continuing
from ._script import Reply

WrittenPart: TypeAlias = Reply | Continuing
WrittenScript: TypeAlias = WrittenPart | Sequence[WrittenPart]
"""A script that can be written as JSON: any script without functions."""


def script_to_json(script: WrittenScript) -> bytes:
    """A script as JSON, for `llm-dispatcher simulate --script`."""
    return msgspec.json.encode(script)


def script_from_json(data: bytes) -> WrittenScript:
    """The script in JSON that `script_to_json` or a person wrote.

    Raises:
        ValueError: It is not JSON, or not a script. The message has the problem.
    """
    try:
        value: Any = msgspec.json.decode(data)
        return [_part(each) for each in value] if isinstance(value, list) else _part(value)
    except msgspec.DecodeError as error:
        raise ValueError(f"this is not a script: {error}") from None


def _part(value: Any) -> WrittenPart:
    # A union of types would need a tag in each part. A reply is the usual case, so it needs none.
    if isinstance(value, dict) and value.get("type") == "continuing":
        return msgspec.convert(value, Continuing)
    return msgspec.convert(value, Reply)
