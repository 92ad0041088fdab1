"""The shapes in which a stream can be read. A shape is a value: a new one needs no change in the tap."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import Struct

from ..events import Event, TextDelta
from ._account import Account


class Shape(Struct, frozen=True):
    """The form in which a reader gets a stream.

    `can_take_back` says whether an answer may begin again after some of it was shown, if `on_break` asks for that.
    `may_begin_again` says that it does so whenever it cannot be continued: the reader is shown no text, so it loses
    none. With `shows_text`, the reader gets each piece of text as it is. `chunk` makes, for one stream, a function that
    turns a piece of text into something else for the reader. `closing` makes an item that follows the last piece of an
    answer that is complete. With `shows_events`, the reader gets every event. `reads` makes, for one stream, a function
    that turns each event into any number of items for the reader. `wants_object` says that the answer has to follow a
    schema: it is checked, and asked for again if it does not.
    """

    can_take_back: bool
    may_begin_again: bool = False
    shows_text: bool = False
    chunk: Callable[[Account], Callable[[TextDelta], Any]] | None = None
    closing: Callable[[Account], Any] | None = None
    shows_events: bool = False
    reads: Callable[[Account], Callable[[Event], Iterable[Any]]] | None = None
    wants_object: bool = False


def _with_metadata(account: Account) -> Callable[[TextDelta], Any]:
    chunk = account.chunk
    return lambda delta: chunk(delta.text, delta.index)


TEXT: Final = Shape(can_take_back=False, shows_text=True)
"""Chunks of text."""

METADATA: Final = Shape(can_take_back=False, chunk=_with_metadata, closing=lambda account: account.closing())
"""Chunks of text, each with its metadata, and a closing item."""

EVENTS: Final = Shape(can_take_back=True, shows_events=True)
"""Everything that happens. A `StreamReset` takes text back."""

WHOLE: Final = Shape(can_take_back=True, may_begin_again=True)
"""Nothing until the end, when the account has the whole answer."""
