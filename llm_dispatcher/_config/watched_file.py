"""A configuration file that may change while it is in use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from .. import _clock

_Stamp: TypeAlias = tuple[int, int, int] | None

EVERY: Final = 1.0
"""Seconds between two looks."""


class Watched:
    """Tells, when asked, whether the file has changed since it was last told of; it looks once a second at most."""

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = _clock.monotonic) -> None:
        self.path: Final = Path(path).expanduser()
        self._clock = clock
        self._stamp = _stamp(self.path)
        self._again_at = clock() + EVERY

    def has_changed(self) -> bool:
        now = self._clock()
        if now < self._again_at:
            return False
        self._again_at = now + EVERY
        before, self._stamp = self._stamp, _stamp(self.path)
        return self._stamp is not None and self._stamp != before


def _stamp(path: Path) -> _Stamp:
    """What a file has another of when it was written anew; nothing for one that is not there (just now)."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
