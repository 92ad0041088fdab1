"""Problems of a configuration: small values that are collected, located and raised as one error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from .._redaction import one_line
from ..exceptions import ConfigurationError, ConfigurationProblem

KeyPath: TypeAlias = tuple[str | int, ...]
"""The keys and list positions that lead to a value, such as `("routing", "default", 0)`."""

MAX_SHOWN: Final = 50
"""An error message lists this many problems at most; `ConfigurationError.problems` holds all of them."""

_MAX_MESSAGE: Final = 600
_MAX_KEY: Final = 60


class Problem(Struct, frozen=True):
    """One problem and its place: a file and a line, or an environment variable."""

    path: KeyPath
    message: str
    file: str | None = None
    line: int | None = None
    variable: str | None = None

    @property
    def key(self) -> str:
        """The path as messages write it: `routing.default[0]`."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{_shortened(part, _MAX_KEY)}" for part in self.path)
        return "".join(parts).removeprefix(".")

    @property
    def short_message(self) -> str:
        """The message with a bounded length, because it may quote the file."""
        return _shortened(self.message, _MAX_MESSAGE)

    def public(self) -> ConfigurationProblem:
        """The problem as `ConfigurationError.problems` holds it."""
        return ConfigurationProblem(self.short_message, self.file, self.line, self.key or None, self.variable)

    def __str__(self) -> str:
        return str(self.public())


def configuration_error(problems: Sequence[Problem]) -> ConfigurationError:
    """One error with a line for each problem. Its file, line and key are those of the first problem."""
    in_order = sorted(problems, key=lambda problem: (problem.line is None, problem.line or 0))
    first, *others = in_order
    lines = [str(problem) for problem in others[: MAX_SHOWN - 1]]
    if len(others) > len(lines):
        lines.append(f"… and {len(others) - len(lines)} more")
    message = first.short_message if first.variable is None else f"{first.short_message} (set by {first.variable})"
    return ConfigurationError(
        "\n".join([message, *lines]),
        file=first.file,
        line=first.line,
        key=first.key or None,
        problems=[problem.public() for problem in in_order],
    )


def _shortened(text: str, length: int) -> str:
    text = one_line(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"
