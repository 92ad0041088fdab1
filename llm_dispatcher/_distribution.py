"""Finds the other project on the package index that installs its files into the import folder of this package.

Its distribution is called `llm-dispatcher`, this one's is `llm-stream-dispatcher`, and both write a folder
`llm_dispatcher`. If both are installed, the second installation has overwritten files of the first. The check runs when
the first switch is made and not at import: it needs `importlib.metadata`, which takes as long to load as this package.
When a switch is made, that module is already loaded, and the check takes a millisecond.
See docs/decisions/0033.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Final

DISTRIBUTION: Final = "llm-stream-dispatcher"
OTHER: Final = "llm-dispatcher"
_FOLDER: Final = "llm_dispatcher"


@cache
def warn_of_the_other() -> None:
    """Warn, once in a process, if the other project has put files into this package's folder."""
    if (version := _version_of_the_other()) is not None:
        warnings.warn(
            f"{OTHER} {version}, another project with the same import name, is installed beside {DISTRIBUTION}: both "
            f"write the folder {_FOLDER}, so that files of one are missing or are the other's; "
            f"run: pip uninstall {OTHER} {DISTRIBUTION}, then install {DISTRIBUTION} again",
            RuntimeWarning,
            stacklevel=3,
        )


def _version_of_the_other() -> str | None:
    """Its version; `None` if it is not installed. This project's checkout, installed under its former name, does not
    count: it has put no module into the folder.
    """
    from importlib.metadata import distributions

    for distribution in distributions(name=OTHER):
        if any(file.parts == (_FOLDER, "__init__.py") for file in distribution.files or ()):
            return distribution.version
    return None
