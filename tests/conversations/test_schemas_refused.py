"""Schemas that no vendor takes are refused where they are written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher import LLM, TaskRequest, Tool, llm_stream
from llm_dispatcher._json.soundness import check_schema
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import Reply

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"type": "objekt"}, "its root has the type 'objekt'"),
    ({"type": ["object", 5]}, "its root has the type 5"),
    ({"type": "object", "properties": {"a": {"type": "wat"}}}, "properties.a has the type 'wat'"),
    ({"type": "object", "properties": []}, r"its root has properties: \[\]"),
    ({"type": "object", "properties": {"a": "string"}}, "properties.a is a dict, got 'string'"),
    ({"type": "object", "required": "a"}, "its root has required: 'a'"),
    ({"type": "object", "properties": {"a": {"enum": []}}}, r"properties.a has enum: \[\]"),
    ({"type": "object", "properties": {"a": {"items": {"type": "x"}}}}, "properties.a.items has the type 'x'"),
    ({"type": "object", "properties": {"a": {"anyOf": {"type": "null"}}}}, "properties.a has anyOf"),
    ({"type": "object", "properties": {"a": {"$ref": "#/nope"}}}, "'#/nope' refers to nothing"),
]


@pytest.mark.parametrize(("schema", "words"), WRONG)
def test_a_schema_of_an_answer_is_refused_at_once(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^response_format cannot be a JSON schema that a vendor takes: {words}"):
        LLM(response_format=schema)
    wrapped = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(ValueError, match=words):
        llm_stream(response_format=wrapped)


@pytest.mark.parametrize(("schema", "words"), [each for each in WRONG if each[0]["type"] == "object"])
def test_a_schema_of_a_tool_is_refused_at_once(schema: dict[str, Any], words: str) -> None:
    for tool in (
        {"name": "look", "parameters": schema},
        {"type": "function", "function": {"name": "look", "parameters": schema}},
        Tool("look", "Look.", schema, lambda a: "seen"),
    ):
        with pytest.raises(ValueError, match=f"^the parameters of the tool 'look' cannot be .*: {words}"):
            LLM(tools=[tool])


def test_the_parameters_of_a_tool_are_an_object() -> None:
    with pytest.raises(ValueError, match="the tool 'look' are the schema of an object, got the type 'array'"):
        LLM(tools=[{"name": "look", "parameters": {"type": "array"}}])


async def test_a_request_made_by_hand_is_refused_when_it_is_read(simulated_switch: SimulatedSwitch) -> None:
    vendors = simulated_switch(openai=Reply("{}"))
    with pytest.raises(ValueError, match="its root has the type 'objekt'"):
        await LLM().stream(TaskRequest("x", response_format={"type": "objekt"}))
    assert not vendors["openai"].requests


def test_what_one_vendor_knows_passes() -> None:
    check_schema({"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}, "x-vendor": object()})
    check_schema(
        {"properties": {"a": True, "b": {}}, "$defs": {"n": {"$ref": "#/$defs/n"}}, "additionalProperties": False}
    )
    LLM(response_format={"type": "json_object"}, tools=[{"type": "web_search"}, {"google_search": {}}])


NODES = st.recursive(
    st.sampled_from([{"type": "string"}, {"type": ["integer", "null"]}, {"enum": [1]}, {}, True]),
    lambda inner: st.builds(
        lambda names, item: {"type": "object", "properties": names, "items": item, "anyOf": [item]},
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        inner,
    ),
    max_leaves=20,
)


@given(NODES)
def test_a_schema_without_a_mistake_passes(schema: Any) -> None:
    check_schema({"type": "object", "properties": {"root": schema}})
