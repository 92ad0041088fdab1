"""What the wires' request bodies have in common."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ... import _media as media
from ...exceptions import InvalidRequestError, ModelUnsupportedError
from ...tasks import (
    AudioPart,
    ImagePart,
    Media,
    Message,
    Part,
    ReasoningPart,
    Role,
    Target,
    TaskRequest,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from .schemas import ANTHROPIC, OPENAI, Dialect, NotStrictError, strict_form


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are given: what is `None` or empty overrides nothing at the vendor."""
    return {name: value for name, value in fields.items() if value not in (None, (), {})}


def cannot(what: str, target: Target) -> ModelUnsupportedError:
    """The error for what a vendor's wire has no place for."""
    return ModelUnsupportedError(f"{what} cannot be sent on this wire", provider=target.provider, model=target.model)


_PARTS: Final[Mapping[Role, tuple[type[Part], ...]]] = {
    "system": (TextPart,),
    "user": (TextPart, ImagePart, AudioPart, ToolResultPart),
    "assistant": (TextPart, ReasoningPart, ToolCallPart),
    "tool": (ToolResultPart,),
}


def conversation(request: TaskRequest, target: Target) -> tuple[Message, ...]:
    """Every turn to send, each with parts that its role can have on any wire, without what others have thought."""
    if "stream" in request.extra:
        raise InvalidRequestError("extra holds 'stream', but every answer is streamed: leave it out")
    turns = request.conversation
    for turn in turns:
        for part in turn.parts:
            if not isinstance(part, _PARTS[turn.role]):
                holds = ", ".join(f"{kind.__name__}s" for kind in _PARTS[turn.role])
                raise InvalidRequestError(f"a message of role {turn.role!r} holds {holds}, not {type(part).__name__}")
    return tuple(
        replace(turn, parts=kept) if len(kept := _without_others_thoughts(turn, target)) < len(turn.parts) else turn
        for turn in turns
    )


def _without_others_thoughts(turn: Message, target: Target) -> tuple[Part, ...]:
    return tuple(
        part
        for part in turn.parts
        if not (isinstance(part, ReasoningPart) and part.provider not in (None, target.provider))
    )


def split_system(request: TaskRequest, target: Target) -> tuple[str | None, list[Message]]:
    """The system prompt, with system messages joined to it, and the other turns in order."""
    system = [request.system] if request.system is not None else []
    turns: list[Message] = []
    for message in conversation(request, target):
        if message.role == "system":
            system.append(message.text)
        else:
            turns.append(message)
    return "\n\n".join(system) if system else None, turns


def arguments_of(call: ToolCallPart) -> dict[str, Any]:
    """A call's arguments, for wires that take them as JSON rather than as text."""
    try:
        arguments = msgspec.json.decode(call.arguments) if call.arguments.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequestError(f"the arguments of the tool call {call.id!r} ({call.name}) are no JSON object")
    return arguments


def is_vendors_own(tool: Any) -> bool:
    """Whether a tool is one that the vendor runs, in the vendor's own form: `{"type": "web_search"}`."""
    return isinstance(tool, Mapping) and tool.get("type", "function") != "function"


def is_nameless(tool: Any) -> bool:
    """Whether a tool is in the form of Google's own, which bear no name: `{"google_search": {}}`."""
    return isinstance(tool, Mapping) and not {"name", "function"} & set(tool)


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

    def strict_parameters(self, dialect: Dialect, target: Target) -> Any:
        """The parameters; of a strict tool in the form that vendors demand of these."""
        if not self.strict:
            return self.parameters
        try:
            return strict_form(self.parameters, dialect)
        except NotStrictError as error:
            raise cannot(f"a strict tool ({self.name!r}: of its parameters, {error})", target) from None


class Schema:
    """What an answer has to follow: a JSON schema, itself or in OpenAI's wrapping, or any JSON (`json_object`).

    `strict` is what the caller said of it in OpenAI's wrapping: `None` where nothing was said.
    """

    __slots__ = ("any_json", "description", "name", "schema", "strict")

    def __init__(self, response_format: Mapping[str, Any]) -> None:
        self.any_json: bool = dict(response_format) == {"type": "json_object"}
        inner = response_format.get("json_schema", response_format)
        self.schema: Any = inner.get("schema", inner)
        wrapped = self.schema is not inner
        title = inner.get("name") if wrapped else None
        self.name: str = re.sub(r"[^A-Za-z0-9_-]", "_", str(title or self.schema.get("title") or "answer"))[:64]
        self.description: str | None = inner.get("description") if wrapped else None
        self.strict: bool | None = inner.get("strict") if wrapped else None

    def for_openai(self, target: Target) -> dict[str, Any]:
        """The schema as OpenAI's wires take it, strict where it can be: then the vendor promises to follow it."""
        schema, strict = self.schema, False
        if self.strict is not False:
            try:
                schema, strict = strict_form(self.schema, OPENAI), True
            except NotStrictError as error:
                if self.strict:
                    raise cannot(f"a response_format that is strict ({error})", target) from None
        return {"name": self.name, "schema": schema, "strict": strict, **given(description=self.description)}

    def for_anthropic(self, target: Target) -> dict[str, Any]:
        """The schema as Anthropic takes it, who knows strict schemas only."""
        try:
            return strict_form(self.schema, ANTHROPIC)
        except NotStrictError as error:
            raise cannot(f"this response_format ({error})", target) from None


Choice: TypeAlias = Literal["auto", "none", "required"]
_CHOICES: Final[dict[str, Choice]] = {"auto": "auto", "none": "none", "required": "required"}


class NamedTool(Struct, frozen=True):
    """The choice of one tool, which has to be called."""

    name: str


def tool_choice(request: TaskRequest) -> Choice | NamedTool | None:
    """How the tools are to be used: at will, not at all, one of them, or the one that is named."""
    choice = request.tool_choice
    if choice is None:
        return None
    if not request.tools:
        raise InvalidRequestError(f"tool_choice is {choice!r}, but the request has no tools")
    if isinstance(choice, str):
        if choice in _CHOICES:
            return _CHOICES[choice]
    else:
        inner = choice.get("function", choice)
        choice = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(choice, str):
        raise InvalidRequestError('tool_choice is "auto", "none", "required" or a tool\'s name')
    names = [Tool(tool).name for tool in request.tools if not (is_vendors_own(tool) or is_nameless(tool))]
    if choice not in names and len(names) == len(request.tools):
        raise InvalidRequestError(f"tool_choice names {choice!r}, which is none of the tools: {', '.join(names)}")
    return NamedTool(choice)


def text_metadata(request: TaskRequest, target: Target) -> dict[str, str]:
    """Metadata for the wires that take only text."""
    for name, value in request.metadata.items():
        if not isinstance(value, str):
            raise cannot(f"metadata that is no text ({name})", target)
    return dict(request.metadata)


# ── images and sounds ──────────────────────────────────────────────────────────────────────────────────────────────

FOUR_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""What OpenAI and Anthropic take."""


def image_of(part: ImagePart, target: Target, *, types: Container[str] | None = None, addresses: bool = True) -> Media:
    """The image, if it is of a type and in a form that the wire takes; the type of an address may not be known."""
    return _taken(media.load_image(part.source), "an image", target, types, addresses)


def sound_of(part: AudioPart, target: Target, *, types: Container[str] | None = None, addresses: bool = False) -> Media:
    """The sound, if it is of a type and in a form that the wire takes."""
    return _taken(media.load_audio(part.source), "audio", target, types, addresses)


def _taken(found: Media, what: str, target: Target, types: Container[str] | None, addresses: bool) -> Media:
    if found.url is not None and not addresses:
        raise cannot(f"{what} by its address", target)
    if types is not None and found.media_type is not None and found.media_type not in types:
        raise cannot(f"{what} of the type {found.media_type}", target)
    return found


def as_it_is(body: Mapping[str, Any], **insisted: Any) -> dict[str, Any]:
    """The arguments of an SDK's `create` for a body that is JSON already.

    What the SDK insists on is named, and all else goes past it: it would look through every field of every message for
    types that a body of ours does not hold, which is a fifth of what a request costs.
    """
    rest = {name: value for name, value in body.items() if name not in ("model", "extra_body")}
    return {"model": body["model"], **insisted, "extra_body": rest | dict(body.get("extra_body") or {})}


def encoded(body: Mapping[str, Any]) -> bytes:
    """A body as it travels. What JSON has no form for is an error, and nothing is put in its place.

    Times and pydantic models are written as OpenAI's and Anthropic's clients write them.
    """
    return json.dumps(body, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=form_of).encode()


def form_of(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return dump(mode="json", by_alias=True, exclude_unset=True)
    raise TypeError(f"it has no form for {type(value).__name__}")
