"""Hints at the end of an error message: the valid name that a misspelt one is near to."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(wrong: str, names: Iterable[str], *, likeness: float = 0.6) -> str:
    """`; did you mean 'name'?` with the nearest of these names, or nothing if none is near. Case is ignored.

    `likeness` goes from 0 to 1: how much of two names must be the same.
    """
    from difflib import get_close_matches  # only a mistake loads it

    by_folded = {name.casefold(): name for name in names}
    near = get_close_matches(wrong.casefold(), by_folded, n=1, cutoff=likeness)
    return f"; did you mean {by_folded[near[0]]!r}?" if near else ""


def nearest_or_all(wrong: str, names: Iterable[str]) -> str:
    """The nearest name as `did_you_mean` writes it, or all names if none is near."""
    names = sorted(names)
    return did_you_mean(wrong, names) or (f" (known: {', '.join(names)})" if names else "")
