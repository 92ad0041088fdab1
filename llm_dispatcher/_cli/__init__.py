"""The command `llm-dispatcher`.

This file imports nothing heavy: the rest of the command takes most of a second to load, and Ctrl-C in that second must
end it as quietly as later.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .commands import app as app


def main() -> None:
    """Run the command."""
    try:
        _check_packages()
        from .commands import app

        for out in (sys.stdout, sys.stderr):
            if (reconfigure := getattr(out, "reconfigure", None)) is not None:
                reconfigure(errors="replace")  # a terminal may lack a character
        app()
    except KeyboardInterrupt:
        sys.exit(130)  # `exit_codes.INTERRUPTED`, which may not be loaded yet


def _check_packages() -> None:
    """Exit with a line that says what to install if a package is missing that only the command needs."""
    from .._importing import is_installed, not_installed

    for package in ("typer", "rich"):
        if not is_installed(package):
            sys.stderr.write(f"error: {not_installed('the command needs', package)}\n")
            sys.exit(1)


def __getattr__(name: str) -> Any:
    if name == "app":
        from .commands import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
