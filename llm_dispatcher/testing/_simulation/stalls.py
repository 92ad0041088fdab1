"""`Stalls`: when a simulated loop is busy, and for how long."""

from __future__ import annotations

from typing import Final

from .choices import Choices

SECONDS: Final = (0.0, 0.0, 0.0, 0.0005, 0.003, 0.02, 0.25)
"""Seconds for which the loop may be busy."""
BETWEEN: Final = (0, 0, 0, 2_000, 200, 40)
"""Callbacks between two stalls, at most; 0 for a run without stalls."""


class Stalls:
    """The stalls of one process. `seconds` is how long they have taken together."""

    def __init__(self, choices: Choices) -> None:
        self.seconds: float = 0.0
        self._choices = choices
        self._between = choices.pick(BETWEEN, "stalls")
        self._until_next = choices.below(max(1, self._between), "stalls")

    def before_a_callback(self) -> float:
        """The seconds for which the loop is busy before its next callback."""
        if not self._between:
            return 0.0
        self._until_next -= 1
        if self._until_next >= 0:
            return 0.0
        self._until_next = self._choices.below(self._between, "stalls")
        seconds = self._choices.pick(SECONDS, "stalls")
        self.seconds += seconds
        return seconds
