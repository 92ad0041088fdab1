"""The types of answers: what vendors are sent for each, what is made of a text, and which types are refused."""

from __future__ import annotations

import copy
import enum
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, RootModel

from llm_dispatcher import LLM, LLMSwitch, TaskRequest, get_global_switch, use_switch
from llm_dispatcher._config import answer_of
from llm_dispatcher._json.answers import answer_in
from llm_dispatcher._providers.base.schemas import ANTHROPIC, OPENAI, strict_form
from llm_dispatcher._serving.preparing import prepared
from llm_dispatcher.exceptions import InvalidOutputError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import Reply, SimulatedVendor, Wire
from tests.conftest import policy_over


class Row(BaseModel):
    name: str
    price: float = 0.0


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: date
    tags: tuple[str, ...] = ()


class Aliased(BaseModel):
    rows: list[Row] = Field(alias="theRows")


class Chosen(BaseModel):
    numbers: list[int] = Field(validation_alias=AliasChoices("first", "second"))
    name: str


class Many(RootModel[list[Row]]):
    pass


class Tree(BaseModel):
    name: str
    parts: list[Tree] = []


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Path:
    points: list[Point]
    name: str = field(default="")


class Address(TypedDict):
    street: str
    floor: NotRequired[int]


class City(msgspec.Struct):
    name: str
    people: int = 0
    price: float = 0.0


class Country(msgspec.Struct, rename="camel"):
    all_cities: list[City]


@dataclass
class Trip:
    """A dataclass that only msgspec knows, because of the Struct in it."""

    to: City


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


CASES: list[tuple[Any, str, Any]] = [
    (Row, '{"name": "a", "price": 2}', Row(name="a", price=2.0)),
    (Strict, '{"day": "2026-11-29", "tags": ["a"]}', Strict(day=date(2026, 11, 29), tags=("a",))),
    (Aliased, '{"theRows": []}', Aliased(theRows=[])),
    (Tree, '{"name": "a", "parts": [{"name": "b"}]}', Tree(name="a", parts=[Tree(name="b")])),
    (Point, '{"x": 1}', Point(1)),
    (Path, '{"points": [{"x": 1, "y": 2}]}', Path([Point(1, 2)])),
    (Address, '{"street": "a"}', {"street": "a"}),
    (City, '{"name": "a"}', City("a")),
    (Country, '{"allCities": [{"name": "a"}]}', Country([City("a")])),
    (Trip, '{"to": {"name": "a"}}', Trip(City("a"))),
    (dict[str, int], '{"a": 1}', {"a": 1}),
    (list[Row], '{"items": [{"name": "a"}]}', [Row(name="a")]),
    (list[Tree], '{"items": [{"name": "a"}]}', [Tree(name="a")]),
    (Many, '{"items": [{"name": "a"}]}', Many([Row(name="a")])),
    (list[Point], '{"items": [{"x": 1}]}', [Point(1)]),
    (list[Address], '{"items": [{"street": "a", "floor": 2}]}', [{"street": "a", "floor": 2}]),
    (list[City], '{"items": [{"name": "a"}]}', [City("a")]),
    (list[Trip], '{"items": [{"to": {"name": "a"}}]}', [Trip(City("a"))]),
    (tuple[Point, ...], '{"items": [{"x": 1}]}', (Point(1),)),
    (set[int], '{"items": [1, 2]}', {1, 2}),
    (Sequence[Decimal], '{"items": ["1.10"]}', [Decimal("1.10")]),
    (Annotated[list[int], Field(min_length=1)], '{"items": [1]}', [1]),
    (tuple[int, str], '{"items": [1, "a"]}', (1, "a")),
    (Literal["yes", "no"], '{"value": "no"}', "no"),
    (Mood, '{"value": "bad"}', Mood.BAD),
    (Row | Point, '{"value": {"x": 1}}', Point(1)),
    (Row | None, '{"value": null}', None),
    (City | None, '{"value": {"name": "a"}}', City("a")),
    (date, '{"value": "2026-11-29"}', date(2026, 11, 29)),
    (int, '{"value": 12}', 12),
    (bool, '{"value": true}', True),
]
IDS = [str(kind) for kind, _, _ in CASES]


@pytest.mark.parametrize(("kind", "text", "value"), CASES, ids=IDS)
async def test_each_type_is_an_answer(kind: Any, text: str, value: Any, simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(first=Reply(text))["first"]
    stream = LLM(response_format=kind)("x")
    assert await stream.parsed() == value
    [request] = vendor.requests
    assert request.body["response_format"]["json_schema"]["schema"]["type"] == "object"
    request_of_its_own = TaskRequest("x", response_format=kind)
    assert await get_global_switch().stream_request(request_of_its_own).parsed() == value


@pytest.mark.parametrize(("kind", "text", "value"), CASES, ids=IDS)
def test_a_schema_is_an_object_and_describes_the_answer(kind: Any, text: str, value: Any) -> None:
    import jsonschema  # type: ignore[import-untyped]

    schema = dict(answer_of(kind))
    root = schema["$defs"][schema["$ref"].removeprefix("#/$defs/")] if "$ref" in schema else schema
    assert root["type"] == "object"
    assert jsonschema.Draft202012Validator(schema).is_valid(json.loads(text))


@pytest.mark.parametrize("kind", [Row, Path, Address, City, list[Row], list[City], Literal["yes", "no"], Row | Point])
def test_vendors_can_enforce_the_usual_types(kind: Any) -> None:
    for dialect in (OPENAI, ANTHROPIC):
        assert strict_form(answer_of(kind), dialect)["additionalProperties"] is False


@pytest.mark.parametrize("wire", list(Wire))
async def test_a_list_is_an_answer_on_every_wire(wire: str) -> None:
    with SimulatedVendor(wire, '{"items": [{"name": "a", "price": 1}, {"name": "b", "price": 2}]}') as vendor:
        async with LLMSwitch(policy_over(vendor)) as switch:
            with use_switch(switch):
                assert [row.name async for row in LLM().into(list[Row])("x").items()] == ["a", "b"]
                assert [city.name async for city in LLM().into(list[City])("x").items()] == ["a", "b"]


@pytest.mark.parametrize("text", ['[{"name": "a"}]', '```json\n{"items": [{"name": "a"}]}\n```'])
async def test_a_list_may_come_without_its_wrapping_or_in_a_fence(text: str, simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply(text, chunk_size=3))
    llm = LLM().into(list[Row])
    assert await llm("x").parsed() == [Row(name="a")]
    assert [each async for each in llm("x").partials()] == [[{"name": "a"}]]
    assert [each async for each in llm("x").items()] == [Row(name="a")]


# ── items ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "text", "items"),
    [
        (Path, '{"name": "a, [b", "points": [{"x": 1}, {"x": 2}]}', [Point(1), Point(2)]),
        (Aliased, '{"theRows": [{"name": "a"}]}', [Row(name="a")]),
        (Country, '{"allCities": [{"name": "a"}, {"name": "b"}]}', [City("a"), City("b")]),
        (Many, '{"items": [{"name": "a"}]}', [Row(name="a")]),
        (Tree, '{"name": "a", "parts": [{"name": "b", "parts": [{"name": "c"}]}]}',
         [Tree(name="b", parts=[Tree(name="c")])]),
        (Chosen, '{"first": [1, 2], "name": "a"}', [1, 2]),
        (list[int] | None, '{"value": [1, 2]}', [1, 2]),
        (tuple[Point, ...], '{"items": [{"x": 1}]}', [Point(1)]),
        (list[Literal["a", "b"]], '{"items": ["a", "b", "a"]}', ["a", "b", "a"]),
        (list[list[int]], '{"items": [[1, 2], [], [3]]}', [[1, 2], [], [3]]),
        ({"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "array", "items":
            {"$ref": "#/$defs/i"}}, "i": {"type": "integer"}}}, '{"n": [1, 2]}', [1, 2]),
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
        ({"type": "json_object"}, "[1, [2]]", [1, [2]]),
    ],
)  # fmt: skip
async def test_the_only_list_of_an_answer_has_items(
    kind: Any, text: str, items: list[Any], simulated_switch: SimulatedSwitch
) -> None:
    simulated_switch(first=Reply(text, chunk_size=1))
    assert [each async for each in LLM(response_format=kind)("x").items()] == items


async def test_a_list_in_place_of_the_object_around_it_has_no_items(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply('[{"x": 1}]', chunk_size=1))
    seen = []
    with pytest.raises(InvalidOutputError):
        async for item in LLM(response_format=Path, max_repairs=0)("x").items():
            seen.append(item)
    assert seen == []


class Two(BaseModel):
    a: list[int] = []
    b: list[int] = []


@pytest.mark.parametrize("kind", [Two, Row, Mood, tuple[int, str], Two.model_json_schema(), {"type": "object"}])
async def test_an_answer_without_one_list_has_no_items(kind: Any, simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply("{}"))
    with pytest.raises(TypeError, match=r"the answer has none, or more than one"):
        async for _ in LLM(response_format=kind)("x").items():
            pass


# ── refused ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Plain:
    pass


@dataclass
class Holds:
    what: Plain


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Plain, "Plain"),
        (Holds, "Holds"),
        (list[Plain], r"list\[.*Plain\]"),
        (Callable[[], int], r".*Callable\[\[\], int\]"),
    ],
)
def test_a_type_that_cannot_be_an_answer_is_refused_at_once(kind: Any, name: str) -> None:
    words = rf"^{name} cannot be an answer: .*; use a pydantic model, a dataclass, a TypedDict, a msgspec Struct, or"
    with pytest.raises(TypeError, match=words):
        LLM(response_format=kind)
    with pytest.raises(TypeError, match=words):
        LLM().into(kind)


async def test_a_request_with_such_a_type_is_refused_where_it_is_used(simulated_switch: SimulatedSwitch) -> None:
    vendor = simulated_switch(first=Reply("{}"))["first"]
    switch = get_global_switch()
    with pytest.raises(TypeError, match="Plain cannot be an answer"):
        switch.stream_request(TaskRequest("x", response_format=Plain))
    with pytest.raises(TypeError, match="Plain cannot be an answer"):
        await switch.aexplain(TaskRequest("x", response_format=Plain))
    assert vendor.requests == []


def test_into_refuses_what_is_no_type() -> None:
    with pytest.raises(TypeError, match="into\\(\\) takes a type, got a JSON schema"):
        LLM().into({"type": "object"})
    with pytest.raises(TypeError, match="into\\(\\) takes a type, got None"):
        LLM().into(None)
    with pytest.raises(TypeError, match="pass the class Row itself"):
        LLM().into(Row(name="a"))
    with pytest.raises(TypeError, match="was given to into"):
        LLM().into(Row)("x", response_format=Row)


# ── wrong texts ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [Row, Point, Address, City, list[Row], list[City], {"type": "json_object"}, Mood])
@pytest.mark.parametrize(
    "text",
    [
        '{"name": "a", "name": "b"}', '{"name": NaN}', '{"name": ' + "9" * 5_000 + "}", r'{"name": "\ud800"}', "",
        "12 13",
        '{"name": ' * 1_000 + "1" + "}" * 1_000, "[" * 1_000, '{"name": "a"', "Sure!", "```json\n```",
    ],
)  # fmt: skip
async def test_a_wrong_text_ends_in_a_typed_error(kind: Any, text: str, simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply(text, chunk_size=500))
    for how in ("parsed", "partials"):
        stream = LLM(response_format=kind, max_repairs=0)("x")
        with pytest.raises(
            InvalidOutputError, match=r"^the answer does not follow its schema: it is not JSON: "
        ) as caught:
            if how == "parsed":
                await stream.parsed()
            else:
                async for _ in stream.partials():
                    pass
        assert caught.value.partial == text


@pytest.mark.parametrize(
    ("kind", "text", "errors"),
    [
        (
            list[Row],
            '{"items": [{"name": 1}, {}]}',
            "items[0].name: Input should be a valid string\nitems[1].name: Field",
        ),
        (list[Row], '[{"name": 1}]', "[0].name: Input should be a valid string"),
        (Path, '{"points": [{"y": 0}]}', "points[0].x: Field required"),
        (Point, "[]", "the answer: Input should be"),
        (list[City], '{"items": [{"name": 1}]}', "Expected `str`, got `int` - at `$.items[0].name`"),
        (Mood, '{"value": "so so"}', "value: Input should be 'good' or 'bad'"),
        ({"type": "object", "required": ["a"]}, "{}", "a is missing"),
        ({"json_schema": {"schema": {"required": ["a"]}}}, "{}", "a is missing"),
    ],
)
def test_the_errors_name_their_places(kind: Any, text: str, errors: str) -> None:
    schema = answer_in(kind) if isinstance(kind, dict) else answer_of(kind)
    assert schema.parse is not None
    with pytest.raises(ValueError) as caught:
        schema.parse(text)
    assert str(caught.value).startswith(errors)


@given(st.lists(st.builds(Row, name=st.text(), price=st.floats(allow_nan=False, allow_infinity=False)), max_size=4))
def test_what_pydantic_writes_is_read_again(rows: list[Row]) -> None:
    parse = answer_of(list[Row]).parse
    assert parse is not None
    assert parse(json.dumps({"items": [row.model_dump() for row in rows]})) == rows


def test_a_type_is_resolved_once() -> None:
    assert answer_of(list[Row]) is answer_of(list[Row])
    llm = LLM(response_format=list[Row])
    assert llm.with_options(temperature=0.5)._request["response_format"] is llm._request["response_format"]


@pytest.mark.parametrize("kind", [Row, City, list[Row], Point, {"type": "object", "required": ["name"]}])
async def test_a_request_can_be_copied_and_pickled(kind: Any, simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply('{"name": "a"}' if kind is not Point else '{"x": 1}'))
    request = prepared(TaskRequest("x", response_format=kind))
    switch = get_global_switch()
    for copied in (copy.deepcopy(request), pickle.loads(pickle.dumps(request))):
        assert copied == request
        if kind != list[Row]:
            assert type(await switch.stream_request(copied).parsed()) is (dict if isinstance(kind, dict) else kind)
