"""Checking plain data against a JSON schema, with sentences that a model can act on.

The keywords are those of the draft 2020-12 that describe structure and limits, with `$ref` inside the schema. `format`
and other annotations are not checked, and neither is a `pattern` that Python cannot compile. Values are those that
`decode` returns: so they are not nested deep, and have no `NaN`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias

from .decoding import canonical

MOST_PROBLEMS: Final = 10
"""No more problems are named: a model that is told of these will write the rest anew as well."""

LONGEST_VALUE: Final = 60

Problems: TypeAlias = Iterator[str]
_Check: TypeAlias = Callable[["At", Any], Problems]


class SchemaError(ValueError):
    """The schema itself is wrong: the message says where."""


def problems(value: Any, schema: Any, root: Any = None) -> list[str]:
    """What is wrong with a value, each with its place, as in `rows[2].price: it is 'x', not a number`.

    Args:
        value: Plain data.
        schema: A JSON schema: a dict, or `True` or `False`.
        root: The whole schema in which its references are looked up, if it is a part of one.

    Raises:
        SchemaError: A `$ref` leads nowhere or only to itself, or a keyword has a value of the wrong type.
    """
    found: list[str] = []
    try:
        for problem in _Checker(schema if root is None else root).check(value, schema, ""):
            if problem not in found:
                found.append(problem)
            if len(found) == MOST_PROBLEMS:
                break
    except RecursionError:
        return [f"{_place('')} is nested too deep to be checked"]  # a schema that leads to itself is found before
    except (AttributeError, TypeError) as error:
        raise SchemaError(f"a keyword has a value of the wrong type ({error})") from None
    return found


def resolved(root: Any, reference: str) -> Any:
    """The schema to which a `$ref` leads.

    Raises:
        SchemaError: It leads nowhere in this schema.
    """
    at: Any = root
    if reference != "#":
        for step in reference.removeprefix("#/").split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(at, list):
                at = at[int(name)] if name.isdecimal() and int(name) < len(at) else None
            else:
                at = at.get(name) if isinstance(at, Mapping) else None
    if not (reference == "#" or reference.startswith("#/")) or not isinstance(at, (Mapping, bool)):
        raise SchemaError(f"{reference!r} refers to nothing inside the schema")
    return at


class _Checker:
    """One check of one value. `root` is the whole schema, in which references are looked up."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._following: set[tuple[str, int]] = set()
        self._found: dict[tuple[str, int, str], tuple[str, ...]] = {}

    def check(self, value: Any, schema: Any, where: str) -> Problems:
        if schema is False:
            yield f"{_place(where)} must not be there"
        if not isinstance(schema, Mapping):
            return
        for name, given in schema.items():
            check = _CHECKS.get(name)
            if check is not None:
                yield from check(At(self, value, schema, where), given)

    def is_valid(self, value: Any, schema: Any) -> bool:
        return next(self.check(value, schema, ""), None) is None

    def follow(self, value: Any, reference: str, where: str) -> Problems:
        """Check a value against the schema that a `$ref` names. Only a reference that has consumed none of the value
        can lead to itself again.

        What is found is remembered: two keywords of a recursive schema that both lead to itself would check a value
        twice on each level, and so without end.
        """
        step, at = (reference, id(value)), (reference, id(value), where)
        if at not in self._found:
            if step in self._following:
                raise SchemaError(f"{reference!r} leads only to itself")
            self._following.add(step)
            found = self.check(value, resolved(self.root, reference), where)
            self._found[at] = tuple(dict.fromkeys(islice(found, MOST_PROBLEMS)))
            self._following.discard(step)
        yield from self._found[at]


class At(NamedTuple):
    """Where a check is: the value, the schema around the keyword, and the value's place in the answer."""

    checker: _Checker
    value: Any
    schema: Mapping[str, Any]
    where: str


def _place(where: str) -> str:
    return where or "the answer"


def _shown(value: Any) -> str:
    """A value in a sentence, on one line and not long."""
    text = json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def place_of(path: Iterable[str | int]) -> str:
    """A path through an answer, as its place is written in a problem."""
    where = ""
    for step in path:
        where = f"{where}[{step}]" if isinstance(step, int) else _step(where, step)
    return _place(where)


def _step(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "object": ("an object", lambda value: isinstance(value, dict)),
    "array": ("a list", lambda value: isinstance(value, list)),
    "string": ("a string", lambda value: isinstance(value, str)),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "null": ("null", lambda value: value is None),
    "number": ("a number", _is_number),
    "integer": ("a whole number", lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer())),
}


def _type(at: At, given: Any) -> Problems:
    names = [given] if isinstance(given, str) else list(given)
    kinds = [_TYPES[name] for name in names if name in _TYPES]
    if not any(fits(at.value) for _, fits in kinds):
        yield f"{_place(at.where)} is {_shown(at.value)}, not {' or '.join(words for words, _ in kinds)}"


def _enum(at: At, given: Any) -> Problems:
    if not any(_equal(at.value, each) for each in given):
        yield f"{_place(at.where)} is {_shown(at.value)}, not one of {', '.join(_shown(each) for each in given)}"


def _const(at: At, given: Any) -> Problems:
    if not _equal(at.value, given):
        yield f"{_place(at.where)} is {_shown(at.value)}, not {_shown(given)}"


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are equal as JSON: `1` is `1.0`, and neither is `true`."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    return bool(one == other)


def _properties(at: At, given: Any) -> Problems:
    if isinstance(at.value, dict):
        for name, inner in given.items():
            if name in at.value:
                yield from at.checker.check(at.value[name], inner, _step(at.where, name))


def _required(at: At, given: Any) -> Problems:
    if isinstance(at.value, dict):
        yield from (f"{_step(at.where, name)} is missing" for name in given if name not in at.value)


def _additional(at: At, given: Any) -> Problems:
    if not isinstance(at.value, dict):
        return
    known, patterns = at.schema.get("properties", {}), at.schema.get("patternProperties", {})
    for name, inner in at.value.items():
        if name in known or any(_matches(pattern, name) for pattern in patterns):
            continue
        if given is False:
            yield f"{_step(at.where, name)} is not a key of the schema: leave it out"
        else:
            yield from at.checker.check(inner, given, _step(at.where, name))


def _pattern_properties(at: At, given: Any) -> Problems:
    if isinstance(at.value, dict):
        for pattern, inner in given.items():
            for name in at.value:
                if _matches(pattern, name):
                    yield from at.checker.check(at.value[name], inner, _step(at.where, name))


def _names(at: At, given: Any) -> Problems:
    if isinstance(at.value, dict):
        for name in at.value:
            if not at.checker.is_valid(name, given):
                yield f"{_step(at.where, name)} has a name that the schema does not allow"


def _dependent_required(at: At, given: Any) -> Problems:
    if isinstance(at.value, dict):
        for name, needed in given.items():
            if name in at.value:
                yield from (f"{_step(at.where, each)} is missing" for each in needed if each not in at.value)


def _items(at: At, given: Any) -> Problems:
    if isinstance(at.value, list):
        first = len(at.schema.get("prefixItems", ()))
        for number, item in enumerate(at.value[first:], first):
            yield from at.checker.check(item, given, f"{at.where}[{number}]")


def _prefix_items(at: At, given: Any) -> Problems:
    if isinstance(at.value, list):
        for number, (item, inner) in enumerate(zip(at.value, given, strict=False)):
            yield from at.checker.check(item, inner, f"{at.where}[{number}]")


def _contains(at: At, given: Any) -> Problems:
    if isinstance(at.value, list):
        count = sum(at.checker.is_valid(item, given) for item in at.value)
        least, most = at.schema.get("minContains", 1), at.schema.get("maxContains")
        if count < least or (most is not None and count > most):
            yield f"{_place(at.where)} has {count} of the items that it must contain"


def _unique(at: At, given: Any) -> Problems:
    if not given or not isinstance(at.value, list):
        return
    seen: set[str] = set()
    for number, item in enumerate(at.value):
        form = canonical(item)
        if form in seen:
            yield f"{at.where}[{number}] is there twice: {_shown(item)}"
        seen.add(form)


def _limit(
    fits: Callable[[Any, Any], bool], measured: Callable[[Any], Any], words: str, applies: Callable[[Any], bool]
) -> _Check:
    """The check of a keyword that bounds a number, a length or a count."""

    def check(at: At, given: Any) -> Problems:
        if applies(at.value) and not fits(measured(at.value), given):
            yield f"{_place(at.where)} is {_shown(at.value)}: {words.format(_shown(given))}"

    return check


def _itself(value: Any) -> Any:
    return value


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


def _at_least(value: Any, limit: Any) -> bool:
    return bool(value >= limit)


def _at_most(value: Any, limit: Any) -> bool:
    return bool(value <= limit)


def _is_multiple(value: Any, of: Any) -> bool:
    """Whether a number is a multiple, as its digits say: 0.3 is three times 0.1."""
    try:
        return Decimal(str(value)) % Decimal(str(of)) == 0
    except ArithmeticError:
        return False


@lru_cache(512)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return None


def _matches(pattern: str, text: str) -> bool:
    compiled = _compiled(pattern)
    return compiled is None or compiled.search(text) is not None


def _every(at: At, given: Any) -> Problems:
    for each in given:
        yield from at.checker.check(at.value, each, at.where)


def _any(at: At, given: Any) -> Problems:
    """If none fits, name the problems of the one that fits best: the one with the fewest."""
    tries: list[list[str]] = []
    for each in given:
        found = list(at.checker.check(at.value, each, at.where))
        if not found:
            return
        tries.append(found)
    yield from _best(at, tries)


def _best(at: At, tries: list[list[str]]) -> Problems:
    yield from min(tries, key=len, default=[f"{_place(at.where)} fits none of the choices"])


def _one(at: At, given: Any) -> Problems:
    tries = [list(at.checker.check(at.value, each, at.where)) for each in given]  # once: schemas may be recursive
    fitting = sum(not found for found in tries)
    if fitting == 0:
        yield from _best(at, tries)
    elif fitting > 1:
        yield f"{_place(at.where)} is {_shown(at.value)}, which fits {fitting} of the choices, and may fit only one"


def _not(at: At, given: Any) -> Problems:
    if at.checker.is_valid(at.value, given):
        yield f"{_place(at.where)} is {_shown(at.value)}, which the schema forbids"


def _if(at: At, given: Any) -> Problems:
    branch = "then" if at.checker.is_valid(at.value, given) else "else"
    yield from at.checker.check(at.value, at.schema.get(branch, True), at.where)


def _ref(at: At, given: Any) -> Problems:
    yield from at.checker.follow(at.value, str(given), at.where)


_CHECKS: Final[Mapping[str, _Check]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "properties": _properties,
    "required": _required,
    "additionalProperties": _additional,
    "patternProperties": _pattern_properties,
    "propertyNames": _names,
    "dependentRequired": _dependent_required,
    "minProperties": _limit(_at_least, len, "it has to have {} keys or more", _is(dict)),
    "maxProperties": _limit(_at_most, len, "it has to have {} keys at most", _is(dict)),
    "items": _items,
    "prefixItems": _prefix_items,
    "contains": _contains,
    "minItems": _limit(_at_least, len, "it has to have {} items or more", _is(list)),
    "maxItems": _limit(_at_most, len, "it has to have {} items at most", _is(list)),
    "uniqueItems": _unique,
    "minimum": _limit(_at_least, _itself, "it has to be {} or more", _is_number),
    "maximum": _limit(_at_most, _itself, "it has to be {} or less", _is_number),
    "exclusiveMinimum": _limit(
        lambda value, limit: bool(value > limit), _itself, "it has to be more than {}", _is_number
    ),
    "exclusiveMaximum": _limit(
        lambda value, limit: bool(value < limit), _itself, "it has to be less than {}", _is_number
    ),
    "multipleOf": _limit(_is_multiple, _itself, "it has to be a multiple of {}", _is_number),
    "minLength": _limit(_at_least, len, "it has to have {} characters or more", _is(str)),
    "maxLength": _limit(_at_most, len, "it has to have {} characters at most", _is(str)),
    "pattern": _limit(lambda value, pattern: _matches(pattern, value), _itself, "it has to match {}", _is(str)),
    "allOf": _every,
    "anyOf": _any,
    "oneOf": _one,
    "not": _not,
    "if": _if,
    "$ref": _ref,
}
