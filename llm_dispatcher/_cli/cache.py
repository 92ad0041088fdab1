"""The commands `cache stats`, `cache clear` and `cache explain`."""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path

from .. import _clock
from .._config import load
from ..cache import Entry, alike
from ..cache._sqlite import entries_of, remove_from
from ..exceptions import ConfigurationError
from .exit_codes import DONE
from .printing import say, say_json, say_table


def stats(store: Path | None, *, config: Path | None, as_json: bool) -> int:
    """What a cache's file holds, by namespace."""
    file = _file(store, config)
    rows = _rows(file)
    entries: Counter[str] = Counter(_name(row) for row in rows)
    sizes: Counter[str] = Counter()
    for row in rows:
        sizes[_name(row)] += row.size
    if as_json:
        namespaces = {name: {"entries": entries[name], "bytes": sizes[name]} for name in sorted(entries)}
        say_json({"file": str(file), "entries": len(rows), "bytes": sizes.total(), "namespaces": namespaces})
        return DONE
    say(f"{file}: {_entries(len(rows))}, {sizes.total():,} bytes")
    if rows:
        say_table(
            ("namespace", "entries", "bytes"),
            ((name or "(none)", str(entries[name]), f"{sizes[name]:,}") for name in sorted(entries)),
        )
    return DONE


def clear(store: Path | None, *, namespace: str | None, config: Path | None, as_json: bool) -> int:
    """Forget all entries of a cache's file, or those of one namespace."""
    file = _file(store, config)
    gone = [row.key for row in _rows(file) if namespace is None or namespace in row.namespace.split("\x00")]
    if gone:
        remove_from(file, gone)
    if as_json:
        say_json({"file": str(file), "forgotten": len(gone)})
    else:
        say(f"{file}: {_entries(len(gone))} forgotten")
    return DONE


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count:,} entries"


def explain(a: str, b: str, *, threshold: float, as_json: bool) -> int:
    """Whether the answer to one text may be served for another, and by which rule."""
    likeness = alike(a, b, threshold)
    if as_json:
        say_json({"hit": likeness.hit, "rule": likeness.rule, "score": round(likeness.score, 4)})
    else:
        say(f"{'served' if likeness.hit else 'not served'}: {likeness.rule} (score {likeness.score:.3f})")
    return DONE


def _file(store: Path | None, config: Path | None) -> Path:
    """The cache's file. One that the command line names has to be there; the configured one may not have been made."""
    if store is not None:
        if not store.exists():
            raise FileNotFoundError(
                errno.ENOENT, "there is no such file; --store names a file that a cache made", store
            )
        return store
    policy = load(config)
    if policy.cache is None:
        raise ConfigurationError("no cache is configured; name its file with --store")
    if policy.cache.store == "memory":
        raise ConfigurationError(
            "the configured cache lives in its process and ends with it; StreamingCache.stats() tells about it there"
        )
    return Path(policy.cache.store)


def _rows(file: Path) -> list[Entry]:
    """The entries that are still served. Before the first answer is recorded, there is no file."""
    return [row for row in entries_of(file) if row.expires > _clock.wall()] if file.exists() else []


def _name(row: Entry) -> str:
    return "/".join(part for part in row.namespace.split("\x00") if part)
