"""Durations in the words of a message."""

from __future__ import annotations

from math import floor, log10


def in_seconds(seconds: float) -> str:
    """`0.0001 s`, `1.25 s`, `300 s`: three significant digits, never with an exponent."""
    if seconds <= 0:
        return "0 s"
    text = f"{seconds:.{max(0, 2 - floor(log10(seconds)))}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} s"
