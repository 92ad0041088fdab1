"""Checks of the arguments of sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

LONGEST_NAME: Final = 256
"""The most characters of the id of a session or the name of a branch."""


def count(name: str, value: object) -> int | None:
    """A number from 1 on, or `None`."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"{name} is an int, got {type(value).__name__}")
    if value is not None and value < 1:
        raise ValueError(f"{name} is 1 or more, got {value}")
    return value


def check_words(prompt: object, options: Mapping[str, Any]) -> None:
    """Refuse a conversation in place of a prompt: the session has it."""
    got = "messages=" if "messages" in options else "a list" if isinstance(prompt, list) else None
    if got is not None:
        raise TypeError(
            f"a session has the messages itself, and stream() takes the next prompt, got {got}: add what was said "
            "elsewhere with session.add(role, content), or begin with Session(messages=[…])"
        )


def name_of(what: str, value: object) -> str:
    """A name, which appears in errors and log lines."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, got {type(value).__name__}")
    if not value or len(value) > LONGEST_NAME or not value.isprintable():
        raise ValueError(f"{what} is 1 to {LONGEST_NAME} printable characters, got {value[:40]!r}")
    return value
