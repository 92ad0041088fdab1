"""The configuration file: its place, whether it is trusted, and whether it has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from .. import _clock

CONFIG: Final = "LLM_DISPATCHER_CONFIG"
TRUST: Final = "LLM_DISPATCHER_TRUST_CONFIG"
FILE_NAME: Final = "llm_dispatcher.yaml"

CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks of a watched file."""

_Stamp: TypeAlias = tuple[int, int, int] | None


def find_file(environ: Mapping[str, str]) -> tuple[Path | None, bool]:
    """The configuration file, and whether it was only found in the working folder.

    The file that the environment names comes first, then the one in the working folder, then the one in the user's
    config folder. The working folder may be a checkout of another author's code, so a file found there is not trusted.
    """
    variable = environ.get(CONFIG)
    if variable:
        return Path(variable).expanduser(), False
    here = Path(FILE_NAME)
    if here.is_file():
        return here, True
    candidates = [folder / "llm_dispatcher" / FILE_NAME for folder in _config_folder(environ)]
    return next((path for path in candidates if path.is_file()), None), False


def is_trusted(path: Path, environ: Mapping[str, str]) -> bool:
    """Whether the environment names this file as trusted.

    Relative paths are ignored, because they name another file in each working folder.
    """
    trusted = (Path(each).expanduser() for each in environ.get(TRUST, "").split(os.pathsep) if each)
    return any(each.is_absolute() and each.resolve() == path.resolve() for each in trusted)


class WatchedFile:
    """Says whether a file has changed since the last question. It looks at the file once a second at most."""

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = _clock.monotonic) -> None:
        self.path: Final = Path(path).expanduser()
        self._clock = clock
        self._stamp = _stamp(self.path)
        self._next_check = clock() + CHECK_INTERVAL

    def has_changed(self) -> bool:
        """Whether the file was rewritten. A file that is missing at this moment counts as unchanged."""
        now = self._clock()
        if now < self._next_check:
            return False
        self._next_check = now + CHECK_INTERVAL
        before, self._stamp = self._stamp, _stamp(self.path)
        return self._stamp is not None and self._stamp != before

    def forget(self) -> None:
        """Count the file as changed at the next check: reading it was given up."""
        self._stamp = None


def _stamp(path: Path) -> _Stamp:
    """mtime, size and inode, which change when the file is rewritten; `None` if it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _config_folder(environ: Mapping[str, str]) -> list[Path]:
    """The user's config folder, in a list that is empty if the environment does not say where it is."""
    if os.name == "nt":
        return [Path(environ["APPDATA"])] if environ.get("APPDATA") else []
    if environ.get("XDG_CONFIG_HOME"):
        return [Path(environ["XDG_CONFIG_HOME"])]
    return [Path(environ["HOME"]) / ".config"] if environ.get("HOME") else []
