"""Durations in the words of a message."""

from __future__ import annotations

from math import floor, log10


def in_seconds(seconds: float) -> str:
    """`0.0001 s`, `1.25 s`, `300 s`: three figures that count, and no exponent however short it was."""
    if seconds <= 0:
        return "0 s"
    said = f"{seconds:.{max(0, 2 - floor(log10(seconds)))}f}"
    return f"{said.rstrip('0').rstrip('.') if '.' in said else said} s"
