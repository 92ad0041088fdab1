"""The only source of time and randomness in this package, beside the clock of the running event loop.

How it works: every other module calls the functions below, and none imports `time`, `random`, `secrets` or `uuid`, or
calls `datetime.now` (`tests/test_house.py` checks this). The functions ask the current `Source`. Normally that is the
machine. A simulation replaces it with `use(...)`, so that a run can be repeated.

`_source` is the only state. Only `use` writes it: on entering, and on leaving, where it restores the previous source,
also after an error or a cancellation. The source holds for the whole process, because the library works in several
threads. So `use` blocks must be nested; two threads that overlap theirs would restore each other's source.

A class that takes a `clock=` parameter has `_clock.monotonic`, or another function of this module, as its default. It
then follows the source of the moment in which it asks. Loop time (`loop.time()`, `loop.call_later`) belongs to the
event loop; a simulation brings its own loop.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from os import urandom
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from random import Random


class Source(Protocol):
    """A source of time and randomness. All other functions of this module are made from these five."""

    def monotonic(self) -> float:
        """Seconds that never go back; their zero has no meaning."""
        ...

    def wall(self) -> float:
        """The Unix time in seconds."""
        ...

    def random(self) -> float:
        """A number from 0 up to, but not including, 1. It is not fit for secrets."""
        ...

    def token_bytes(self, count: int, /) -> bytes:
        """So many bytes that nobody can guess."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Block the calling thread."""
        ...


class Machine:
    """The source that is in use normally: this machine's clocks and generators."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
    token_bytes = staticmethod(urandom)
    sleep = staticmethod(time.sleep)

    def random(self) -> float:
        """A number of Python's own generator, which is loaded when it is first needed."""
        from random import random

        return random()  # noqa: S311 - as `Source.random` says


_source: Source = Machine()


@contextmanager
def use(source: Source) -> Generator[None, None, None]:
    """Take time and randomness from this source until the block ends, in every thread."""
    global _source
    before, _source = _source, source
    try:
        yield
    finally:
        _source = before


def source() -> Source:
    """The current source. Code that runs for every chunk may keep a function of it for as long as one stream lasts."""
    return _source


def monotonic() -> float:
    """Seconds that never go back, to measure how long something takes."""
    return _source.monotonic()


def wall() -> float:
    """The Unix time in seconds."""
    return _source.wall()


def now() -> datetime:
    """The date and the time, in UTC and with that time zone."""
    return datetime.fromtimestamp(_source.wall(), UTC)


def sleep(seconds: float) -> None:
    """Block the calling thread. Never call this on a thread that runs an event loop."""
    _source.sleep(seconds)


def random() -> float:
    """A random number from 0 up to, but not including, 1. It is not fit for secrets."""
    return _source.random()


def uniform(low: float, high: float) -> float:
    """A random number between two bounds, each value as likely as any other. It is not fit for secrets."""
    return low + (high - low) * _source.random()


def token_bytes(count: int) -> bytes:
    """So many random bytes that nobody can guess."""
    return _source.token_bytes(count)


def hex_id(digits: int) -> str:
    """An identifier of so many hexadecimal digits that nobody can guess."""
    return _source.token_bytes((digits + 1) // 2).hex()[:digits]


def generator(seed: int | str) -> Random:
    """A generator whose numbers depend on the seed alone, and not on the source."""
    from random import Random

    return Random(seed)  # noqa: S311 - a repeatable generator is not for secrets
