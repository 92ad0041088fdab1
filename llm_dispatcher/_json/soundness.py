"""The check of a schema itself, where it is written: a schema that no vendor takes is refused before anything is sent.

Only what is wrong for everyone is refused. A keyword or a format that one vendor knows and another one does not passes,
and so do types in capital letters, as Google writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from .schema import SchemaError, resolved

TYPES: Final = ("null", "boolean", "object", "array", "number", "integer", "string")

_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords that hold a dict of schemas."""
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
"""Keywords that hold a list of schemas."""
_NODES: Final = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
"""Keywords that hold a schema."""


def check_schema(root: Mapping[str, Any]) -> None:
    """Check a JSON schema.

    Raises:
        SchemaError: No vendor takes it. The message says where it is wrong.
    """
    nodes: list[tuple[str, Any]] = [("", root)]
    seen: set[int] = set()  # a dict may contain itself, or another one many times
    while nodes:
        where, node = nodes.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if not isinstance(node, Mapping):
            if not isinstance(node, bool):
                raise SchemaError(f"{where or 'it'} is a dict, got {node!r:.60}")
            continue
        what = where or "its root"
        _check_types(what, node.get("type", ()))
        if isinstance(reference := node.get("$ref"), str):
            resolved(root, reference)
        _check_kind(what, node, "required", list, lambda names: all(isinstance(name, str) for name in names))
        _check_kind(what, node, "enum", list, bool)
        nodes += _inside(where, node)


def _check_types(what: str, kinds: object) -> None:
    for kind in kinds if isinstance(kinds, (list, tuple)) else [kinds]:
        if not isinstance(kind, str) or kind.lower() not in TYPES:
            raise SchemaError(f"{what} has the type {kind!r:.60}; JSON has {', '.join(TYPES)}")


def _check_kind(
    what: str, node: Mapping[str, Any], keyword: str, kind: type, is_right: Callable[[Any], bool] = lambda value: True
) -> None:
    value = node.get(keyword, ...)
    if value is ... or (isinstance(value, (kind, tuple)) and is_right(value)):
        return
    raise SchemaError(f"{what} has {keyword}: {value!r:.60}")


def _inside(where: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas inside a schema, with their places."""
    what, dot = where or "its root", f"{where}." if where else ""
    for keyword in _MAPS:
        _check_kind(what, node, keyword, dict)
        for name, inner in (node.get(keyword) or {}).items():
            yield f"{dot}{keyword}.{name}", inner
    for keyword in _LISTS:
        _check_kind(what, node, keyword, list, bool)
        for number, inner in enumerate(node.get(keyword) or ()):
            yield f"{dot}{keyword}[{number}]", inner
    for keyword in _NODES:
        if keyword in node:
            yield f"{dot}{keyword}", node[keyword]
