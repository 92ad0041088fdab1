"""Where the configuration file is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CONFIG: Final = "LLM_DISPATCHER_CONFIG"
FILE_NAME: Final = "llm_dispatcher.yaml"


def find_file(environ: Mapping[str, str]) -> Path | None:
    """The file that the environment names, else the one in the working folder, else in the user's config folder."""
    named = environ.get(CONFIG)
    if named:
        return Path(named).expanduser()
    candidates = [
        Path(FILE_NAME),
        *(folder / "llm_dispatcher" / FILE_NAME for folder in _config_folder(environ)),
    ]
    return next((path for path in candidates if path.is_file()), None)


def _config_folder(environ: Mapping[str, str]) -> list[Path]:
    if os.name == "nt":
        return [Path(environ["APPDATA"])] if environ.get("APPDATA") else []
    if environ.get("XDG_CONFIG_HOME"):
        return [Path(environ["XDG_CONFIG_HOME"])]
    return [Path(environ["HOME"]) / ".config"] if environ.get("HOME") else []
