"""A mapping given as an argument, as a layer of plain dicts and lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from .._redaction import Secret
from .layers import Layer
from .problems import Problem
from .tree import MOST_DEPTH, KeyPath, Tree


def argument_layer(config: Mapping[str, object]) -> Layer:
    """The mapping without what only Python knows: other mappings, tuples, keys that are kept secret."""
    problems: list[Problem] = []
    too_deep: list[KeyPath] = []

    def plain(value: object, path: KeyPath) -> object:
        if too_deep:
            return None
        if len(path) > MOST_DEPTH:
            # A list that holds itself has no end, and a path of that length is of no use to a reader. One that holds
            # itself twice has no end twice as often at each level: this is told once.
            too_deep.append(path)
            problems.append(Problem(path[:4], f"is nested more than {MOST_DEPTH} levels deep"))
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
