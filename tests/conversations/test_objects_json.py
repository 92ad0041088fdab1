"""JSON while it is written: the marks of its structure, its values so far, its items, and the check of a schema."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import jiter
import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_dispatcher._json.decoding import canonical, decode, unfenced
from llm_dispatcher._json.partial import Beginnings, Items
from llm_dispatcher._json.scanner import Scanner
from llm_dispatcher._json.schema import SchemaError, problems
from llm_dispatcher._json.soundness import check_schema
from tests.conftest import examples

TEXTS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(['"', "\\", '\\"', "[{,}]", "\n", "😀"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20
)
TREES = st.lists(VALUES, max_size=4) | st.dictionaries(TEXTS, VALUES, max_size=4)


@st.composite
def cut_text(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> tuple[Any, list[str]]:
    """A value, and its text in some spelling, cut into pieces anywhere, also inside an escape."""
    value = draw(values)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 2])))
    text = draw(st.sampled_from(["{}", "```json\n{}\n```", "```\n{}```", "\n {} "])).replace("{}", text)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=len(text))))
    return value, [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def grows(before: Any, after: Any, *, is_last: bool = True) -> bool:
    """Whether one value is a later state of another: only what comes last in it may have grown."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = list(before)
        return list(after)[: len(names)] == names and all(
            grows(before[name], after[name], is_last=is_last and name == names[-1]) for name in names
        )
    if isinstance(before, list) and isinstance(after, list):
        return len(before) <= len(after) and all(
            grows(one, other, is_last=is_last and place == len(before) - 1)
            for place, (one, other) in enumerate(zip(before, after, strict=False))
        )
    return canonical(before) == canonical(after)


@given(cut_text(TREES))
def test_a_value_grows_until_it_is_whole(drawn: tuple[Any, list[str]]) -> None:
    value, pieces = drawn
    beginnings = Beginnings()
    seen = [each for piece in pieces for each in beginnings.feed(piece)]
    assert canonical(seen[-1]) == canonical(value)
    assert all(grows(before, after) and before != after for before, after in pairwise(seen))
    assert all(grows(each, value) for each in seen)


def oracle(text: str) -> list[Any]:
    """The values of a text by the rule alone, until it is wrong: jiter gets all of it up to each comma or bracket."""
    values: list[Any] = []
    for char, at, depth in Scanner().marks(text):
        if char in ",}]":
            try:
                value = jiter.from_json(text[: at if char == "," else at + 1].encode(), partial_mode=True)
            except ValueError:
                break
            if not values or value != values[-1]:
                values.append(value)
            if depth <= 0:
                break
    return values


@given(TREES)
def test_a_value_grows_by_the_rule(value: Any) -> None:
    text = json.dumps(value)
    beginnings = Beginnings()
    seen = [each for char in text for each in beginnings.feed(char)]
    assert list(map(canonical, seen)) == list(map(canonical, oracle(text)))


@example("1[1}", '{"a":')
@settings(max_examples=examples(1_000))
@given(st.text(alphabet='{}[],:"\\ a1', max_size=12), st.sampled_from(["[", '{"a":', '{"a":1,', "[[1],", '[{"b":2}']))
def test_what_is_shown_of_a_wrong_text_is_by_the_rule_too(text: str, before: str) -> None:
    beginnings = Beginnings()
    seen = [each for char in before + text for each in beginnings.feed(char)]
    expected = list(map(canonical, oracle(before + text)))
    assert list(map(canonical, seen)) == expected[: len(seen)]  # a comma in a wrong place is noticed earlier


def test_what_was_shown_does_not_change() -> None:
    text = '{"a": [1, {"b": [2, 3], "c": {}}, []], "d": {"e": 4}}'
    beginnings = Beginnings()
    seen, written = [], []
    for char in text:
        for each in beginnings.feed(char):
            seen.append(each)
            written.append(json.dumps(each))
    assert list(map(json.dumps, seen)) == written
    assert len(set(written)) == len(written) == 6


def test_a_long_answer_is_not_read_again_for_each_beginning() -> None:
    row = {"name": "wick", "price": 1.5}
    text = json.dumps({"rows": [row] * 3_000})
    beginnings = Beginnings()
    seen = [each for at in range(0, len(text), 10) for each in beginnings.feed(text[at : at + 10])]
    assert seen[-1] == {"rows": [row] * 3_000}
    assert seen[-1]["rows"][7] is seen[-2]["rows"][7]


def test_nothing_that_is_being_written_is_shown() -> None:
    text = '{"a": 12, "b": "Not Sure", "c": tru, "d": [1, {"e": 34}], "f": {"g": nul}}'
    beginnings = Beginnings()
    seen = [each for char in text for each in beginnings.feed(char)]
    assert [json.dumps(each) for each in seen[:2]] == ['{"a": 12}', '{"a": 12, "b": "Not Sure"}']
    assert len(seen) == 2  # `tru` is no value, so nothing after it is known
    good = text.replace("tru", "true").replace("nul", "null")
    beginnings = Beginnings()
    assert [json.dumps(each) for char in good for each in beginnings.feed(char)][2:] == [
        '{"a": 12, "b": "Not Sure", "c": true}',
        '{"a": 12, "b": "Not Sure", "c": true, "d": [1]}',
        '{"a": 12, "b": "Not Sure", "c": true, "d": [1, {"e": 34}]}',
        '{"a": 12, "b": "Not Sure", "c": true, "d": [1, {"e": 34}], "f": {"g": null}}',
    ]


@given(cut_text(st.lists(VALUES, max_size=5)))
def test_the_items_of_a_list_are_its_items(drawn: tuple[Any, list[str]]) -> None:
    value, pieces = drawn
    items = Items(None)
    assert canonical([decode(each) for piece in pieces for each in items.feed(piece)]) == canonical(value)


@given(st.data(), st.dictionaries(TEXTS, VALUES, max_size=3), st.lists(VALUES, max_size=4), TEXTS)
def test_the_items_of_a_list_under_a_key(data: st.DataObject, others: Any, rows: list[Any], key: str) -> None:
    value, pieces = data.draw(cut_text(st.just({**others, key: rows, "after all": 1} | {key: rows})))
    items = Items(key)
    assert canonical([decode(each) for piece in pieces for each in items.feed(piece)]) == canonical(value[key])


def test_the_items_of_a_list_deeper_down_are_not_those_of_the_list() -> None:
    text = '{"rows": {"rows": [9]}, "x": [1, [2]], "rows ": [3], "rows": [4, {"rows": [5]}]}'
    items = Items("rows")
    assert [decode(each) for char in text for each in items.feed(char)] == [4, {"rows": [5]}]


@given(st.text(alphabet='{}[],:"\\ a1`\n', max_size=30), st.data())
def test_no_text_breaks_the_readers(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    beginnings, items, at_once, scanner = Beginnings(), Items("a"), Scanner(), Scanner()
    for piece in pieces:
        list(beginnings.feed(piece))
        list(items.feed(piece))
    marks = [(char, depth) for char, _, depth in at_once.marks(text)]
    assert marks == [(char, depth) for piece in pieces for char, _, depth in scanner.marks(piece)]


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', "[NaN]", "[-Infinity]", "[" + "9" * 5_000 + "]", r'["\ud800"]', '["\ud800"]', "[1] and more"]
    + ["[" * depth + "]" * depth for depth in (1_000, 100_000)]
    + ["[" * 100_000, "", "```json\n```", "[01]", "[1,]", "{'a': 1}"],
)
def test_a_text_that_is_wrong_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(ValueError, match=r"^it is not JSON: "):
        decode(unfenced(text))
    beginnings, items = Beginnings(), Items(None)
    list(beginnings.feed(text))
    list(items.feed(text))


def test_a_big_number_is_kept() -> None:
    assert decode("[" + "9" * 40 + "]") == [int("9" * 40)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ("\n```\n[1]\n```\n ", "[1]"),
        ("```JSON\r\n[1]```", "[1]"),
        ('"```"', '"```"'),
        ("```json\n[1]\n``` Here you are.", "[1]\n``` Here you are."),
        ("Here: ```json\n[1]\n```", "Here: ```json\n[1]\n```"),
    ],
)
def test_only_a_fence_around_everything_is_taken_off(text: str, value: str) -> None:
    assert unfenced(text) == value


@pytest.mark.parametrize("text", ["Sure! [1, 2]", "```python\n[1, 2]\n```", "```jsonl [1]\n[1, 2]", "12, 13,", "`[1,"])
def test_words_before_the_json_show_nothing(text: str) -> None:
    beginnings, items = Beginnings(), Items(None)
    assert [each for char in text for each in beginnings.feed(char)] == []
    assert [each for char in text for each in items.feed(char)] == []


# ── the check of a schema, with `jsonschema` as the judge ────────────────────────────────────────────────────────────

NAMES = st.sampled_from(["a", "b", "c"])
FEW = st.integers(0, 3)
SMALL = st.integers(-2, 2)
SMALL_LEAVES = (
    st.none() | st.booleans() | SMALL | st.sampled_from([0.5, 1.0, -2.0]) | st.sampled_from(["", "a", "ab", "abc"])
)
SMALL_VALUES = st.recursive(
    SMALL_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
TYPES = st.sampled_from(["object", "array", "string", "boolean", "null", "number", "integer"])
REFERENCE = st.just({"$ref": "#/$defs/a"})


def schemas_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several, by_name = st.lists(inner, min_size=1, max_size=2), st.dictionaries(NAMES, inner, max_size=3)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
        "enum": st.lists(SMALL_VALUES, min_size=1, max_size=3),
        "const": SMALL_VALUES,
        "properties": by_name,
        "required": st.lists(NAMES, unique=True, max_size=2),
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), inner, max_size=2),
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, unique=True, max_size=2), max_size=2),
        "uniqueItems": st.booleans(),
        "multipleOf": st.integers(1, 2),
        "pattern": st.sampled_from(["a", "^b", "c$"]),
        **dict.fromkeys(("additionalProperties", "propertyNames", "items", "contains"), inner),
        **dict.fromkeys(("prefixItems", "allOf", "anyOf", "oneOf"), several),
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), SMALL),
        **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), FEW),
        **dict.fromkeys(("minContains", "maxContains"), FEW),
    }
    return (
        st.fixed_dictionaries({}, optional=keywords)
        | st.fixed_dictionaries({"not": inner})
        | st.fixed_dictionaries({"if": inner, "then": inner, "else": inner})
        | REFERENCE
    )


SCHEMAS = st.recursive(st.booleans() | schemas_of(st.booleans()), schemas_of, max_leaves=6)
DEFINITIONS = st.fixed_dictionaries(  # they refer to themselves, one level further down
    {},
    optional={
        "type": TYPES,
        "properties": st.dictionaries(NAMES, REFERENCE, max_size=2),
        "items": REFERENCE,
        "minItems": FEW,
        "required": st.lists(NAMES, unique=True, max_size=2),
    },
)


@given(SCHEMAS, DEFINITIONS, SMALL_VALUES)
def test_a_schema_is_checked_as_jsonschema_does(schema: Any, definition: Any, value: Any) -> None:
    root = {**schema, "$defs": {"a": definition}} if isinstance(schema, dict) else schema
    assert (not problems(value, root)) == jsonschema.Draft202012Validator(root).is_valid(value)


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        ({"type": "object"}, [1], "the answer is [1], not an object"),
        (
            {"properties": {"a": {"items": {"type": ["number", "null"]}}}},
            {"a": [1, "x"]},
            'a[1] is "x", not a number or',
        ),
        ({"required": ["total"]}, {}, "total is missing"),
        ({"properties": {"a": {"required": ["b"]}}}, {"a": {}}, "a.b is missing"),
        ({"properties": {}, "additionalProperties": False}, {"x": 1}, "x is not a key of the schema: leave it out"),
        ({"enum": ["a", "b"]}, "c", 'the answer is "c", not one of "a", "b"'),
        ({"minimum": 3}, 2, "the answer is 2: it has to be 3 or more"),
        ({"multipleOf": 0.1}, 0.25, "it has to be a multiple of 0.1"),
        ({"anyOf": [{"type": "string", "minLength": 9}, {"type": "null"}]}, "x", "it has to have 9 characters or more"),
    ],
)
def test_a_problem_is_told_with_its_place(schema: Any, value: Any, words: str) -> None:
    assert any(words in problem for problem in problems(value, schema)), problems(value, schema)


def test_a_multiple_is_one_by_its_digits() -> None:
    assert problems(0.3, {"multipleOf": 0.1}) == []


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#/$defs/nothing"}, "'#/\\$defs/nothing' refers to nothing"),
        ({"$ref": "https://example.com/schema"}, "refers to nothing inside the schema"),
        ({"$ref": "#"}, "leads only to itself"),
        ({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, "leads only to itself"),
        ({"properties": ["a"]}, "a keyword has a value of the wrong type"),
    ],
)
def test_a_wrong_schema_is_an_error_of_its_own(schema: Any, words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        problems({"a": 1}, schema)


class _Counted(dict[str, Any]):
    """A schema that counts how often its keywords are looked at."""

    looked_at = 0

    def items(self) -> Any:
        self.looked_at += 1
        return super().items()


@pytest.mark.parametrize("choices", ["oneOf", "anyOf"])
def test_a_wrong_leaf_deep_in_a_recursive_schema_is_found_in_one_walk(choices: str) -> None:
    node = _Counted({"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["next"]})
    schema = {"$ref": "#/$defs/node", "$defs": {"node": {choices: [node, {"type": "string"}]}}}
    value: Any = 1
    for _ in range(12):
        value = {"next": value}
    assert problems(value, schema) == [f"{'.'.join(['next'] * 12)} is 1, not an object"]
    assert node.looked_at == 13


NEXT = {"$ref": "#/$defs/node"}


@pytest.mark.parametrize(
    "twice",
    [
        {"allOf": [{"properties": {"next": NEXT}}, {"properties": {"next": NEXT}}]},
        {"properties": {"next": NEXT}, "patternProperties": {"^n": NEXT}},
        {"if": {"properties": {"next": NEXT}}, "then": {"properties": {"next": NEXT}}},
    ],
    ids=" ".join,
)
def test_a_recursive_schema_that_looks_twice_at_each_level_is_followed_once(twice: dict[str, Any]) -> None:
    node = _Counted({"type": ["object", "null"], **twice})
    value: Any = None
    for _ in range(12):
        value = {"next": value}
    assert problems(value, {**NEXT, "$defs": {"node": node}}) == []
    assert node.looked_at <= 13 * 13


def test_a_value_that_is_nested_too_deep_to_be_checked_is_a_problem_of_the_value() -> None:
    node = {"type": ["object", "null"], "properties": {"next": {"anyOf": [NEXT, {"type": "null"}]}}}
    value: Any = None
    for _ in range(1000):
        value = {"next": value}
    assert problems(value, {**NEXT, "$defs": {"node": node}}) == ["the answer is nested too deep to be checked"]


def test_a_problem_is_named_once() -> None:
    schema = {"allOf": [{"type": "string"}, {"type": "string"}]}
    assert problems(1, schema) == ["the answer is 1, not a string"]


def test_a_schema_that_contains_itself_is_looked_at_once() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    schema["properties"]["next"] = schema
    check_schema(schema)
