"""The API key of each provider: from an argument, the environment or the file."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from .._vendors.table import VENDORS, vendor
from .layers import Tree


class Keys(Struct, frozen=True):
    """The keys outside of the file: those passed as arguments, by kind of vendor, and those in the environment."""

    arguments: Mapping[str, str]
    environ: Mapping[str, str]

    def from_environment(self, kind: str) -> str | None:
        """The key in the first of the vendor's variables that is set."""
        values = (self.environ.get(variable, "").strip() for variable in vendor(kind).key_variables)
        return next(filter(None, values), None)

    def kinds(self) -> list[str]:
        """The kinds of vendors that can be used with only these keys."""
        return [kind for kind in VENDORS if kind in self.arguments or self.from_environment(kind)]


def find_key(name: str, kinds: Mapping[str, str], entry: Tree, keys: Keys, *, literal: bool) -> str | None:
    """The key of a provider: from an argument, else from the environment, else from its entry.

    An argument or a variable names a vendor, and a vendor may have several providers. The key replaces the key of the
    provider that has the vendor's name, and providers of that kind without their own key get it, too. If no
    provider has the vendor's name, an argument replaces the keys of all of them. `literal` says that the key is written
    out in the file: beside a `base_url` it stays, so that a vendor's key is not sent to another address by surprise.
    """
    kind = kinds[name]
    key = entry.get("api_key")
    own = key.strip() if isinstance(key, str) else ""
    if kind in keys.arguments and (not own or name == kind or kind not in kinds):
        return keys.arguments[kind].strip()
    from_environment = keys.from_environment(kind)
    is_replaced = literal and name == kind and not entry.get("base_url")
    return from_environment if from_environment and (not own or is_replaced) else own or None


def is_sendable(key: str) -> bool:
    """Whether an HTTP header can carry the key."""
    return all("!" <= character <= "~" for character in key)
