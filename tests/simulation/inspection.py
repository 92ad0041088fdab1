"""What the invariants read out of a switch's private parts, in one place.

Every function returns plain values and changes nothing. When a private name of the package moves, it moves here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from llm_dispatcher import LLMSwitch
from llm_dispatcher._routing.breaker import Breaker
from llm_dispatcher._routing.rate_limits import RateLimit
from llm_dispatcher._routing.token_bucket import Semaphore
from llm_dispatcher.cache import StreamingCache
from llm_dispatcher.cache._index import Index
from llm_dispatcher.cache._recording import decode_recording
from llm_dispatcher.cache._sqlite import entries_of
from llm_dispatcher.cache._store import Entry, MemoryStore
from llm_dispatcher.events import Event
from llm_dispatcher.tasks import Target


def limits(switch: LLMSwitch) -> Iterator[tuple[str, RateLimit]]:
    """Every rate limit of a switch, with the provider or the target that it is of."""
    limiter = switch._shared.traffic.limiter
    yield from ((str(scope), limit) for scope, limit in limiter._configured.items())
    yield from ((f"{target} as reported", limit) for target, limit in limiter._reported.items())


def taken_slots(switch: LLMSwitch) -> dict[str, int]:
    """The slots that are taken, by provider or target."""
    return {scope: slots._used_slots for scope, slots in _semaphores(switch) if slots._used_slots}


def waiting_in_line(switch: LLMSwitch) -> dict[str, int]:
    """How many tasks wait for a slot, by provider or target."""
    return {scope: len(slots._line) for scope, slots in _semaphores(switch) if slots._line}


def _semaphores(switch: LLMSwitch) -> Iterator[tuple[str, Semaphore]]:
    return ((scope, limit.semaphore) for scope, limit in limits(switch) if limit.semaphore is not None)


def overfull_buckets(switch: LLMSwitch) -> dict[str, float]:
    """The buckets that hold more than a full bucket."""
    buckets = {
        f"{kind} of {scope}": bucket
        for scope, limit in limits(switch)
        for kind, bucket in (("requests", limit._requests), ("tokens", limit._tokens))
        if bucket is not None
    }
    return {name: bucket._level for name, bucket in buckets.items() if bucket._level > bucket._capacity + 1e-6}


def reserved_money(switch: LLMSwitch) -> dict[str, float]:
    """US dollars that are reserved, by namespace."""
    return {scope: dollars for scope, dollars in switch._shared.traffic.budgets._reserved.items() if dollars}


def watch_releases(switch: LLMSwitch, report: Callable[[str], None]) -> None:
    """Report each release of more money than is reserved. The budgets count that as nothing reserved."""
    budgets = switch._shared.traffic.budgets
    release = budgets.release

    def watched(namespace: str, dollars: float) -> None:
        for scope in {"": None, namespace: None}:
            reserved = budgets._reserved.get(scope, 0.0)
            if dollars > reserved + 1e-6:
                report(f"${dollars:.6f} of {scope or 'everybody'}, of whom ${reserved:.6f} is reserved")
        release(namespace, dollars)

    budgets.release = watched  # type: ignore[method-assign]


def held(switch: LLMSwitch) -> dict[str, object]:
    """Everything that the streams of a switch hold now, by its kind."""
    cache = switch._runtime.cache_in_use
    every = {
        "slots": taken_slots(switch),
        "places in line": waiting_in_line(switch),
        "reserved dollars": reserved_money(switch),
        "probes": probes(switch),
        "open streams": open_streams(switch),
        "shared streams": 0 if cache is None else flights(cache),
    }
    return {kind: what for kind, what in every.items() if what}


def breakers(switch: LLMSwitch) -> dict[tuple[str, Target], Breaker]:
    """The breakers of all targets that were asked, by their route: "" for those that all other routes share."""
    health = switch._shared.traffic.health
    return {("", target): breaker for target, breaker in health._breakers.items()} | dict(health._route_breakers)


def probes(switch: LLMSwitch) -> dict[str, int]:
    """How many probes are under way, by route and target."""
    every = breakers(switch).items()
    return {f"{route} {target}".strip(): breaker._probes for (route, target), breaker in every if breaker._probes}


def unsent_notices(switch: LLMSwitch) -> int:
    """Notices of breakers that nobody has got."""
    return len(switch._shared.traffic.health._unsent)


def open_streams(switch: LLMSwitch) -> int:
    """How many streams the switch, or one of its living runtimes, takes for open."""
    shared = switch._shared
    runtimes = list(shared.runtimes._all)
    return len(shared.open_streams._watchdogs) + sum(len(each.open_streams._watchdogs) for each in runtimes)


def dollars(switch: LLMSwitch) -> dict[tuple[str, str], float]:
    """What was spent, by namespace and by day or month."""
    return {line: amount for line, amount in switch._shared.traffic.budgets.spending._dollars.items() if amount}


def unwritten_dollars(switch: LLMSwitch) -> dict[tuple[str, str], float]:
    """Amounts that are not in the file yet."""
    return dict(switch._shared.traffic.budgets.spending._unwritten)


def dollars_in_file(path: Path) -> dict[tuple[str, str], float]:
    """What a spending file holds."""
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path)) as file:
        rows = file.execute("SELECT namespace, period, dollars FROM spending").fetchall()
    return {(namespace, period): amount for namespace, period, amount in rows}


# ── caches ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def flights(cache: StreamingCache) -> int:
    """How many streams of a cache are shared, or can be joined."""
    return sum(len(streams) for streams in cache._shared_streams.values())


def index_of(cache: StreamingCache) -> Index:
    return cache._index


def indexed(cache: StreamingCache) -> set[bytes]:
    """The keys of the entries that a cache would serve, and of those whose time is over."""
    return set(cache._index._shelf._Cache__data)  # type: ignore[attr-defined]


def stored(cache: StreamingCache) -> dict[bytes, bytes] | None:
    """The recordings that a cache in memory holds; `None` if its store is another one."""
    return dict(cache._store._recordings) if isinstance(cache._store, MemoryStore) else None


def unwritten_recordings(cache: StreamingCache) -> int:
    """Recordings that are not in the file yet."""
    return len(getattr(cache._store, "_unwritten", ()))


def recordings_in_file(path: Path) -> list[tuple[Entry, list[Event]]]:
    """The entries of a cache's file, each with its recording. A recording that cannot be read raises."""
    if not path.exists() or not path.stat().st_size:
        return []
    found = {entry.key: entry for entry in entries_of(path)}
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
        rows = file.execute("SELECT key, recording FROM entries").fetchall()
    return [(found[key], decode_recording(recording)) for key, recording in rows]
