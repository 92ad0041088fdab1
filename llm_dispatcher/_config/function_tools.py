"""Functions as tools: pydantic makes the schema of a function's parameters, and checks the arguments of a call.

The parameters become the fields of a pydantic model, under names of its own (`p0`, `p1` …) with the parameters' names
as aliases, because a model takes fewer names than a function. What is made of a function is remembered for as long as
the function lives; the memory never holds the function itself. Two threads may make the same twice, which does no harm.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, SimpleNamespace, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from ..tasks import Tool
from .tool_docs import read_docstring

MOST_PROBLEMS: Final = 8
"""So many problems of one call are told to the model."""
LONGEST_INPUT: Final = 60
"""So many characters of a wrong value are told."""


class _Form(Struct, frozen=True):
    """What is made of a function: everything of its tool but the function."""

    name: str
    description: str
    parameters: dict[str, Any]
    check: Callable[[dict[str, Any]], dict[str, Any]]
    takes_context: str | None


_forms: Final[WeakKeyDictionary[FunctionType, _Form]] = WeakKeyDictionary()


def tool_of(function: object, context: type) -> Tool:
    """The tool that a function is.

    Args:
        function: A function, a coroutine function, a method of an object, or a `functools.partial` of one of them.
        context: The type of the parameter that gets the context of a run. That parameter is not in the schema.

    Raises:
        TypeError: The function cannot be a tool. The message names it, and says what to write.
        ValueError: No vendor takes its name.
    """
    if isinstance(function, staticmethod):
        function = function.__func__
    form = _forms.get(function) if isinstance(function, FunctionType) else None
    if form is None:
        form = _form_of(function, context)
        if isinstance(function, FunctionType):
            _forms[function] = form
    assert callable(function)
    return Tool(
        form.name, form.description, form.parameters, function, check=form.check, takes_context=form.takes_context
    )


def _form_of(function: object, context: type) -> _Form:
    plain, bound = _without_partial(function)
    if not (inspect.isfunction(plain) or inspect.ismethod(plain) or inspect.isbuiltin(plain)):
        kind = f"the class {plain.__name__}" if isinstance(plain, type) else f"a {type(plain).__name__}"
        raise TypeError(
            f"a tool is a function, a method, a Tool or a dict with a schema, got {kind}; write a function that calls "
            "it, or Tool(name, description, parameters, function)"
        )
    name = str(getattr(plain, "__name__", ""))
    if name == "<lambda>":
        raise TypeError(
            "a lambda cannot be a tool, because it has no name and no annotations: write a function with def"
        )
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise TypeError(f"the tool {name}() yields, but a tool returns its result: return it, for example as a list")
    parameters = _parameters(function, bound, name)
    description, said = read_docstring(inspect.getdoc(plain) or "")
    takes_context, hints = _hints(plain, parameters, name, context)
    fields = {key: _field(parameters[key], hint, said.get(key)) for key, hint in hints.items()}
    model, schema = _made(name, fields)
    return _Form(name, description, schema, _checker(model, tuple(fields), parameters), takes_context)


# ── the parameters ─────────────────────────────────────────────────────────────────────────────────────────────────


def _without_partial(function: object) -> tuple[Any, frozenset[str]]:
    """The function inside a `functools.partial`, and the names of the parameters that it has set."""
    bound: frozenset[str] = frozenset()
    while isinstance(function, functools.partial):
        bound |= frozenset(function.keywords)
        function = function.func
    return function, bound


def _parameters(function: Any, bound: frozenset[str], name: str) -> dict[str, inspect.Parameter]:
    """The parameters that a call sets. Those that cannot be set by name are refused."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError, NameError) as error:
        raise TypeError(
            f"the tool {name}() has no signature that can be read ({error}): write a function that calls it"
        ) from None
    parameters = {key: each for key, each in signature.parameters.items() if key not in bound}
    for place, (key, each) in enumerate(parameters.items()):
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            stars = "*" if each.kind is each.VAR_POSITIONAL else "**"
            raise TypeError(
                f"the tool {name}() takes {stars}{key}, which no schema describes: name each parameter, or take one "
                "parameter that is a list or a dict"
            )
        if each.kind is each.POSITIONAL_ONLY:
            raise TypeError(
                f"the tool {name}() takes {key!r} by position only, but arguments come by name: leave out the `/`"
            )
        if each.annotation is each.empty:
            fix = f"annotate it, as in {key}: str"
            if place == 0 and key in ("self", "cls"):
                fix = f"pass the method of an object, as in tools=[{key}.{name}]"
            raise TypeError(f"the tool {name}() has the parameter {key!r} without an annotation: {fix}")
    return parameters


def _hints(
    plain: Any, parameters: Mapping[str, inspect.Parameter], name: str, context: type
) -> tuple[str | None, dict[str, Any]]:
    """The parameter that gets the context, and the types of all others."""
    takes_context: str | None = None
    hints: dict[str, Any] = {}
    for key, parameter in parameters.items():
        # The context may be imported for type checkers only, so its name is enough.
        is_named = str(parameter.annotation).rpartition(".")[2] == context.__name__
        hint = context if is_named else _hint(plain, parameter, name)
        if not _is_context(hint, context):
            hints[key] = hint
        elif takes_context is None:
            takes_context = key
        else:
            raise TypeError(
                f"the tool {name}() has two parameters for the {context.__name__}, {takes_context!r} and {key!r}: "
                "leave out one"
            )
    return takes_context, hints


def _hint(plain: Any, parameter: inspect.Parameter, name: str) -> Any:
    """The type of a parameter. If it is written as text, it is looked up in the function's module, and in the functions
    around it, as long as these run.
    """
    function = inspect.unwrap(getattr(plain, "__func__", plain))
    module = sys.modules.get(getattr(plain, "__module__", None) or "")
    names = {**getattr(function, "__globals__", {}), **(vars(module) if module is not None else {})}
    annotated = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        hints = get_type_hints(annotated, names, _names_around(function), include_extras=True)
    except Exception as error:  # noqa: BLE001 - an annotation is an expression, which may raise anything
        raise TypeError(
            f"the tool {name}(): the annotation of {parameter.name!r} cannot be read ({error}): import its names at "
            "the top of the module, outside `if TYPE_CHECKING:`"
        ) from None
    return hints[parameter.name]


def _names_around(function: Any) -> dict[str, Any]:
    """The variables of the function in which this one is defined, if that runs now."""
    around = str(getattr(function, "__qualname__", "")).rpartition(".<locals>.")[0]
    frame = sys._getframe(1) if around else None  # noqa: SLF001 - the only way to see the callers
    while frame is not None:
        if frame.f_code.co_qualname == around:
            return dict(frame.f_locals)
        frame = frame.f_back
    return {}


def _is_context(hint: Any, context: type) -> bool:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        return context in get_args(hint)
    return hint is context


def _field(parameter: inspect.Parameter, hint: Any, said: str | None) -> tuple[Any, Any]:
    """The field of a parameter, as its type and its settings: its default, and what the docstring says of it if its
    annotation says nothing.
    """
    default = parameter.default
    settings: dict[str, Any] = {"alias": parameter.name, "validation_alias": parameter.name}
    if isinstance(default, FieldInfo):  # as in `days: int = Field(3, ge=1)`
        hint = Annotated[hint, default]
        if default.default_factory is not None:
            settings["default_factory"] = default.default_factory
        elif not default.is_required():
            settings["default"] = default.default
    elif default is not parameter.empty:
        settings["default"] = default
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    if not any(isinstance(each, FieldInfo) and each.description for each in extras):
        words = next((each for each in map(_words, extras) if each), said)
        if words:
            settings["description"] = words
    return hint, Field(**settings)


def _words(extra: object) -> str | None:
    """The description in an annotation that is text, as in `Annotated[str, "The city."]`, or a `Doc`."""
    text = getattr(extra, "documentation", extra)
    return text if isinstance(text, str) else None


# ── the model ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Schemas(GenerateJsonSchema):
    """Makes schemas without the titles that only repeat a name. A default that JSON cannot hold is left out."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - as its base has it

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _made(name: str, fields: Mapping[str, tuple[Any, Any]]) -> tuple[type[BaseModel], dict[str, Any]]:
    """The model of these fields, and its schema."""
    try:
        return _model(name, fields)
    except Exception as error:  # noqa: BLE001 - as below
        for key, field in fields.items():
            try:
                _model(name, {key: field})
            except Exception as reason:  # noqa: BLE001 - a type may raise anything when its schema is made
                raise TypeError(
                    f"the tool {name}(): no schema can be made for its parameter {key!r} ({_first_line(reason)}): use "
                    "types that JSON has, dataclasses or pydantic models; set what is no argument of the model with "
                    "functools.partial, or pass it as tool_context"
                ) from None
        raise TypeError(f"the tool {name}(): no schema can be made for it ({_first_line(error)})") from None


def _model(name: str, fields: Mapping[str, tuple[Any, Any]]) -> tuple[type[BaseModel], dict[str, Any]]:
    named: dict[str, Any] = {}
    for place, (hint, field) in enumerate(fields.values()):
        named[f"p{place}"] = (hint, field)
    model: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid"), **named)
    schema = model.model_json_schema(by_alias=True, schema_generator=_Schemas)
    schema.pop("title", None)
    schema.setdefault("properties", {})
    return model, schema


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _checker(
    model: type[BaseModel], names: tuple[str, ...], parameters: Mapping[str, inspect.Parameter]
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function that checks the arguments of a call, and returns those that the function is called with.

    An argument that the call leaves out is left to the function's own default. If that is a `Field`, its default is
    passed.
    """
    places = {f"p{place}": name for place, name in enumerate(names)}
    always = frozenset(place for place, name in places.items() if isinstance(parameters[name].default, FieldInfo))

    def check(arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            values = model.model_validate_json(json.dumps(arguments))
        except ValidationError as error:
            raise ValueError(_told(error, names)) from None
        passed = values.model_fields_set | always
        return {name: getattr(values, place) for place, name in places.items() if place in passed}

    return check


def _told(error: ValidationError, names: tuple[str, ...]) -> str:
    """What is wrong with the arguments, in the words of pydantic, on one line."""
    problems = error.errors(include_url=False, include_context=False)
    told = [_problem(each["loc"], each["type"], each["msg"], each["input"], names) for each in problems]
    more = f"; and {len(told) - MOST_PROBLEMS} more" if len(told) > MOST_PROBLEMS else ""
    return "; ".join(told[:MOST_PROBLEMS]) + more


def _problem(loc: tuple[int | str, ...], kind: str, message: str, value: object, names: tuple[str, ...]) -> str:
    where = ""
    for step in loc:
        where += f"[{step}]" if isinstance(step, int) else f".{step}" if where else step
    if kind == "missing":
        return f"{where} is missing"
    if kind == "extra_forbidden" and len(loc) == 1:
        return f"{where} is not a parameter (the parameters are {', '.join(names) or 'none'})"
    shown = repr(value)
    shown = shown if len(shown) <= LONGEST_INPUT else f"{shown[:LONGEST_INPUT]}…"
    return f"{where}: {message}, got {shown}"
