"""`Account`: the running state of one stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from .. import _clock
from .._tokens import CHARACTERS_A_TOKEN
from .._usage import Usage
from ..events import (
    Attempt,
    Event,
    FinishReason,
    StreamCancelled,
    StreamCompleted,
    StreamStarted,
    TaskResponse,
)
from ..tasks import Target
from ._answer import Answer
from ._metadata import ChunkMetadata, StreamMetadata
from ._transcript import Transcript


class Account:
    """One stream's running account: its transcript, its target, when it began and how it ended.

    Only the tap writes to it. Watchers and the reader read it while the stream runs.
    """

    def __init__(self, ledger: Sequence[Attempt] = (), clock: Callable[[], float] | None = None) -> None:
        self.ledger = ledger
        self.is_inside_another = False
        """Whether the stream began while another stream of its task was at work on its next chunk."""
        self._clock = _clock.source().monotonic if clock is None else clock  # read for every chunk
        self._began: float | None = None
        self._ended: float | None = None
        self.transcript: Transcript = Transcript()
        self._completed: StreamCompleted | None = None
        self.started: datetime | None = None
        self.first_token_after: float | None = None
        self.target: Target | None = None
        self._speaker: ChunkMetadata = {
            "chunk": "",
            "chunk_index": 0,
            "provider": "",
            "model": "",
            "attempt": 0,
            "cached": False,
            "elapsed": 0.0,
            "tokens": 0,
            "total_tokens": None,
            "cost": None,
            "finish_reason": None,
        }
        self.attempt: int = 0
        self.cached: bool = False
        self.finish_reason: FinishReason | None = None
        self.error: Exception | None = None
        self.answer: Answer | None = None
        """The object in the answer, if the stream is read as one."""

    def begin(self) -> None:
        """The reader asked for the first item."""
        self._began = self._clock()
        self.started = _clock.now()

    def end(self, error: Exception | None = None) -> None:
        """The stream is over."""
        self._ended = self._clock()
        self.error = error

    def hear_first_token(self) -> None:
        """The first chunk has come."""
        self.first_token_after = self.elapsed

    def see(self, event: Event) -> None:
        """Update the account with an event that is not a chunk of text."""
        match event:
            case StreamStarted():
                self.target, self.attempt, self.cached = event.target, event.attempt, event.cached
                speaker = self._speaker
                speaker["provider"], speaker["model"] = event.target.provider, event.target.model
                speaker["attempt"], speaker["cached"] = event.attempt, event.cached
                self.transcript.take(event)
            case StreamCompleted():
                self._completed = event
                self.finish_reason = event.finish_reason
            case StreamCancelled():
                self.finish_reason = "cancelled"
            case _:
                self.transcript.take(event)

    @property
    def over(self) -> bool:
        return self._ended is not None

    @property
    def is_complete(self) -> bool:
        """Whether the vendor has said that the answer is complete, and the reader has it."""
        return self._completed is not None

    @property
    def text(self) -> str:
        return self.transcript.text

    @property
    def chunks(self) -> int:
        """Chunks so far."""
        return len(self.transcript.pieces)

    @property
    def tokens(self) -> int:
        """Output tokens so far, by rule of thumb."""
        return -(-self.transcript.characters // CHARACTERS_A_TOKEN)

    @property
    def elapsed(self) -> float:
        if self._began is None:
            return 0.0
        return (self._clock() if self._ended is None else self._ended) - self._began

    @property
    def usage(self) -> Usage:
        if self._completed is not None:
            return self._completed.usage
        return Usage.sum(attempt.usage for attempt in self.ledger)

    def chunk(self, text: str, index: int) -> ChunkMetadata:
        """A chunk with its metadata. Figures that are known only at the end are `None`."""
        began, ended = self._began, self._ended
        metadata = self._speaker.copy()  # a copy takes half as long as a new dict
        metadata["chunk"] = text
        metadata["chunk_index"] = index
        metadata["elapsed"] = 0.0 if began is None else (self._clock() if ended is None else ended) - began
        metadata["tokens"] = -(-self.transcript.characters // CHARACTERS_A_TOKEN)
        return metadata

    def closing(self) -> ChunkMetadata:
        """The item after the last chunk. It has the figures of the whole stream."""
        whole = self.metadata()
        return {
            **self.chunk("", len(self.transcript.pieces)),
            "total_tokens": whole["total_tokens"],
            "cost": whole["cost"],
            "finish_reason": whole["finish_reason"],
        }

    def metadata(self) -> StreamMetadata:
        """The metadata of the whole stream, as far as it has come."""
        # before the first chunk, the target of the last attempt
        target = self.target or (self.ledger[-1].target if len(self.ledger) else None)
        usage = self.usage if self.finish_reason or self.over else None
        is_counted = usage is not None and usage.source != "unknown"
        return {
            "provider": target.provider if target else "",
            "model": target.model if target else "",
            "attempt": self.attempt,
            "cached": self.cached,
            "elapsed": self.elapsed,
            "tokens": self.tokens,
            "total_tokens": usage.total_tokens if usage and is_counted else None,
            "cost": usage.cost if usage and is_counted else None,
            "finish_reason": self.finish_reason,
            "usage": usage,
        }

    def response(self) -> TaskResponse:
        """The state of the stream so far, as a value."""
        from ._turns import turns_of  # decorating a function must stay light

        return TaskResponse(
            text=self.text,
            target=self.target,
            finish_reason=self.finish_reason,
            usage=self.usage,
            tool_calls=self.transcript.tool_calls,
            attempts=tuple(self.ledger),
            cached=self.cached,
            started=self.started,
            first_token_after=self.first_token_after,
            elapsed=self.elapsed,
            error=self.error,
            messages=turns_of(self.transcript),
        )
