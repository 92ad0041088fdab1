"""Shrinking: from a seed that fails to the run with the fewest choices that still fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from .seeds import Seed

MOST_RUNS: Final = 400
"""Runs that one failure is worth."""
MOST_STEPS: Final = 5_000_000
"""Callbacks that one failure is worth: a program that never ends runs many of them until it is stopped."""


class Outcome(Struct, frozen=True):
    """The outcome of a run. `failure` says in which way it failed; two failures are the same if these are equal.
    `steps` is how many callbacks ran.
    """

    failure: str | None
    made: int
    eventful: tuple[tuple[int, str], ...]
    steps: int = 0


def shrunk(seed: Seed, outcome: Outcome, run: Callable[[Seed], Outcome], most_runs: int = MOST_RUNS) -> Seed:
    """The simplest run that was found which fails like this one. There may be a simpler one.

    First the shortest prefix of choices that still fails is looked for; all later choices are plain. Then choices are
    dropped from it, many at a time at first, and one by one at the end.

    Args:
        seed: The seed that fails.
        outcome: Its outcome.
        run: Runs a seed.
        most_runs: How many runs it may take.
    """
    search = _Search(seed, outcome, run, most_runs)
    search.shorten()
    search.drop()
    search.shorten()
    return search.seed


class _Search:
    def __init__(self, seed: Seed, outcome: Outcome, run: Callable[[Seed], Outcome], most_runs: int) -> None:
        self.seed = seed if seed.is_shrunk else replace(seed, limit=outcome.made)
        self._outcome = outcome
        self._run = run
        self._left = most_runs
        self._steps = 0

    def shorten(self) -> None:
        """Find the shortest prefix by bisection."""
        low, high = 0, self._end()
        self._accept(replace(self.seed, limit=high))
        while low < high:
            middle = (low + high) // 2
            if self._accept(replace(self.seed, limit=middle)):
                high = min(middle, self._end())
            else:
                low = middle + 1

    def drop(self) -> None:
        """Drop choices: half of them at once, then a quarter, and so on.

        The first ones are dropped first. A run without a choice may make fewer choices, so that all later numbers
        change; then the numbers that were dropped before are still right.
        """
        size = len(self._candidates())
        while size := size // 2:
            place = 0
            while place < len(candidates := self._candidates()):
                if not self._accept(self._without(candidates[place : place + size])):
                    place += size

    def _candidates(self) -> list[int]:
        """The numbers of the choices that are not plain yet."""
        return [number for number, _ in self._outcome.eventful]

    def _end(self) -> int:
        """The number after the last choice that is not plain."""
        return max((number + 1 for number, _ in self._outcome.eventful), default=0)

    def _without(self, numbers: Iterable[int]) -> Seed:
        return replace(self.seed, without=tuple(sorted({*self.seed.without, *numbers})))

    def _accept(self, seed: Seed) -> bool:
        """Take a seed if it fails in the same way."""
        if self._left <= 0 or self._steps >= MOST_STEPS or seed == self.seed:
            return False
        self._left -= 1
        outcome = self._run(seed)
        self._steps += outcome.steps
        if outcome.failure != self._outcome.failure:
            return False
        self.seed, self._outcome = replace(seed, without=_below(seed)), outcome
        return True


def _below(seed: Seed) -> tuple[int, ...]:
    """The dropped choices that the limit does not drop anyway."""
    return tuple(number for number in seed.without if seed.limit is None or number < seed.limit)
