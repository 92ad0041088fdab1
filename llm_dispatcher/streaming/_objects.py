"""The shapes in which an answer is read as an object: parsed, by its growing beginnings, or item by item.

Each shape makes one reading for a stream. The tap gives it every event before anybody sees the event, and shows the
reader what the reading returns. A `StreamReset` and a `ToolResult` begin the text anew: what counts is the last turn.
If a reading raises, the stream fails with that error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Final, Protocol

from ..events import Event, StreamCompleted, StreamReset, TextDelta, ToolResult
from ..exceptions import StreamingError
from ._account import Account
from ._answer import Answer
from ._shape import Shape

_NOTHING: Final = object()


class Reading(Protocol):
    """Turns the events of one stream into what its reader gets."""

    def read(self, event: Event, /) -> Iterable[Any]:
        """What the next event brings."""
        ...


class _Parsed:
    """The object, when it is complete."""

    def __init__(self, account: Account) -> None:
        self._answer = _answer_of(account)

    def read(self, event: Event) -> Iterable[Any]:
        return (self._answer.value,) if isinstance(event, StreamCompleted) else ()


class _Partials:
    """Each beginning of the answer that differs from the one before, as plain data; the last one is the whole."""

    def __init__(self, account: Account) -> None:
        from .._json.partial import Beginnings  # loaded by the first reader of partial objects

        self._answer = _answer_of(account)
        self._beginnings: Callable[[], Beginnings] = Beginnings
        self._beginning = Beginnings()
        self._last: Any = _NOTHING

    def read(self, event: Event) -> Iterable[Any]:
        match event:
            case TextDelta():
                for value in self._beginning.feed(event.text):
                    yield from self._new(value)
            case StreamReset() | ToolResult():
                self._beginning = self._beginnings()
            case StreamCompleted():
                yield from self._new(_data_of(self._answer.text))
            case _:
                pass

    def _new(self, data: Any) -> Iterable[Any]:
        """The value in some data, unless it is the last one. A model may have left out the wrapping of the schema."""
        key = self._answer.schema.wrapper_key
        value = data if key is None or not isinstance(data, dict) else data.get(key, _NOTHING)
        if value is not _NOTHING and (self._last is _NOTHING or value != self._last):
            self._last = value
            yield value


class _Items:
    """The items of the list in the answer, each once.

    Items stay with the reader when the answer begins again. So each item of the new answer has to be equal to the one
    in its place. Of an item, only a digest is remembered.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._answer = _answer_of(account)
        self._digests: list[bytes] = []
        self._text: list[str] = []
        self._begin()

    def _begin(self) -> None:
        from .._json.partial import Items  # loaded by the first reader of items

        schema = self._answer.schema
        self._items = Items(schema.item_key, may_be_root=schema.is_wrapped or schema.item_key is None)
        self._place = 0
        self._is_wrong = False
        self._text.clear()

    def read(self, event: Event) -> Iterable[Any]:
        match event:
            case TextDelta():
                self._text.append(event.text)
                for text in self._items.feed(event.text):
                    yield from self._item(text)
            case StreamReset() | ToolResult():
                self._begin()
            case StreamCompleted():
                if self._place < len(self._digests):
                    raise self._disagreement(f"it has only {self._place}")
            case _:
                pass

    def _item(self, text: str) -> Iterable[Any]:
        """The value of an item, unless the reader has it. A wrong item ends the items of this answer: the check of the
        whole answer says what is wrong.
        """
        if self._is_wrong:
            return
        parse = self._answer.schema.item_parse
        assert parse is not None  # a stream without a list is refused before it begins
        try:
            value, digest = parse(text), _digest(text)
        except ValueError:
            self._is_wrong = True
            return
        self._place += 1
        if self._place > len(self._digests):
            self._digests.append(digest)
            yield value
        elif digest != self._digests[self._place - 1]:
            raise self._disagreement(f"its item {self._place} is another")

    def _disagreement(self, how: str) -> StreamingError:
        return StreamingError(
            f"the answer began again and does not agree with the {len(self._digests)} items that were given: {how}",
            partial="".join(self._text),
            usage=self._account.usage,
        )


def _answer_of(account: Account) -> Answer:
    assert account.answer is not None  # a stream without a schema is refused before it begins
    return account.answer


def _digest(text: str) -> bytes:
    from .._json.decoding import canonical

    return blake2b(canonical(_data_of(text)).encode(), digest_size=16).digest()


def _data_of(text: str) -> Any:
    from .._json.decoding import decode, unfenced

    return decode(unfenced(text))


def _reading(make: Callable[[Account], Reading]) -> Callable[[Account], Callable[[Event], Iterable[Any]]]:
    return lambda account: make(account).read


PARSED: Final = Shape(can_take_back=True, may_begin_again=True, wants_object=True, reads=_reading(_Parsed))
"""One item: the object, at the end."""

PARTIALS: Final = Shape(can_take_back=True, may_begin_again=True, wants_object=True, reads=_reading(_Partials))
"""The object as far as it is complete, each time that it has grown."""

ITEMS: Final = Shape(can_take_back=True, may_begin_again=True, wants_object=True, reads=_reading(_Items))
"""The items of a list, each when it is complete."""
