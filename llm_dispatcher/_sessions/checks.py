"""Checks of the arguments of sessions."""

from __future__ import annotations

from typing import Final

LONGEST_NAME: Final = 256
"""The most characters of the id of a session or the name of a branch."""


def count(name: str, value: object) -> int | None:
    """A number from 1 on, or `None`."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"{name} is an int, got {type(value).__name__}")
    if value is not None and value < 1:
        raise ValueError(f"{name} is 1 or more, got {value}")
    return value


def name_of(what: str, value: object) -> str:
    """A name, which appears in errors and log lines."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, got {type(value).__name__}")
    if not value or len(value) > LONGEST_NAME or not value.isprintable():
        raise ValueError(f"{what} is 1 to {LONGEST_NAME} printable characters, got {value[:40]!r}")
    return value
