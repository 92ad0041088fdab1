"""The JSON schema of the settings, and the names, values and types that it allows at a path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from .layers import is_mapping
from .models import Settings
from .problems import KeyPath


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of the configuration."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}


def names_at(path: KeyPath) -> list[str]:
    """The keys that a mapping may have; empty if any key is allowed."""
    return [name for place in _at(path) for name in _names(place)]


def values_at(path: KeyPath) -> list[str]:
    """The words that a value may be; empty if any value is allowed."""
    return [str(word) for place in _at(path) for word in place.get("enum", [])]


def types_at(path: KeyPath) -> set[str]:
    """The JSON types that a value may have; empty if any type is allowed."""
    return {str(place["type"]) for place in _at(path) if "type" in place}


def _names(place: Mapping[str, Any]) -> list[str]:
    if "propertyNames" in place:
        return [str(word) for branch in alternatives(place["propertyNames"]) for word in branch.get("enum", [])]
    return list(place.get("properties", ()))


def _at(path: KeyPath) -> list[Mapping[str, Any]]:
    places = list(alternatives(schema()))
    for part in path:
        places = [branch for place in places for branch in _below(place, part)]
    return places


def _below(place: Mapping[str, Any], part: str | int) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, int):
        below = place.get("items")
    else:
        below = place.get("properties", {}).get(part) or place.get("additionalProperties")
    if is_mapping(below):
        yield from alternatives(below)


def alternatives(place: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schemas of a place, one by one: references and `anyOf` or `oneOf` are resolved."""
    if "$ref" in place:
        place = schema()["$defs"][place["$ref"].rpartition("/")[2]]
    branches = place.get("anyOf") or place.get("oneOf")
    if branches is None:
        yield place
    else:
        for branch in branches:
            yield from alternatives(branch)
