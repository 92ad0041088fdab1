"""The chat completions wire of hosts whose answers can go on from token ids.

vLLM tells the ids of the prompt in the first chunk, and in each chunk the ids of its tokens. A chunk may have ids and
no text: its text comes later (half of a character), or the reader does not see it (the end of the reasoning). These ids
wait for the next text, so that the trail never has ids of text that was not yielded.

llama.cpp tells no ids. Its trail has the text alone, which the host itself makes ids of if the answer breaks.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

import msgspec
from msgspec import Struct

from ..._vendors.quirks import Quirk
from ...events import ReasoningDelta
from ...provider import Piece
from ...provider._decoding import DONE
from ...tasks import Target
from . import chat
from .token_trail import Trail


class _Choice(chat.Choice):
    token_ids: list[int] | None = None


class _Chunk(chat.Chunk):
    choices: list[_Choice] | None = None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]
    prompt_token_ids: list[int] | None = None


class _PlainChoice(Struct, gc=False):
    delta: chat.PlainDelta
    token_ids: list[int]
    finish_reason: chat.NoText = None
    index: chat.FirstIndex = 0


class _PlainChunk(Struct, gc=False):
    """A chunk with text and its ids, and nothing else."""

    choices: tuple[_PlainChoice]
    usage: None = None
    error: None = None
    citations: None = None
    x_groq: None = None
    prompt_token_ids: None = None


_decode: Final = msgspec.json.Decoder(_Chunk).decode
_decode_plain: Final = msgspec.json.Decoder(_PlainChunk).decode


class Decoder(chat.Decoder):
    """Decodes an answer with token ids."""

    def __init__(self, target: Target, quirks: Container[Quirk], family: str) -> None:
        super().__init__(target, quirks)
        self._family = family
        self._trail: Trail | None = None
        self._has_none = False

    def pieces(self, data: bytes) -> Iterable[Piece]:
        if self._trail is None:
            return super().pieces(data) if self._has_none else self._first(data)
        try:
            choice = _decode_plain(data).choices[0]
        except msgspec.DecodeError:
            return self._with_ids(data, self._trail)
        self._trail.add(choice.token_ids, choice.delta.content)
        return (choice.delta.content,)

    def _first(self, data: bytes) -> Iterable[Piece]:
        """The first event. It has the ids of the prompt; if it has not, the host tells none."""
        if not data:
            return
        prompt = _decode(data).prompt_token_ids if data != DONE else None
        self._has_none = not prompt
        if prompt:
            trail = self._trail = Trail(self._family, prompt)
            yield trail
            yield from self._with_ids(data, trail)
        else:
            yield from super().pieces(data)

    def _with_ids(self, data: bytes, trail: Trail) -> Iterable[Piece]:
        if data == DONE or not data:
            yield from super().pieces(data)
            return
        chunk = _decode(data)
        pieces = tuple(self._others(chunk))  # if it is an error, its text is not yielded
        for choice in chunk.choices or ():
            if not choice.index:
                content = choice.delta.content if choice.delta is not None else None
                trail.add(choice.token_ids or [], content if isinstance(content, str) else "")
        yield from pieces


class TextDecoder(chat.Decoder):
    """Decodes an answer of a host that tells no ids. An answer with reasoning has no trail: its ids begin with those of
    the reasoning, and the text of the marks around it is not known.
    """

    def __init__(self, target: Target, quirks: Container[Quirk], family: str) -> None:
        super().__init__(target, quirks)
        self._trail = Trail(family, None)
        self._is_yielded = self._has_reasoning = False

    def pieces(self, data: bytes) -> Iterable[Piece]:
        for piece in super().pieces(data):
            if isinstance(piece, ReasoningDelta):
                self._has_reasoning = True
                self._trail.text.clear()
            elif isinstance(piece, str) and not self._has_reasoning:
                if not self._is_yielded:
                    self._is_yielded = True
                    yield self._trail
                self._trail.text.append(piece)
            yield piece
