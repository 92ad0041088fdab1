"""Where the configuration file is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CONFIG: Final = "LLM_DISPATCHER_CONFIG"
TRUST: Final = "LLM_DISPATCHER_TRUST_CONFIG"
FILE_NAME: Final = "llm_dispatcher.yaml"


def find_file(environ: Mapping[str, str]) -> tuple[Path | None, bool]:
    """The file that the environment names, else the one in the working folder, else in the user's config folder; and
    whether it was merely found in the working folder, which may be a checkout of somebody else's.
    """
    named = environ.get(CONFIG)
    if named:
        return Path(named).expanduser(), False
    here = Path(FILE_NAME)
    if here.is_file():
        return here, True
    candidates = [folder / "llm_dispatcher" / FILE_NAME for folder in _config_folder(environ)]
    return next((path for path in candidates if path.is_file()), None), False


def is_trusted(path: Path, environ: Mapping[str, str]) -> bool:
    """Whether the environment names this file as one to trust. A relative path names another file in each folder, so
    it names none.
    """
    named = (Path(each).expanduser() for each in environ.get(TRUST, "").split(os.pathsep) if each)
    return any(each.is_absolute() and each.resolve() == path.resolve() for each in named)


def _config_folder(environ: Mapping[str, str]) -> list[Path]:
    if os.name == "nt":
        return [Path(environ["APPDATA"])] if environ.get("APPDATA") else []
    if environ.get("XDG_CONFIG_HOME"):
        return [Path(environ["XDG_CONFIG_HOME"])]
    return [Path(environ["HOME"]) / ".config"] if environ.get("HOME") else []
