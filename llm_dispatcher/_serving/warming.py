"""Loading vendors' SDKs before they are needed.

An SDK takes between a tenth of a second and three seconds to import. If it is not loaded before, the first switch to
its vendor waits for the import in the middle of an answer. So the SDKs of a route's other vendors are imported in a
thread as soon as a first answer begins, and `LLMSwitch.warm()` prepares all of them before the first request.

The thread is a daemon and only imports modules: it holds no connection. A process that ends does not wait for it, but a
fork waits for the module that is being imported. It runs at most once at a time in a process. If a module
cannot be imported, the request that needs it raises the error.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterable, Mapping
from functools import partial
from importlib import import_module
from itertools import accumulate
from typing import Final

from .._background import gevent_is_in_force, start_thread
from .._importing import importing
from .._providers import sdk_modules
from ..events import Event, Failure, StreamStarted
from ..exceptions import LLMDispatcherError
from ..notices import Notify, ProviderNotPrepared
from ..provider import Provider
from ..streaming._account import Account
from ..streaming._observe import ObservedCall, Observer, Watcher
from .call import Call

_lock: Final = threading.Lock()
_asked_for: Final[set[str]] = set()
"""Modules that a thread has imported or is about to import."""


def missing_sdks(kinds: Iterable[str]) -> list[str]:
    """The SDK modules of these kinds of provider that are not imported yet and are not being imported."""
    modules = dict.fromkeys(module for kind in kinds for module in sdk_modules(kind))
    return [module for module in modules if module not in sys.modules and module not in _asked_for]


def load_in_background(kinds: Iterable[str]) -> bool:
    """Import the SDKs of these kinds in a thread. Returns `False` if there is nothing to import.

    Under gevent, each is imported when it is needed. A thread that imports takes locks that gevent has patched, and has
    no running hub: a greenlet that waits for such a lock might never be woken.
    """
    if gevent_is_in_force():
        return False
    with _lock:
        modules = missing_sdks(kinds)
        _asked_for.update(modules)
    if modules:
        start_thread(partial(_load, modules), "llm_dispatcher imports")
    return bool(modules)


def _load(modules: list[str]) -> None:
    for module in modules:
        try:
            # Import the package first, as an application does. A thread that imports a submodule directly does not
            # wait for another thread that is still importing the package: it would find the package half loaded.
            for name in accumulate(module.split("."), "{}.{}".format):
                importing(import_module, name)
        except Exception:  # noqa: BLE001, S112 - the request that needs it raises this again, with its reason
            continue


class _LoadOthers:
    """Watches a stream. When its first answer begins, the SDKs of the other vendors are imported."""

    chunk = None

    def __init__(self, kinds: Iterable[str]) -> None:
        self._kinds = tuple(kinds)

    def watch(self, event: Event, account: Account) -> None:
        if isinstance(event, StreamStarted):
            load_in_background(self._kinds)


class _Loading(Observer):
    """Has the SDKs that a call may need later imported while its first answer is read."""

    needs_sequence = False

    def begin(self, call: ObservedCall | None, account: Account) -> Watcher | None:
        if not isinstance(call, Call):
            return None
        try:
            kinds = call.runtime.kinds(call.request)
        except LLMDispatcherError:
            return None  # no target may be asked; planning the request raises the same error in a moment
        return _LoadOthers(kinds) if missing_sdks(kinds) else None


LOADING: Final = _Loading()


async def prepare(providers: Mapping[str, Provider], notify: Notify) -> None:
    """Load the SDKs of these providers and make their clients in the running loop. Each that fails is a notice."""
    enabled = [(name, provider) for name, provider in providers.items() if provider.settings.enabled]
    await asyncio.gather(*(_prepare(name, provider, notify) for name, provider in enabled))


async def _prepare(name: str, provider: Provider, notify: Notify) -> None:
    try:
        await provider.prepare()
    except Exception as error:  # noqa: BLE001 - a third party's provider may raise anything; its requests raise it again
        notify(ProviderNotPrepared(name, Failure.of(error)))
