"""How far streams have come, as a number from 0 to 100."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Final

from .. import _clock
from ..events import Event, StreamCancelled, StreamCompleted, StreamFailed
from ._account import Account
from ._observe import ObservedCall, Observer, Watcher

if TYPE_CHECKING:
    from rich.console import Console

USUAL_TOKENS: Final = 400
"""What an answer is taken to be long, until one has been seen."""
NEARLY: Final = 0.95
"""From here on progress creeps: an answer that is longer than expected must not look finished."""
SHORT_OF_WHOLE: Final = 0.99


class ProgressTracker:
    """Progress of the streams that were given this tracker; of several at once, their sum.

    A tracker that no stream was given follows the streams that begin in its own task after it was made, and in tasks
    started from there. Of several such trackers in a task, the one that was made last follows.

    What each stream is expected to bring is `expected_tokens` or `expected_chunks`; with neither, its request's
    `max_tokens`, or else how long this tracker's streams have been. A new run begins when a stream starts while no
    other is under way.
    """

    def __init__(
        self,
        expected_tokens: int | None = None,
        expected_chunks: int | None = None,
        *,
        clock: Callable[[], float] = _clock.monotonic,
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
        self._usual: float | None = None
        self._owner: str | None = None
        self._given = self._follows = self._has_warned = False
        self._made = next(_ticks)
        _made_here.set((*(made for made in _made_here.get() if _may_follow(made())), weakref.ref(self)))

    def get_progress(self) -> float:
        """0.0 before anything came, 100.0 when every stream ended well, never falling in between."""
        self._warn_if_nobodys()
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
        self._warn_if_nobodys()
        return sum(stream.tokens for stream in self._streams)

    @property
    def elapsed(self) -> float:
        """Seconds that this run has taken."""
        self._warn_if_nobodys()
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

    @contextmanager
    def live(self, console: Console | None = None) -> Generator[None, None, None]:
        """Draw a bar in the terminal while the block runs; where there is no terminal, nothing is drawn."""
        from rich.console import Console
        from rich.live import Live
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        console = console or Console(stderr=True)
        if not console.is_terminal:
            yield
            return

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

        with Live(get_renderable=bar, console=console, refresh_per_second=12):
            yield

    # ── for this package ───────────────────────────────────────────────────────────────────────────────────────────

    def _assign(self, owner: str | None = None) -> None:
        if self._follows:
            self._follows = False
            self._forget()
        self._given = True
        self._owner = owner or self._owner

    def _watch(self, max_tokens: int | None = None) -> Watcher:
        """A watcher for a stream that has this tracker and is about to be read. The stream joins the run."""
        global _latest
        self._given = True
        _latest = (next(_ticks), self._owner)
        return self._joined(max_tokens)

    def _follow(self, max_tokens: int | None = None) -> Watcher:
        """A watcher for a stream that is about to be read and that this tracker follows."""
        self._follows = True
        return self._joined(max_tokens)

    def _joined(self, max_tokens: int | None) -> Watcher:
        if all(stream.ended for stream in self._streams):
            self._forget()
            self._began = self._clock()
        share = _Share(self, self._expected(max_tokens))
        self._streams.append(share)
        return share

    def _forget(self) -> None:
        self._streams.clear()
        self._shown = 0.0
        self._began = self._ended = None

    def _leave(self, share: _Share) -> None:
        """A stream is over."""
        if share.finished and share.tokens:
            self._usual = share.tokens if self._usual is None else self._usual + (share.tokens - self._usual) / 4
        if all(stream.ended for stream in self._streams):
            self._ended = self._clock()

    def _expected(self, max_tokens: int | None) -> float:
        """How much one stream is expected to bring."""
        return self.expected_chunks or self.expected_tokens or max_tokens or self._usual or USUAL_TOKENS

    def _warn_if_nobodys(self) -> None:
        """Warn once that this tracker stays at 0, if it has no stream while streams have run since it was made."""
        if self._given or self._follows or self._has_warned or _latest[0] < self._made:
            return
        self._has_warned = True
        other = _latest[1]
        whose = f"that of {other}()" if other else "another"
        warnings.warn(
            f"no stream has this ProgressTracker, and so it stays at 0; {whose} has run. The tracker of a decorated "
            "function is story.progress_tracker. To use another one, give it as progress_tracker=, or make it in the "
            "task that reads the stream",
            stacklevel=3,
        )


def assign(tracker: ProgressTracker, owner: str | None = None) -> None:
    """Note that a stream has this tracker, or will have it. `owner` is the decorated function that it belongs to.

    From now on the tracker follows no other streams, and it forgets those that it has followed.
    """
    tracker._assign(owner)  # noqa: SLF001 - of this module


class ProgressObserver(Observer):
    """Moves the tracker that a call was given."""

    def __init__(self, tracker: ProgressTracker) -> None:
        self._tracker = tracker

    def begin(self, call: ObservedCall | None, account: Account) -> Watcher | None:
        return None if call is None else self._tracker._watch(call.request.max_tokens)  # noqa: SLF001


class _Following(Observer):
    """Moves the tracker that follows the streams of this task, if there is one. A stream inside another stream is part
    of that one's progress.
    """

    def begin(self, call: ObservedCall | None, account: Account) -> Watcher | None:
        tracker = None if call is None or account.is_inside_another else _following_tracker()
        return None if tracker is None or call is None else tracker._follow(call.request.max_tokens)  # noqa: SLF001


FOLLOWING: Final = _Following()


def _following_tracker() -> ProgressTracker | None:
    """The tracker that follows a stream which begins here and now."""
    for made in reversed(_made_here.get()):
        tracker = made()
        if _may_follow(tracker):
            return tracker
    return None


def _may_follow(tracker: ProgressTracker | None) -> bool:
    return tracker is not None and not tracker._given  # noqa: SLF001 - of this class


_made_here: Final[ContextVar[tuple[weakref.ref[ProgressTracker], ...]]] = ContextVar("trackers made here", default=())
"""The trackers that were made in this task or in those from which it was started. A task inherits a copy, so that what
one task makes after the start of another is none of the other's business.
"""
_ticks: Final = count()
_latest: tuple[int, str | None] = (-1, None)
"""When a stream with a tracker was last read, and whose tracker it was: for one warning, and nothing else."""


class _Share:
    """One stream's part in a tracker's run."""

    __slots__ = ("_account", "_tracker", "ended", "expected", "finished")

    def __init__(self, tracker: ProgressTracker, expected: float) -> None:
        self._tracker = tracker
        self.expected: float = expected
        self._account: Account | None = None
        self.finished: bool = False
        self.ended: bool = False

    @property
    def tokens(self) -> int:
        return 0 if self._account is None else self._account.tokens

    @property
    def chunks(self) -> int:
        return 0 if self._account is None else self._account.chunks

    @property
    def fraction(self) -> float:
        if self.finished:
            return 1.0
        came = self.chunks if self._tracker.expected_chunks else self.tokens
        straight = came / self.expected
        if straight < NEARLY:
            return straight
        return NEARLY + (SHORT_OF_WHOLE - NEARLY) * (1 - math.exp(NEARLY - straight))

    chunk = None  # (what has come, the account knows)

    def watch(self, event: Event, account: Account, /) -> None:
        self._account = account
        if isinstance(event, (StreamCompleted, StreamFailed, StreamCancelled)):
            self.finished = isinstance(event, StreamCompleted)
            self.ended = True
            self._tracker._leave(self)  # noqa: SLF001 - of this module
