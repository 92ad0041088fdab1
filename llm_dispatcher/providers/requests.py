"""What the wires' request bodies have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..exceptions import InvalidRequestError, ModelUnsupportedError
from ..tasks import Message, Target, TaskRequest, ToolCallPart, ToolResultPart


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are given: what is `None` or empty overrides nothing at the vendor."""
    return {name: value for name, value in fields.items() if value not in (None, (), {})}


def cannot(what: str, target: Target) -> ModelUnsupportedError:
    """The error for what a vendor's wire has no place for."""
    return ModelUnsupportedError(f"{what} cannot be sent on this wire", provider=target.provider, model=target.model)


def conversation(request: TaskRequest) -> tuple[Message, ...]:
    """Every turn to send, each with parts that its role can have on any wire."""
    turns = request.conversation
    for turn in turns:
        for part in turn.parts:
            if isinstance(part, ToolCallPart) and turn.role != "assistant":
                raise InvalidRequestError(f"a tool call is an assistant's, not in a message of role {turn.role!r}")
            if turn.role == "tool" and not isinstance(part, ToolResultPart):
                raise InvalidRequestError(f"a message of role 'tool' holds ToolResultParts, not {type(part).__name__}")
    return turns


def split_system(request: TaskRequest) -> tuple[str | None, list[Message]]:
    """The system prompt, with system messages joined to it, and the other turns in order."""
    system = [request.system] if request.system is not None else []
    turns: list[Message] = []
    for message in conversation(request):
        if message.role == "system":
            system.append(message.text)
        else:
            turns.append(message)
    return "\n\n".join(system) if system else None, turns


def arguments_of(call: ToolCallPart) -> dict[str, Any]:
    """A call's arguments, for wires that take them as JSON rather than as text."""
    try:
        arguments = msgspec.json.decode(call.arguments) if call.arguments.strip() else {}
    except msgspec.DecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequestError(f"the arguments of the tool call {call.id!r} ({call.name}) are no JSON object")
    return arguments


def is_vendors_own(tool: Any) -> bool:
    """Whether a tool is one that the vendor runs, in the vendor's own form: `{"type": "web_search"}`."""
    return isinstance(tool, Mapping) and tool.get("type", "function") != "function"


_TOOL_KEYS: Final = frozenset({"type", "name", "description", "parameters", "input_schema", "strict"})


class Tool:
    """A tool as the wires want it: given as OpenAI's `{"type": "function", "function": {…}}`, or as its inside."""

    __slots__ = ("description", "name", "parameters", "strict")

    def __init__(self, tool: Any) -> None:
        inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            raise InvalidRequestError(
                'a tool is a dict with "name", "description" and "parameters" (a JSON schema), '
                f"got {type(tool).__name__}"
            )
        if unknown := {str(key) for key in inner} - _TOOL_KEYS:
            raise InvalidRequestError(f"the tool {inner['name']!r} has unknown keys: {', '.join(sorted(unknown))}")
        self.name: str = inner["name"]
        self.description: str | None = inner.get("description")
        parameters = inner.get("parameters", inner.get("input_schema"))
        self.parameters: Any = parameters if parameters is not None else {"type": "object", "properties": {}}
        self.strict: bool | None = inner.get("strict")


class Schema:
    """What an answer has to follow: a JSON schema, itself or in OpenAI's wrapping, or any JSON (`json_object`)."""

    __slots__ = ("any_json", "name", "schema", "strict")

    def __init__(self, given_format: Any) -> None:
        if not isinstance(given_format, Mapping):
            raise InvalidRequestError(f"response_format is a JSON schema as a dict, got {type(given_format).__name__}")
        self.any_json: bool = dict(given_format) == {"type": "json_object"}
        inner = given_format.get("json_schema", given_format)
        if not isinstance(inner, Mapping) or not isinstance(inner.get("schema", inner), Mapping):
            raise InvalidRequestError("response_format holds no JSON schema")
        self.name: str = re.sub(r"[^A-Za-z0-9_-]", "_", str(inner.get("name") or inner.get("title") or "answer"))[:64]
        self.schema: Any = inner.get("schema", inner)
        self.strict: bool = inner.get("strict", True)


def tool_name(choice: str | Mapping[str, Any]) -> str | None:
    """The one tool that a choice names; `None` for "auto", "none" and "required"."""
    if isinstance(choice, str):
        return None if choice in ("auto", "none", "required") else choice
    inner = choice.get("function", choice)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(name, str):
        raise InvalidRequestError('tool_choice is "auto", "none", "required" or a tool\'s name')
    return name
