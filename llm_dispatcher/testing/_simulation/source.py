"""`SimulatedSource`: virtual time and drawn randomness, for `_clock.use`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ... import _clock
from .choices import Choices
from .real_world import RealWorldError, place

START: Final = 1_764_547_200.0
"""The Unix time at which every simulation begins: 1 December 2025, 00:00 UTC. A month and a week begin then."""


class SimulatedSource:
    """The source of time and randomness of one simulation. The wall clock can jump; `monotonic` never does."""

    def __init__(self, choices: Choices, now: Callable[[], float]) -> None:
        self._choices = choices
        self._now = now
        self._offset = START
        self._secrets = _clock.generator(f"{choices.seed}/secrets")

    def monotonic(self) -> float:
        return self._now()

    def wall(self) -> float:
        return self._offset + self._now()

    def random(self) -> float:
        return self._choices.number(0.0, 1.0, "random")

    def token_bytes(self, count: int, /) -> bytes:
        return self._secrets.randbytes(count)

    def sleep(self, seconds: float, /) -> None:
        raise RealWorldError(f"a simulated program may not block its thread for {seconds:g} s", place())

    def jump(self, seconds: float) -> None:
        """Move the wall clock, as an operator or a time server does. Back, if the number is negative."""
        self._offset += seconds
