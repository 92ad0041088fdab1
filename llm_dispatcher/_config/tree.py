"""Configuration before it is judged: trees of plain mappings and lists, and ways to look around in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias, TypeGuard

Tree: TypeAlias = dict[str, object]

KeyPath: TypeAlias = tuple[str | int, ...]
"""The keys and list positions that lead to a value."""

MOST_DEPTH: Final = 32
"""No sensible configuration is nested deeper."""


def is_mapping(value: object) -> TypeGuard[Tree]:
    # Sources admit text keys only.
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def child(value: object, part: str | int) -> object:
    """What a mapping has under a key or a list at a position; a `LookupError` where it has nothing there."""
    if is_mapping(value) and isinstance(part, str):
        return value[part]
    if is_list(value) and isinstance(part, int):
        return value[part]
    raise LookupError(part)


def mapping_at(tree: Tree, *path: str) -> Tree:
    """The mapping at a path; an empty one where there is none."""
    value: object = tree
    for part in path:
        value = value.get(part) if is_mapping(value) else None
    return value if is_mapping(value) else {}


def leaves(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    """Every value that is no mapping or list itself, with its path."""
    if is_mapping(value):
        for key, each in value.items():
            yield from leaves(each, (*path, key))
    elif is_list(value):
        for position, each in enumerate(value):
            yield from leaves(each, (*path, position))
    else:
        yield path, value


def with_leaves(tree: Tree, change: Callable[[object, KeyPath], object]) -> Tree:
    """The same tree with other leaves."""

    def changed(value: object, path: KeyPath) -> object:
        if is_mapping(value):
            return {key: changed(each, (*path, key)) for key, each in value.items()}
        if is_list(value):
            return [changed(each, (*path, position)) for position, each in enumerate(value)]
        return change(value, path)

    return {key: changed(value, (key,)) for key, value in tree.items()}


def over(strong: Mapping[str, object], weak: Mapping[str, object]) -> Tree:
    """Mappings are merged key by key, the weak one's order kept; anything else is hidden by what lies over it."""
    tree = dict(weak)
    for key, value in strong.items():
        below = tree.get(key)
        tree[key] = over(value, below) if is_mapping(value) and is_mapping(below) else value
    return tree
