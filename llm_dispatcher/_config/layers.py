"""Layers: the settings of one source each, as a tree of plain values with their places. Stronger layers win.

A tree consists of dicts with text keys, lists and scalars. It is not validated yet, so it may hold anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, TypeGuard

from msgspec import Struct
from msgspec.structs import replace

from .problems import KeyPath, Problem

Tree: TypeAlias = dict[str, object]

MAX_DEPTH: Final = 32
"""A source that nests its values deeper is refused."""


class Layer(Struct, frozen=True, kw_only=True):
    """The settings of one source, and the problems that can be seen without the other sources.

    `lines` and `variables` say where each value stands. `unset` holds a problem for each variable without a value: it
    counts only if no stronger layer has a value there. `is_found` marks a file that the user did not name: the
    dispatcher found it in the working folder.
    """

    tree: Tree
    file: str | None = None
    lines: Mapping[KeyPath, int] = {}
    variables: Mapping[KeyPath, str] = {}
    problems: Sequence[Problem] = ()
    unset: Sequence[Problem] = ()
    is_found: bool = False

    def depth(self, path: KeyPath) -> int:
        """The number of leading parts of a path that this layer has."""
        value: object = self.tree
        for depth, part in enumerate(path):
            try:
                value = child(value, part)
            except LookupError:
                return depth
        return len(path)

    def located(self, problem: Problem) -> Problem:
        """The problem with the line or the variable of its path, else of the nearest path above it."""
        prefixes = [problem.path[:length] for length in range(len(problem.path), -1, -1)]
        line = next((self.lines[prefix] for prefix in prefixes if prefix in self.lines), None)
        variable = next((self.variables[prefix] for prefix in prefixes if prefix in self.variables), None)
        if variable is None and problem.path:
            # The key itself is wrong: `variables` only has paths below it.
            below = (name for path, name in self.variables.items() if path[: len(problem.path)] == problem.path)
            variable = next(below, None)
        return replace(problem, file=self.file, line=line, variable=variable)


def merged(layers: Sequence[Layer]) -> Tree:
    """All layers as one tree. The strongest layer comes last."""
    tree: Tree = {}
    for layer in layers:
        tree = deep_merge(layer.tree, tree)
    return tree


def located(problem: Problem, layers: Sequence[Layer]) -> Problem:
    """The problem with its place in the strongest of the layers that have most of its path."""
    if problem.file is not None or problem.variable is not None:
        return problem

    def rank(layer: Layer) -> tuple[int, bool]:
        depth = layer.depth(problem.path)
        # A missing key is reported in the file, even if a variable sets a key beside it.
        return depth, depth < len(problem.path) and layer.file is not None

    return max(reversed(layers), key=rank).located(problem)


def is_mapping(value: object) -> TypeGuard[Tree]:
    """Whether a value is a mapping. Every source has checked that its keys are text."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Whether a value is a list."""
    return isinstance(value, list)


def child(value: object, part: str | int) -> object:
    """The value under a key of a mapping or at a position of a list; raises `LookupError` if there is none."""
    if is_mapping(value) and isinstance(part, str):
        return value[part]
    if is_list(value) and isinstance(part, int):
        return value[part]
    raise LookupError(part)


def mapping_at(tree: Tree, *path: str) -> Tree:
    """The mapping at a path, or an empty one if there is none."""
    value: object = tree
    for part in path:
        value = value.get(part) if is_mapping(value) else None
    return value if is_mapping(value) else {}


def leaves(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    """Every value that is not a mapping or a list, with its path."""
    if is_mapping(value):
        for key, each in value.items():
            yield from leaves(each, (*path, key))
    elif is_list(value):
        for position, each in enumerate(value):
            yield from leaves(each, (*path, position))
    else:
        yield path, value


def with_leaves(tree: Tree, change: Callable[[object, KeyPath], object]) -> Tree:
    """A copy of the tree, with each leaf replaced by what `change` returns for it and its path."""

    def changed(value: object, path: KeyPath) -> object:
        if is_mapping(value):
            return {key: changed(each, (*path, key)) for key, each in value.items()}
        if is_list(value):
            return [changed(each, (*path, position)) for position, each in enumerate(value)]
        return change(value, path)

    return {key: changed(value, (key,)) for key, value in tree.items()}


def deep_merge(strong: Mapping[str, object], weak: Mapping[str, object]) -> Tree:
    """Merge `strong` over `weak`, mappings key by key. Keys keep the order of `weak`; other values are replaced."""
    tree = dict(weak)
    for key, value in strong.items():
        below = tree.get(key)
        tree[key] = deep_merge(value, below) if is_mapping(value) and is_mapping(below) else value
    return tree
