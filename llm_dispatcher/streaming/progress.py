"""How far streams have come, as a number from 0 to 100."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from ..events import Event, StreamCancelled, StreamCompleted, StreamFailed, StreamReset, TextDelta
from .account import Account

USUAL_TOKENS: Final = 400
"""What an answer is taken to be long, until one has been seen."""
NEARLY: Final = 0.95
"""From here on progress creeps: an answer that is longer than expected must not look finished."""
SHORT_OF_WHOLE: Final = 0.99


class ProgressTracker:
    """Progress of the streams that were given this tracker; of several at once, their sum.

    What one stream is expected to bring is `expected_tokens` or `expected_chunks`; with neither, its request's
    `max_tokens`, or else how long this tracker's streams have been. A new run begins when a stream starts while no
    other is under way.
    """

    def __init__(
        self,
        expected_tokens: int | None = None,
        expected_chunks: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value in (("expected_tokens", expected_tokens), ("expected_chunks", expected_chunks)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise TypeError(f"{name} is an int, got {type(value).__name__}")
            if value is not None and value < 1:
                raise ValueError(f"{name} is 1 or more, got {value}")
        self.expected_tokens = expected_tokens
        self.expected_chunks = expected_chunks
        self._clock = clock
        self._streams: list[_Share] = []
        self._shown = 0.0
        self._began: float | None = None
        self._ended: float | None = None
        self._usual: float = USUAL_TOKENS

    def get_progress(self) -> float:
        """0.0 before anything came, 100.0 when every stream ended well, never falling in between."""
        streams = self._streams
        if streams and all(stream.finished for stream in streams):
            return 100.0
        expected = sum(stream.expected for stream in streams)
        done = sum(stream.expected * stream.fraction for stream in streams)
        if expected:
            self._shown = max(self._shown, min(100.0 * done / expected, 100.0 * SHORT_OF_WHOLE))
        return self._shown

    @property
    def tokens(self) -> int:
        """Output tokens so far, by rule of thumb."""
        return sum(stream.tokens for stream in self._streams)

    @property
    def elapsed(self) -> float:
        """Seconds that this run has taken."""
        if self._began is None:
            return 0.0
        return (self._clock() if self._ended is None else self._ended) - self._began

    @property
    def tokens_per_second(self) -> float:
        elapsed = self.elapsed
        return self.tokens / elapsed if elapsed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds that are left at this pace; `None` while there is no pace to go by."""
        progress = self.get_progress()
        if progress >= 100.0:
            return 0.0
        return self.elapsed * (100.0 - progress) / progress if progress > 0 else None

    def watcher(self, max_tokens: int | None = None) -> _Share:
        """A watcher for one stream, which joins the run with its first event."""
        return _Share(self, max_tokens)

    @contextmanager
    def live(self) -> Generator[None, None, None]:
        """Draw a bar in the terminal while the block runs."""
        from rich.live import Live
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        def bar() -> Table:
            row = Table.grid(padding=(0, 1))
            progress = self.get_progress()
            row.add_row(
                ProgressBar(total=100.0, completed=progress, width=40),
                f"{progress:5.1f} %",
                f"{self.tokens} tokens",
                f"{self.tokens_per_second:.0f}/s",
            )
            return row

        with Live(get_renderable=bar, refresh_per_second=12):
            yield

    def join(self, share: _Share) -> None:
        """A stream begins."""
        if all(stream.ended for stream in self._streams):
            self._streams.clear()
            self._shown = 0.0
            self._began, self._ended = self._clock(), None
        self._streams.append(share)

    def leave(self, share: _Share) -> None:
        """A stream is over."""
        if share.finished and share.tokens:
            self._usual += (share.tokens - self._usual) / 4
        if all(stream.ended for stream in self._streams):
            self._ended = self._clock()

    def expected(self, max_tokens: int | None) -> float:
        """How much one stream is expected to bring."""
        return self.expected_chunks or self.expected_tokens or max_tokens or self._usual


class _Share:
    """One stream's part in a tracker's run."""

    __slots__ = ("_max_tokens", "_tracker", "chunks", "ended", "expected", "finished", "tokens")

    def __init__(self, tracker: ProgressTracker, max_tokens: int | None) -> None:
        self._tracker = tracker
        self._max_tokens = max_tokens
        self.expected = 0.0
        self.chunks = self.tokens = 0
        self.finished = self.ended = False

    @property
    def fraction(self) -> float:
        if self.finished:
            return 1.0
        came = self.chunks if self._tracker.expected_chunks else self.tokens
        straight = came / self.expected
        if straight < NEARLY:
            return straight
        return NEARLY + (SHORT_OF_WHOLE - NEARLY) * (1 - math.exp(NEARLY - straight))

    def __call__(self, event: Event, account: Account, /) -> None:
        if not self.expected:
            self.expected = self._tracker.expected(self._max_tokens)
            self._tracker.join(self)
        if type(event) is TextDelta:
            self.chunks += 1
            self.tokens = account.tokens
            return
        match event:
            case StreamReset():
                self.chunks = self.tokens = 0
            case StreamCompleted() | StreamFailed() | StreamCancelled():
                self.finished = isinstance(event, StreamCompleted)
                self.ended = True
                self._tracker.leave(self)
            case _:
                pass
