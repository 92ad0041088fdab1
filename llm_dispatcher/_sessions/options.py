"""The options of a session, for the ways to make one that pass them on."""

from __future__ import annotations

from typing import TypedDict

from .trimming import Summarize


class SessionOptions(TypedDict, total=False):
    """Options of a session, for `Session.open` and `Session.load`; see `Session`."""

    keep_partial: bool
    max_history_tokens: int | None
    max_history_turns: int | None
    summarize: Summarize | None
