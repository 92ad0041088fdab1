"""The types of answers: their JSON schemas, and the values that are made of a text.

pydantic knows most types, and msgspec its Structs. Vendors want an object, so another root is wrapped in one: a list
under the key `items`, anything else under `value`. What is made of a type is remembered.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Protocol, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct
from pydantic import BaseModel, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError

from .._answer_schema import AnswerSchema
from .._json.decoding import decode, unfenced
from .._json.schema import MOST_PROBLEMS, place_of

LIST_KEY: Final = "items"
VALUE_KEY: Final = "value"

_LISTS: Final = (
    list, set, frozenset, collections.abc.Sequence, collections.abc.Collection,
    collections.abc.Set, collections.abc.MutableSequence, collections.abc.MutableSet,
)  # fmt: skip


class _Reader(Protocol):
    """Makes values of one type."""

    @property
    def schema(self) -> dict[str, Any]: ...

    def read(self, text: str) -> Any:
        """The value of a JSON text; a `ValueError` says what is wrong with it."""
        ...


class _OfPydantic:
    """Reads with pydantic."""

    def __init__(self, kind: Any) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
        self.schema = self._adapter.json_schema()

    def read(self, text: str) -> Any:
        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            raise ValueError("\n".join(_problems(error))) from None


class _OfMsgspec:
    """Reads with msgspec."""

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self.schema = _inlined(msgspec.json.schema(kind))

    def read(self, text: str) -> Any:
        try:
            return self._decoder.decode(text)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(str(error)) from None


def _problems(error: ValidationError) -> list[str]:
    """What pydantic says is wrong, each with its place."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [f"{place_of(problem['loc'])}: {problem['msg']}" for problem in found[:MOST_PROBLEMS]]


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with an object at its root, where msgspec writes a reference to one."""
    reference, definitions = schema.get("$ref"), schema.get("$defs", {})
    name = str(reference).removeprefix("#/$defs/")
    if name not in definitions:
        return schema
    rest = {key: each for key, each in definitions.items() if key != name}
    is_recursive = f"'{reference}'" in repr(definitions)
    return {**definitions[name], "$defs": definitions} if is_recursive else {**definitions[name], "$defs": rest}


def answer_of(kind: Any) -> AnswerSchema:
    """The schema of a type, which makes values of it.

    Raises:
        TypeError: No JSON schema describes the type. The message names it.
    """
    try:
        return _answer_of(kind)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
    return _answer_of.__wrapped__(kind)  # an annotation with a value in it that has no hash


@lru_cache(256)
def _answer_of(kind: Any) -> AnswerSchema:
    whole = _reader_of(kind)
    root, key = _root_of(whole.schema), None
    if root.get("type") == "object":
        item_key, item_kind = _only_list(kind, root)
        schema, parse = whole.schema, _parser(whole.read, None, whole.read)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            schema = kind.model_json_schema()
    else:
        item_kind = _item_of(kind)
        key = LIST_KEY if root.get("type") == "array" else VALUE_KEY
        item_key = key if item_kind is not None else None
        wrapper = _reader_of(_wrapper_of(kind, key))
        schema = wrapper.schema
        parse = _parser(lambda text: getattr(wrapper.read(text), key), key, whole.read)
    items = None if item_kind is None else _reader_of(item_kind)
    return AnswerSchema(
        schema,
        kind,
        parse=parse,
        item_parse=None if items is None else _parser(items.read, None, items.read),
        item_key=item_key,
        wrapper_key=key,
    )


def _parser(read: Callable[[str], Any], key: str | None, read_bare: Callable[[str], Any]) -> Callable[[str], Any]:
    """The function that makes a value of the text of an answer. A model may leave the wrapping with this key out."""

    def parse(text: str) -> Any:
        text = unfenced(text)
        data = decode(text)
        is_bare = key is not None and not (isinstance(data, dict) and key in data)
        return read_bare(text) if is_bare else read(text)

    return parse


def _root_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The root of a schema. pydantic writes a reference for a type that contains itself."""
    root = schema.get("$defs", {}).get(str(schema.get("$ref")).removeprefix("#/$defs/"), schema)
    return root if isinstance(root, Mapping) else schema


def _reader_of(kind: Any) -> _Reader:
    if _has_a_struct(kind):
        return _read_by_msgspec(kind)
    try:
        return _OfPydantic(kind)
    except (PydanticUserError, TypeError, NameError, AttributeError, RecursionError) as error:
        # Before Python 3.12, pydantic takes no `typing.TypedDict`; and it knows no Struct inside a dataclass.
        try:
            return _OfMsgspec(kind)
        except (TypeError, NameError, AttributeError, RecursionError):
            raise _unusable(kind, error) from None


def _read_by_msgspec(kind: Any) -> _Reader:
    try:
        return _OfMsgspec(kind)
    except (TypeError, NameError, AttributeError, RecursionError) as error:
        raise _unusable(kind, error) from None


def _unusable(kind: Any, error: Exception) -> TypeError:
    why = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
    return TypeError(
        f"{_name(kind)} cannot be an answer: {why}; use a pydantic model, a dataclass, a TypedDict, a msgspec Struct, "
        "or a list of one of them"
    )


def _has_a_struct(kind: Any) -> bool:
    """Whether an annotation names a msgspec Struct."""
    if isinstance(kind, type) and issubclass(kind, Struct) and not get_args(kind):
        return True
    return any(_has_a_struct(each) for each in (get_origin(kind), *get_args(kind)) if each is not None)


def _name(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def _wrapper_of(kind: Any, key: str) -> Any:
    if _has_a_struct(kind):
        return msgspec.defstruct("Answer", [(key, kind)])
    try:
        return create_model("Answer", **cast("dict[str, Any]", {key: (kind, ...)}))
    except PydanticUserError:  # it was msgspec that knew the type
        return msgspec.defstruct("Answer", [(key, kind)])


# ── the list of an answer ────────────────────────────────────────────────────────────────────────────────────────────


def _item_of(annotation: Any) -> Any:
    """The type of the items of a list, or `None` for an annotation that is no list. A list may be optional."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        items = [_item_of(each) for each in arguments if each is not NoneType]
        return items[0] if len(items) == 1 else None
    if origin is tuple:
        return arguments[0] if len(arguments) == 2 and arguments[1] is ... else None
    if origin in _LISTS and len(arguments) == 1:
        return arguments[0]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and "root" in annotation.model_fields:
        return _item_of(annotation.model_fields["root"].annotation)
    return None


def _only_list(kind: Any, root: Mapping[str, Any]) -> tuple[str | None, Any]:
    """The key of the only list in an object, as it stands in JSON, and the type of its items."""
    keys, annotations = root.get("properties", {}), _annotations(kind)
    if len(keys) != len(annotations):
        return None, None
    lists = [
        (key, item)
        for key, each in zip(keys, annotations, strict=True)  # a schema has the fields in their order
        if (item := _item_of(each)) is not None
    ]
    return lists[0] if len(lists) == 1 else (None, None)


def _annotations(kind: Any) -> list[Any]:
    """The types of the fields that a class declares. A built-in type such as `int` declares none."""
    if not isinstance(kind, type):
        return []
    if issubclass(kind, BaseModel):
        return [each.annotation for each in kind.model_fields.values()]
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError):
        return []
    if issubclass(kind, Struct):
        return [hints.get(each.name) for each in msgspec.structs.fields(kind)]
    return list(hints.values())
