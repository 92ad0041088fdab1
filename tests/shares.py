"""Properties with several cases: each case must be met by a share of the examples.

A property that branches on its input proves nothing about a branch that no example reaches. `Cases` counts the branches
and fails the test if one of them is too rare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import wraps

from hypothesis import event


class Cases:
    """A decorator for a property, above `given`. The property calls `met` once per example.

    `least` has the names of all cases and the share of the examples that must meet each.
    """

    def __init__(self, **least: float) -> None:
        self._least = least
        self._counts: Counter[str] = Counter()

    def met(self, name: str) -> None:
        """Count an example of this case."""
        assert name in self._least, name
        event(name)
        self._counts[name] += 1

    def __call__(self, prop: Callable[[], None]) -> Callable[[], None]:
        @wraps(prop)
        def checked() -> None:
            self._counts.clear()
            prop()
            examples = self._counts.total()
            rare = {
                name: self._counts[name] for name, least in self._least.items() if self._counts[name] < least * examples
            }
            assert examples and not rare, f"of {examples} examples, too few met a case: {rare}"

        return checked
