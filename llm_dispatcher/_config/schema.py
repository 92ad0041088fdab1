"""Looking around in the settings' JSON schema: which names and types are valid at a path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from .models import Settings
from .tree import KeyPath, is_mapping


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of the configuration."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}


def names_at(path: KeyPath) -> list[str]:
    """The keys that a mapping may have; none where any will do."""
    return [name for place in _at(path) for name in _names(place)]


def values_at(path: KeyPath) -> list[str]:
    """The words that a value may be; none where any will do."""
    return [str(word) for place in _at(path) for word in place.get("enum", [])]


def types_at(path: KeyPath) -> set[str]:
    """The JSON types that a value may have; none where any will do."""
    return {str(place["type"]) for place in _at(path) if "type" in place}


def _names(place: Mapping[str, Any]) -> list[str]:
    if "propertyNames" in place:
        return [str(word) for branch in resolved(place["propertyNames"]) for word in branch.get("enum", [])]
    return list(place.get("properties", ()))


def _at(path: KeyPath) -> list[Mapping[str, Any]]:
    places = list(resolved(schema()))
    for part in path:
        places = [branch for place in places for branch in _below(place, part)]
    return places


def _below(place: Mapping[str, Any], part: str | int) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, int):
        below = place.get("items")
    else:
        below = place.get("properties", {}).get(part) or place.get("additionalProperties")
    if is_mapping(below):
        yield from resolved(below)


def resolved(place: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What a place may be: its reference followed, its alternatives one by one."""
    if "$ref" in place:
        place = schema()["$defs"][place["$ref"].rpartition("/")[2]]
    alternatives = place.get("anyOf") or place.get("oneOf")
    if alternatives is None:
        yield place
    else:
        for alternative in alternatives:
            yield from resolved(alternative)
