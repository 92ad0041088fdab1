"""The columns of the table: what is known of one vendor or host, and of the code that speaks to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from .._policy import Api
from .quirks import ONLY_AT_HOME, Quirk
from .traits import Patterns, Traits

Size: TypeAlias = Literal["general", "strong", "small", "audio"]
IdSource: TypeAlias = Literal["answer", "tokenizer"]
WireName: TypeAlias = Literal["openai-chat", "openai-responses", "anthropic", "google", "ollama"]


class Adapter(Struct, frozen=True, kw_only=True):
    """The code that speaks a wire, and the packages that it needs.

    `kind` is the vendor whose wire it is. `factory` is a path in `_providers`. `modules` are imported by the first
    request, which is most of the time that it takes; `requires` maps each top-level module to what `pip install` gets
    it by. `interfaces` are its wires by the name of the interface; an adapter with one wire has the name `None`.

    `ambient_headers` are the headers that the SDK adds from the environment, and `headers_variable` is the variable
    that names more of them.
    """

    kind: str
    factory: str
    modules: tuple[str, ...]
    requires: Mapping[str, str]
    interfaces: Mapping[Api | None, WireName]
    headers_variable: str | None = None
    ambient_headers: tuple[str, ...] = ()

    @property
    def has_interfaces(self) -> bool:
        """Whether an entry may choose an interface."""
        return len(self.interfaces) > 1


class Vendor(Struct, frozen=True, kw_only=True):
    """One row: a vendor, or a host that serves models over the wire of another vendor.

    A vendor with `key_variables` needs a key, and the first variable that is set supplies it; an entry with the option
    named by `instead_of_key` needs none. A vendor without a `base_url` has no address of its own, so each entry names
    one. `address_variable` is the variable by which the vendor's SDK takes another address.

    `price_list` is the vendor's name in genai-prices; a local server is free. `interface` is what requests to the
    vendor's own address use by default; every other address is asked for `chat`. `keeps_runs` says that its responses
    interface runs requests in the background if asked to. `models` are good first models.

    `patterns` tell the traits of a model by its name. With `defaults`, a model that they do not match gets these;
    without, the vendor serves models of others, and their patterns are tried. `quirks_elsewhere` are those of an entry
    at another address, which may be any host that speaks the wire. `id_source` is where the token ids come from if an
    answer can go on from them: from the `answer` itself, or from a `tokenizer` that the host has an address for.
    `author_names` are what other hosts write before a slash in the names of this vendor's models.

    The row of a kind that a third party brings is empty: nothing is known of it, and its `adapter` is `None`.
    """

    title: str = ""
    adapter: Adapter | None = None
    base_url: str | None = None
    address_variable: str | None = None
    key_variables: tuple[str, ...] = ()
    key_header: str = "authorization"
    models_path: str = "/models"
    models_headers: Mapping[str, str] = {}
    instead_of_key: str | None = None
    quirks: frozenset[Quirk] = frozenset()
    quirks_elsewhere: frozenset[Quirk] = frozenset()
    id_source: IdSource | None = None
    interface: Api = "chat"
    keeps_runs: bool = False
    models: Mapping[Size, str] = {}
    price_list: str | None = None
    is_local: bool = False
    patterns: Patterns = ()
    defaults: Traits | None = None
    author_names: tuple[str, ...] = ()
    colour: str | None = None

    @property
    def needs_base_url(self) -> bool:
        """Whether each entry has to name an address."""
        return self.adapter is not None and self.base_url is None

    @property
    def has_interfaces(self) -> bool:
        """Whether an entry may choose an interface."""
        return self.adapter is not None and self.adapter.has_interfaces

    def model(self, size: Size) -> str:
        """Its first model of a size, or its general model if it has none of that size."""
        return self.models.get(size) or self.models["general"]

    def is_at_home(self, base_url: str | None) -> bool:
        """Whether an entry with this `base_url` reaches the vendor itself, and not a gateway or a stand-in.

        A vendor without an address of its own is at home at any address.
        """
        return base_url is None or self.base_url is None

    def quirks_at(self, base_url: str | None) -> frozenset[Quirk]:
        """The quirks to expect from an entry with this `base_url`."""
        return self.quirks if self.is_at_home(base_url) else (self.quirks - ONLY_AT_HOME) | self.quirks_elsewhere

    def interface_at(self, base_url: str | None) -> Api:
        """The interface for an entry with this `base_url` that names none."""
        return self.interface if self.is_at_home(base_url) else "chat"

    def wire(self, interface: Api | None) -> WireName | None:
        """The wire of an interface; `None` for a kind that a third party brings."""
        if self.adapter is None:
            return None
        return self.adapter.interfaces[interface if self.adapter.has_interfaces else None]

    def key_headers(self, key: str) -> dict[str, str]:
        """The header by which a request shows its key."""
        return {self.key_header: f"Bearer {key}" if self.key_header == "authorization" else key}
