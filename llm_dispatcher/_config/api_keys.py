"""Which API key a provider gets."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from .._vendors.table import VENDORS, vendor
from .tree import Tree


class Keys(Struct, frozen=True):
    """The keys at hand: those given as arguments, by kind of vendor, and those in the environment."""

    given: Mapping[str, str]
    environ: Mapping[str, str]

    def usual(self, kind: str) -> str | None:
        """The key in the first of the vendor's usual variables that is set."""
        values = (self.environ.get(variable, "").strip() for variable in vendor(kind).key_variables)
        return next(filter(None, values), None)

    def kinds(self) -> list[str]:
        """The kinds of vendors that can be used with nothing but these keys."""
        return [kind for kind in VENDORS if kind in self.given or self.usual(kind)]


def find_key(name: str, kinds: Mapping[str, str], entry: Tree, keys: Keys, *, literal: bool) -> str | None:
    """The key of a provider: from an argument, else the environment, else its entry (`literal`: written out there).

    An argument or a variable is for a vendor, and a vendor may have several providers. It replaces the key of the one
    that bears the vendor's name (an argument: of all, where none does), and is lent to those without a key of their
    own. A literal key beside a `base_url` stays: the vendor's real key is not sent to another's address by surprise.
    """
    kind = kinds[name]
    written = entry.get("api_key")
    own = written.strip() if isinstance(written, str) else ""
    if kind in keys.given and (not own or name == kind or kind not in kinds):
        return keys.given[kind].strip()
    usual = keys.usual(kind)
    gives_way = literal and name == kind and not entry.get("base_url")
    return usual if usual and (not own or gives_way) else own or None


def is_sendable(key: str) -> bool:
    """Whether a header can carry the key."""
    return all("!" <= character <= "~" for character in key)
