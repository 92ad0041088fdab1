"""The schemas that were passed as dicts: an answer to one of them is plain data, which is checked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from .._answer_schema import AnswerSchema
from .decoding import decode, unfenced
from .schema import SchemaError, problems, resolved

ANY_JSON = {"type": "json_object"}


def answer_in(response_format: Mapping[str, Any]) -> AnswerSchema:
    """The schema of a dict, bare or in OpenAI's wrapping, which checks answers."""
    if response_format == ANY_JSON:
        return AnswerSchema(response_format, parse=_any_json, item_parse=_any_json)
    inner = response_format.get("json_schema", response_format)
    schema = inner.get("schema", inner)
    item_key, items = _only_list(schema)
    return AnswerSchema(
        response_format,
        parse=partial(_checked, schema, schema),
        item_parse=None if items is None else partial(_checked, items, schema),
        item_key=item_key,
    )


def _any_json(text: str) -> Any:
    return decode(unfenced(text))


def _checked(schema: Any, root: Any, text: str) -> Any:
    value = _any_json(text)
    if found := problems(value, schema, root):
        raise ValueError("\n".join(found))
    return value


def _only_list(schema: Any) -> tuple[str | None, Any]:
    """The key of the only list in an object, and the schema of its items. A root that is a list has no key."""
    at = _followed(schema, schema)
    if _is_a_list(at):
        return None, at.get("items", True)
    properties = at.get("properties")
    if not isinstance(properties, Mapping):
        return None, None
    lists = {name: _followed(schema, each) for name, each in properties.items()}
    lists = {name: each for name, each in lists.items() if _is_a_list(each)}
    if len(lists) != 1:
        return None, None
    [(key, each)] = lists.items()
    return key, each.get("items", True)


def _is_a_list(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "array" and "prefixItems" not in schema


def _followed(root: Any, schema: Any) -> Mapping[str, Any]:
    """The schema, or the one to which its `$ref` leads."""
    for _ in range(10):
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            break
        try:
            schema = resolved(root, str(schema["$ref"]))
        except SchemaError:
            return {}
    return schema if isinstance(schema, Mapping) else {}
