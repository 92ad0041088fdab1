"""The addresses of vendors: the default ones, and the ones that the environment names for their SDKs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from .._vendors.table import vendor
from .layers import Layer, Tree, mapping_at
from .problems import KeyPath

_PLAIN_HOST: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?")


def address_layer(kinds: Mapping[str, str], entries: Mapping[str, Tree], environ: Mapping[str, str]) -> Layer:
    """The weakest layer: the address in the environment, for providers whose entry has no `base_url`."""
    tree: Tree = {}
    variables: dict[KeyPath, str] = {}
    for name, kind in kinds.items():
        variable = vendor(kind).address_variable
        address = "" if variable is None else environ.get(variable, "").strip()
        if not address or "base_url" in entries[name] or mapping_at(entries[name], "options").get("vertex") is not None:
            continue
        if variable == "OLLAMA_HOST":
            address = ollama_address(address)
        if address.rstrip("/") == vendor(kind).base_url:
            continue  # This is the default anyway, and there OpenAI's own interface is used.
        tree[name] = {"base_url": address}
        variables["providers", name, "base_url"] = str(variable)
    return Layer(tree={"providers": tree} if tree else {}, variables=variables)


def ollama_address(host: str) -> str:
    """`OLLAMA_HOST` as an address. Its parts may be left out, as in `gpu-box`, `:8080` or `https://example.org`."""
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "http", host
    port = 11434 if not separator else 443 if scheme == "https" else 80
    parts = split(f"{scheme}://{rest}")
    if parts is None:
        return host
    name = parts.hostname or "127.0.0.1"
    if name in ("0.0.0.0", "::"):  # noqa: S104 - where a server listens; a client connects to this machine
        name = "127.0.0.1"
    return f"{scheme}://{f'[{name}]' if ':' in name else name}:{parts.port or port}{parts.path.rstrip('/')}"


def is_home(kind: str, address: str) -> bool:
    """Whether an address is at the vendor's host or below it. Only the vendor can have such an address."""
    home, parts = split(vendor(kind).base_url or ""), split(address)
    if home is None or parts is None or home.hostname is None or parts.hostname is None:
        return False
    if not _PLAIN_HOST.fullmatch(parts.netloc):
        return False  # A user name, or characters that another client may interpret differently.
    is_there = parts.hostname == home.hostname or parts.hostname.endswith(f".{home.hostname}")
    return is_there and (parts.scheme, parts.port) == (home.scheme, home.port)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ip_address(host.strip("[]")).is_loopback
    return False


def split(address: str) -> SplitResult | None:
    """The parts of an address; `None` if it cannot be parsed."""
    try:
        parts = urlsplit(address)
        _ = parts.port, parts.hostname
    except ValueError:
        return None
    return parts
