"""JSON schemas in the form that vendors demand before they promise that an answer follows one ("strict").

The rule: a schema may become narrower, never wider, in its structure. Every answer that follows what is sent has the
structure that the caller asked for. So an optional property may become required, and unknown keys may be forbidden; a
property does not become nullable, since the caller's model would refuse the null.

Constraints that a vendor's grammar cannot hold (`minLength`, a `format` that it does not know) are written into the
description, where the model reads them. A structure that it cannot hold (free-form objects, tuples, `not`) raises
`NotStrictError`, and the caller of this module decides what to do. `docs/decisions/0018` says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct


class NotStrictError(ValueError):
    """The schema has a structure that has no strict form; the message says where and which."""


class Dialect(Struct, frozen=True):
    """What one vendor's strict schemas may hold beside the structure. Numbers are the values of `minItems` it takes."""

    constraints: frozenset[str]
    formats: frozenset[str]
    all_required: bool
    recursive: bool
    min_items: frozenset[int] | None


_FORMATS: Final = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})

OPENAI: Final = Dialect(
    constraints=frozenset(
        {"pattern", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"}
    ),
    formats=_FORMATS,
    all_required=True,
    recursive=True,
    min_items=None,
)
ANTHROPIC: Final = Dialect(
    constraints=frozenset({"minItems"}),
    formats=_FORMATS | {"uri"},
    all_required=False,
    recursive=False,
    min_items=frozenset({0, 1}),
)

DEEPEST: Final = 100
"""A schema nested deeper than this has no strict form at any vendor; the walk ends before Python's stack does."""

_NO_STRUCTURE: Final = frozenset({"$schema", "$id", "$comment", "$anchor", "discriminator", "readOnly", "writeOnly"})
"""Keywords that do not constrain an answer."""

_UNSAYABLE: Final = (
    "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "patternProperties",
    "unevaluatedProperties", "unevaluatedItems", "prefixItems", "contains", "$dynamicRef",
)  # fmt: skip
"""Structure that no vendor's grammar supports."""


def strict_form(schema: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """A strict form of a schema, as a new object. Raises `NotStrictError` if there is none."""
    root = dict(schema)
    if isinstance(reference := root.get("$ref"), str):  # pydantic's form for a recursive model
        root = {**_resolved(schema, reference), **{name: value for name, value in root.items() if name != "$ref"}}
    if _type_of(root) != "object":
        raise NotStrictError("its root is not an object")
    if not dialect.recursive:
        _check_not_recursive(schema)
    return _node(root, "", dialect, 0)


def _resolved(schema: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
    at: Any = schema
    for step in reference.removeprefix("#/").split("/"):
        at = at.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(at, Mapping) else None
    if not reference.startswith("#/") or not isinstance(at, Mapping):
        raise NotStrictError(f"{reference!r} refers to nothing inside the schema")
    return at


def _check_not_recursive(schema: Mapping[str, Any]) -> None:
    """Raise if a definition leads back to itself."""
    done: set[str] = set()

    def visit(reference: str, path: tuple[str, ...]) -> None:
        if reference in path:
            raise NotStrictError(f"{reference} contains itself")
        if len(path) > DEEPEST:
            raise NotStrictError(f"it is nested more than {DEEPEST} deep")
        if reference not in done:
            for inner in _references(_resolved(schema, reference)):
                visit(inner, (*path, reference))
            done.add(reference)

    for reference in _references(schema):
        visit(reference, ())


def _references(node: Any, depth: int = 0) -> Iterator[str]:
    """Every `$ref` under a node."""
    if depth > DEEPEST:
        raise NotStrictError(f"it is nested more than {DEEPEST} deep")
    if isinstance(node, Mapping):
        if isinstance(reference := node.get("$ref"), str):
            yield reference
        for value in node.values():
            yield from _references(value, depth + 1)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value, depth + 1)


def _type_of(node: Mapping[str, Any]) -> Any:
    """The type of a node, named or implied by its keywords."""
    if "type" in node or "$ref" in node or any(name in node for name in ("anyOf", "oneOf", "allOf", "enum", "const")):
        return node.get("type")
    return "object" if "properties" in node else "array" if "items" in node else None


def _node(schema: Any, where: str, dialect: Dialect, depth: int) -> dict[str, Any]:
    """One node and everything under it. What is taken out of `rest` has its place; what remains is a constraint."""
    what = where or "its root"
    if depth > DEEPEST:
        raise NotStrictError(f"it is nested more than {DEEPEST} deep")
    if not isinstance(schema, Mapping):
        raise NotStrictError(f"{what} is {schema!r:.60}, which says nothing about the value")
    if unsayable := [name for name in _UNSAYABLE if name in schema]:
        raise NotStrictError(f"{what} uses {unsayable[0]!r}")
    kind = _type_of(schema)
    if isinstance(kind, list):
        return _several_types(schema, kind, where, dialect, depth)
    rest = {name: value for name, value in schema.items() if name not in _NO_STRUCTURE and name != "type"}
    node: dict[str, Any] = {} if kind is None else {"type": kind}
    for name in ("$defs", "definitions"):
        if isinstance(defined := rest.pop(name, None), Mapping):
            node[name] = {key: _node(each, f"{name}.{key}", dialect, depth + 1) for key, each in defined.items()}
    for name in ("title", "description"):
        if name in rest:
            node[name] = rest.pop(name)
    _literals(node, rest, what)
    _unions(node, rest, where, dialect, depth)
    if kind == "object":
        _object(node, rest, where, dialect, depth)
    elif kind == "array":
        items = rest.pop("items", None)
        node["items"] = _node(items, f"{where}.items".lstrip("."), dialect, depth + 1)
    elif kind is None and not {"$ref", "anyOf", "enum", "const"} & set(node):
        raise NotStrictError(f"{what} says no type")
    _constraints(node, rest, dialect)
    return node


def _several_types(
    schema: Mapping[str, Any], kinds: list[Any], where: str, dialect: Dialect, depth: int
) -> dict[str, Any]:
    """A node of several types is a choice of one of each; a null has no keywords of its own."""
    annotations = {
        name: schema[name] for name in ("title", "description", "default", "$defs", "definitions") if name in schema
    }
    rest = {name: value for name, value in schema.items() if name not in annotations and name != "type"}
    if "enum" in rest or "const" in rest:
        return _node({**annotations, **rest}, where, dialect, depth)
    choices = [{"type": kind, **({} if kind == "null" else rest)} for kind in kinds]
    return _node({**annotations, "anyOf": choices}, where, dialect, depth)


def _literals(node: dict[str, Any], rest: dict[str, Any], what: str) -> None:
    values = [*rest["enum"]] if isinstance(rest.get("enum"), list) else []
    values += [rest["const"]] if "const" in rest else []
    if any(isinstance(value, (Mapping, list)) for value in values):
        raise NotStrictError(f"{what} has an enum of more than plain values")
    node.update({name: rest.pop(name) for name in ("enum", "const") if name in rest})


def _unions(node: dict[str, Any], rest: dict[str, Any], where: str, dialect: Dialect, depth: int) -> None:
    """`$ref`, `anyOf`, `oneOf`, and an `allOf` of one. Beside a `$ref` nothing else may stand, so it becomes a choice
    of one where something does.
    """
    choices = rest.pop("anyOf", None) or rest.pop("oneOf", None)
    if isinstance(every := rest.pop("allOf", None), list):
        if len(every) > 1 or choices:
            raise NotStrictError(f"{where or 'its root'} uses 'allOf'")
        choices = every
    if isinstance(reference := rest.pop("$ref", None), str):
        if choices:
            raise NotStrictError(f"{where or 'its root'} uses '$ref' beside a choice")
        if node or rest:
            choices = [{"$ref": reference}]
        else:
            node["$ref"] = reference
    if isinstance(choices, list):
        node["anyOf"] = [
            _node(each, f"{where}.anyOf[{number}]".lstrip("."), dialect, depth + 1)
            for number, each in enumerate(choices)
        ]


def _object(node: dict[str, Any], rest: dict[str, Any], where: str, dialect: Dialect, depth: int) -> None:
    """An object with exactly the properties that it names. One that is open on purpose has no strict form: closed, it
    could hold nothing of what it is for.
    """
    properties, others = rest.pop("properties", None), rest.pop("additionalProperties", None)
    if others not in (None, False) or (properties is None and others is None):
        raise NotStrictError(f"{where or 'its root'} is an object with any keys")
    properties = properties if isinstance(properties, Mapping) else {}
    node["properties"] = {
        name: _node(each, f"{where}.properties.{name}".lstrip("."), dialect, depth + 1)
        for name, each in properties.items()
    }
    required = rest.pop("required", [])
    names = list(required) if isinstance(required, (list, tuple)) else []
    node["required"] = list(properties) if dialect.all_required else names
    node["additionalProperties"] = False


def _constraints(node: dict[str, Any], rest: dict[str, Any], dialect: Dialect) -> None:
    """Keep the constraints that the grammar supports, and describe the rest in words, as Anthropic's own SDK does."""
    for name in [name for name in rest if name in dialect.constraints]:
        if name != "minItems" or dialect.min_items is None or rest[name] in dialect.min_items:
            node[name] = rest.pop(name)
    if rest.get("format") in dialect.formats:
        node["format"] = rest.pop("format")
    if rest.get("default", ...) is None:
        del rest["default"]  # the model may say null where the schema allows it; there is nothing more to say
    if rest:
        words = "{" + ", ".join(f"{name}: {json.dumps(value, default=str)}" for name, value in rest.items()) + "}"
        node["description"] = f"{node['description']}\n\n{words}" if node.get("description") else words


# ── schemas in words ─────────────────────────────────────────────────────────────────────────────────────────────────

IN_WORDS: Final = "Answer with JSON alone, without any other words. It has to follow this JSON schema:\n{schema}"
ANY_IN_WORDS: Final = "Answer with a JSON object alone, without any other words."


def in_words(schema: Any) -> str:
    """What a model is told that has to follow a schema by itself. `None` stands for any JSON."""
    if schema is None:
        return ANY_IN_WORDS
    return IN_WORDS.format(schema=json.dumps(schema, ensure_ascii=False, separators=(",", ":")))
