"""Refuses a configuration file that the user did not name, if it would send keys of this machine to its own address.

The dispatcher uses `llm_dispatcher.yaml` in the working folder without being asked, and the folder may be a checkout of
another author's code. Such a file may use the environment, or it may name addresses and accounts, but not both
(docs/decisions/0029):

- A provider has **an address of the file's own** if the file names its address, except the vendor's own address and one
  that is a whole variable. A `Host` header also names an address. For kinds of third parties, any option may be an
  address. An address on this machine counts too, even the usual one of a local server: any program may listen there.
- A provider has **an account of the file's own** if the file holds its key: the author of the file can look up what was
  sent with that key.

The only key that may go to an address of the file's own is one that the file holds. No value with `${…}` may go to an
address or an account of the file's own: neither from the provider's entry, nor from texts that may reach any provider
(all under `routing`, and `resilience.continuation`; servers on this machine do not count for these).
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
from .layers import Layer, Tree, leaves, mapping_at
from .problems import KeyPath, Problem

_WHOLE_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-[^}]*)?\}(/[^$]*)?")
"""A variable that is the whole address, or all of it but a path."""

_LOCAL_PORT: Final = re.compile(r"https?://([^/:$@\s]+|\[::1\]):\$\{[^}]*\}(/[^$]*)?")
"""An address whose port is a variable."""


class _Entry(Struct, frozen=True):
    """A provider of the file, as each source describes it."""

    name: str
    kind: str
    text: Tree
    """As the file says it, with `${…}`."""
    filled: Tree
    """As the file says it, with the values of the variables."""
    variables: Tree
    """As the `LLM_DISPATCHER_PROVIDERS__…` variables say it."""
    sdk: Tree
    """The address that the variable of the vendor's SDK names."""


def exposure_problems(
    source: Layer,
    layers: Sequence[Layer],
    kinds: Mapping[str, str],
    api_keys: Mapping[str, str | None],
    keys: Keys,
) -> Iterator[Problem]:
    """The problems of a file that was only found. A file that the user named or trusts has none.

    `source` is the file with its `${…}`. `layers` are the addresses of the environment, the file with its variables
    filled in, and the settings of the environment.
    """
    if not source.is_found or source.file is None or is_trusted(Path(source.file), keys.environ):
        return
    sdk, filled, variables = layers
    whole = Path(source.file).absolute()
    remedy = (
        f"If you trust it, name it: init({whole.name!r}), --config, or LLM_DISPATCHER_CONFIG; or set {TRUST}={whole}"
    )
    sends_away: list[str] = []
    for name in mapping_at(source.tree, "providers"):
        if name not in kinds:
            continue
        trees = (mapping_at(layer.tree, "providers", name) for layer in (source, filled, variables, sdk))
        entry = _Entry(name, kinds[name], *trees)
        place = _own_place(entry, keys.environ)
        if place is not None:
            yield from _keys_sent(entry, place, api_keys[name], keys, remedy)
        elif _has_own_account(entry):
            place = f"the account of {name}'s key, which is in the file"
        if place is not None:
            if not is_loopback(place.rpartition(":")[0] or place):
                sends_away.append(name)
            yield from _variables_sent(entry, place, remedy)
    if sends_away:
        yield from _shared_variables_sent(source, sends_away[0], remedy)


def _own_place(entry: _Entry, environ: Mapping[str, str]) -> str | None:
    """The file's own address for a provider; `None` if there is none."""
    headers = {name.lower(): value for name, value in mapping_at(entry.text, "headers").items()}
    if "host" in headers:
        return str(headers["host"])
    if entry.kind not in VENDORS and mapping_at(entry.text, "options"):
        return f"an address that its options may name (kind {entry.kind})"
    text, filled = entry.text.get("base_url"), entry.filled.get("base_url")
    if "base_url" in entry.variables or "base_url" in entry.sdk:
        return None
    if not isinstance(text, str) or not isinstance(filled, str):
        text = filled = vendor(entry.kind).base_url or ""  # The file names it by naming the kind.
    parts = split(filled)
    is_here = parts is not None and is_loopback(parts.hostname or "")
    if (is_home(entry.kind, filled) and not is_here) or _is_whole_variable(text, environ) or not filled:
        return None
    parts = split(text)
    return (parts.netloc.rpartition("@")[2] if parts is not None else "") or "its base_url"


def _is_whole_variable(text: str, environ: Mapping[str, str]) -> bool:
    """Whether a variable holds the whole address. The default in `${VAR:-…}` does not count: the file names it."""
    match = _WHOLE_VARIABLE.fullmatch(text)
    if match is None or not (value := environ.get(match[1])):
        return False
    address = split(value)
    return address is not None and bool(address.hostname)


def _has_own_account(entry: _Entry) -> bool:
    """Whether the file holds a key, as `api_key` or in a header."""
    headers = mapping_at(entry.text, "headers")
    secrets = [entry.text.get("api_key"), *(headers[name] for name in headers if SECRET_NAME.search(name))]
    return any(isinstance(secret, str) and secret.strip() and "${" not in secret for secret in secrets)


def _keys_sent(entry: _Entry, place: str, key: str | None, keys: Keys, remedy: str) -> Iterator[Problem]:
    path: KeyPath = ("providers", entry.name, "base_url")
    own = entry.text.get("api_key")
    if key is not None and not (isinstance(own, str) and own.strip() == key and "${" not in own):
        yield Problem(path, _refusal(_key_source(entry, key, keys), place, remedy))
    if entry.kind == "google" and mapping_at(entry.text, "options").get("vertex") is not None:
        yield Problem(path, _refusal("this machine's Google credentials", place, remedy))
    for setting in ("headers", "options"):
        if mapping_at(entry.variables, setting):
            variable = f"LLM_DISPATCHER_PROVIDERS__{entry.name.upper()}__{setting.upper()}"
            yield Problem(path, _refusal(variable, place, remedy))


def _key_source(entry: _Entry, key: str, keys: Keys) -> str:
    """The source of a provider's key, in words."""
    argument = keys.arguments.get(entry.kind)
    if argument is not None and argument.strip() == key:
        return f"the key passed for {entry.kind!r}"
    for variable in vendor(entry.kind).key_variables:
        if keys.environ.get(variable, "").strip() == key:
            return f"the key in {variable}"
    if "api_key" in entry.variables:
        return f"the key in LLM_DISPATCHER_PROVIDERS__{entry.name.upper()}__API_KEY"
    return f"the key in {entry.text.get('api_key')}"


def _variables_sent(entry: _Entry, place: str, remedy: str) -> Iterator[Problem]:
    for path, value in leaves(entry.text, ("providers", entry.name)):
        if not isinstance(value, str) or "${" not in value.replace("$${", ""):
            continue
        if path[-1] == "api_key":
            continue  # `_keys_sent` reports it.
        if path[-1] == "base_url" and not _sends_value(value):
            continue
        yield Problem(path, _refusal(value, place, remedy))


def _sends_value(address: str) -> bool:
    """Whether the value of a variable would be sent as part of this address.

    It is not if the variable is the whole address, or the port of a server on this machine.
    """
    if _WHOLE_VARIABLE.fullmatch(address):
        return False
    port = _LOCAL_PORT.fullmatch(address)
    return port is None or not is_loopback(port[1])


def _shared_variables_sent(source: Layer, name: str, remedy: str) -> Iterator[Problem]:
    resilience = mapping_at(source.tree, "resilience")
    shared = [
        *leaves(mapping_at(source.tree, "routing"), ("routing",)),
        (("resilience", "continuation"), resilience.get("continuation")),
    ]
    for path, value in shared:
        if isinstance(value, str) and "${" in value.replace("$${", ""):
            yield Problem(
                path, _refusal(value, f"the provider {name!r}, whose address or account the file names", remedy)
            )


def _refusal(secret: str, place: str, remedy: str) -> str:
    return (
        f"{secret} would be sent to {place}. This file is not trusted, because you did not name it: it was found in "
        f"the working folder. {remedy}"
    )
