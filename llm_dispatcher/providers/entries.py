"""What a provider demands of its entry in the configuration."""

from __future__ import annotations

from ..exceptions import ConfigurationError, ProviderAuthenticationError
from ..provider import ProviderSettings


def check_options(settings: ProviderSettings, *known: str) -> None:
    """An option that nothing reads would be a wish that nobody hears."""
    for name in settings.options:
        if name not in known:
            has = f"its options are {', '.join(known)}" if known else "it has none"
            raise ConfigurationError(
                f"is no option of a provider of the kind {settings.kind!r}; {has}",
                key=f"providers.{settings.name}.options.{name}",
            )


def required_key(settings: ProviderSettings) -> str:
    """The key. SDKs would look for one in the environment; which key goes where is the configuration's to say."""
    if settings.api_key is None:
        raise ProviderAuthenticationError("no API key is configured", provider=settings.name)
    return settings.api_key.reveal()
