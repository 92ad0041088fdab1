"""Checks across keys, which types cannot express: targets name configured providers; providers have a kind and a key.

The checks run on trees that may be wrong in other places. They ignore what they do not understand, so that the user
sees all problems at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .._hints import nearest_or_all
from .._policy import BODY
from .._vendors.kinds import known_kinds
from .._vendors.table import VENDORS, vendor
from .api_keys import is_sendable
from .layers import Tree, is_list, is_mapping, mapping_at
from .problems import KeyPath, Problem


def kinds_of(tree: Tree) -> tuple[dict[str, str], list[Problem]]:
    """Each provider's `kind`, or its name if that is a known kind; and a problem for each provider without a known
    kind.
    """
    kinds: dict[str, str] = {}
    problems: list[Problem] = []
    for name, entry in mapping_at(tree, "providers").items():
        if not is_mapping(entry) and entry is not None:
            continue
        kind = mapping_at(tree, "providers", name).get("kind")
        path = ("providers", name, "kind")
        if kind is None and not _is_known(name):
            problems.append(
                Problem(path, f"is missing, and {name!r} is not a known kind{nearest_or_all(name, known_kinds())}")
            )
        elif isinstance(kind, str) and not _is_known(kind):
            problems.append(Problem(path, f"unknown kind {kind!r}{nearest_or_all(kind, known_kinds())}"))
        elif kind is None or isinstance(kind, str):
            kinds[name] = kind or name
    return kinds, problems


def provider_problems(
    tree: Tree, kinds: Mapping[str, str], api_keys: Mapping[str, str | None], *, offline: bool
) -> Iterator[Problem]:
    """Missing keys and addresses, and settings that a provider cannot use. Offline, no key is needed."""
    for name, kind in kinds.items():
        entry = mapping_at(tree, "providers", name)
        row = vendor(kind)
        key = api_keys[name]
        options = mapping_at(tree, "providers", name, "options")
        has_other_credentials = row.instead_of_key is not None and bool(options.get(row.instead_of_key))
        if key is None and row.key_variables and not has_other_credentials and not offline:
            variables = " or ".join(row.key_variables)
            yield Problem(("providers", name, "api_key"), f"provider {name!r} has no API key: set {variables}")
        if key is not None and not is_sendable(key):
            yield Problem(("providers", name, "api_key"), "holds a character that an HTTP header cannot carry")
        if row.needs_base_url and not entry.get("base_url"):
            yield Problem(("providers", name, "base_url"), f"is missing; the kind {kind} needs it")
        if entry.get("api") is not None and kind in VENDORS and not row.has_interfaces:
            yield Problem(("providers", name, "api"), "is only for kinds that speak OpenAI's wires")


def target_problems(tree: Tree) -> Iterator[Problem]:
    """Targets whose provider is not configured. The model is not checked: only the vendor knows its models."""
    providers = mapping_at(tree, "providers")
    for path, target in listed_targets(tree):
        provider, slash, model = target.partition("/")
        if provider and slash and model and provider not in providers and provider != BODY:
            yield Problem(path, _unknown(provider, providers))


def _unknown(provider: str, providers: Iterable[str]) -> str:
    if provider in VENDORS:
        return f"provider {provider!r} is not configured: write {provider}: {{}} under providers"
    return f"unknown provider {provider!r}{nearest_or_all(provider, providers) or '; write it under providers'}"


def listed_targets(tree: Tree) -> Iterator[tuple[KeyPath, str]]:
    """Every target of every route and of the catalog, with its path."""
    routes: list[tuple[KeyPath, object]] = [(("routing", "default"), mapping_at(tree, "routing").get("default"))]
    routes += [(("routing", "tasks", task), route) for task, route in mapping_at(tree, "routing", "tasks").items()]
    yield from ((("catalog", name), name) for name in mapping_at(tree, "catalog"))
    for where, route in routes:
        path, targets = ((*where, "targets"), route.get("targets")) if is_mapping(route) else (where, route)
        for position, target in enumerate(targets if is_list(targets) else []):
            if isinstance(target, str):
                yield (*path, position), target


def _is_known(kind: str) -> bool:
    # The kinds of third parties are read from disk, so they are only looked up for a kind that is not built in.
    return kind in VENDORS or kind in known_kinds()
