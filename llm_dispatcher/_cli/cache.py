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
from .exit_codes import SUCCESS
from .printing import say, say_json, say_table


def stats(store: Path | None, *, config: Path | None, as_json: bool) -> int:
    """Print the entries and the size of a cache's file, by namespace."""
    file = _file(store, config)
    rows = _rows(file)
    entries: Counter[str] = Counter(_name(row) for row in rows)
    sizes: Counter[str] = Counter()
    for row in rows:
        sizes[_name(row)] += row.size
    if as_json:
        namespaces = {name: {"entries": entries[name], "bytes": sizes[name]} for name in sorted(entries)}
        say_json({"file": str(file), "entries": len(rows), "bytes": sizes.total(), "namespaces": namespaces})
        return SUCCESS
    say(f"{file}: {_entries(len(rows))}, {sizes.total():,} bytes")
    if rows:
        say_table(
            ("namespace", "entries", "bytes"),
            ((name or "(none)", str(entries[name]), f"{sizes[name]:,}") for name in sorted(entries)),
        )
    return SUCCESS


def clear(store: Path | None, *, namespace: str | None, config: Path | None, as_json: bool) -> int:
    """Delete all entries of a cache's file, or those of one namespace."""
    file = _file(store, config)
    keys = [row.key for row in _rows(file) if namespace is None or namespace in row.namespace.split("\x00")]
    if keys:
        remove_from(file, keys)
    if as_json:
        say_json({"file": str(file), "forgotten": len(keys)})
    else:
        say(f"{file}: {_entries(len(keys))} deleted")
    return SUCCESS


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count:,} entries"


def explain(a: str, b: str, *, threshold: float, as_json: bool) -> int:
    """Print whether the answer to one text would be served for another, and the rule that decides."""
    likeness = alike(a, b, threshold)
    if as_json:
        say_json({"hit": likeness.hit, "rule": likeness.rule, "score": round(likeness.score, 4)})
    else:
        say(f"{'served' if likeness.hit else 'not served'}: {likeness.rule} (score {likeness.score:.3f})")
    return SUCCESS


def _file(store: Path | None, config: Path | None) -> Path:
    """The cache's file. A file that the command line names must exist; the configured one may not exist yet."""
    if store is not None:
        if not store.exists():
            raise FileNotFoundError(
                errno.ENOENT, "there is no such file; --store takes the file of an existing cache", store
            )
        return store
    policy = load(config)
    if policy.cache is None:
        raise ConfigurationError("no cache is configured; name the file of a cache with --store")
    if policy.cache.store == "memory":
        raise ConfigurationError(
            "the configured cache is in the memory of its process, where no command can read it; "
            "call StreamingCache.stats() in that process"
        )
    return Path(policy.cache.store)


def _rows(file: Path) -> list[Entry]:
    """The entries that are still valid; none before the first answer is recorded, because there is no file."""
    return [row for row in entries_of(file) if row.expires > _clock.wall()] if file.exists() else []


def _name(row: Entry) -> str:
    return "/".join(part for part in row.namespace.split("\x00") if part)
