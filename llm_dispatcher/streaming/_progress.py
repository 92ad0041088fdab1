"""`ProgressTracker`: how far streams have come, as a number from 0 to 100.

A tracker is read in any thread. The task that reads a stream moves that stream's share of the tracker. A share that is
over is added to the sums of the run and dropped, because a busy tracker may never be without an open stream. `_lock`
guards the shares and the sums, and is held for moments. Two module globals, `_ticks` and `_latest`, exist for one
warning: that a tracker stays at 0 because no stream has it.
"""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Final

from .. import _clock
from ..events import Event, StreamCancelled, StreamCompleted, StreamFailed
from ._account import Account
from ._observe import ObservedCall, Observer, Watcher

if TYPE_CHECKING:
    from rich.console import Console

USUAL_TOKENS: Final = 400
"""Tokens that an answer is expected to have until a first answer was seen."""
NEARLY: Final = 0.95
"""From this fraction on progress slows down, because an answer that is longer than expected is not finished."""
SHORT_OF_WHOLE: Final = 0.99


class ProgressTracker:
    """The progress of the streams that have this tracker, all together.

    A tracker that no stream has follows the streams that begin after it was made, in its own task and in tasks
    started from there. If a task has several such trackers, the newest one follows.

    A new run begins when a stream starts while no other stream of the tracker is open.

    Args:
        expected_tokens: The tokens that each stream is expected to have. Without it, the request's `max_tokens` counts,
            or else the length of earlier streams of this tracker.
        expected_chunks: The chunks that each stream is expected to have, instead of tokens.
        clock: A function that returns seconds; for tests.

    Raises:
        TypeError, ValueError: An expected number is not an int, or is less than 1.
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
        self._lock = Lock()
        self._open: list[_Share] = []
        self._past = _Past()
        self._highest = 0.0
        self._began: float | None = None
        self._ended: float | None = None
        self._usual: float | None = None
        self._owner: str | None = None
        self._is_assigned = self._follows = self._has_warned = False
        self._made_at = next(_ticks)
        _made_here.set((*(tracker for tracker in _made_here.get() if _may_follow(tracker())), weakref.ref(self)))

    def get_progress(self) -> float:
        """A number from 0.0 to 100.0. It never falls during a run, and is 100.0 when every stream is complete."""
        self._warn_if_nobodys()
        with self._lock:
            past = self._past
            if self._ended is not None and past.is_complete:
                return 100.0
            expected = past.expected + sum(share.expected for share in self._open)
            done = past.done + sum(share.expected * share.fraction for share in self._open)
            if expected:
                self._highest = max(self._highest, min(100.0 * done / expected, 100.0 * SHORT_OF_WHOLE))
            return self._highest

    @property
    def tokens(self) -> int:
        """Output tokens so far, estimated from the text."""
        self._warn_if_nobodys()
        with self._lock:
            return self._past.tokens + sum(share.tokens for share in self._open)

    @property
    def elapsed(self) -> float:
        """Seconds since this run began, or its whole time if it is over."""
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
        """Seconds that are left at this pace, or `None` before the first progress."""
        progress = self.get_progress()
        if progress >= 100.0:
            return 0.0
        return self.elapsed * (100.0 - progress) / progress if progress > 0 else None

    @contextmanager
    def live(self, console: Console | None = None) -> Generator[None, None, None]:
        """Draw a progress bar in the terminal while the block runs. Without a terminal, nothing is drawn."""
        from .._importing import needed_by

        with needed_by("ProgressTracker.live needs", "rich"):
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
        with self._lock:
            if self._follows:
                self._follows = False
                self._forget()
        self._is_assigned = True
        self._owner = owner or self._owner

    def _watch(self, max_tokens: int | None = None) -> Watcher:
        """A watcher for a stream that has this tracker and is about to be read. The stream joins the run."""
        global _latest
        self._is_assigned = True
        _latest = (next(_ticks), self._owner)
        return self._joined(max_tokens)

    def _follow(self, max_tokens: int | None = None) -> Watcher:
        """A watcher for a stream that is about to be read and that this tracker follows."""
        self._follows = True
        return self._joined(max_tokens)

    def _joined(self, max_tokens: int | None) -> Watcher:
        with self._lock:
            if not self._open:
                self._forget()
                self._began = self._clock()
            share = _Share(self, self._expected(max_tokens))
            self._open.append(share)
        return share

    def _forget(self) -> None:
        self._open.clear()
        self._past = _Past()
        self._highest = 0.0
        self._began = self._ended = None

    def _leave(self, share: _Share) -> None:
        """Note that a stream is over."""
        with self._lock:
            if share.finished and share.tokens:
                self._usual = share.tokens if self._usual is None else self._usual + (share.tokens - self._usual) / 4
            if share not in self._open:
                return  # the tracker has forgotten it
            self._open.remove(share)
            self._past.add(share)
            if not self._open:
                self._ended = self._clock()

    def _expected(self, max_tokens: int | None) -> float:
        """The tokens or chunks that one stream is expected to have."""
        return self.expected_chunks or self.expected_tokens or max_tokens or self._usual or USUAL_TOKENS

    def _warn_if_nobodys(self) -> None:
        """Warn once if streams have run since this tracker was made, and it has none of them: it stays at 0."""
        if self._is_assigned or self._follows or self._has_warned or _latest[0] < self._made_at:
            return
        self._has_warned = True
        other = _latest[1]
        whose = f"that of {other}()" if other else "another"
        warnings.warn(
            f"no stream has this ProgressTracker, so it stays at 0; {whose} has run. The tracker of a decorated "
            "function is story.progress_tracker. To use another one, pass it as progress_tracker=, or make it in the "
            "task that reads the stream",
            stacklevel=3,
        )


def assign(tracker: ProgressTracker, owner: str | None = None) -> None:
    """Note that a stream has this tracker, or will have it. `owner` is the decorated function that has it.

    From now on the tracker follows no other streams, and it forgets those that it has followed.
    """
    tracker._assign(owner)  # noqa: SLF001 - of this module


class ProgressObserver(Observer):
    """Moves the tracker of a call."""

    needs_sequence = False

    def __init__(self, tracker: ProgressTracker) -> None:
        self._tracker = tracker

    def begin(self, call: ObservedCall | None, account: Account) -> Watcher | None:
        return None if call is None else self._tracker._watch(call.request.max_tokens)  # noqa: SLF001


class _Following(Observer):
    """Moves the tracker that follows the streams of this task, if there is one. A stream inside another
    stream counts as part of the outer one.
    """

    needs_sequence = False

    def begin(self, call: ObservedCall | None, account: Account) -> Watcher | None:
        tracker = None if call is None or account.is_inside_another else _following_tracker()
        return None if tracker is None or call is None else tracker._follow(call.request.max_tokens)  # noqa: SLF001


FOLLOWING: Final = _Following()


def _following_tracker() -> ProgressTracker | None:
    """The tracker that follows a stream which begins now in this task."""
    for reference in reversed(_made_here.get()):
        tracker = reference()
        if _may_follow(tracker):
            return tracker
    return None


def _may_follow(tracker: ProgressTracker | None) -> bool:
    return tracker is not None and not tracker._is_assigned  # noqa: SLF001 - this module's class


_made_here: Final[ContextVar[tuple[weakref.ref[ProgressTracker], ...]]] = ContextVar("trackers made here", default=())
"""The trackers that were made in this task, or before it was started in the task that started it. A task inherits a
copy, so a tracker that is made later in one task is unknown to the other.
"""
_ticks: Final = count()
_latest: tuple[int, str | None] = (-1, None)
"""When a stream with a tracker was last read, and whose tracker it was. Only the warning uses it."""


class _Share:
    """The share that one stream has in the run of a tracker."""

    __slots__ = ("_account", "_tracker", "expected", "finished")

    def __init__(self, tracker: ProgressTracker, expected: float) -> None:
        self._tracker = tracker
        self.expected: float = expected
        self._account: Account | None = None
        self.finished: bool = False

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

    chunk = None  # the account counts the text

    def watch(self, event: Event, account: Account, /) -> None:
        self._account = account
        if isinstance(event, (StreamCompleted, StreamFailed, StreamCancelled)):
            self.finished = isinstance(event, StreamCompleted)
            self._tracker._leave(self)  # noqa: SLF001 - of this module


class _Past:
    """The sums of those shares of a run that are over."""

    __slots__ = ("done", "expected", "is_complete", "tokens")

    def __init__(self) -> None:
        self.expected = 0.0
        self.done = 0.0
        self.tokens = 0
        self.is_complete = True
        """Whether all of these streams were complete."""

    def add(self, share: _Share) -> None:
        """Add a share that is over."""
        self.expected += share.expected
        self.done += share.expected * share.fraction
        self.tokens += share.tokens
        self.is_complete = self.is_complete and share.finished
