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
        ValueError: Two tools have one name, or no vendor takes a name.
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

        return answer_in(answer)
    from .._config import answer_of  # loads pydantic

    return answer_of(answer.kind)


def _ready(tool: object) -> object:
    if isinstance(tool, Mapping):
        return tool
    if isinstance(tool, Tool):
        if tool.function is None or tool.check is not None:
            return tool
        if tool.parameters != NO_PARAMETERS:
            return _with_sound_schema(tool)
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


def _with_sound_schema(tool: Tool) -> Tool:
    """A tool whose arguments will be checked against its schema. A schema that leads nowhere is refused now."""
    from .._json.schema import SchemaError, problems

    try:
        problems({}, tool.parameters)
    except SchemaError as error:
        raise ValueError(f"the tool {tool.name!r}: its parameters are no JSON schema: {error}") from None
    return tool


def _tool_of(function: object) -> Tool:
    from .._config import tool_of  # pydantic is loaded with the first tool
    from .._tools import RunContext

    return tool_of(function, RunContext)
