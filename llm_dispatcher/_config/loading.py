"""Reading a configuration: gather its layers, judge them together, and build the policy or tell all that is wrong."""

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
from .checks import kinds_of, provider_problems, target_problems, written_targets
from .files import CONFIG, FILE_NAME, find_file
from .from_env import environment_layer, interpolated
from .from_mapping import argument_layer
from .from_yaml import read_document
from .key_exposure import smuggling_problems
from .layers import Layer, located, merged
from .models import Settings
from .problems import Problem, configuration_error
from .tree import KeyPath, Tree, is_mapping, mapping_at, over
from .validation import judged


def load_policy(
    config: Mapping[str, object] | str | os.PathLike[str] | Policy | None,
    *,
    keys: Mapping[str, str],
    environ: Mapping[str, str],
    is_found: bool = False,
) -> Policy:
    """See `llm_dispatcher._config.load`."""
    _check_arguments(config, keys)
    at_hand = Keys(keys, environ)
    if isinstance(config, Policy):
        return _with_keys(config, at_hand)
    written = _written(config, environ, is_found=is_found)
    filled, variables = interpolated(written, environ), environment_layer(environ)
    layers = [variables, filled] if isinstance(config, Mapping) else [filled, variables]
    return _judge(written, layers, at_hand, offline=is_offline(environ))


def _judge(written: Layer, layers: Sequence[Layer], keys: Keys, *, offline: bool) -> Policy:
    """The policy that the layers (the strongest last) make together, or everything that is wrong with them."""
    given = merged(layers)
    tree = _with_providers_of_keys(given, keys)
    kinds, kind_problems = kinds_of(tree)
    entries = {name: mapping_at(tree, "providers", name) for name in kinds}
    literal = {name for name in kinds if _is_literal(name, entries[name], written)}
    api_keys = {name: find_key(name, kinds, entries[name], keys, literal=name in literal) for name in kinds}
    addresses = address_layer(kinds, entries, keys.environ)
    tree, layers = over(tree, addresses.tree), [addresses, *layers]
    unneeded = {("providers", name, "api_key") for name in kinds if offline or kinds[name] in keys.given}
    settings = judged(tree)
    misread = [problem for layer in layers for problem in layer.problems]
    problems = [
        *_unset(layers, unneeded),
        *([] if isinstance(settings, Settings) else settings),
        *kind_problems,
        *_keys_for_nobody(keys, kinds),
        *target_problems(tree),
        *provider_problems(tree, kinds, api_keys, offline=offline),
        *smuggling_problems(written, layers, kinds, api_keys, keys),
        *_nothing_configured(tree, offline=offline),
    ]
    if misread or problems or not isinstance(settings, Settings):
        raise configuration_error(
            [located(each, layers) for each in [*misread, *_without_consequences(problems, misread)]]
        )
    policy = build_policy(
        settings,
        kinds=kinds,
        api_keys=api_keys,
        first_routes=not mapping_at(given, "providers") and not mapping_at(given, "routing"),
        source=written.file,
        is_found=written.is_found,
    )
    return _with_default(policy, layers, offline=offline)


def _check_arguments(config: object, keys: Mapping[str, object]) -> None:
    if config is not None and not isinstance(config, (Mapping, str, os.PathLike, Policy)):
        raise TypeError(
            f"a configuration is a mapping, the path of a YAML file, a Policy or None, got {type(config).__name__}"
        )
    for kind, key in keys.items():
        if not isinstance(key, str):
            raise TypeError(f"the API key for {kind!r} is a str, got {type(key).__name__}")
        if not key.strip():
            raise ConfigurationError(f"the API key given for {kind!r} is empty")


def _with_keys(policy: Policy, keys: Keys) -> Policy:
    """A ready policy with the keys that were given as arguments."""
    kinds = {name: settings.kind for name, settings in policy.providers.items()}
    strangers = _keys_for_nobody(keys, kinds)
    if strangers:
        raise configuration_error(strangers)
    providers = dict(policy.providers)
    for name, settings in policy.providers.items():
        own = {"api_key": settings.api_key.reveal()} if settings.api_key else {}
        key = find_key(name, kinds, dict(own), keys, literal=False)
        providers[name] = replace(settings, api_key=None if key is None else Secret(key))
    return replace(policy, providers=providers)


def _written(
    config: Mapping[str, object] | str | os.PathLike[str] | None, environ: Mapping[str, str], *, is_found: bool
) -> Layer:
    """What the user wrote: the argument, or the file that it or the environment names, or nothing."""
    if isinstance(config, Mapping):
        return argument_layer(config)
    path, is_found = find_file(environ) if config is None else (Path(config).expanduser(), is_found)
    return Layer(tree={}) if path is None else replace(read_document(path), is_found=is_found)


def _with_providers_of_keys(tree: Tree, keys: Keys) -> Tree:
    """The tree with a provider for each key that has none: for any key at hand if none is configured, else for the keys
    that were given as arguments. Where nothing names a vendor, its key in the environment is enough only if we know a
    first model for it.
    """
    providers = tree.get("providers")
    if providers is None or providers == {}:
        named = {*keys.given, *(written.partition("/")[0] for _, written in written_targets(tree))}
        return {**tree, "providers": _empty(kind for kind in keys.kinds() if kind in named or vendor(kind).models)}
    if not is_mapping(providers):
        return tree
    taken = {*providers, *kinds_of(tree)[0].values()}
    return over({"providers": _empty(kind for kind in VENDORS if kind in keys.given and kind not in taken)}, tree)


def _empty(names: Iterable[str]) -> Tree:
    """An empty entry for each name."""
    return {name: Tree() for name in names}


def _is_literal(name: str, entry: Tree, written: Layer) -> bool:
    """Whether a provider's key stands in the file itself, rather than in a variable."""
    key = mapping_at(written.tree, "providers", name).get("api_key")
    return written.file is not None and isinstance(key, str) and "${" not in key and entry.get("api_key") == key


def _unset(layers: Sequence[Layer], unneeded: AbstractSet[KeyPath]) -> Iterable[Problem]:
    """The variables without a value, except where another layer's value hides them or none is needed."""
    for position, layer in enumerate(layers):
        stronger = layers[position + 1 :]
        for problem in layer.unset:
            hidden = any(other.depth(problem.path) == len(problem.path) for other in stronger)
            if not hidden and problem.path not in unneeded:
                yield problem


def _keys_for_nobody(keys: Keys, kinds: Mapping[str, str]) -> list[Problem]:
    used = set(kinds.values())
    return [
        Problem((), f"an API key is given for {kind!r}, but no provider is of that kind{nearest_or_all(kind, used)}")
        for kind in keys.given
        if kind not in used
    ]


def _nothing_configured(tree: Tree, *, offline: bool) -> Iterable[Problem]:
    if offline or tree.get("providers") != {} or mapping_at(tree, "routing"):
        return
    first, *others = [each for known in VENDORS.values() if known.models for each in known.key_variables]
    yield Problem(
        ("providers",),
        f"no provider is configured: set {', '.join([first, *others[:-1]])} or {others[-1]}, "
        f"or write {FILE_NAME} ({CONFIG} names another file)",
    )


def _without_consequences(problems: Iterable[Problem], misread: Iterable[Problem]) -> Iterable[Problem]:
    """The first problem of each path: what comes after at the same place, or where it could not be read, follows."""
    told: set[object] = {problem.path for problem in misread}
    for problem in problems:
        place = problem.path or str(problem)
        if place not in told:
            told.add(place)
            yield problem


def _with_default(policy: Policy, layers: Sequence[Layer], *, offline: bool) -> Policy:
    if policy.default.targets:
        return policy
    if offline:
        return replace(policy, default=Route((Target(BODY, ""),)))
    names = " or ".join(f"providers.{name}.models" for name in policy.providers)
    lacking = Problem(
        ("routing", "default"),
        f"there is no target: write one here{f', or list models under {names}' if names else ''}",
    )
    raise configuration_error([located(lacking, layers)])
