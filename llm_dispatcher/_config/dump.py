"""A policy as the file that would make it, without its secrets."""

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
from .tree import Tree

MASK: Final = "***"
_PASSWORD: Final = re.compile(r"(?<=://)[^/@]*@")


def shown(policy: Policy) -> Tree:
    """Every setting in force, in the shape of `llm_dispatcher.yaml`; what is secret is masked."""
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
            tree[field.name] = plain(value)  # (a cache that is not there is not shown: an empty section is one)
    return tree


def _provider(settings: ProviderSettings) -> Tree:
    tree = _said(settings)
    del tree["name"]
    if settings.headers:
        tree["headers"] = dict.fromkeys(settings.headers, MASK)
    if settings.base_url is not None:
        tree["base_url"] = _PASSWORD.sub(f"{MASK}@", settings.base_url)
    if settings.models and not any(_said(model) for model in settings.models.values()):
        tree["models"] = list(settings.models)
    if settings.options:
        tree["options"] = _without_secrets(settings.options)
    return tree


def identity(settings: ProviderSettings, model: str) -> str:
    """What a target really is, without secrets: the kind of vendor, its address and options, and its own name for the
    model. The cache compares it, because a configuration may give a target's name to another model.
    """
    tree = _provider(settings)
    parts = [settings.kind, settings.api, tree.get("base_url"), tree.get("options"), settings.vendor_model(model)]
    return json.dumps(parts, sort_keys=True, default=str)


def _route(route: Route) -> object:
    tree = _said(route)
    return tree["targets"] if tree.keys() == {"targets"} else tree


def _said(value: Struct) -> Tree:
    """The fields of a value that are not what they would be by themselves."""
    given = ((field, getattr(value, field.name)) for field in fields(value))
    return {field.name: plain(each) for field, each in given if each != _default(field)}


def _default(field: FieldInfo) -> object:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


def plain(value: Any) -> object:
    """A frozen value as mappings, lists and scalars, without its secrets."""
    match value:
        case Secret():
            return MASK
        case Target():
            return str(value)
        case ModelSettings() | Route():
            return _said(value)
        case Struct():
            pairs: Iterable[tuple[Any, Any]] = ((field.name, getattr(value, field.name)) for field in fields(value))
            return {name: plain(each) for name, each in pairs if each is not UNSET}
        case Mapping():
            return {str(plain(key)): plain(each) for key, each in value.items()}
        case Enum():
            return value.value
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
        case _:
            return value


def _without_secrets(options: Mapping[str, Any]) -> Tree:
    """A vendor's own options without its secrets. A secret is recognised by its name, and is never a number."""

    def without(name: str, value: Any) -> object:
        if isinstance(value, Mapping):
            return _without_secrets(value)
        is_number = isinstance(value, (int, float))
        return MASK if SECRET_NAME.search(name) and not is_number else plain(value)

    return {str(name): without(str(name), value) for name, value in options.items()}
