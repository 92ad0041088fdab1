"""The global switch: the only global state of the package. A `ContextVar` can put another switch in its place.

`_lock` guards the global switch, so that two threads that ask for it first get the same one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, Final

from .._dispatch import RetryStop, RetryWait
from .._policy import Policy
from ..notices import BudgetAlert
from ..streaming._observe import Observer
from .settings import check_type
from .switch import LLMSwitch
from .warming import load_in_background

_lock: Final = Lock()
_global: LLMSwitch | None = None
_override: Final[ContextVar[LLMSwitch | None]] = ContextVar("llm_dispatcher_switch", default=None)


def init(
    config: Mapping[str, Any] | str | os.PathLike[str] | Policy | None = None,
    *,
    openai_api_key: str | None = None,
    anthropic_api_key: str | None = None,
    google_api_key: str | None = None,
    watch: bool = False,
    warm: bool = False,
    on_budget_alert: Callable[[BudgetAlert], None] | None = None,
    observers: Sequence[Observer] = (),
    retry_wait: RetryWait | None = None,
    retry_stop: RetryStop | None = None,
) -> LLMSwitch:
    """Make the global switch. Call it once when the application starts, from any thread.

    Args:
        config: A mapping, the path of a YAML file, or a `Policy`. Without one, the environment and
            `llm_dispatcher.yaml` are read.
        openai_api_key: A key that wins over every other one for OpenAI.
        anthropic_api_key: The same for Anthropic.
        google_api_key: The same for Google.
        watch: Whether the file is read again when it changes.
        warm: Whether the SDKs of all configured vendors are imported in a thread from now on. `await switch.warm()`
            also makes their clients, and waits until that is done.
        on_budget_alert: A function that is called when a share of a budget is spent.
        observers: Observers of all streams of the switch.
        retry_wait: How long to wait before a target is tried again; see `LLMSwitch`.
        retry_stop: When a target is not tried again; see `LLMSwitch`.

    Raises:
        ConfigurationError: The configuration is wrong. The error lists every problem.
    """
    keys = {"openai": openai_api_key, "anthropic": anthropic_api_key, "google": google_api_key}
    switch = LLMSwitch(
        config,
        keys={kind: key for kind, key in keys.items() if key is not None},
        watch=watch,
        on_budget_alert=on_budget_alert,
        observers=observers,
        retry_wait=retry_wait,
        retry_stop=retry_stop,
    )
    set_global_switch(switch)
    if warm:
        load_in_background(provider.kind for provider in switch.policy.providers.values() if provider.enabled)
    return switch


def get_global_switch() -> LLMSwitch:
    """The switch of this context, else the global one. The first call makes the global one from the environment."""
    global _global
    override = _override.get()
    if override is not None:
        return override
    with _lock:
        if _global is None:
            _global = LLMSwitch()
        return _global


def set_global_switch(switch: LLMSwitch | None) -> LLMSwitch | None:
    """Make this the global switch, and return the one before. After `None`, the next use makes a new one."""
    global _global
    check_type("switch", switch, LLMSwitch)
    with _lock:
        before, _global = _global, switch
        return before


@contextmanager
def use_switch(switch: LLMSwitch) -> Generator[LLMSwitch, None, None]:
    """Use this switch instead of the global one inside the block: in this task and in tasks that start there."""
    check_type("switch", switch, LLMSwitch)
    token = _override.set(switch)
    try:
        yield switch
    finally:
        _override.reset(token)
