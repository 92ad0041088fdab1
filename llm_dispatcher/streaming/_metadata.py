"""The metadata of a stream and of each of its chunks, as dicts."""

from __future__ import annotations

from typing import TypedDict

from .._usage import Usage
from ..events import FinishReason


class _AboutStream(TypedDict):
    provider: str
    model: str
    attempt: int
    cached: bool
    elapsed: float
    tokens: int
    total_tokens: int | None
    cost: float | None
    finish_reason: FinishReason | None


class ChunkMetadata(_AboutStream):
    """A chunk and its metadata. All chunks joined are the text.

    `total_tokens`, `cost` and `finish_reason` are `None` until the closing item, whose `chunk` is empty.
    """

    chunk: str
    chunk_index: int


class StreamMetadata(_AboutStream):
    """The metadata of a whole stream, which callbacks get. `usage` is `None` until the stream is over."""

    usage: Usage | None
