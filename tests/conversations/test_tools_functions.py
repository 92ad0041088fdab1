"""A function is a tool: its schema, the check of its arguments, and the functions that cannot be one."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from llm_dispatcher import LLM, LLMSwitch, RunContext, TaskRequest, Tool, llm_stream, settings_of
from llm_dispatcher._serving.preparing import prepared

if TYPE_CHECKING:
    from decimal import Decimal

    import llm_dispatcher as hidden


class Unit(Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


class Place(BaseModel):
    lat: float
    lon: float = 0.0


@dataclass
class Trip:
    days: int


class Note(TypedDict):
    text: str


def tool(function: object) -> Tool:
    (made,) = prepared(TaskRequest("hi", tools=[function])).tools
    assert isinstance(made, Tool)
    return made


def weather(
    city: Annotated[str, Field(description="A city.", min_length=2)],
    day: date,
    unit: Unit = Unit.CELSIUS,
    places: list[Place] | None = None,
    days: int = Field(3, ge=1, description="How many days."),
    mode: Literal["short", "long"] = "short",
    _hidden: bool = False,
    schema: Annotated[str, "A word."] = "",
    run: RunContext | None = None,
) -> str:
    """Say what the weather will be.

    It knows the whole world.

    Args:
        city: Not this, because the annotation says it.
        day (date): The first
            day.

    Returns:
        A sentence.
    """
    return f"{city} {day} {unit} {places} {days}"


def test_the_schema_is_that_of_the_annotations() -> None:
    made = tool(weather)
    assert (made.name, made.takes_context, made.function) == ("weather", "run", weather)
    assert made.description == (
        "Say what the weather will be.\n\nIt knows the whole world.\n\nReturns:\n    A sentence."
    )
    properties = made.parameters["properties"]
    assert list(properties) == ["city", "day", "unit", "places", "days", "mode", "_hidden", "schema"]
    assert properties["city"] == {"type": "string", "minLength": 2, "description": "A city."}
    assert properties["day"] == {"type": "string", "format": "date", "description": "The first day."}
    assert properties["days"] == {"type": "integer", "minimum": 1, "default": 3, "description": "How many days."}
    assert properties["mode"]["enum"] == ["short", "long"]
    assert properties["schema"]["description"] == "A word."
    assert made.parameters["required"] == ["city", "day"]
    assert made.parameters["additionalProperties"] is False
    assert made.parameters["$defs"]["Unit"]["enum"] == ["c", "f"]
    assert "title" not in made.parameters


def test_the_check_makes_the_values_that_the_function_wants() -> None:
    check = tool(weather).check
    assert check is not None
    arguments = check({"city": "Rome", "day": "2026-11-29", "unit": "f", "places": [{"lat": 1}], "_hidden": True})
    assert arguments == {
        "city": "Rome",
        "day": date(2026, 11, 29),
        "unit": Unit.FAHRENHEIT,
        "places": [Place(lat=1)],
        "days": 3,  # a default that is a Field is passed, and no other
        "_hidden": True,
    }


def test_the_check_says_what_is_wrong_in_one_line() -> None:
    check = tool(weather).check
    assert check is not None
    with pytest.raises(ValueError, match="day is missing") as caught:
        check({"city": "R", "days": 0, "places": [{"lat": "north"}], "speed": 1})
    said = str(caught.value)
    assert "\n" not in said and "pydantic" not in said
    for part in ("city: String should have at least 2 characters, got 'R'", "places[0].lat: ", "days: ", "got 0"):
        assert part in said
    assert "speed is not a parameter (the parameters are city, day, unit" in said


def test_many_problems_are_cut() -> None:
    def big(a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: int, i: int, j: int) -> None: ...

    check = tool(big).check
    assert check is not None
    with pytest.raises(ValueError, match=r"; and 2 more$"):
        check({})


def test_dataclasses_and_typed_dicts_are_parameters() -> None:
    def plan(trip: Trip, note: Note) -> None: ...

    check = tool(plan).check
    assert check is not None
    assert check({"trip": {"days": 2}, "note": {"text": "x"}}) == {"trip": Trip(2), "note": {"text": "x"}}


GOOGLE = "Do it.\n\n    Args:\n        first: One\n            more.\n        second (int): Two: yes.\n"
NUMPY = """Do it.

    Parameters
    ----------
    first : str
        One
        more.
    second
        Two: yes.

    Returns
    -------
    None
    """
SPHINX = "Do it.\n\n    :param first: One\n        more.\n    :param int second: Two: yes.\n    :type first: str\n"


@pytest.mark.parametrize("style", [GOOGLE, NUMPY, SPHINX])
def test_docstrings_describe_the_parameters(style: str) -> None:
    def work(first: str, second: int) -> None: ...

    work.__doc__ = style
    made = tool(work)
    described = {name: each.get("description") for name, each in made.parameters["properties"].items()}
    assert described == {"first": "One more.", "second": "Two: yes."}
    assert made.description.startswith("Do it.") and "Two" not in made.description


def test_two_parameters_of_one_entry() -> None:
    def area(width: int, height: int) -> None:
        """Make it.

        Parameters
        ----------
        width, height : int
            In metres.
        """

    properties = tool(area).parameters["properties"]
    assert properties["width"]["description"] == properties["height"]["description"] == "In metres."


class Shop:
    def price(self, name: str) -> float:
        """The price."""
        return len(name)

    @staticmethod
    def currency(country: str) -> str:
        return country

    @classmethod
    def branch(cls, city: str) -> str:
        return city

    async def order(self, name: str) -> str:
        return name


def test_methods_are_tools() -> None:
    made = [tool(each) for each in (Shop().price, Shop.currency, Shop.branch, Shop().order, Shop.__dict__["currency"])]
    assert [each.name for each in made] == ["price", "currency", "branch", "order", "currency"]
    assert [list(each.parameters["properties"]) for each in made] == [
        ["name"], ["country"], ["city"], ["name"], ["country"],
    ]  # fmt: skip
    assert made[0].description == "The price."


def test_what_a_partial_has_set_is_no_parameter() -> None:
    made = tool(functools.partial(weather, "Rome", unit=Unit.FAHRENHEIT))
    assert made.name == "weather"
    assert "city" not in made.parameters["properties"] and "unit" not in made.parameters["properties"]
    assert made.parameters["required"] == ["day"]


def test_a_type_of_the_function_around_is_found() -> None:
    class Local(BaseModel):
        size: int

    def grow(thing: Local) -> None: ...

    check = tool(grow).check
    assert check is not None and check({"thing": {"size": 1}}) == {"thing": Local(size=1)}


def test_a_default_that_json_cannot_hold_is_left_out_of_the_schema() -> None:
    marker: Any = object()

    def find(name: str = marker) -> None: ...

    made = tool(find)
    assert made.parameters["properties"]["name"] == {"type": "string"}
    assert made.check is not None and made.check({}) == {}


def test_the_context_may_be_imported_for_type_checkers_only() -> None:
    def look(word: str, run: hidden.RunContext) -> None: ...

    made = tool(look)
    assert made.takes_context == "run" and list(made.parameters["properties"]) == ["word"]


def test_explain_plans_a_request_with_functions() -> None:
    config = {"providers": {"ollama": {"models": ["m"]}}, "routing": {"default": ["ollama/m"]}}
    plan = LLMSwitch(config).explain(TaskRequest("hi", tools=[weather]))
    assert [str(target) for target in plan.targets] == ["ollama/m"]


def test_a_tool_can_rename_a_function() -> None:
    made = tool(Tool("wetter", "Das Wetter.", function=weather, timeout=3))
    assert (made.name, made.description, made.timeout, made.takes_context) == ("wetter", "Das Wetter.", 3, "run")
    assert "city" in made.parameters["properties"] and made.check is not None


def test_a_decorated_stream_is_a_tool() -> None:
    @llm_stream
    async def summary(text: str) -> str:
        """Sum up a text."""
        return f"Sum up: {text}"

    made = tool(summary)
    assert (made.name, made.description, list(made.parameters["properties"])) == ("summary", "Sum up a text.", ["text"])


# ── what cannot be a tool ──────────────────────────────────────────────────────────────────────────────────────────


def untyped(x) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001
def stars(*args: int) -> None: ...
def two_stars(**kwargs: int) -> None: ...
def by_position(x: int, /) -> None: ...
def a_logger(x: logging.Logger, y: int) -> None: ...
def a_function(x: Callable[[int], int]) -> None: ...
def for_checkers(x: Decimal) -> None: ...
def two_contexts(a: RunContext, b: RunContext) -> None: ...
def generator(x: int) -> Any:
    yield x


BAD: list[tuple[object, str]] = [
    (untyped, r"untyped\(\) has the parameter 'x' without an annotation: annotate it, as in x: str"),
    (Shop.price, r"price\(\) has the parameter 'self' .*: pass the method of an object"),
    (stars, r"stars\(\) takes \*args, .*: name each parameter"),
    (two_stars, r"two_stars\(\) takes \*\*kwargs, .*: name each parameter"),
    (by_position, r"by_position\(\) takes 'x' by position only, .*: leave out the `/`"),
    (a_logger, r"a_logger\(\): no schema can be made for its parameter 'x' .*functools.partial"),
    (a_function, r"a_function\(\): no schema can be made for its parameter 'x'"),
    (for_checkers, r"for_checkers\(\): the annotation of 'x' cannot be read .*outside `if TYPE_CHECKING:`"),
    (two_contexts, r"two_contexts\(\) has two parameters for the RunContext"),
    (generator, r"generator\(\) yields, .*: return it"),
    (lambda x: x, r"a lambda cannot be a tool, .*: write a function with def"),
    (Shop, r"got the class Shop; write a function that calls it"),
    (Shop(), r"got a Shop; write a function"),
    ("weather", r"got a str; write a function"),
]


@pytest.mark.parametrize(("function", "error"), BAD)
def test_a_function_that_cannot_be_a_tool_is_refused_where_it_is_written(function: object, error: str) -> None:
    with pytest.raises(TypeError, match=error):
        LLM(tools=[function])
    with pytest.raises(TypeError, match=error):
        LLM()("hi", tools=[function])
    with pytest.raises(TypeError, match=error):
        llm_stream(tools=[function])
    with pytest.raises(TypeError, match=error):
        LLMSwitch({"providers": {"ollama": {"models": ["m"]}}}).stream_request(TaskRequest("hi", tools=[function]))


def test_tools_are_a_list() -> None:
    with pytest.raises(TypeError, match=r"tools is a list, got function; write tools=\[…\]"):
        LLM(tools=weather)  # type: ignore[arg-type]


def test_a_function_needs_no_tool_around_it() -> None:
    with pytest.raises(TypeError, match=r"by itself, as in tools=\[weather\]; .* Tool\('…', function=weather\)"):
        Tool(weather)  # type: ignore[arg-type]


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two tools are called 'weather': rename one"):
        LLM(tools=[weather, {"name": "weather", "parameters": {}}])
    with pytest.raises(ValueError, match=r"two tools are called 'weather'"):
        LLM(tools=[weather, {"type": "function", "function": {"name": "weather"}}])


@pytest.mark.parametrize("name", ["", "two words", "größe", "a" * 65, "a.b"])
def test_a_name_that_no_vendor_takes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a tool is 1 to 64 letters of ASCII"):
        Tool(name)


def test_a_function_with_a_name_that_no_vendor_takes_is_refused() -> None:
    def größe(x: int) -> None: ...  # noqa: PLC2401

    with pytest.raises(ValueError, match="got 'größe'"):
        LLM(tools=[größe])


@pytest.mark.parametrize("schema", [{"properties": 3}, {"allOf": [{"$ref": "#/nowhere"}]}])
def test_a_schema_that_is_none_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the parameters of the tool 'look' cannot be a JSON schema"):
        LLM(tools=[Tool("look", "", schema, lambda: 1)])


# ── where tools are made ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_that_is_ready_is_the_same_object() -> None:
    request = prepared(TaskRequest("hi", tools=[weather, {"name": "other"}, {"google_search": {}}]))
    assert prepared(request) is request
    plain = TaskRequest("hi")
    assert prepared(plain) is plain


def test_the_tools_of_an_llm_are_made_once() -> None:
    llm = LLM(tools=[weather])
    other = llm.with_options(temperature=0.5)
    first, second = (each._request["tools"][0] for each in (llm, other))
    assert first is second and isinstance(first, Tool)


def test_a_decorated_function_has_its_tools() -> None:
    @llm_stream(tools=[weather])
    async def ask(question: str) -> str:
        return question

    (made,) = settings_of(ask).tools
    assert isinstance(made, Tool) and made.name == "weather"


def test_the_memory_of_functions_does_not_keep_them(collect_garbage: Callable[[], object]) -> None:
    from llm_dispatcher._config.function_tools import _forms

    def make() -> int:
        def grow(size: int) -> None: ...

        tool(grow)
        assert grow in _forms
        return len(_forms)

    before = make()
    collect_garbage()
    assert len(_forms) < before
