"""`Runtimes`: closes the connections of providers that a reload has dropped, as soon as no stream uses them.

How it works
------------
Each runtime counts its open streams. When a runtime that a reload has replaced has none left, it releases its
providers, unless the runtime in force, or a replaced one with open streams, uses them. If no stream is open, the reload
itself releases them.

This does not wait for the garbage collector, because a collector may run late or never: an error that an application
keeps refers, by its traceback, to the stream that raised it, and so to the runtime.

A stream may be planned before a reload and begin after it. It makes a new client, and when it ends, the provider is
released again. Streams begin and end in any thread. `_lock` guards the choice of the providers; releasing one only
schedules the closing in the loop of each client, so nothing here waits.

A runtime holds its `Runtimes`, so this module holds runtimes weakly. A switch that is dropped is freed at once, with
its runtime and the connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from threading import Lock
from typing import Final, Protocol
from weakref import WeakSet, ref

from .._dispatch import OpenStreams
from ..provider import Provider, SupportsRelease


class Runtime(Protocol):
    """What this module needs of a runtime."""

    @property
    def open_streams(self) -> OpenStreams: ...

    @property
    def providers(self) -> Mapping[str, Provider]: ...


class Runtimes:
    """The runtimes of one switch: the one in force, and replaced ones with open streams."""

    def __init__(self) -> None:
        self._in_force: ref[Runtime] | None = None
        self._all: Final[WeakSet[Runtime]] = WeakSet()
        self._lock: Final = Lock()

    def adopt(self, runtime: Runtime, before: Runtime | None = None) -> None:
        """Put a runtime in force, in place of the one before."""
        with self._lock:
            self._in_force = ref(runtime)
            self._all.add(runtime)
        if before is not None:
            self.release_unused(before)

    def release_unused(self, runtime: Runtime) -> None:
        """Release the providers of a runtime that no stream uses. A runtime in force keeps its own."""
        with self._lock:
            in_force = None if self._in_force is None else self._in_force()
            if runtime is in_force:
                return
            using = [each for each in self._all if each is in_force or not each.open_streams.is_empty]
            used = {id(provider) for each in using for provider in each.providers.values()}
        for provider in runtime.providers.values():
            if id(provider) not in used and isinstance(provider, SupportsRelease):
                with suppress(Exception):  # a third party's may raise: that must not end a stream that is complete
                    provider.release()
