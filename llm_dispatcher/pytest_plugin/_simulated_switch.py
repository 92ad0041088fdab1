"""Makes a switch with simulated vendors: the providers keep their names, routes and models, and get other addresses."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from .._catalog import traits
from .._policy import Correction, Policy, ProviderSettings
from .._redaction import Secret
from .._vendors.table import VENDORS, hosts, vendor
from ..tasks import Target
from ..testing._player import Script
from ..testing._vendor import HELLO, SimulatedVendor

if TYPE_CHECKING:
    from .._serving.switch import LLMSwitch

KEY: Final = "test-key"
_ADDRESSES: Final = frozenset({"api_version", "vertex"})
"""Options that decide about addresses and credentials, which a simulated vendor has of its own."""


def make_simulated_switch(
    start: Callable[..., SimulatedVendor],
    config: Mapping[str, Any] | str | os.PathLike[str] | None,
    scripts: Mapping[str, Script],
) -> tuple[LLMSwitch, dict[str, SimulatedVendor]]:
    """A switch with simulated vendors, and the vendors by name. See `SimulatedSwitch`.

    Args:
        start: Starts a vendor.
        config: The policy of the application, or `None`.
        scripts: The scripts by provider.
    """
    from .._serving.switch import LLMSwitch  # Imported by the first test: pytest loads this plugin in every project.

    policy = policy_without_keys(config, scripts)
    providers = dict(policy.providers)
    vendors: dict[str, SimulatedVendor] = {}
    for name, settings in providers.items():
        row = vendor(settings.kind)
        api = settings.api or row.interface_at(settings.base_url)
        if (wire := row.wire(api)) is not None:  # Only a third party knows the wire of its kind.
            # An OpenAI at another address is a gateway, which may take what OpenAI itself refuses. A local server, such
            # as vLLM, is the same at any address.
            is_host = settings.kind in hosts() and (row.is_local or row.is_at_home(settings.base_url))
            host = settings.kind if is_host else "openai_compatible"
            vendors[name] = start(wire, scripts.get(name, HELLO), api_key=KEY, host=host)
            providers[name] = replace(
                settings,
                # Azure is OpenAI at other addresses.
                kind="openai" if "azure" in row.quirks else settings.kind,
                api_key=Secret(KEY),
                base_url=vendors[name].base_url,
                api=api if row.has_interfaces else None,
                options=_options(settings),
            )
    return LLMSwitch(replace(policy, providers=providers, catalog=_as_at_home(policy))), vendors


def _as_at_home(policy: Policy) -> dict[Target, Correction]:
    """The catalog's corrections, with one for each target of a vendor that stands at another address here. A switch
    would not know how a model at such an address continues a broken answer; the vendor itself is known.
    """
    corrections = dict(policy.catalog)
    listed = (Target(name, model) for name, settings in policy.providers.items() for model in settings.models)
    routed = (target for route in (policy.default, *policy.tasks.values()) for target in route.targets)
    for target in dict.fromkeys((*listed, *routed)):
        settings = policy.providers.get(target.provider)
        if settings is None or settings.base_url is not None or not vendor(settings.kind).quirks_elsewhere:
            continue
        correction = corrections.get(target, Correction())
        if correction.continues is UNSET:
            continues = traits(settings.kind, settings.vendor_model(target.model)).continues
            corrections[target] = replace(correction, continues=continues)
    return corrections


def policy_without_keys(
    config: Mapping[str, Any] | str | os.PathLike[str] | None, scripts: Mapping[str, Script]
) -> Policy:
    """Read the policy of an application; no API keys are needed. Without one, make a policy from the scripts.

    Such a policy tries the providers in the order of their scripts.

    Raises:
        ValueError: A script is for a provider that is not configured.
        TypeError: A policy and scripts are both missing.
    """
    from .._serving.switch import LLMSwitch

    __tracebackhide__ = True
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LLM_DISPATCHER_OFFLINE", "1")  # While the policy is read, so that no key is needed.
        policy = LLMSwitch(_policy_of(scripts) if config is None else config).policy
    if unknown := [name for name in scripts if name not in policy.providers]:
        raise ValueError(f"no provider is called {unknown[0]!r}; there are {', '.join(policy.providers)}")
    return policy


def _policy_of(scripts: Mapping[str, Script]) -> dict[str, Any]:
    """A configuration that tries the providers with scripts in order."""
    if not scripts:
        raise TypeError('there is no script: pass one, as in simulated_switch(openai=Reply("…")), or pass a policy')
    return {
        "providers": {name: _entry(name) for name in scripts},
        "routing": {"default": [f"{name}/simulated" for name in scripts]},
        "resilience": {"max_retries": 0},
    }


def _entry(name: str) -> dict[str, Any]:
    kind = name if name in VENDORS else "openai_compatible"
    entry: dict[str, Any] = {"kind": kind, "models": ["simulated"]}
    if vendor(kind).needs_base_url:
        entry["base_url"] = "http://here"  # The policy needs an address; the simulated vendor's replaces it.
    return entry


def _options(settings: ProviderSettings) -> dict[str, Any]:
    """The options in force, with the quirks: a host at the address of a simulated vendor would lose some of them."""
    options = {name: value for name, value in settings.options.items() if name not in _ADDRESSES}
    if settings.kind in hosts() and settings.base_url is None:
        options.setdefault("quirks", sorted(vendor(settings.kind).quirks))
    return options
