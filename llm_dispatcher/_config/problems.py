"""What is wrong with a configuration: small values, collected, located and raised as one error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from .._redaction import one_line
from ..exceptions import ConfigurationError, ConfigurationProblem
from .tree import KeyPath

MOST_SHOWN: Final = 50
"""A file can be wrong in more places than anyone will read."""

_LONGEST_MESSAGE: Final = 600
_LONGEST_KEY: Final = 60


class Problem(Struct, frozen=True):
    """One thing that is wrong, and where."""

    path: KeyPath
    message: str
    file: str | None = None
    line: int | None = None
    variable: str | None = None

    @property
    def key(self) -> str:
        """`routing.default[0]`, the way a path is written in messages."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{_short(part, _LONGEST_KEY)}" for part in self.path)
        return "".join(parts).removeprefix(".")

    @property
    def words(self) -> str:
        """The message, bounded: it may quote what stands in the file."""
        return _short(self.message, _LONGEST_MESSAGE)

    def told(self) -> ConfigurationProblem:
        """The problem as users see it."""
        return ConfigurationProblem(self.words, self.file, self.line, self.key or None, self.variable)

    def __str__(self) -> str:
        return str(self.told())


def configuration_error(problems: Sequence[Problem]) -> ConfigurationError:
    """All problems as one error, a line each; its file, line and key are the first one's."""
    in_order = sorted(problems, key=lambda problem: (problem.line is None, problem.line or 0))
    first, *others = in_order
    shown = [str(problem) for problem in others[: MOST_SHOWN - 1]]
    if len(others) > len(shown):
        shown.append(f"… and {len(others) - len(shown)} more")
    message = first.words if first.variable is None else f"{first.words} (set by {first.variable})"
    return ConfigurationError(
        "\n".join([message, *shown]),
        file=first.file,
        line=first.line,
        key=first.key or None,
        problems=[problem.told() for problem in in_order],
    )


def _short(text: str, length: int) -> str:
    text = one_line(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"
