"""Where settings come from: each source is a layer, and a stronger layer's values hide a weaker one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from .problems import Problem
from .tree import KeyPath, Tree, child, over


class Layer(Struct, frozen=True, kw_only=True):
    """The settings of one source, the places where they stand, and what is wrong with it on its own.

    `unset` are problems of variables that have no value; they do not matter where a stronger layer has one. A file
    that nobody named `is_found`: it stands in the working folder.
    """

    tree: Tree
    file: str | None = None
    lines: Mapping[KeyPath, int] = {}
    variables: Mapping[KeyPath, str] = {}
    problems: Sequence[Problem] = ()
    unset: Sequence[Problem] = ()
    is_found: bool = False

    def depth(self, path: KeyPath) -> int:
        """How much of a path this layer has."""
        value: object = self.tree
        for depth, part in enumerate(path):
            try:
                value = child(value, part)
            except LookupError:
                return depth
        return len(path)

    def located(self, problem: Problem) -> Problem:
        """The problem with the place in this layer where it is, or where it is missing."""
        prefixes = [problem.path[:length] for length in range(len(problem.path), -1, -1)]
        line = next((self.lines[prefix] for prefix in prefixes if prefix in self.lines), None)
        variable = next((self.variables[prefix] for prefix in prefixes if prefix in self.variables), None)
        if variable is None and problem.path:  # a key that is wrong itself: the variable is known by one below it
            below = (name for path, name in self.variables.items() if path[: len(problem.path)] == problem.path)
            variable = next(below, None)
        return replace(problem, file=self.file, line=line, variable=variable)


def merged(layers: Sequence[Layer]) -> Tree:
    """All layers as one tree; the strongest comes last."""
    tree: Tree = {}
    for layer in layers:
        tree = over(layer.tree, tree)
    return tree


def located(problem: Problem, layers: Sequence[Layer]) -> Problem:
    """The problem with its place: the strongest of the layers that have most of its path."""
    if problem.file is not None or problem.variable is not None:
        return problem

    def rank(layer: Layer) -> tuple[int, bool]:
        depth = layer.depth(problem.path)
        # What is missing is missed in the file, whatever a variable may say of its neighbours.
        return depth, depth < len(problem.path) and layer.file is not None

    return max(reversed(layers), key=rank).located(problem)
