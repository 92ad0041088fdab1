"""`Choices`: every decision of a simulated run, drawn from a seed.

How it works
------------
Each decision belongs to a named stream, such as "order" or "vendor a". A stream has its own generator, which is made of
the seed and the name. Every choice takes one number of its stream. So a choice that is dropped does not shift the
others of its stream, nor those of another one.

For each kind of choice there is a plain result, the most harmless one. A choice is plain if it comes at or after
`limit`, or if its number is in `without`. Shrinking a failure means making as many choices plain as possible.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeVar

from ... import _clock

T = TypeVar("T")


class Choices:
    """The choices of one run.

    Args:
        seed: The number that all choices are made of.
        limit: Choices from this one on are plain; `None` means that none are.
        without: The numbers of choices that are plain.
    """

    def __init__(self, seed: int, *, limit: int | None = None, without: Collection[int] = ()) -> None:
        self.seed: Final = seed
        self.made: int = 0
        """How many choices were made so far."""
        self.eventful: list[tuple[int, str]] = []
        """The choices whose result was not the plain one: their numbers, and their streams."""
        self._limit = limit
        self._without = frozenset(without)
        self._generators: dict[str, Callable[[], float]] = {}

    def below(self, count: int, stream: str) -> int:
        """A whole number from 0 up to, but not including, `count`. The plain one is 0."""
        chosen = int(self._fraction(stream) * count)
        if chosen:
            self.eventful.append((self.made - 1, stream))
        return chosen

    def chance(self, probability: float, stream: str) -> bool:
        """True with this probability. The plain result is false."""
        is_true = self._fraction(stream, plain=1.0) < probability
        if is_true:
            self.eventful.append((self.made - 1, stream))
        return is_true

    def pick(self, options: Sequence[T], stream: str) -> T:
        """One of the options. The plain one is the first. An option that is repeated is drawn more often."""
        return options[self.below(len(options), stream)]

    def number(self, low: float, high: float, stream: str) -> float:
        """A number between two bounds.

        Args:
            low: The plain one.
            high: The upper bound, which is never reached.
            stream: The stream to which the choice belongs.
        """
        fraction = self._fraction(stream)
        if fraction:
            self.eventful.append((self.made - 1, stream))
        return low + (high - low) * fraction

    def _fraction(self, stream: str, plain: float = 0.0) -> float:
        """A number from 0 up to, but not including, 1; or `plain`."""
        generator = self._generators.get(stream)
        if generator is None:
            # A text as seed: Python hashes it with SHA-512, and not with the hash that differs between processes.
            generator = self._generators[stream] = _clock.generator(f"{self.seed}/{stream}").random
        fraction = generator()
        number = self.made
        self.made = number + 1
        if (self._limit is not None and number >= self._limit) or number in self._without:
            return plain
        return fraction
