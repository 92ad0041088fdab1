"""`StreamingCache`: answers that were given once, for whoever asks the same thing."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable
from contextlib import aclosing
from typing import Final
from weakref import WeakKeyDictionary

from .._log import write
from .._policy import BODY
from .._upstream import Deadline, Upstream
from ..events import Event, Failure
from ..exceptions import CacheError
from ..notices import CacheFailed, CacheKeptInMemory, Notify
from ..streaming._shared import Flight
from ..tasks import Target, TaskRequest
from ._english.index import OVERHEAD, Filed, Gone, Index
from ._english.lexicon import are_words_loaded, load_words
from ._english.likeness import LIKE, read
from ._recording import Replay, events_of, recorded, replayed, unfit
from ._request_key import Asked, asked
from ._stats import CacheStats, Tally
from ._store import MemoryStore, Row, Store

MAX_BYTES: Final = 64_000_000
TTL: Final = 86_400.0


class StreamingCache:
    """Recorded streams, served to requests that are the same but for the manner of typing.

    `similarity_threshold` is the least likeness; with 1.0 only the same text, in canonical form, is a hit. The least
    recently used entries leave first when there are more than `max_cache_size`, or more than `max_bytes` of them; each
    leaves `ttl` seconds after it was recorded (`None`: never). `store` is the path of a SQLite file or any `Store`; by
    default entries live in memory. Entries of one `namespace` are never served to another. `replay` is "instant" or a
    number of characters a second. With `keep_joined`, answers that more than one attempt had a part in are kept too.

    A `CacheError`, here or from the first request, says that `store` names a file that is not a cache's.
    """

    def __init__(
        self,
        similarity_threshold: float = LIKE,
        max_cache_size: int = 100,
        max_bytes: int = MAX_BYTES,
        ttl: float | None = TTL,
        store: str | os.PathLike[str] | Store | None = None,
        namespace: str = "",
        replay: Replay = "instant",
        *,
        keep_joined: bool = False,
        clock: Callable[[], float] = time.time,
        notify: Notify = write,
    ) -> None:
        _between("similarity_threshold", similarity_threshold, 0.0, 1.0)
        _more_than_nothing("max_cache_size", max_cache_size)
        _more_than_nothing("max_bytes", max_bytes)
        if ttl is not None:
            _more_than_nothing("ttl", ttl)
        if replay != "instant":
            _more_than_nothing("replay", replay)
        self._threshold = similarity_threshold
        self._ttl = ttl
        self._namespace = namespace
        self._replay: Replay = replay
        self._keep_joined = keep_joined
        self._clock = clock
        self._notify = notify
        self._store = _store(store, notify)
        self._tally = Tally()
        self._index = Index(max_cache_size, max_bytes, clock, self._left)
        self._secret = b""
        self._opening = threading.Lock()
        self._is_open = False
        self._failures = 0
        self._unread: list[Filed] = []
        self._flights: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Flight]] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<StreamingCache, {len(self._index)} entries>"

    async def stream(
        self,
        request: TaskRequest,
        targets: Iterable[Target],
        upstream: Callable[[], AsyncGenerator[Event, None]],
        apart: Hashable = (),
    ) -> AsyncGenerator[Event, None]:
        """The events of an answer: recorded ones, or those of a stream that is under way, or else those of `upstream`,
        which are recorded. `targets` are those that may answer; only requests that agree in `apart` share a stream. An
        `Upstream` also says what each target really is, and until when it goes on: that moves to a later time when a
        call that has more time shares the stream.
        """
        targets = tuple(targets)
        models, deadline = (upstream.models, upstream.deadline) if isinstance(upstream, Upstream) else ((), None)
        what: Asked | None = None
        found: list[Event] | None = None
        if not self._is_open:
            await self._open_in_a_thread()
        try:
            what = asked(request, targets, self._namespace, self._secret, models)
            found = await self._look_up(what)
        except CacheError as error:
            self._tally.misses[f"uncacheable: {error.message}"] += 1
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a cache, the vendors can still be asked
            self._tally.misses["failed"] += 1
            self._fail(error)
        if found is not None:
            source = replayed(found, self._replay)
        elif what is None:
            source = upstream()
        else:
            sharing = None if any(each.provider == BODY for each in targets) else apart
            source = self._shared(what, upstream, sharing, Deadline() if deadline is None else deadline)
        async with aclosing(source) as events:
            async for event in events:
                yield event

    def stats(self) -> CacheStats:
        """What it has done so far, in this process."""
        return self._tally.stats(len(self._index), self._index.size)

    def clear(self) -> None:
        """Forget all entries."""
        self._drop(lambda filed: True)

    def forget(self, namespace: str) -> None:
        """Forget the entries of one namespace: the cache's own, or one that requests name."""
        self._drop(lambda filed: namespace in filed.namespace.split("\x00"))

    def flush(self) -> None:
        """Return when the store has kept all that was recorded. May block."""
        self._store.flush()

    def close(self) -> None:
        """Let the store keep what it still has to. Closing twice is no error."""
        self._store.close()

    # ── looking up ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _look_up(self, what: Asked) -> list[Event] | None:
        filed, lane = self._index.get(what.key), "exact"
        if filed is None and not what.exact:
            filed, lane = await self._like(what)
        elif filed is None:
            lane = "exact only: task"
        if filed is not None:
            recording = await self._store.read(filed.key)
            if recording is not None:
                events = events_of(recording)
                self._tally.hits[lane] += 1
                return events
            self._index.remove(filed.key)
            lane = "lost by the store"
        self._tally.misses[lane] += 1
        return None

    async def _like(self, what: Asked) -> tuple[Filed | None, str]:
        if not len(self._index):
            return None, "empty"
        if not are_words_loaded():
            await asyncio.to_thread(load_words)
        while self._unread:
            filed = self._unread.pop()
            if self._index.get(filed.key) is filed:
                self._index.add(filed, read(filed.text))
        found, likeness = self._index.find(what.bucket, read(what.text), self._threshold)
        return found, likeness.rule

    # ── recording ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _shared(
        self,
        what: Asked,
        upstream: Callable[[], AsyncGenerator[Event, None]],
        apart: Hashable | None,
        deadline: Deadline,
    ) -> AsyncGenerator[Event, None]:
        flights = self._flights.setdefault(asyncio.get_running_loop(), {})
        name = (what.key, apart)
        flight = flights.get(name) if apart is not None else None
        if flight is not None and not flight.is_boarding:
            flight = None
        first = flight is None
        if flight is None:

            def landed(events: list[Event], whole: bool) -> None:
                if flight is not None and flights.get(name) is flight:
                    del flights[name]
                self._record(what, events, whole)

            flight = Flight(upstream, landed, deadline)
            if apart is not None and flight.is_boarding:  # (where tasks are eager, it may have landed already)
                flights[name] = flight
        else:
            self._tally.shared += 1
        async with aclosing(flight.read(deadline, first=first)) as events:
            async for event in events:
                yield event

    def _record(self, what: Asked, events: list[Event], whole: bool) -> None:
        try:
            reason = unfit(events, joined=self._keep_joined) if whole else "broken"
            if reason is None:
                reason = self._keep(what, recorded(events))
        except Exception as error:  # noqa: BLE001 - the answer was given; that it is not kept hurts nobody
            self._fail(error)
            reason = "failed"
        if reason is None:
            self._tally.recorded += 1
        else:
            self._tally.unrecorded[reason] += 1

    def _keep(self, what: Asked, recording: bytes) -> str | None:
        expires = float("inf") if self._ttl is None else self._clock() + self._ttl
        size = len(recording) + len(what.text.encode("utf-8", "surrogatepass")) + OVERHEAD
        row = Row(what.key, what.bucket, what.text, what.namespace, size, expires)
        if not self._file(row, exact=what.exact):
            return "too large"
        self._store.add(row, recording)
        return None

    def _file(self, row: Row, *, exact: bool) -> bool:
        filed = Filed(row.key, row.bucket, row.text, row.namespace, row.size, row.expires)
        if not exact and not are_words_loaded():
            self._unread.append(filed)  # read when somebody first asks for something like it
            exact = True
        return self._index.add(filed, None if exact else read(row.text))

    def _left(self, filed: Filed, why: Gone) -> None:
        self._tally.left[why] += 1
        self._store.remove([filed.key])

    # ── its state ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _open_in_a_thread(self) -> None:
        if isinstance(self._store, MemoryStore):
            self._open()  # there is nothing to wait for
        else:
            await asyncio.to_thread(self._open)

    def _open(self) -> None:
        """May block: what the store kept from earlier goes into the index."""
        with self._opening:
            if self._is_open:
                return
            try:
                kept = self._store.open()
            except CacheError:
                raise  # the store was set up wrongly
            except Exception as error:  # noqa: BLE001 - a disk that fails costs misses, and no answers
                self._notify(CacheKeptInMemory(Failure.of(error)))
                self._store = MemoryStore()
                kept = self._store.open()
            self._secret = kept.secret
            if kept.rows:
                load_words()
            else:  # nobody waits for them yet
                threading.Thread(target=load_words, name="llm-dispatcher-words", daemon=True).start()
            for row in kept.rows:
                self._file(row, exact=False)
            self._is_open = True

    def _drop(self, which: Callable[[Filed], bool]) -> None:
        if not self._is_open:
            self._open()
        gone = [filed.key for filed in self._index if which(filed)]
        for key in gone:
            self._index.remove(key)
        self._store.remove(gone)

    def _fail(self, error: Exception) -> None:
        self._failures += 1
        self._notify(CacheFailed(Failure.of(error), is_first=self._failures == 1))


def _store(given: str | os.PathLike[str] | Store | None, notify: Notify) -> Store:
    if given is None or given == "memory":
        return MemoryStore()
    if isinstance(given, (str, os.PathLike)):
        from ._sqlite import SQLiteStore

        return SQLiteStore(given, notify)
    return given


def _between(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number, got {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} is between {least:g} and {most:g}, got {value}")


def _more_than_nothing(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number, got {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"{name} is more than 0, got {value}")
