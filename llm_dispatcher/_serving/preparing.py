"""Requests made ready: functions become tools, and the type of an answer gets its schema.

The values of a request are light, so that writing one loads nothing. `prepared` makes what needs pydantic, once: where
the request or its options are written, else when its stream is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from .._answer_schema import AnswerSchema
from .._tool_values import NO_PARAMETERS, name_of
from ..tasks import TaskRequest, Tool


def prepared(request: TaskRequest) -> TaskRequest:
    """The request with its functions as tools and its schema resolved. It is the same object if nothing is left to do.

    Raises:
        TypeError: A function cannot be a tool, or a type cannot be an answer. The message names it, and says what to
            write.
        ValueError: Two tools have one name, or no vendor takes a name or a schema.
    """
    changes: dict[str, Any] = {}
    if request.tools and (tools := prepared_tools(request.tools)) != request.tools:
        changes["tools"] = tools
    answer = request.response_format
    if answer is not None and (schema := prepared_schema(answer)) is not answer:
        changes["response_format"] = schema
    return replace(request, **changes) if changes else request


def prepared_tools(tools: Iterable[Any]) -> tuple[Any, ...]:
    """These tools, each of which is a `Tool` or a dict: see `prepared`."""
    ready = tuple([_ready(tool) for tool in tools])
    names: set[str] = set()
    for name in filter(None, map(name_of, ready)):
        if name in names:
            raise ValueError(f"two tools are called {name!r}: rename one, as in Tool({name + '_2'!r}, function={name})")
        names.add(name)
    return ready


def prepared_schema(answer: Mapping[str, Any]) -> AnswerSchema:
    """The schema of an answer, which can parse: see `prepared`. It is the same object if it can already."""
    if isinstance(answer, AnswerSchema) and answer.is_resolved:
        return answer
    if not isinstance(answer, AnswerSchema) or answer.kind is None:
        from .._json.answers import answer_in

        inner = answer.get("json_schema", answer)
        _check_schema("response_format", inner.get("schema", inner) if answer.get("type") != "json_object" else {})
        return answer_in(answer)
    from .._config import answer_of  # loads pydantic

    return answer_of(answer.kind)


def _ready(tool: object) -> object:
    if isinstance(tool, Mapping):
        _check_parameters(tool)
        return tool
    if isinstance(tool, Tool):
        if tool.parameters != NO_PARAMETERS:
            _check_schema(f"the parameters of the tool {tool.name!r}", tool.parameters)
        if tool.function is None or tool.check is not None or tool.parameters != NO_PARAMETERS:
            return tool
        # Only a name, and perhaps a description, were set for the function.
        form = _tool_of(tool.function)
        return replace(
            tool,
            description=tool.description or form.description,
            parameters=form.parameters,
            check=form.check,
            takes_context=tool.takes_context or form.takes_context,
        )
    return _tool_of(tool)


def _check_parameters(tool: Mapping[str, Any]) -> None:
    """Check the schema of a tool that is a dict. The tools that a vendor runs itself have none."""
    inner = tool.get("function", tool)
    parameters = inner.get("parameters", inner.get("input_schema")) if isinstance(inner, Mapping) else None
    if isinstance(parameters, Mapping) and (name := name_of(tool)) is not None:
        what = f"the parameters of the tool {name!r}"
        _check_schema(what, parameters)
        if str(parameters.get("type", "object")).lower() != "object":
            raise ValueError(f"{what} are the schema of an object, got the type {parameters['type']!r}")


def _check_schema(what: str, schema: Mapping[str, Any]) -> None:
    from .._json.soundness import check_schema

    try:
        check_schema(schema)
    except ValueError as error:
        raise ValueError(f"{what} cannot be a JSON schema that a vendor takes: {error}") from None


def _tool_of(function: object) -> Tool:
    from .._config import tool_of  # pydantic is loaded with the first tool
    from .._tools import RunContext

    return tool_of(function, RunContext)
