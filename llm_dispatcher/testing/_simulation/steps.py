"""`Steps`: counts the callbacks of a simulated process, and stops a process that would never end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MOST_A_MOMENT: Final = 200_000
"""Callbacks that may run without any time passing."""
MOST: Final = 1_000_000
"""Callbacks of one process. A task that repeats something for ever would otherwise hide that all others are stuck."""


class SimulationStuckError(RuntimeError):
    """Nothing can happen any more in a simulated run, or it never comes to an end.

    Args:
        reason: What was noticed.
        waiting: The names of the tasks that are not done, and the places where they wait.
    """

    def __init__(self, reason: str, waiting: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(reason + "".join(f"\n  {name} waits at {place}" for name, place in waiting))
        self.places: tuple[str, ...] = tuple(sorted({place for _, place in waiting}))


class Steps:
    """The callbacks that one process has run."""

    def __init__(self) -> None:
        self.done: int = 0
        self._before_this_moment = self._before = 0

    def time_passes(self) -> None:
        """The virtual time has moved on."""
        self._before_this_moment = self.done

    def problem(self) -> str | None:
        """Count a callback. If it is one too many, returns why, and counts anew: the process still has to be ended."""
        self.done += 1
        if self.done - self._before_this_moment > MOST_A_MOMENT:
            problem = f"{MOST_A_MOMENT} callbacks have run without any time passing"
        elif self.done - self._before > MOST:
            problem = f"{MOST} callbacks have run, and the program has not ended"
        else:
            return None
        self._before_this_moment = self._before = self.done
        return problem
