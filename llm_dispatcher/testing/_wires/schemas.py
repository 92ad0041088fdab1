"""The reasons why OpenAI and Anthropic refuse a strict schema, in their own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_FORMATS: Final = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_OPENAI_KEYWORDS: Final = frozenset(
    {
        "$defs", "$ref", "additionalProperties", "anyOf", "const", "definitions", "description", "enum",
        "exclusiveMaximum", "exclusiveMinimum", "format", "items", "maxItems", "maximum", "minItems", "minimum",
        "multipleOf", "pattern", "properties", "required", "title", "type",
    }
)  # fmt: skip
_ANTHROPIC_KEYWORDS: Final = frozenset(
    {
        "$defs", "$ref", "additionalProperties", "allOf", "anyOf", "const", "default", "definitions", "description",
        "enum", "format", "items", "minItems", "oneOf", "pattern", "properties", "required", "title", "type",
    }
)  # fmt: skip

Place = tuple[str, ...]


def openai_objection(schema: Any) -> str | None:
    """The reason why OpenAI refuses a schema with `strict`, or `None`."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        kind = schema.get("type") if isinstance(schema, dict) else None
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    return next((f"In context={place}, {what}" for place, node in _nodes(schema) if (what := _openai(node))), None)


def _openai(node: dict[str, Any]) -> str | None:
    """The problem of one node, without the nodes below it."""
    if "$ref" in node:
        others = sorted(node.keys() - {"$ref"})
        return f"$ref cannot have keywords {set(others)}." if others else None
    if unknown := sorted(node.keys() - _OPENAI_KEYWORDS):
        return f"'{unknown[0]}' is not permitted."
    if "type" not in node and not {"anyOf", "enum", "const"} & node.keys():
        return "schema must have a 'type' key."
    if "format" in node and node["format"] not in _FORMATS:
        return f"'{node['format']}' is not a valid format."
    if node.get("type") == "array" and "items" not in node:
        return "array schema missing items."
    if node.get("type") == "object":
        if node.get("additionalProperties") is not False:
            return "'additionalProperties' is required to be supplied and to be false."
        if missing := [name for name in node.get("properties", {}) if name not in node.get("required", ())]:
            return (
                "'required' is required to be supplied and to be an array including every key in properties. "
                f"Missing '{missing[0]}'."
            )
    return None


def anthropic_objection(schema: Any) -> str | None:
    """The reason why Anthropic refuses a schema, or `None`."""
    if not isinstance(schema, dict):
        return "Input should be an object"
    if any(_is_recursive(schema, name, ()) for name in schema.get("$defs", {})):
        return "Recursive schemas are not supported"
    return next((what for _, node in _nodes(schema) if (what := _anthropic(node))), None)


def _anthropic(node: dict[str, Any]) -> str | None:
    kind = node.get("type")
    if kind == "object" and node.get("additionalProperties") is not False:
        return "For 'object' type, 'additionalProperties' must be explicitly set to false"
    if kind == "array" and node.get("minItems", 0) not in (0, 1):
        return "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    if unknown := sorted(node.keys() - _ANTHROPIC_KEYWORDS):
        names = ", ".join(unknown)
        return f"For '{kind}' type, {'property' if len(unknown) == 1 else 'properties'} '{names}' is not supported"
    return None


def _is_recursive(schema: dict[str, Any], name: str, path: Place) -> bool:
    if name in path:
        return True
    definition = schema["$defs"].get(name)
    inside = [node["$ref"].removeprefix("#/$defs/") for _, node in _nodes(definition) if "$ref" in node]
    return any(_is_recursive(schema, each, (*path, name)) for each in inside)


def _nodes(node: Any, place: Place = ()) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Each schema inside a schema, the outermost first, with its place in OpenAI's form."""
    if not isinstance(node, dict):
        return
    yield place, node
    for name in ("properties", "$defs", "definitions"):
        inside = node.get(name)
        for key, each in inside.items() if isinstance(inside, Mapping) else ():
            yield from _nodes(each, (*place, name, key))
    for name in ("anyOf", "oneOf", "allOf"):
        choices = node.get(name)
        for number, each in enumerate(choices if isinstance(choices, list) else ()):
            yield from _nodes(each, (*place, name, str(number)))
    for name in ("items", "additionalProperties"):
        yield from _nodes(node.get(name), (*place, name))
