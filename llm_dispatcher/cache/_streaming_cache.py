"""`StreamingCache`: serves recorded answers to repeated questions.

Theory of operation
-------------------
A request gets a key (`_request_key`). The index finds an entry with that key, or one in the same bucket with a similar
text, and the store has its recording. Without an entry, the answer is read from upstream as a `SharedStream`, which
records it when it has ended.

- **Invariant.** Every entry of the index has a recording in the store. If the store has lost it, the look-up removes
  the entry and counts a miss. The index decides which entries leave, and the store follows.
- **Threads and loops.** One cache may serve several event loops. The index has a lock, and a shared stream belongs to
  one loop. The store is opened once, under the lock `_opening`. Opening it and loading the lexicon may block, so a
  request does both in another thread.
- **Failures.** An error of the cache or of its store costs a miss and is reported. Only a store that was set up wrongly
  raises an error to the caller.
- **Cancellation.** A cancelled reader leaves its shared stream. Nothing else of the cache waits for a caller.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable
from contextlib import aclosing
from typing import Final
from weakref import WeakKeyDictionary

from .. import _clock
from .._log import write
from .._policy import BODY
from .._upstream import Deadline, Upstream
from ..events import Event, Failure
from ..exceptions import CacheError
from ..notices import CacheFailed, CacheKeptInMemory, Notify
from ..streaming._shared import SharedStream
from ..tasks import Target, TaskRequest
from ._english.lexicon import are_words_loaded, load_words
from ._english.likeness import LIKE, read
from ._index import OVERHEAD, Index, RemovalReason
from ._recording import Replay, decode_recording, encode_recording, play, why_not_recorded
from ._request_key import RequestKey, request_key
from ._stats import CacheStats, Tally
from ._store import Entry, MemoryStore, Store

MAX_BYTES: Final = 64_000_000
TTL: Final = 86_400.0


class StreamingCache:
    """Records streamed answers, and serves them to requests that differ only in the manner of typing.

    One cache may be shared by any number of threads and event loops.

    Args:
        similarity_threshold: The least similarity of two texts, from 0 to 1. With 1.0, only texts with the same
            canonical form are a hit.
        max_cache_size: The most entries. The least recently used entry leaves first.
        max_bytes: The most bytes that all entries may take.
        ttl: How many seconds an entry is served. `None` means for ever.
        store: The path of a SQLite file, or any `Store`. By default, entries are kept in memory.
        namespace: Entries of one namespace are never served to another one.
        replay: How fast a recording is played: "instant", or a number of characters per second.
        keep_joined: Whether to record answers to which more than one attempt contributed.
        clock: The time in seconds since the epoch.
        notify: A function that gets notices about failures of the store. By default they are logged.

    Raises:
        CacheError: `store` names a file that no cache made. The first request may raise it too.
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
        clock: Callable[[], float] = _clock.wall,
        notify: Notify = write,
    ) -> None:
        _between("similarity_threshold", similarity_threshold, 0.0, 1.0)
        _positive("max_cache_size", max_cache_size)
        _positive("max_bytes", max_bytes)
        if ttl is not None:
            _positive("ttl", ttl)
        if replay != "instant":
            _positive("replay", replay)
        self._threshold = similarity_threshold
        self._ttl = ttl
        self._namespace = namespace
        self._replay: Replay = replay
        self._keep_joined = keep_joined
        self._clock = clock
        self._notify = notify
        self._store = _make_store(store, notify)
        self._tally = Tally()
        self._index = Index(max_cache_size, max_bytes, clock, self._entry_left)
        self._secret = b""
        self._opening = threading.Lock()
        self._is_open = False
        self._failures = 0
        self._unread: list[Entry] = []  # entries whose texts are read when the lexicon has been loaded
        self._shared_streams: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, SharedStream]] = (
            WeakKeyDictionary()
        )

    def __repr__(self) -> str:
        return f"<StreamingCache, {len(self._index)} entries>"

    async def stream(
        self,
        request: TaskRequest,
        targets: Iterable[Target],
        upstream: Callable[[], AsyncGenerator[Event, None]],
        apart: Hashable = (),
    ) -> AsyncGenerator[Event, None]:
        """The events of an answer: recorded ones, those of an open stream for the same request, or those of `upstream`.

        Args:
            request: The request.
            targets: The targets that may answer it.
            upstream: Opens a stream to a vendor; it is called if there is no recording. An `Upstream` also names the
                identity of each target and has a deadline, which is extended when a call with a later one joins.
            apart: Only requests with an equal value share an open stream.

        Raises:
            CacheError: The store was set up wrongly. Nothing was sent.
            RequestTimeoutError: The deadline has passed while a recording was played.
            Exception: The error of `upstream`.
        """
        targets = tuple(targets)
        models, deadline = (upstream.models, upstream.deadline) if isinstance(upstream, Upstream) else ((), None)
        key: RequestKey | None = None
        recording: list[Event] | None = None
        if not self._is_open:
            await self._open_in_a_thread()
        try:
            key = request_key(request, targets, self._namespace, self._secret, models)
            recording = await self._look_up(key)
        except CacheError as error:
            self._tally.misses[f"uncacheable: {error.message}"] += 1
        except Exception as error:  # noqa: BLE001 - if the cache fails, the vendors can still answer
            self._tally.misses["failed"] += 1
            self._fail(error)
        if recording is not None:
            source = play(recording, self._replay, deadline)
        elif key is None:
            source = upstream()
        else:
            has_body = any(target.provider == BODY for target in targets)
            source = self._read_shared(key, upstream, None if has_body else apart, deadline or Deadline())
        async with aclosing(source) as events:
            async for event in events:
                yield event

    def stats(self) -> CacheStats:
        """The counters of this cache, in this process."""
        return self._tally.stats(len(self._index), self._index.size)

    def clear(self) -> None:
        """Remove all entries. May block."""
        self._drop(lambda entry: True)

    def forget(self, namespace: str) -> None:
        """Remove the entries of one namespace: the cache's own, or one that requests name. May block."""
        self._drop(lambda entry: namespace in entry.namespace.split("\x00"))

    def flush(self) -> None:
        """Return when the store has written all recordings. May block."""
        self._store.flush()

    def close(self) -> None:
        """Let the store write all recordings and release its resources. May block. Closing twice is not an error."""
        self._store.close()

    # ── look-up ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _look_up(self, key: RequestKey) -> list[Event] | None:
        entry, lane = self._index.get(key.key), "exact"
        if entry is None and not key.exact:
            entry, lane = await self._find_similar(key)
        elif entry is None:
            lane = "exact only: task"
        if entry is not None:
            recording = await self._store.read(entry.key)
            if recording is not None:
                events = decode_recording(recording)
                self._tally.hits[lane] += 1
                return events
            self._index.remove(entry.key)
            lane = "lost by the store"
        self._tally.misses[lane] += 1
        return None

    async def _find_similar(self, key: RequestKey) -> tuple[Entry | None, str]:
        if not len(self._index):
            return None, "empty"
        if not are_words_loaded():
            await asyncio.to_thread(load_words)
        while self._unread:
            entry = self._unread.pop()
            if self._index.get(entry.key) is entry:
                self._index.add(entry, read(entry.text))
        similar, likeness = self._index.find(key.bucket, read(key.text), self._threshold)
        return similar, likeness.rule

    # ── recording ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _read_shared(
        self,
        key: RequestKey,
        upstream: Callable[[], AsyncGenerator[Event, None]],
        apart: Hashable | None,
        deadline: Deadline,
    ) -> AsyncGenerator[Event, None]:
        """Join the open stream for this request, or open one. With `apart=None`, no other call can join it."""
        open_streams = self._shared_streams.setdefault(asyncio.get_running_loop(), {})
        name = (key.key, apart)
        stream = open_streams.get(name) if apart is not None else None
        if stream is not None and not stream.is_joinable:
            stream = None
        first = stream is None
        if stream is None:

            def on_end(events: list[Event], whole: bool) -> None:
                if stream is not None and open_streams.get(name) is stream:
                    del open_streams[name]
                self._record(key, events, whole)

            stream = SharedStream(upstream, on_end, deadline)
            if apart is not None and stream.is_joinable:  # with eager tasks, it may have ended already
                open_streams[name] = stream
        else:
            self._tally.shared += 1
        async with aclosing(stream.read(deadline, first=first)) as events:
            async for event in events:
                yield event

    def _record(self, key: RequestKey, events: list[Event], whole: bool) -> None:
        try:
            reason = why_not_recorded(events, joined=self._keep_joined) if whole else "broken"
            if reason is None:
                reason = self._keep(key, encode_recording(events))
        except Exception as error:  # noqa: BLE001 - the readers have their answer all the same
            self._fail(error)
            reason = "failed"
        if reason is None:
            self._tally.recorded += 1
        else:
            self._tally.unrecorded[reason] += 1

    def _keep(self, key: RequestKey, recording: bytes) -> str | None:
        expires = float("inf") if self._ttl is None else self._clock() + self._ttl
        size = len(recording) + len(key.text.encode("utf-8", "surrogatepass")) + OVERHEAD
        entry = Entry(key.key, key.bucket, key.text, key.namespace, size, expires)
        if not self._add_to_index(entry, exact=key.exact):
            return "too large"
        self._store.add(entry, recording)
        return None

    def _add_to_index(self, entry: Entry, *, exact: bool) -> bool:
        if not exact and not are_words_loaded():
            self._unread.append(entry)  # the first look-up for a similar text reads it
            exact = True
        return self._index.add(entry, None if exact else read(entry.text))

    def _entry_left(self, entry: Entry, why: RemovalReason) -> None:
        self._tally.removals[why] += 1
        self._store.remove([entry.key])

    # ── state ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _open_in_a_thread(self) -> None:
        if isinstance(self._store, MemoryStore):
            self._open()  # it does not block
        else:
            await asyncio.to_thread(self._open)

    def _open(self) -> None:
        """Open the store and add its entries to the index. May block."""
        with self._opening:
            if self._is_open:
                return
            try:
                snapshot = self._store.open()
            except CacheError:
                raise  # the store was set up wrongly
            except Exception as error:  # noqa: BLE001 - a disk that fails costs misses, and no answers
                self._notify(CacheKeptInMemory(Failure.of(error)))
                self._store = MemoryStore()
                snapshot = self._store.open()
            self._secret = snapshot.secret
            if snapshot.entries:
                load_words()
            elif not are_words_loaded():  # no look-up needs them yet
                threading.Thread(target=load_words, name="llm-dispatcher-words", daemon=True).start()
            for entry in snapshot.entries:
                self._add_to_index(entry, exact=False)
            self._is_open = True

    def _drop(self, which: Callable[[Entry], bool]) -> None:
        if not self._is_open:
            self._open()
        keys = [entry.key for entry in self._index if which(entry)]
        for key in keys:
            self._index.remove(key)
        self._store.remove(keys)

    def _fail(self, error: Exception) -> None:
        self._failures += 1
        self._notify(CacheFailed(Failure.of(error), is_first=self._failures == 1))


def _make_store(store: str | os.PathLike[str] | Store | None, notify: Notify) -> Store:
    if store is None or store == "memory":
        return MemoryStore()
    if isinstance(store, (str, os.PathLike)):
        from ._sqlite import SQLiteStore

        return SQLiteStore(store, notify)
    missing = [name for name in ("open", "read", "add", "remove", "flush", "close") if not hasattr(store, name)]
    if isinstance(store, type) or missing:
        kind = f"the class {store.__name__}" if isinstance(store, type) else type(store).__name__
        lacks = f" without {', '.join(missing)}" if missing else ""
        raise TypeError(f"store is a path, or an object with the methods of cache.Store, got {kind}{lacks}")
    return store


def _between(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number, got {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} is between {least:g} and {most:g}, got {value}")


def _positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number, got {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"{name} is more than 0, got {value}")
