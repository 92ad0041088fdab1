"""Loading a configuration: gather the layers, find all problems, and build the policy or raise one error.

The layers, the weakest first: the addresses that the environment names for the vendors' SDKs, the file, the
`LLM_DISPATCHER_…` variables. A mapping that is passed as an argument takes the file's place and is the strongest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from msgspec.structs import replace

from .._hints import nearest_or_all
from .._policy import BODY, Policy, Route, is_offline
from .._redaction import Secret
from .._vendors.table import VENDORS, vendor
from ..exceptions import ConfigurationError
from ..tasks import Target
from .addresses import address_layer
from .api_keys import Keys, find_key
from .build import build_policy
from .checks import kinds_of, listed_targets, provider_problems, target_problems
from .files import CONFIG, FILE_NAME, find_file
from .from_env import environment_layer, interpolated
from .from_mapping import mapping_layer
from .from_yaml import read_yaml
from .key_exposure import exposure_problems
from .layers import Layer, Tree, deep_merge, is_mapping, located, mapping_at, merged
from .models import Settings
from .problems import KeyPath, Problem, configuration_error
from .validation import validated


def load_policy(
    config: Mapping[str, object] | str | os.PathLike[str] | Policy | None,
    *,
    keys: Mapping[str, str],
    environ: Mapping[str, str],
    is_found: bool = False,
) -> Policy:
    """See `llm_dispatcher._config.load`."""
    _check_arguments(config, keys)
    all_keys = Keys(keys, environ)
    if isinstance(config, Policy):
        return _with_keys(config, all_keys)
    source = _source(config, environ, is_found=is_found)
    filled, variables = interpolated(source, environ), environment_layer(environ)
    layers = [variables, filled] if isinstance(config, Mapping) else [filled, variables]
    return _policy(source, layers, all_keys, offline=is_offline(environ))


def _policy(source: Layer, layers: Sequence[Layer], keys: Keys, *, offline: bool) -> Policy:
    """The policy that the layers describe together (the strongest comes last); raises an error with all problems."""
    configured = merged(layers)
    tree = _with_providers_of_keys(configured, keys)
    kinds, kind_problems = kinds_of(tree)
    entries = {name: mapping_at(tree, "providers", name) for name in kinds}
    literal = {name for name in kinds if _is_literal(name, entries[name], source)}
    api_keys = {name: find_key(name, kinds, entries[name], keys, literal=name in literal) for name in kinds}
    addresses = address_layer(kinds, entries, keys.environ)
    tree, layers = deep_merge(tree, addresses.tree), [addresses, *layers]
    optional = {("providers", name, "api_key") for name in kinds if offline or kinds[name] in keys.arguments}
    settings = validated(tree)
    unreadable = [problem for layer in layers for problem in layer.problems]
    problems = [
        *_unset_variables(layers, optional),
        *([] if isinstance(settings, Settings) else settings),
        *kind_problems,
        *_unused_keys(keys, kinds),
        *target_problems(tree),
        *provider_problems(tree, kinds, api_keys, offline=offline),
        *exposure_problems(source, layers, kinds, api_keys, keys),
        *_nothing_configured(tree, offline=offline),
    ]
    if unreadable or problems or not isinstance(settings, Settings):
        raise configuration_error(
            [located(each, layers) for each in [*unreadable, *_without_consequences(problems, unreadable)]]
        )
    policy = build_policy(
        settings,
        kinds=kinds,
        api_keys=api_keys,
        first_routes=not mapping_at(configured, "providers") and not mapping_at(configured, "routing"),
        source=source.file,
        is_found=source.is_found,
    )
    return _with_default_route(policy, layers, offline=offline)


def _check_arguments(config: object, keys: Mapping[str, object]) -> None:
    if config is not None and not isinstance(config, (Mapping, str, os.PathLike, Policy)):
        raise TypeError(
            f"a configuration is a mapping, the path of a YAML file, a Policy or None, got {type(config).__name__}"
        )
    for kind, key in keys.items():
        if not isinstance(key, str):
            raise TypeError(f"the API key for {kind!r} is a str, got {type(key).__name__}")
        if not key.strip():
            raise ConfigurationError(f"the API key passed for {kind!r} is empty")


def _with_keys(policy: Policy, keys: Keys) -> Policy:
    """A policy that is already built, with the keys that were passed as arguments."""
    kinds = {name: settings.kind for name, settings in policy.providers.items()}
    unused = _unused_keys(keys, kinds)
    if unused:
        raise configuration_error(unused)
    providers = dict(policy.providers)
    for name, settings in policy.providers.items():
        own = {"api_key": settings.api_key.reveal()} if settings.api_key else {}
        key = find_key(name, kinds, dict(own), keys, literal=False)
        providers[name] = replace(settings, api_key=None if key is None else Secret(key))
    return replace(policy, providers=providers)


def _source(
    config: Mapping[str, object] | str | os.PathLike[str] | None, environ: Mapping[str, str], *, is_found: bool
) -> Layer:
    """The user's configuration: the argument, or the file that it or the environment names; empty without one."""
    if isinstance(config, Mapping):
        return mapping_layer(config)
    path, is_found = find_file(environ) if config is None else (Path(config).expanduser(), is_found)
    return Layer(tree={}) if path is None else replace(read_yaml(path), is_found=is_found)


def _with_providers_of_keys(tree: Tree, keys: Keys) -> Tree:
    """The tree with an empty entry for each vendor that has a key and no provider.

    If no provider is configured, every known key counts. Otherwise only the keys that were passed as arguments do. A
    vendor that no route names is added for its variable only if the table of vendors knows a first model for it.
    """
    providers = tree.get("providers")
    if providers is None or providers == {}:
        kinds_in_use = {*keys.arguments, *(target.partition("/")[0] for _, target in listed_targets(tree))}
        return {
            **tree,
            "providers": _empty(kind for kind in keys.kinds() if kind in kinds_in_use or vendor(kind).models),
        }
    if not is_mapping(providers):
        return tree
    names_in_use = {*providers, *kinds_of(tree)[0].values()}
    missing = _empty(kind for kind in VENDORS if kind in keys.arguments and kind not in names_in_use)
    return deep_merge({"providers": missing}, tree)


def _empty(names: Iterable[str]) -> Tree:
    """An empty entry for each name."""
    return {name: Tree() for name in names}


def _is_literal(name: str, entry: Tree, source: Layer) -> bool:
    """Whether the file itself holds the provider's key, and not the name of a variable."""
    key = mapping_at(source.tree, "providers", name).get("api_key")
    return source.file is not None and isinstance(key, str) and "${" not in key and entry.get("api_key") == key


def _unset_variables(layers: Sequence[Layer], optional: AbstractSet[KeyPath]) -> Iterable[Problem]:
    """The variables without a value. One is left out if a stronger layer has the value, or if it is optional."""
    for position, layer in enumerate(layers):
        stronger = layers[position + 1 :]
        for problem in layer.unset:
            is_replaced = any(other.depth(problem.path) == len(problem.path) for other in stronger)
            if not is_replaced and problem.path not in optional:
                yield problem


def _unused_keys(keys: Keys, kinds: Mapping[str, str]) -> list[Problem]:
    """The keys that were passed for a kind of vendor that no provider has."""
    used = set(kinds.values())
    return [
        Problem((), f"an API key is passed for {kind!r}, but no provider is of that kind{nearest_or_all(kind, used)}")
        for kind in keys.arguments
        if kind not in used
    ]


def _nothing_configured(tree: Tree, *, offline: bool) -> Iterable[Problem]:
    if offline or tree.get("providers") != {} or mapping_at(tree, "routing"):
        return
    first, *others = [each for row in VENDORS.values() if row.models for each in row.key_variables]
    yield Problem(
        ("providers",),
        f"no provider is configured: set {', '.join([first, *others[:-1]])} or {others[-1]}, "
        f"or write {FILE_NAME} ({CONFIG} names another file)",
    )


def _without_consequences(problems: Iterable[Problem], unreadable: Iterable[Problem]) -> Iterable[Problem]:
    """The first problem of each path. A later one at the same path, or at an unreadable one, follows from it."""
    reported: set[object] = {problem.path for problem in unreadable}
    for problem in problems:
        place = problem.path or str(problem)
        if place not in reported:
            reported.add(place)
            yield problem


def _with_default_route(policy: Policy, layers: Sequence[Layer], *, offline: bool) -> Policy:
    """The policy, if its default route has a target; offline, the function's own body is that target."""
    if policy.default.targets:
        return policy
    if offline:
        return replace(policy, default=Route((Target(BODY, ""),)))
    names = " or ".join(f"providers.{name}.models" for name in policy.providers)
    problem = Problem(
        ("routing", "default"),
        f"there is no target: write one here{f', or list models under {names}' if names else ''}",
    )
    raise configuration_error([located(problem, layers)])
