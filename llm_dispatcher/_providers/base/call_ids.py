"""The ids and names of tool calls, in the form that a wire takes.

Each vendor has a form of its own for ids: `call_…`, `toolu_…`, nine letters, or none at all. A conversation may have
calls of several vendors. An id that a wire would refuse is replaced by one that follows from it, so the same
conversation is sent with the same ids each time, as a prompt cache needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ...tasks import Message, Part, ToolCallPart, ToolResultPart

_FIGURES: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_UNFIT: Final = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST_NAME: Final = 64


class IdForm(Struct, frozen=True):
    """What a wire takes as the id of a call: ids that match the pattern. Others get the prefix and a hash."""

    pattern: re.Pattern[str]
    prefix: str
    length: int

    def of(self, id: str) -> str:  # noqa: A002 - the wire's word
        """The id as the wire takes it."""
        return id if self.pattern.fullmatch(id) else self.derived(id)

    def derived(self, text: str) -> str:
        """An id that follows from a text."""
        number, figures = int.from_bytes(sha256(text.encode()).digest(), "big"), ""
        for _ in range(self.length):
            number, figure = divmod(number, len(_FIGURES))
            figures += _FIGURES[figure]
        return self.prefix + figures


ANY_ID: Final = IdForm(re.compile(r"(?s).{1,64}"), "call_", 24)
"""Hosts whose limits are not known. Some, like Kimi, expect their own ids unchanged."""
CHAT_ID: Final = IdForm(re.compile(r"[a-zA-Z0-9_-]{1,40}"), "call_", 24)
"""OpenAI's chat interface: at most 40 characters."""
RESPONSES_ID: Final = IdForm(re.compile(r"[a-zA-Z0-9_-]{1,64}"), "call_", 24)
"""OpenAI's responses interface: at most 64 characters."""
ANTHROPIC_ID: Final = IdForm(re.compile(r"[a-zA-Z0-9_-]{1,64}"), "toolu_", 24)
"""Anthropic: `^[a-zA-Z0-9_-]+$`."""
NINE_CHARACTERS: Final = IdForm(re.compile(r"[a-zA-Z0-9]{9}"), "", 9)
"""Mistral and servers with Mistral's tokenizer: nine letters and figures."""


def with_ids(turns: Iterable[Message], form: IdForm) -> list[Message]:
    """The turns with ids and names of calls that the wire takes. Two calls of a conversation never have the same id."""
    ids = _Ids(form)
    return [_translated(turn, ids) for turn in turns]


def _translated(turn: Message, ids: _Ids) -> Message:
    if not any(isinstance(part, (ToolCallPart, ToolResultPart)) for part in turn.parts):
        return turn
    if turn.role == "assistant":
        ids.begin_turn()
    return replace(turn, parts=tuple(_part(part, ids) for part in turn.parts))


def _part(part: Part, ids: _Ids) -> Part:
    match part:
        case ToolCallPart():
            name = _name(part.name)
            return replace(part, id=ids.of_call(part.id, name), name=name)
        case ToolResultPart():
            own = ids.of_result(part.id)
            return replace(part, id=own, name=ids.name_of(own) or _name(part.name))
        case _:
            return part


def _name(name: str) -> str:
    """The name of a call. A model may have called what is no tool, and no vendor takes such a name back."""
    return _UNFIT.sub("_", name)[:_LONGEST_NAME] or "unnamed"


class _Ids:
    """The ids of one request. A vendor may have used an id before, and then the later call gets another one."""

    def __init__(self, form: IdForm) -> None:
        self._form = form
        self._names: dict[str, str] = {}
        self._open: dict[str, list[str]] = {}

    def begin_turn(self) -> None:
        """A turn of the assistant begins: the results that follow are those of its calls."""
        self._open.clear()

    def of_call(self, id: str, name: str) -> str:  # noqa: A002 - the wire's word
        own, again = self._form.of(id), 1
        while own in self._names:
            again += 1
            own = self._form.derived(f"{id} {again}")
        self._names[own] = name
        self._open.setdefault(id, []).append(own)
        return own

    def of_result(self, id: str) -> str:  # noqa: A002 - the wire's word
        own = self._open.get(id)
        if own is None:
            return self._form.of(id)
        return own.pop(0) if len(own) > 1 else own[0]

    def name_of(self, own: str) -> str:
        """The name of the call with this id on the wire; empty if there is none."""
        return self._names.get(own, "")
