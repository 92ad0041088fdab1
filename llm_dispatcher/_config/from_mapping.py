"""The layer of a mapping that is passed as an argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from .._redaction import Secret
from .layers import MAX_DEPTH, Layer, Tree
from .problems import KeyPath, Problem


def mapping_layer(config: Mapping[str, object]) -> Layer:
    """The mapping as plain dicts, lists and scalars: other mappings, tuples and secrets are converted."""
    problems: list[Problem] = []
    too_deep: list[KeyPath] = []

    def plain(value: object, path: KeyPath) -> object:
        if too_deep:
            return None
        if len(path) > MAX_DEPTH:
            # A list that contains itself recurses without end, and one that contains itself twice does so twice at
            # each level: stop everywhere, and report it once, with the beginning of its path.
            too_deep.append(path)
            problems.append(Problem(path[:4], f"is nested more than {MAX_DEPTH} levels deep"))
            return None
        if isinstance(value, Mapping):
            return mapping(cast(Mapping[Any, object], value), path)
        if isinstance(value, (list, tuple)):
            items = cast(tuple[object, ...], value)
            return [plain(each, (*path, position)) for position, each in enumerate(items)]
        return value.reveal() if isinstance(value, Secret) else value

    def mapping(value: Mapping[Any, object], path: KeyPath) -> Tree:
        tree: Tree = {}
        for key, each in value.items():
            if isinstance(key, str):
                tree[str(key)] = plain(each, (*path, str(key)))
            else:
                problems.append(Problem(path, f"a key must be text, got {key!r}"))
        return tree

    return Layer(tree=mapping(config, ()), problems=problems)
