"""The completions wire: an answer goes on from token ids.

vLLM and llama.cpp have it. A chunk has its text in `choices[0].text` and, if it was asked to, the ids of its tokens in
`choices[0].token_ids`; everything else is as in chat completions.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from ..._vendors.quirks import Quirk
from ...provider import Piece
from ...provider._decoding import DONE
from ...tasks import Target, TaskRequest
from ..base.encoding import without_empty
from . import chat
from .token_prompt import TokenPrompt
from .token_trail import SAMPLING, Trail


class _Choice(Struct):
    text: str | None = None
    finish_reason: str | None = None
    index: int | None = 0
    token_ids: list[int] | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


class _PlainChoice(Struct, gc=False):
    text: Annotated[str, Meta(min_length=1)]
    token_ids: list[int] = []
    finish_reason: chat.NoText = None
    index: chat.FirstIndex = 0


class _PlainChunk(Struct, gc=False):
    """A chunk with text and perhaps its ids, and nothing else."""

    choices: tuple[_PlainChoice]
    usage: None = None
    error: None = None


_decode: Final = msgspec.json.Decoder(_Chunk).decode
_decode_plain: Final = msgspec.json.Decoder(_PlainChunk).decode


def body(request: TaskRequest, model: str, prompt: TokenPrompt, *, quirks: Container[Quirk]) -> dict[str, Any]:
    """The body of a request that goes on from the ids of a prompt."""
    return without_empty(
        model=model,
        prompt=prompt.ids,
        max_tokens=prompt.most,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stream_options=None if "no_stream_options" in quirks else {"include_usage": True},
        extra_body={name: value for name, value in request.extra.items() if name in SAMPLING},
    )


class Decoder(chat.Decoder):
    """Decodes an answer that goes on from a trail. It yields a trail of its own, which begins with that one."""

    def __init__(self, target: Target, quirks: Container[Quirk], before: Trail) -> None:
        super().__init__(target, quirks)
        self._trail = before.branch()
        self._is_yielded = False

    def pieces(self, data: bytes) -> Iterable[Piece]:
        if not self._is_yielded:
            self._is_yielded = True
            return (self._trail, *self._pieces(data))
        return self._pieces(data)

    def _pieces(self, data: bytes) -> Iterable[Piece]:
        if data == DONE or not data:
            return super().pieces(data)
        try:
            plain = _decode_plain(data).choices[0]
        except msgspec.ValidationError:
            chunk = _decode(data)
            pieces = tuple(self._others(_as_chat(chunk)))  # if it is an error, its text is not yielded
            for choice in chunk.choices or ():
                if not choice.index:
                    self._trail.add(choice.token_ids or [], choice.text or "")
            return pieces
        self._trail.add(plain.token_ids, plain.text)
        return (plain.text,)


def _as_chat(chunk: _Chunk) -> chat.Chunk:
    """A chunk as chat completions would have it."""
    choices = [
        chat.Choice(chat.Delta(content=choice.text), choice.finish_reason, choice.index)
        for choice in chunk.choices or ()
    ]
    return chat.Chunk(choices=choices, usage=chunk.usage, error=chunk.error)
