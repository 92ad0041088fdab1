"""Which screen a demo is shown on."""

from __future__ import annotations

import os
from typing import TextIO

from ..show import PlainShow, Show


def show_on(out: TextIO) -> Show:
    """The live view in a terminal that can draw, and plain lines elsewhere. `TERM=dumb` cannot draw."""
    if out.isatty() and os.environ.get("TERM") != "dumb":
        from ..live import LiveShow  # loads rich

        return LiveShow()
    return PlainShow(out)
