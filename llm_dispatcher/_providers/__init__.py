"""The providers of each vendor, a folder each. A vendor's folder is imported when a provider of its kind is made."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Protocol, TypeAlias, cast, runtime_checkable

from .._hints import did_you_mean
from .._policy import ProviderSettings
from .._vendors.kinds import entry_point, known_kinds
from .._vendors.table import vendor
from ..exceptions import ConfigurationError
from ..notices import Notify
from ..provider import CheckResult, Provider, SupportsCheck, SupportsModels

Factory: TypeAlias = Callable[[ProviderSettings], Provider]


def sdk_modules(kind: str) -> tuple[str, ...]:
    """The modules that the first request to a provider of this kind imports; none are known of third parties' kinds."""
    adapter = vendor(kind).adapter
    return () if adapter is None else adapter.modules


def uses_an_sdk(provider: Provider) -> bool:
    """Whether a provider is of this package, so that its first request imports `sdk_modules`. A third party's or a
    simulated one may have the same kind, and imports none of them.
    """
    return hasattr(provider, "adapter")


def make(settings: ProviderSettings, notify: Notify | None = None) -> Provider:
    """A provider of the kind that its settings name. It opens nothing yet.

    `notify` takes the notices of a provider that has some: one that has an attribute `notify`, as `BaseProvider` has.
    """
    provider = _factory(settings)(settings)
    if notify is not None and isinstance(provider, _Notifies):
        provider.notify = notify
    return provider


@runtime_checkable
class _Notifies(Protocol):
    notify: Notify


async def check(provider: Provider) -> CheckResult:
    """Whether a provider's vendor is reachable and accepts the key; a provider without a check is not asked."""
    if isinstance(provider, SupportsCheck):
        return await provider.check()
    return CheckResult(ok=None, message=f"not asked: the kind {provider.settings.kind} has no check")


async def offered_models(provider: Provider) -> list[str] | None:
    """The models that a provider's vendor offers, or `None` if it has no list of them."""
    models = await provider.models() if isinstance(provider, SupportsModels) else None
    return None if models is None else list(models)


def _factory(settings: ProviderSettings) -> Factory:
    adapter = vendor(settings.kind).adapter
    if adapter is not None:
        module, _, name = adapter.factory.partition(":")
        return cast(Factory, getattr(import_module(f".{module}", __name__), name))
    if (point := entry_point(settings.kind)) is not None:
        return cast(Factory, point.load())
    raise ConfigurationError(
        f"there is no kind of provider {settings.kind!r}{did_you_mean(settings.kind, known_kinds())}",
        key=f"providers.{settings.name}.kind",
    )
