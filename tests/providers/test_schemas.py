"""Structured output: a model or a schema is sent in the form that each vendor demands, and says what was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, create_model

from llm_dispatcher import LLM, LLMSwitch, TaskRequest, use_switch
from llm_dispatcher._providers.base.schemas import ANTHROPIC, DEEPEST, OPENAI, Dialect, NotStrictError, strict_form
from llm_dispatcher.exceptions import ModelUnsupportedError
from llm_dispatcher.testing import Reply, SimulatedVendor
from llm_dispatcher.testing._wires.schemas import anthropic_objection, openai_objection
from tests.conftest import examples

Start = Callable[..., SimulatedVendor]

DIALECTS = [OPENAI, ANTHROPIC]


class Rank(Enum):
    HIGH = "high"
    LOW = "low"


class Power(BaseModel):
    name: str = Field(min_length=1, description="Its name.")
    level: int = Field(5, ge=0, le=10)


class Superhero(BaseModel):
    """A hero."""

    name: str
    main: Power = Field(description="The first of them.")
    powers: list[Power] = []
    rank: Rank | None = None
    home: str | None = Field(None, json_schema_extra={"format": "uri"})


class Node(BaseModel):
    value: int
    after: Node | None = Field(None, description="What comes after it.")


def objection(dialect: Dialect, schema: Any) -> str | None:
    return openai_objection(schema) if dialect is OPENAI else anthropic_objection(schema)


# ── the form ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_openai_wants_every_property_required_and_no_others() -> None:
    schema = Superhero.model_json_schema()
    before = deepcopy(schema)
    strict = strict_form(schema, OPENAI)
    assert schema == before
    assert strict["required"] == ["name", "main", "powers", "rank", "home"] == list(strict["properties"])
    assert strict["$defs"]["Power"]["required"] == ["name", "level"]
    assert strict["additionalProperties"] is strict["$defs"]["Power"]["additionalProperties"] is False
    assert openai_objection(schema) is not None
    assert openai_objection(strict) is None


def test_anthropic_keeps_what_is_optional() -> None:
    strict = strict_form(Superhero.model_json_schema(), ANTHROPIC)
    assert strict["required"] == ["name", "main"]
    assert strict["additionalProperties"] is False
    assert anthropic_objection(Superhero.model_json_schema()) is not None
    assert anthropic_objection(strict) is None


def test_unsupported_schema_keywords_move_to_the_description() -> None:
    openai, anthropic = (
        strict_form(Power.model_json_schema(), dialect)["properties"] for dialect in (OPENAI, ANTHROPIC)
    )
    assert openai["name"]["description"] == "Its name.\n\n{minLength: 1}"
    assert (openai["level"]["minimum"], openai["level"]["description"]) == (0, "{default: 5}")
    assert "minimum" not in anthropic["level"]
    assert anthropic["level"]["description"] == "{default: 5, maximum: 10, minimum: 0}"


def test_values_of_several_types_stay_an_enum() -> None:
    """Each type with all the values would not be satisfiable."""
    schema = {"type": "object", "properties": {"a": {"type": ["string", "null"], "enum": ["x", None]}}}
    for dialect in DIALECTS:
        strict = strict_form(schema, dialect)["properties"]["a"]
        assert strict["enum"] == ["x", None]
        assert "anyOf" not in strict


def test_a_description_beside_a_reference_stays() -> None:
    """Beside `$ref` OpenAI takes nothing else."""
    main = strict_form(Superhero.model_json_schema(), OPENAI)["properties"]["main"]
    assert main == {"description": "The first of them.", "anyOf": [{"$ref": "#/$defs/Power"}]}


def test_a_model_that_holds_itself_is_strict_at_openai_only() -> None:
    strict = strict_form(Node.model_json_schema(), OPENAI)
    assert strict["type"] == "object"
    assert openai_objection(strict) is None
    with pytest.raises(NotStrictError, match="#/\\$defs/Node contains itself"):
        strict_form(Node.model_json_schema(), ANTHROPIC)


def test_definitions_that_refer_to_each_other_in_a_long_chain_are_refused_at_anthropic() -> None:
    """Each definition of the chain refers to the next one."""
    definitions: dict[str, Any] = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(DEEPEST + 1)}
    definitions[f"d{DEEPEST + 1}"] = {"type": "string"}
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions}
    with pytest.raises(NotStrictError, match="nested more than 100 deep"):
        strict_form(schema, ANTHROPIC)


def deep(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return {"type": "object", "properties": {"x": schema}}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "array", "items": {"type": "string"}}, "its root is not an object"),
        ({"anyOf": [{"type": "object", "properties": {}}]}, "its root is not an object"),
        ({"type": "object"}, "its root is an object with any keys"),
        (TypeAdapter(dict[str, int]).json_schema(), "its root is an object with any keys"),
        (create_model("M", scores=dict[str, int]).model_json_schema(), "properties.scores is an object with any keys"),
        (create_model("M", anything=Any).model_json_schema(), "properties.anything says no type"),
        (create_model("M", pair=tuple[int, str]).model_json_schema(), "properties.pair uses 'prefixItems'"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "properties.a uses 'not'"),
        ({"type": "object", "properties": {"a": True}}, "properties.a is True"),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, "properties.a.items is None"),
        ({"type": "object", "properties": {"a": {"enum": [{}]}}}, "properties.a has an enum of more than plain"),
        ({"type": "object", "properties": {"a": {"allOf": [{}, {}]}}}, "properties.a uses 'allOf'"),
        ({"$ref": "#/$defs/Gone"}, "refers to nothing"),
        ({"$ref": "https://example.org/schema"}, "refers to nothing"),
        (
            {
                "type": "object",
                "properties": {"a": {"$ref": "#/$defs/A", "anyOf": [{"type": "null"}]}},
                "$defs": {"A": {"type": "string"}},
            },
            "properties.a uses '\\$ref' beside a choice",
        ),
        (deep(DEEPEST + 1), "nested more than 100 deep"),
        (deep(DEEPEST * 100), "nested more than 100 deep"),
    ],
)
def test_a_schema_without_a_strict_form_is_refused_with_place_and_reason(
    schema: Mapping[str, Any], why: str, dialect: Dialect
) -> None:
    with pytest.raises(NotStrictError, match=why):
        strict_form(schema, dialect)


# ── properties ─────────────────────────────────────────────────────────────────────────────────────────────────────

LEAVES = st.sampled_from([int, str, bool, float, Rank, Literal["a", "b"], Literal[1, "one"]])
NAMES = st.sampled_from(["a", "b", "c", "type", "properties", "items"])


@st.composite
def models(draw: st.DrawFn, depth: int = 2) -> type[BaseModel]:
    """Models of every sort that has a strict form."""
    fields: dict[str, Any] = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        kind: Any = draw(LEAVES if depth == 0 else st.one_of(LEAVES, models(depth - 1)))
        wrap = draw(st.sampled_from(["", "list", "optional", "union"]))
        kind = {"": kind, "list": list[kind], "optional": kind | None, "union": kind | list[str]}[wrap]
        described = draw(st.sampled_from([None, "Some words."]))
        if wrap in ("list", "optional") and draw(st.booleans()):
            fields[name] = (kind, Field([] if wrap == "list" else None, description=described))
        else:
            fields[name] = (kind, Field(description=described))
    number = draw(st.integers(0, 3))
    return create_model(f"Model{depth}{number}", **fields)


def answers(schema: Any, root: Any) -> st.SearchStrategy[Any]:
    """Values that follow a strict schema: what a model would say that is held to it."""
    match schema:
        case {"$ref": reference}:
            at = root
            for step in reference.split("/")[1:]:
                at = at[step]
            return answers(at, root)
        case {"const": value}:
            return st.just(value)
        case {"enum": values}:
            return st.sampled_from(values)
        case {"anyOf": choices}:
            return st.one_of([answers(choice, root) for choice in choices])
        case {"type": "object", "properties": properties, "required": required}:
            inside = {name: answers(each, root) for name, each in properties.items()}
            must = {name: each for name, each in inside.items() if name in required}
            return st.fixed_dictionaries(must, optional={name: inside[name] for name in inside.keys() - must.keys()})
        case {"type": "array", "items": items}:
            return st.lists(answers(items, root), max_size=2)
        case {"type": kind}:
            return {
                "integer": st.integers(-9, 9),
                "number": st.floats(-9, 9),
                "string": st.sampled_from(["", "x"]),
                "boolean": st.booleans(),
                "null": st.none(),
            }[kind]
    raise AssertionError(schema)


@pytest.mark.found("N-A4")
@settings(max_examples=examples(120))
@given(data=st.data(), model=models(), dialect=st.sampled_from(DIALECTS))
def test_answers_to_the_strict_form_fit_the_original_schema(
    data: st.DataObject, model: type[BaseModel], dialect: Dialect
) -> None:
    """The vendor takes the schema; and the caller's model takes every answer that follows it."""
    strict = strict_form(model.model_json_schema(), dialect)
    assert objection(dialect, strict) is None
    model.model_validate_json(json.dumps(data.draw(answers(strict, strict))))


SCHEMAS = st.recursive(
    st.sampled_from(
        [
            {"type": "string", "minLength": 2},
            {"type": ["integer", "null"], "minimum": 1},
            {"enum": ["a", 1, None]},
            {"const": "a"},
            {},
            True,
            {"$ref": "#/$defs/D"},
            {"$ref": "#/$defs/D", "description": "d"},
            {"type": "string", "format": "uri", "default": None},
        ]
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}, optional={"minItems": st.integers(0, 3)}),
        st.fixed_dictionaries(
            {"properties": st.dictionaries(NAMES, inner, max_size=3)},
            optional={
                "type": st.sampled_from(["object", ["object", "null"]]),
                "additionalProperties": st.sampled_from([True, False, {"type": "string"}]),
                "required": st.just(["a"]),
                "maxProperties": st.just(3),
            },
        ),
        st.lists(inner, min_size=1, max_size=2).flatmap(
            lambda choices: st.sampled_from([{"anyOf": choices}, {"oneOf": choices}, {"allOf": choices}])
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=examples(400))
@given(schema=SCHEMAS, definition=SCHEMAS, dialect=st.sampled_from(DIALECTS))
def test_a_schema_is_made_strict_or_refused_whatever_it_is(schema: Any, definition: Any, dialect: Dialect) -> None:
    whole = {"type": "object", "properties": {"x": schema}, "$defs": {"D": definition}}
    before = deepcopy(whole)
    try:
        strict = strict_form(whole, dialect)
    except NotStrictError:
        pass
    else:
        assert objection(dialect, strict) is None
        assert strict_form(strict, dialect) == strict
    assert whole == before


# ── on the wires ───────────────────────────────────────────────────────────────────────────────────────────────────

ANSWER = '{"name": "Ada", "main": {"name": "sums", "level": 9}, "powers": [], "rank": null, "home": null}'


def schema_in(wire: str, body: Any) -> dict[str, Any]:
    match wire:
        case "openai-chat":
            return dict(body["response_format"]["json_schema"])
        case "openai-responses":
            return dict(body["text"]["format"])
        case _:
            return {**body["output_config"]["format"], "strict": True}


def entry(vendor: SimulatedVendor) -> dict[str, Any]:
    apis = {"openai-chat": {"api": "chat"}, "openai-responses": {"api": "responses"}}
    kind = "openai" if vendor.wire in apis else str(vendor.wire)
    more = apis.get(vendor.wire, {})
    return {"kind": kind, "api_key": "test-key", "base_url": vendor.base_url, "models": ["m"], **more}


def switch_over(*vendors: SimulatedVendor) -> LLMSwitch:
    names = [f"p{number}" for number in range(len(vendors))]
    return LLMSwitch(
        {
            "providers": {name: entry(vendor) for name, vendor in zip(names, vendors, strict=True)},
            "routing": {"default": [f"{name}/m" for name in names]},
            "resilience": {"max_retries": 0},
        }
    )


@pytest.mark.found("N-A4")
@pytest.mark.parametrize("wire", ["openai-chat", "openai-responses", "anthropic"])
@pytest.mark.parametrize("written", [Superhero, Superhero.model_json_schema()], ids=["model", "schema"])
async def test_a_model_or_its_schema_is_answered(wire: str, written: Any, simulated_vendor: Start) -> None:
    vendor = simulated_vendor(wire, Reply(ANSWER))
    async with switch_over(vendor) as switch:
        with use_switch(switch):
            answer = await LLM(response_format=written)("Who counts best?")
    assert Superhero.model_validate_json(answer).main.level == 9
    sent = schema_in(wire, vendor.requests[0].body)
    assert sent["strict"] is True
    assert sent["schema"]["title"] == "Superhero"


@pytest.mark.parametrize("wire", ["openai-chat", "openai-responses"])
async def test_openai_is_sent_what_has_no_strict_form_as_it_is(wire: str, simulated_vendor: Start) -> None:
    scores = create_model("Scores", of=dict[str, int])
    vendor = simulated_vendor(wire, Reply('{"of": {}}'))
    async with switch_over(vendor) as switch:
        assert await switch.stream_request(TaskRequest("Count.", response_format=scores)) == '{"of": {}}'
    sent = schema_in(wire, vendor.requests[0].body)
    assert sent == {**sent, "name": "Scores", "schema": scores.model_json_schema(), "strict": False}


async def test_anthropic_knows_strict_schemas_only_so_the_next_target_is_asked(simulated_vendor: Start) -> None:
    scores = create_model("Scores", of=dict[str, int])
    first, second = simulated_vendor("anthropic", Reply("{}")), simulated_vendor("openai-chat", Reply("{}"))
    async with switch_over(first, second) as switch:
        stream = switch.stream_request(TaskRequest("Count.", response_format=scores))
        assert await stream == "{}"
    assert first.requests == []
    failure = stream.response.attempts[0].failure
    assert failure is not None
    assert failure.message == (
        "this response_format (properties.of is an object with any keys) cannot be sent on this wire"
    )


async def test_a_strict_tool_has_strict_parameters(simulated_vendor: Start) -> None:
    tool = {"name": "look", "parameters": Power.model_json_schema(), "strict": True}
    open_tool = {"name": "look", "parameters": {"type": "object"}, "strict": True}
    for wire in ("openai-chat", "openai-responses", "anthropic"):
        vendor = simulated_vendor(wire, Reply("Hi."))
        async with switch_over(vendor) as switch:
            assert await switch.stream_request(TaskRequest("x", tools=[tool])) == "Hi."
            with pytest.raises(ModelUnsupportedError, match=r"a strict tool \('look': of its parameters, its root is"):
                await switch.stream_request(TaskRequest("x", tools=[open_tool]))


@pytest.mark.parametrize("strict", [True, False])
async def test_an_explicit_strict_is_kept(strict: bool, simulated_vendor: Start) -> None:
    schema = {"type": "object", "properties": {"a": {}}}
    wrapped = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": strict}}
    vendor = simulated_vendor("openai-chat", Reply("{}"))
    async with switch_over(vendor) as switch:
        stream = switch.stream_request(TaskRequest("x", response_format=wrapped))
        if strict:
            with pytest.raises(ModelUnsupportedError, match=r"that is strict \(properties.a says no type\)"):
                await stream
        else:
            await stream
            assert vendor.requests[0].body["response_format"] == wrapped


@pytest.mark.found("N-A4")
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (5, "got int; pass a pydantic model, a dataclass, a TypedDict or a msgspec Struct"),
        (Node(value=1, after=None), "got an instance of Node; pass the class Node itself"),
        (list, "got the class list; say what it holds"),
        (dict, "got the class dict; say what it holds"),
        ("json", 'got text; for JSON of any form, write {"type": "json_object"}'),
        ({"json_schema": 5}, "is not a JSON schema"),
    ],
)
def test_a_value_that_is_not_a_schema_is_refused_when_it_is_written(wrong: Any, words: str) -> None:
    with pytest.raises(TypeError, match=rf"^response_format is .*{words}"):
        LLM(response_format=wrong)


# ── the vendors' refusals ──────────────────────────────────────────────────────────────────────────────────────────

NOT_CLOSED = {"type": "object", "properties": {"at": {"type": "object", "properties": {}}}, "required": ["at"]}
CLOSED = {**NOT_CLOSED, "additionalProperties": False}
PERMITTED = "In context=('properties', 'at'), 'minLength' is not permitted."


def with_at(**at: Any) -> dict[str, Any]:
    return {**CLOSED, "properties": {"at": at}}


@pytest.mark.found("N-A4")
@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array"}, "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"array\"'."),
        (NOT_CLOSED, "In context=(), 'additionalProperties' is required to be supplied and to be false."),
        (
            CLOSED,
            "In context=('properties', 'at'), 'additionalProperties' is required to be supplied and to be false.",
        ),
        (
            {**with_at(type="string"), "required": []},
            "In context=(), 'required' is required to be supplied and to be an array including every key in propert",
        ),
        (with_at(type="string", minLength=2), PERMITTED),
        (with_at(anyOf=[{"type": "array"}]), "In context=('properties', 'at', 'anyOf', '0'), array schema missing"),
        (with_at(type="string", format="uri"), "In context=('properties', 'at'), 'uri' is not a valid format."),
        (with_at(), "In context=('properties', 'at'), schema must have a 'type' key."),
        (
            with_at(**{"$ref": "#/$defs/A", "title": "t"}),
            "In context=('properties', 'at'), $ref cannot have keywords {'title'}.",
        ),
    ],
)
@pytest.mark.parametrize("wire", ["openai-chat", "openai-responses"])
async def test_a_simulated_openai_refuses_what_is_not_strict(
    wire: str, schema: Any, words: str, simulated_vendor: Start
) -> None:
    """It says so with OpenAI's status, parameter, code and sentence; and not where `strict` is false."""
    vendor = simulated_vendor(wire, Reply("{}"))
    named = {"name": "n", "schema": schema}
    status, error = await asked(vendor, structured(wire, {**named, "strict": True}))
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert error["message"].startswith(f"Invalid schema for response_format 'n': {words}")
    chat = wire == "openai-chat"
    expected = ("response_format", None) if chat else ("text.format.schema", "invalid_json_schema")
    assert (error["param"], error["code"]) == expected
    assert (await asked(vendor, structured(wire, {**named, "strict": False})))[0] == 200


def structured(wire: str, named: dict[str, Any]) -> dict[str, Any]:
    if wire == "openai-chat":
        messages = [{"role": "user", "content": "x"}]
        schema = {"type": "json_schema", "json_schema": named}
        return {"model": "m", "stream": True, "messages": messages, "response_format": schema}
    return {"model": "m", "stream": True, "input": "x", "text": {"format": {"type": "json_schema", **named}}}


async def asked(vendor: SimulatedVendor, body: dict[str, Any]) -> tuple[int, Any]:
    """The status of an answer, and its error: what a client with no manners of ours would get."""
    import aiohttp

    path = {"openai-chat": "/chat/completions", "openai-responses": "/responses", "anthropic": "/v1/messages"}
    headers = {"authorization": "Bearer test-key", "anthropic-version": "2023-06-01"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(vendor.base_url + path[vendor.wire], json=body, headers=headers) as answer,
    ):
        return answer.status, (await answer.json())["error"] if answer.status != 200 else None


@pytest.mark.found("N-A4")
@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (NOT_CLOSED, "For 'object' type, 'additionalProperties' must be explicitly set to false"),
        (with_at(type="integer", minimum=1), "For 'integer' type, property 'minimum' is not supported"),
        (
            with_at(type="array", items={"type": "string"}, minItems=2),
            "For 'array' type, 'minItems' values other than 0 or 1 are not supported",
        ),
        (
            {**with_at(**{"$ref": "#/$defs/A"}), "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}},
            "Recursive schemas are not supported",
        ),
    ],
)
async def test_a_simulated_anthropic_refuses_what_is_not_strict(
    schema: Any, words: str, simulated_vendor: Start
) -> None:
    vendor = simulated_vendor("anthropic", Reply("{}"))
    body = {
        "model": "m",
        "stream": True,
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "x"}],
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
    }
    status, error = await asked(vendor, body)
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert error["message"] == f"output_config.format.schema: {words}"
