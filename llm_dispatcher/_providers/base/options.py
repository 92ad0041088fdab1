"""Options: reading what a provider's entry in the configuration says, beyond its key and address."""

from __future__ import annotations

import os
import re
from typing import Any, Final

from msgspec import Struct, ValidationError, convert

from ..._policy import ProviderSettings
from ..._vendors.table import vendor
from ..._vendors.vendor import Adapter
from ..._wire import LONGEST_EVENT
from ...exceptions import ConfigurationError, ProviderAuthenticationError

MAX_EVENT_BYTES: Final = "max_event_bytes"
TOKEN_IDS: Final = "token_ids"  # noqa: S105 - the name of an option
SHORTEST_LIMIT: Final = 1024
"""A smaller limit would refuse ordinary events."""


def max_event_bytes(settings: ProviderSettings) -> int:
    """The longest event that is read, in bytes."""
    limit = settings.options.get(MAX_EVENT_BYTES, LONGEST_EVENT)
    if type(limit) is not int or limit < SHORTEST_LIMIT:
        raise ConfigurationError(
            f"is an int of {SHORTEST_LIMIT} or more", key=f"providers.{settings.name}.options.{MAX_EVENT_BYTES}"
        )
    return limit


def uses_token_ids(settings: ProviderSettings) -> bool:
    """Whether the option `token_ids` is on. By default it is on for a host that tells the ids of its answers."""
    option = settings.options.get(TOKEN_IDS, vendor(settings.kind).id_source == "answer")
    key = f"providers.{settings.name}.options.{TOKEN_IDS}"
    if not isinstance(option, bool):
        raise ConfigurationError("is true or false", key=key)
    if option and TOKEN_IDS in settings.options and settings.api == "responses":
        raise ConfigurationError("is for requests over chat only; leave `api` out, or the option", key=key)
    return option


def required_key(settings: ProviderSettings) -> str:
    """The key. Without it an SDK would take one from the environment, which may belong to another address."""
    if settings.api_key is None:
        raise ProviderAuthenticationError("no API key is configured", provider=settings.name)
    return settings.api_key.reveal()


def headers_of(settings: ProviderSettings, adapter: Adapter, omit: object) -> dict[str, Any]:
    """The headers of every request.

    OpenAI's and Anthropic's SDKs add headers that the environment names (e.g. in `OPENAI_CUSTOM_HEADERS`), and these
    may hold keys. They are meant for the vendor itself, or for the address that `OPENAI_BASE_URL` names. At any other
    address each of them is left out: its value is `omit`, the SDK's sentinel for that.
    """
    elsewhere = os.environ.get(vendor(adapter.kind).address_variable or "", "").rstrip("/")
    if settings.kind == adapter.kind and settings.base_url in (None, elsewhere):
        return dict(settings.headers)
    lines = os.environ.get(adapter.headers_variable or "", "").split("\n")
    ambient = [*(line.partition(":")[0].strip() for line in lines), *adapter.ambient_headers]
    configured = {name.lower() for name in settings.headers}
    return {**{name: omit for name in ambient if name and name.lower() not in configured}, **settings.headers}


class Vertex(Struct, frozen=True, forbid_unknown_fields=True):
    """A place in Google's cloud: a project and a location, or neither if the key belongs to a project."""

    project: str | None = None
    location: str | None = None

    def __post_init__(self) -> None:
        if self.location is not None and self.project is None:
            raise ValueError("a location goes with a project")
        # The SDK makes the host's name of it, and credentials go there.
        if self.location is not None and not re.fullmatch("[a-z0-9-]+", self.location):
            raise ValueError("a location is small letters, figures and hyphens")


def vertex_of(settings: ProviderSettings) -> Vertex | None:
    """The option `vertex`: `{project: …, location: …}`. `None` means Gemini's own interface."""
    option = settings.options.get("vertex")
    if option is None:
        return None
    try:
        return convert(option, Vertex)
    except ValidationError as error:
        raise ConfigurationError(
            f"is a mapping with project and location: {error}", key=f"providers.{settings.name}.options.vertex"
        ) from None
