"""Vendors, one a file. Nothing of a vendor is imported before one of its kind is asked for."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from typing import Final, TypeAlias, cast

from .._policy import ProviderSettings
from .._vendors.hosts import HOSTS
from ..exceptions import ConfigurationError
from ..provider import Provider

Factory: TypeAlias = Callable[[ProviderSettings], Provider]

GROUP: Final = "llm_dispatcher.providers"
"""The entry points of third parties: a kind's name, and what makes a provider of its settings."""

_OURS: Final = {
    **dict.fromkeys(HOSTS, "openai.provider:OpenAIProvider"),
    "anthropic": "anthropic.provider:AnthropicProvider",
    "google": "google.provider:GoogleProvider",
    "ollama": "ollama.provider:OllamaProvider",
}

_SDKS: Final = {
    "openai.provider:OpenAIProvider": (
        "openai.resources.chat.completions",
        "openai.resources.responses",
        "aiohttp",
        "truststore",
    ),
    "anthropic.provider:AnthropicProvider": ("anthropic.resources.messages", "aiohttp", "truststore"),
    "google.provider:GoogleProvider": (
        "google.genai",
        "google.genai.errors",
        "google.auth.exceptions",
        "aiohttp",
        "truststore",
    ),
    "ollama.provider:OllamaProvider": ("aiohttp",),
}
"""The modules that a provider's first request loads, which take most of its time."""


def sdk_modules(kind: str) -> tuple[str, ...]:
    """The SDK modules that a provider of this kind needs; none are known of third parties' kinds."""
    return _SDKS.get(_OURS.get(kind, ""), ())


def kinds() -> list[str]:
    """Every kind of provider that can be made here."""
    from importlib.metadata import entry_points  # (it takes longer to load than all of this package)

    return sorted({*_OURS, *(point.name for point in entry_points(group=GROUP))})


def make(settings: ProviderSettings) -> Provider:
    """A provider of the kind that its settings name. It opens nothing yet."""
    return _factory(settings)(settings)


def _factory(settings: ProviderSettings) -> Factory:
    if settings.kind in _OURS:
        module, _, name = _OURS[settings.kind].partition(":")
        return cast(Factory, getattr(import_module(f".{module}", __name__), name))
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP, name=settings.kind):
        return cast(Factory, point.load())
    near = get_close_matches(settings.kind, kinds(), n=1)
    raise ConfigurationError(
        f"there is no kind of provider {settings.kind!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        key=f"providers.{settings.name}.kind",
    )
