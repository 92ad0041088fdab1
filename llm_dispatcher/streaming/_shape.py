"""The shapes in which a stream can be read. A shape is a value: a new one needs no change in the tap."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct

from ..events import TextDelta
from ._account import Account


class Shape(Struct, frozen=True):
    """The form in which a reader gets a stream.

    `can_take_back` says whether an answer may begin again after some of it was shown. `chunk` makes, for one stream,
    the function that turns a piece of text into the reader's item; without it, the reader gets no separate text.
    `closing` makes an item that follows the last piece of an answer that is complete.
    """

    can_take_back: bool
    chunk: Callable[[Account], Callable[[TextDelta], Any]] | None = None
    closing: Callable[[Account], Any] | None = None
    shows_events: bool = False


def _with_metadata(account: Account) -> Callable[[TextDelta], Any]:
    chunk = account.chunk
    return lambda delta: chunk(delta.text, delta.index)


_text: Final = attrgetter("text")

TEXT: Final = Shape(can_take_back=False, chunk=lambda account: _text)
"""Chunks of text."""

METADATA: Final = Shape(can_take_back=False, chunk=_with_metadata, closing=lambda account: account.closing())
"""Chunks of text, each with its metadata, and a closing item."""

EVENTS: Final = Shape(can_take_back=True, shows_events=True)
"""Everything that happens. A `StreamReset` takes text back."""

WHOLE: Final = Shape(can_take_back=True)
"""Nothing until the end, when the account has the whole answer."""
