"""`AnswerSchema`: a JSON schema that knows the Python type that it describes."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, Protocol, Self, cast, get_args, get_origin


class HasSchema(Protocol):
    """A pydantic model class. It is recognised by this method, so that pydantic need not be loaded."""

    def model_json_schema(self) -> dict[str, Any]: ...


class AnswerSchema(dict[str, Any]):
    """A JSON schema that knows the type that it describes, and how to make a value of that type.

    It is a plain dict for everything that sends or compares it. Until `llm_dispatcher._serving.preparing` has resolved
    it, before anything is planned, it cannot parse, and the schema of a type that is not a pydantic model is empty.
    """

    def __init__(
        self,
        schema: Mapping[str, Any],
        kind: Any = None,
        *,
        parse: Callable[[str], Any] | None = None,
        item_parse: Callable[[str], Any] | None = None,
        item_key: str | None = None,
        wrapper_key: str | None = None,
        may_instruct: bool = False,
        not_enforced_by: Container[object] = (),
    ) -> None:
        """Remember a schema.

        Args:
            schema: The JSON schema that vendors get.
            kind: The type of the answer; `None` for a schema that was passed as a dict.
            parse: Makes a value of the whole JSON text; raises a `ValueError` that says what is wrong.
            item_parse: The same for one item of the list that `stream.items()` gives.
            item_key: The key of that list in the answer. `None` if the answer has no such list.
            wrapper_key: The only key of the object that vendors get in place of a type whose root is no object.
            may_instruct: Whether a target that cannot enforce a schema may be told it in words.
            not_enforced_by: The targets whose models are known not to follow a schema.
        """
        super().__init__(schema)
        self.kind = kind
        self.parse = parse
        self.item_parse = item_parse
        self.item_key = item_key
        self.wrapper_key = wrapper_key
        self.may_instruct = may_instruct
        self.not_enforced_by = not_enforced_by

    def __repr__(self) -> str:
        """The name of the type: its schema may fill a page."""
        if self.kind is None:
            return super().__repr__()
        return self.kind.__qualname__ if isinstance(self.kind, type) and not get_args(self.kind) else str(self.kind)

    def __reduce__(self) -> Any:
        """A copy in another process is resolved there."""
        return type(self), (dict(self), self.kind)

    @property
    def is_resolved(self) -> bool:
        """Whether the schema was made and its type can be parsed."""
        return self.parse is not None

    @property
    def is_wrapped(self) -> bool:
        """Whether vendors get an object with one key in place of the type, whose root is no object."""
        return self.wrapper_key is not None

    def with_words(self, not_enforced_by: Container[object] = ()) -> Self:
        """A copy that may be told in words to a target that cannot enforce it, such as these."""
        return type(self)(
            self,
            self.kind,
            parse=self.parse,
            item_parse=self.item_parse,
            item_key=self.item_key,
            wrapper_key=self.wrapper_key,
            may_instruct=True,
            not_enforced_by=not_enforced_by,
        )


def may_instruct(response_format: Mapping[str, Any] | None) -> bool:
    """Whether a schema may be told in words to a target that cannot enforce it."""
    return isinstance(response_format, AnswerSchema) and response_format.may_instruct


def answer_schema(name: str, value: object) -> dict[str, Any]:
    """The schema of a `response_format`, which is a type or a JSON schema. `name` is its name in an error."""
    if isinstance(value, AnswerSchema):
        return value
    if not isinstance(value, Mapping):
        _check_is_a_type(name, value)
        schema_of = getattr(value, "model_json_schema", None)
        if callable(schema_of):  # pydantic is loaded already
            return AnswerSchema(cast(Mapping[str, Any], schema_of()), value)
        return AnswerSchema({}, value)
    inner = value.get("json_schema", value)
    if not isinstance(inner, Mapping) or not isinstance(inner.get("schema", inner), Mapping):
        raise TypeError(f"{name} is in OpenAI's wrapping, but its 'schema' is not a JSON schema: pass a dict")
    return dict(value)


_SCALARS = (bool, int, float, str)
"""Types of Python's own that say all about a value. Of a `list` or a `dict`, it has to be said what is in it."""


def _check_is_a_type(name: str, value: object) -> None:
    """Raise a `TypeError` for a value that is no type. Whether answers can follow the type is seen when it is used."""
    if get_origin(value) is not None or any(value is each for each in _SCALARS):
        return
    if isinstance(value, type) and value.__module__ != "builtins":
        return
    if isinstance(value, type):
        kind, fix = f"the class {value.__name__}", "say what it holds: a dataclass, a TypedDict, or list[Item]"
    elif isinstance(value, str):
        kind, fix = "text", 'for JSON of any form, write {"type": "json_object"}'
    elif any(hasattr(value, each) for each in ("model_json_schema", "__dataclass_fields__", "__struct_fields__")):
        kind, fix = f"an instance of {type(value).__name__}", f"pass the class {type(value).__name__} itself"
    else:
        kind, fix = type(value).__name__, "pass a pydantic model, a dataclass, a TypedDict or a msgspec Struct"
    raise TypeError(f"{name} is a type or a JSON schema as a dict, got {kind}; {fix}")
