"""The dicts that go with a stream and with each of its chunks."""

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
    """A chunk and what is known of it. `total_tokens`, `cost` and `finish_reason` are `None` until the closing item,
    whose `chunk` is empty; joining all chunks gives the text.
    """

    chunk: str
    chunk_index: int


class StreamMetadata(_AboutStream):
    """What callbacks are told of a stream as a whole; `usage` is `None` until it is over."""

    usage: Usage | None
