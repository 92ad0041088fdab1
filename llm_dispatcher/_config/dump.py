"""Dumps a policy in the shape of the configuration file, without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

from msgspec import NODEFAULT, UNSET, Struct
from msgspec.structs import FieldInfo, fields

from .._policy import ModelSettings, Policy, ProviderSettings, Route
from .._redaction import SECRET_NAME, Secret
from ..tasks import Target
from .layers import Tree

MASK: Final = "***"
_PASSWORD: Final = re.compile(r"(?<=://)[^/@]*@")


def dump(policy: Policy) -> Tree:
    """Every setting of a policy, in the shape of `llm_dispatcher.yaml`. Secrets are masked."""
    tree: Tree = {
        "providers": {name: _provider(settings) for name, settings in policy.providers.items()},
        "routing": {
            "default": _route(policy.default),
            "tasks": {str(task): _route(route) for task, route in policy.tasks.items()},
        },
    }
    for field in fields(policy):
        value = getattr(policy, field.name)
        if field.name not in ("providers", "default", "tasks", "source", "is_found") and value is not None:
            # A policy without a cache has no section `cache`: an empty section would be a cache with the defaults.
            tree[field.name] = _plain(value)
    return tree


def _provider(settings: ProviderSettings) -> Tree:
    tree = _changed(settings)
    del tree["name"]
    tree.pop("durability", None)  # it is that of `resilience`, here or at the top
    if settings.headers:
        tree["headers"] = dict.fromkeys(settings.headers, MASK)
    if settings.base_url is not None:
        tree["base_url"] = _without_password(settings.base_url)
    if settings.models and not any(_changed(model) for model in settings.models.values()):
        tree["models"] = list(settings.models)
    if settings.options:
        tree["options"] = _without_secrets(settings.options)
    return tree


def identity(settings: ProviderSettings, model: str) -> str:
    """The identity of a target, without secrets: the kind of vendor, the address, the options, the vendor's model name.

    The cache compares identities, because a new configuration may give the name of a target to another model.
    """
    address = None if settings.base_url is None else _without_password(settings.base_url)
    options = _without_secrets(settings.options) or None
    parts = [settings.kind, settings.api, address, options, settings.vendor_model(model)]
    return json.dumps(parts, sort_keys=True, default=str)


def _route(route: Route) -> object:
    tree = _changed(route)
    return tree["targets"] if tree.keys() == {"targets"} else tree


def _changed(value: Struct) -> Tree:
    """The fields of a value that differ from their defaults."""
    values = ((field, getattr(value, field.name)) for field in fields(value))
    return {field.name: _plain(each) for field, each in values if each != _default(field)}


def _default(field: FieldInfo) -> object:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


def _plain(value: Any) -> object:
    """A frozen value as mappings, lists and scalars. Secrets are masked."""
    match value:
        case Secret():
            return MASK
        case Target():
            return str(value)
        case ModelSettings() | Route():
            return _changed(value)
        case Struct():
            pairs: Iterable[tuple[Any, Any]] = ((field.name, getattr(value, field.name)) for field in fields(value))
            return {name: _plain(each) for name, each in pairs if each is not UNSET}
        case Mapping():
            return {str(_plain(key)): _plain(each) for key, each in value.items()}
        case Enum():
            return value.value
        case set() | frozenset():
            return sorted([_plain(each) for each in value], key=repr)  # the same order in every process
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            return value


def _without_password(address: str) -> str:
    return _PASSWORD.sub(f"{MASK}@", address)


def _without_secrets(options: Mapping[str, Any]) -> Tree:
    """A vendor's options with masked secrets. A secret is recognised by its name; a number is never one."""

    def without(name: str, value: Any) -> object:
        if isinstance(value, Mapping):
            return _without_secrets(value)
        is_number = isinstance(value, (int, float))
        return MASK if SECRET_NAME.search(name) and not is_number else _plain(value)

    return {str(name): without(str(name), value) for name, value in options.items()}
