"""A configuration file that nobody named must not carry the keys of this machine away.

`llm_dispatcher.yaml` in the working folder is used because it stands there, and the folder may be a checkout of
somebody else's. So such a file may use the environment, or send things to places of its own, but it may not do both:

- A provider is at **an address of the file's own** if the file names it: not the vendor's own address, and not one that
  comes whole out of a variable. A header `Host` names an address as well. Of kinds that third parties bring, any
  option may be an address. An address on this machine counts, even where it is the usual one of a local server: any
  program may listen there.
- A provider uses **an account of the file's own** if its key stands in the file: whoever wrote that key can look up
  what was sent with it.

To an address of the file's own goes no key but the one that stands in the file. And nothing that holds `${…}` goes to
an address or an account of the file's own: not in the provider's entry, and not in what may reach any provider (targets
under `routing`, and `resilience.continuation`; servers on this machine do not count for these).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from .._redaction import SECRET_NAME
from .._vendors.table import VENDORS, vendor
from .addresses import is_home, is_loopback, split
from .api_keys import Keys
from .files import TRUST, is_trusted
from .layers import Layer
from .problems import Problem
from .tree import KeyPath, Tree, leaves, mapping_at

_WHOLE_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-[^}]*)?\}(/[^$]*)?")
"""An address that a variable names, with a path after it."""

_LOCAL_PORT: Final = re.compile(r"https?://([^/:$@\s]+|\[::1\]):\$\{[^}]*\}(/[^$]*)?")
"""An address of which the port alone is a variable."""


class _Entry(Struct, frozen=True):
    """A provider in the file: as it was written, and with its variables filled in."""

    name: str
    kind: str
    written: Tree
    filled: Tree
    stronger: Tree
    """What the variables `LLM_DISPATCHER_PROVIDERS__…` say of it."""
    usual: Tree
    """The address that the variable of the vendor's SDK names."""


def smuggling_problems(
    written: Layer,
    layers: Sequence[Layer],
    kinds: Mapping[str, str],
    api_keys: Mapping[str, str | None],
    keys: Keys,
) -> Iterator[Problem]:
    """The problems of a file that was only found. A file that somebody named or trusts has none.

    `layers` are those that are in force: addresses of the environment, the file filled in, and settings of the
    environment.
    """
    if not written.is_found or written.file is None or is_trusted(Path(written.file), keys.environ):
        return
    usual, filled, stronger = layers
    whole = Path(written.file).absolute()
    remedy = (
        f"If you trust it, name it: init({whole.name!r}), --config, or LLM_DISPATCHER_CONFIG; or set {TRUST}={whole}"
    )
    sends_away: list[str] = []
    for name in mapping_at(written.tree, "providers"):
        if name not in kinds:
            continue
        trees = (mapping_at(layer.tree, "providers", name) for layer in (written, filled, stronger, usual))
        entry = _Entry(name, kinds[name], *trees)
        place = _own_place(entry, keys.environ)
        if place is not None:
            yield from _keys_sent(entry, place, api_keys[name], keys, remedy)
        elif _has_own_account(entry):
            place = f"the account of {name}'s key, which stands in the file"
        if place is not None:
            if not is_loopback(place.rpartition(":")[0] or place):
                sends_away.append(name)
            yield from _variables_sent(entry, place, remedy)
    if sends_away:
        yield from _variables_for_all(written, sends_away[0], remedy)


def _own_place(entry: _Entry, environ: Mapping[str, str]) -> str | None:
    """The address that the file names for a provider; `None` where it names none of its own."""
    headers = {name.lower(): value for name, value in mapping_at(entry.written, "headers").items()}
    if "host" in headers:
        return str(headers["host"])
    if entry.kind not in VENDORS and mapping_at(entry.written, "options"):
        return f"an address that its options may name (kind {entry.kind})"
    written, filled = entry.written.get("base_url"), entry.filled.get("base_url")
    if "base_url" in entry.stronger or "base_url" in entry.usual:
        return None
    if not isinstance(written, str) or not isinstance(filled, str):
        written = filled = vendor(entry.kind).base_url or ""  # the kind names it
    parts = split(filled)
    is_here = parts is not None and is_loopback(parts.hostname or "")
    if (is_home(entry.kind, filled) and not is_here) or _is_of_the_environment(written, environ) or not filled:
        return None
    parts = split(written)
    return (parts.netloc.rpartition("@")[2] if parts is not None else "") or "its base_url"


def _is_of_the_environment(written: str, environ: Mapping[str, str]) -> bool:
    """Whether a variable names the whole address. The default in `${VAR:-…}` does not count: the file wrote it."""
    found = _WHOLE_VARIABLE.fullmatch(written)
    if found is None or not (named := environ.get(found[1])):
        return False
    address = split(named)
    return address is not None and bool(address.hostname)


def _has_own_account(entry: _Entry) -> bool:
    """Whether a key stands in the file, as the key or in a header."""
    headers = mapping_at(entry.written, "headers")
    secrets = [entry.written.get("api_key"), *(headers[name] for name in headers if SECRET_NAME.search(name))]
    return any(isinstance(secret, str) and secret.strip() and "${" not in secret for secret in secrets)


def _keys_sent(entry: _Entry, place: str, key: str | None, keys: Keys, remedy: str) -> Iterator[Problem]:
    path: KeyPath = ("providers", entry.name, "base_url")
    own = entry.written.get("api_key")
    if key is not None and not (isinstance(own, str) and own.strip() == key and "${" not in own):
        yield Problem(path, _refused(_called(entry, key, keys), place, remedy))
    if entry.kind == "google" and mapping_at(entry.written, "options").get("vertex") is not None:
        yield Problem(path, _refused("this machine's Google credentials", place, remedy))
    for setting in ("headers", "options"):
        if mapping_at(entry.stronger, setting):
            variable = f"LLM_DISPATCHER_PROVIDERS__{entry.name.upper()}__{setting.upper()}"
            yield Problem(path, _refused(variable, place, remedy))


def _called(entry: _Entry, key: str, keys: Keys) -> str:
    """What the key of a provider is called where it comes from."""
    given = keys.given.get(entry.kind)
    if given is not None and given.strip() == key:
        return f"the key given for {entry.kind!r}"
    for variable in vendor(entry.kind).key_variables:
        if keys.environ.get(variable, "").strip() == key:
            return f"the key in {variable}"
    if "api_key" in entry.stronger:
        return f"the key in LLM_DISPATCHER_PROVIDERS__{entry.name.upper()}__API_KEY"
    return f"the key in {entry.written.get('api_key')}"


def _variables_sent(entry: _Entry, place: str, remedy: str) -> Iterator[Problem]:
    for path, value in leaves(entry.written, ("providers", entry.name)):
        if not isinstance(value, str) or "${" not in value.replace("$${", ""):
            continue
        if path[-1] == "api_key":
            continue  # reported by `_keys_sent`
        if path[-1] == "base_url" and not _carries(value):
            continue
        yield Problem(path, _refused(value, place, remedy))


def _carries(address: str) -> bool:
    """Whether the value of a variable would be sent as a part of this address. A variable that is the whole address, or
    a port of this machine, is not."""
    if _WHOLE_VARIABLE.fullmatch(address):
        return False
    port = _LOCAL_PORT.fullmatch(address)
    return port is None or not is_loopback(port[1])


def _variables_for_all(written: Layer, name: str, remedy: str) -> Iterator[Problem]:
    resilience = mapping_at(written.tree, "resilience")
    shared = [
        *leaves(mapping_at(written.tree, "routing"), ("routing",)),
        (("resilience", "continuation"), resilience.get("continuation")),
    ]
    for path, value in shared:
        if isinstance(value, str) and "${" in value.replace("$${", ""):
            yield Problem(path, _refused(value, f"the provider {name!r}, which is the file's own", remedy))


def _refused(what: str, place: str, remedy: str) -> str:
    return (
        f"{what} would be sent to {place}. This file is not trusted, because it was only found in the working folder. "
        f"{remedy}"
    )
