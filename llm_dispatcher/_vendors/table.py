"""What the configuration knows of vendors without asking them: their key variables and good first models."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from ..tasks import TaskType
from .hosts import HOSTS, Host

Size: TypeAlias = Literal["general", "strong", "small", "audio"]


class Vendor(Struct, frozen=True, kw_only=True):
    """One kind of provider. One with key variables needs a key; the first variable that is set gives it.

    An entry with the option that `instead_of_key` names needs none. `home` is the vendor's own address.
    `address_variable` is the one by which the vendor's SDK takes another address; an entry without a `base_url` takes
    it too.
    """

    key_variables: tuple[str, ...] = ()
    needs_base_url: bool = False
    has_api_choice: bool = False
    models: Mapping[Size, str] = {}
    instead_of_key: str | None = None
    home: str | None = None
    address_variable: str | None = None

    def model(self, size: Size) -> str:
        """Its first model of a size; where it has none of that size, its general one."""
        return self.models.get(size) or self.models["general"]


_MODELS: Final[Mapping[str, Mapping[Size, str]]] = {
    "openai": {"general": "gpt-6.1-terra", "strong": "gpt-6.1-sol", "small": "gpt-6-luna", "audio": "gpt-audio-mini"},
}
"""Good first models of hosts that speak OpenAI's wires."""


_ADDRESS_VARIABLES: Final = {"openai": "OPENAI_BASE_URL", "azure": "AZURE_OPENAI_ENDPOINT"}
"""Those that OpenAI's SDK reads; other hosts have no SDK here that reads one."""


def _host(kind: str, host: Host) -> Vendor:
    return Vendor(
        key_variables=host.key_variables,
        needs_base_url=host.base_url is None,
        has_api_choice=True,
        models=_MODELS.get(kind, {}),
        home=host.base_url,
        address_variable=_ADDRESS_VARIABLES.get(kind),
    )


VENDORS: Final[Mapping[str, Vendor]] = {
    "openai": _host("openai", HOSTS["openai"]),
    "anthropic": Vendor(
        key_variables=("ANTHROPIC_API_KEY",),
        models={"general": "claude-sonnet-5-5", "strong": "claude-opus-5-5", "small": "claude-haiku-5-5"},
        home="https://api.anthropic.com",
        address_variable="ANTHROPIC_BASE_URL",
    ),
    "google": Vendor(
        key_variables=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        models={"general": "gemini-3.8-flash", "strong": "gemini-4-argon", "small": "gemini-3.5-flash-lite"},
        instead_of_key="vertex",
        home="https://generativelanguage.googleapis.com",
        address_variable="GOOGLE_GEMINI_BASE_URL",
    ),
    "ollama": Vendor(home="http://localhost:11434", address_variable="OLLAMA_HOST"),
    **{kind: _host(kind, host) for kind, host in HOSTS.items() if kind != "openai"},
}

FIRST_ROUTE: Final[tuple[Size, tuple[str, ...]]] = ("general", ("openai", "anthropic", "google"))
"""Where requests go if nothing but keys is configured: which size or sort of model, and the vendors in order."""

FIRST_TASK_ROUTES: Final[Mapping[TaskType, tuple[Size, tuple[str, ...]]]] = {
    TaskType.CODE_GENERATION: ("strong", ("anthropic", "openai", "google")),
    TaskType.REASONING: ("strong", ("openai", "anthropic", "google")),
    TaskType.MATH: ("strong", ("openai", "google", "anthropic")),
    TaskType.CLASSIFICATION: ("small", ("openai", "anthropic", "google")),
    TaskType.SENTIMENT_ANALYSIS: ("small", ("openai", "anthropic", "google")),
    TaskType.VISION_ANALYSIS: ("general", ("google", "openai", "anthropic")),
    TaskType.AUDIO_TRANSCRIPTION: ("audio", ("google", "openai", "anthropic")),
    TaskType.AUDIO_ANALYSIS: ("audio", ("google", "openai", "anthropic")),
    TaskType.MULTIMODAL_ANALYSIS: ("general", ("google", "openai", "anthropic")),
}


def vendor(kind: str) -> Vendor:
    """What is known of a kind; nothing is demanded of one that a third party brings."""
    return VENDORS.get(kind, Vendor())


def known_kinds() -> list[str]:
    """Every kind there is, third parties' included."""
    return sorted({*VENDORS, *(point.name for point in entry_points(group="llm_dispatcher.providers"))})
