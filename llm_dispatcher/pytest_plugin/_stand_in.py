"""Simulated vendors in the place of an application's own: its providers keep their names, and nothing else is real."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import pytest
from msgspec.structs import replace

from .._policy import Api, ProviderSettings
from .._redaction import Secret
from .._vendors.hosts import HOSTS
from ..testing._player import Script
from ..testing._script import Wire
from ..testing._vendor import HELLO, SimulatedVendor

if TYPE_CHECKING:
    from .._serving.switch import LLMSwitch

KEY: Final = "test-key"
_WIRES: Final = {"anthropic": Wire.ANTHROPIC, "google": Wire.GOOGLE, "ollama": Wire.OLLAMA}


def stand_in(
    start: Callable[..., SimulatedVendor],
    config: Mapping[str, Any] | str | os.PathLike[str] | None,
    scripts: Mapping[str, Script],
) -> tuple[LLMSwitch, dict[str, SimulatedVendor]]:
    """A switch over simulated vendors, and these by name. Without a configuration, the providers that have scripts are
    asked in their order, each once; with one, it holds, and who has no script says "Hello!".
    """
    from .._serving.switch import LLMSwitch  # loaded when a test uses it: pytest loads this plugin in every project

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LLM_DISPATCHER_OFFLINE", "1")  # while the policy is read: so that no key is missed
        policy = LLMSwitch(_asking(scripts) if config is None else config).policy
    providers = dict(policy.providers)
    if strangers := [name for name in scripts if name not in providers]:
        raise ValueError(f"no provider is called {strangers[0]!r}; there are {', '.join(providers)}")
    vendors: dict[str, SimulatedVendor] = {}
    for name, settings in providers.items():
        if settings.kind in HOSTS or settings.kind in _WIRES:  # those of third parties are their own
            api = _api(settings)
            wire = _WIRES.get(settings.kind) or (Wire.OPENAI_CHAT if api == "chat" else Wire.OPENAI_RESPONSES)
            host = settings.kind if settings.kind in HOSTS else "openai"
            if host == "openai" and settings.base_url is not None:
                host = "openai_compatible"  # a gateway, which may take what OpenAI's own host does not
            vendors[name] = start(wire, scripts.get(name, HELLO), api_key=KEY, host=host)
            providers[name] = replace(
                settings,
                # (Azure is OpenAI at addresses of its own; options are about addresses, or about proving who asks.)
                kind="openai" if settings.kind == "azure" else settings.kind,
                api_key=Secret(KEY),
                base_url=vendors[name].base_url,
                api=api,
                options=_quirks(settings),
            )
    return LLMSwitch(replace(policy, providers=providers)), vendors


def _asking(scripts: Mapping[str, Script]) -> dict[str, Any]:
    """A configuration that asks these one after the other."""
    if not scripts:
        raise TypeError('say what a provider answers, as in simulated_switch(openai=Reply("…")), or give a policy')
    return {
        "providers": {name: _entry(name) for name in scripts},
        "routing": {"default": [f"{name}/simulated" for name in scripts]},
        "resilience": {"max_retries": 0},
    }


def _entry(name: str) -> dict[str, Any]:
    kind = name if name in HOSTS or name in _WIRES else "openai_compatible"
    host = HOSTS.get(kind)
    # (Its address is about to be another one, but an entry that needs one and has none is refused.)
    return {
        "kind": kind,
        "models": ["simulated"],
        **({"base_url": "http://here"} if host and not host.base_url else {}),
    }


def _quirks(settings: ProviderSettings) -> dict[str, Any]:
    """The quirks that are in force, as an option: a host at another address would lose some of its own."""
    if settings.kind in HOSTS and settings.base_url is None:
        return {"quirks": settings.options.get("quirks", sorted(HOSTS[settings.kind].quirks))}
    return {name: value for name, value in settings.options.items() if name == "quirks"}


def _api(settings: ProviderSettings) -> Api | None:
    """Which of OpenAI's wires; the default of the official host is another one than that of the others."""
    if settings.kind not in HOSTS:
        return None
    at_home = settings.kind == "openai" and settings.base_url is None
    return settings.api or ("responses" if at_home else "chat")
