"""Encoding requests: what the bodies of all wires have in common."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Mapping
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from ... import _media as media
from ..._answer_schema import AnswerSchema
from ...exceptions import InvalidRequestError, ModelUnsupportedError
from ...provider._json_check import form_of
from ...tasks import (
    AudioPart,
    ImagePart,
    Media,
    Target,
    TaskRequest,
)
from ...tasks import Tool as RequestTool
from .schemas import ANTHROPIC, OPENAI, Dialect, NotStrictError, in_words, strict_form


def without_empty(**fields: Any) -> dict[str, Any]:
    """The fields that have a value. `None` and empty values are left out, so the vendor's defaults apply."""
    return {name: value for name, value in fields.items() if value not in (None, (), {})}


def cannot(what: str, target: Target) -> ModelUnsupportedError:
    """The error for a part of a request that this wire cannot express."""
    return ModelUnsupportedError(f"{what} cannot be sent on this wire", provider=target.provider, model=target.model)


def is_vendors_own(tool: Any) -> bool:
    """Whether the vendor itself runs a tool, as in `{"type": "web_search"}`. Such a tool is passed on unchanged."""
    return isinstance(tool, Mapping) and tool.get("type", "function") != "function"


def is_nameless(tool: Any) -> bool:
    """Whether a tool has the form of Google's own tools, which have no name: `{"google_search": {}}`."""
    return isinstance(tool, Mapping) and not {"name", "function"} & set(tool)


_TOOL_KEYS: Final = frozenset({"type", "name", "description", "parameters", "input_schema", "strict"})


class Tool:
    """A tool of a request: a `Tool`, OpenAI's `{"type": "function", "function": {…}}`, or only the inner object."""

    __slots__ = ("description", "name", "parameters", "strict")

    def __init__(self, tool: Any) -> None:
        if isinstance(tool, RequestTool):
            tool = tool.as_dict()
        inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            raise InvalidRequestError(
                'a tool is a dict with "name", "description" and "parameters" (a JSON schema), '
                f"got {type(tool).__name__}"
            )
        if "cache_control" in inner or (isinstance(tool, Mapping) and "cache_control" in tool):
            raise InvalidRequestError(
                f"the tool {inner['name']!r} has 'cache_control': leave it out, and begin the system message with a "
                'CachePoint: Message("system", (CachePoint(), "…"))'
            )
        if unknown := {str(key) for key in inner} - _TOOL_KEYS:
            raise InvalidRequestError(f"the tool {inner['name']!r} has unknown keys: {', '.join(sorted(unknown))}")
        self.name: str = inner["name"]
        self.description: str | None = inner.get("description")
        parameters = inner.get("parameters", inner.get("input_schema"))
        self.parameters: Any = parameters if parameters is not None else {"type": "object", "properties": {}}
        self.strict: bool | None = inner.get("strict")

    def strict_parameters(self, dialect: Dialect, target: Target) -> Any:
        """The schema of the parameters; if the tool is strict, in the strict form that the vendor demands."""
        if not self.strict:
            return self.parameters
        try:
            return strict_form(self.parameters, dialect)
        except NotStrictError as error:
            raise cannot(f"a strict tool ({self.name!r}: of its parameters, {error})", target) from None


class Schema:
    """A request's `response_format`: a JSON schema, bare or in OpenAI's wrapping, or any JSON (`json_object`).

    `strict` is the value in OpenAI's wrapping, or `None` if it is not set.
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
        """The schema for OpenAI's wires. It is strict if it has a strict form: then OpenAI guarantees to follow it."""
        schema, strict = self.schema, False
        if self.strict is not False:
            try:
                schema, strict = strict_form(self.schema, OPENAI), True
            except NotStrictError as error:
                if self.strict:
                    raise cannot(f"a response_format that is strict ({error})", target) from None
        return {"name": self.name, "schema": schema, "strict": strict, **without_empty(description=self.description)}

    def for_anthropic(self, target: Target) -> dict[str, Any]:
        """The schema for Anthropic, which accepts strict schemas only."""
        try:
            return strict_form(self.schema, ANTHROPIC)
        except NotStrictError as error:
            raise cannot(f"this response_format ({error})", target) from None


def told_in_words(
    request: TaskRequest,
    target: Target,
    enforce: Callable[[], object] = lambda: None,
    *,
    weaker: Mapping[str, Any] | None = None,
    also_enforced: bool = False,
) -> TaskRequest:
    """The request with its schema at the end of the system prompt, if the target cannot enforce it and may be told so.

    The schema of a reader who gets an unchecked answer is never told in words: such a request is returned unchanged.

    Args:
        request: The request.
        target: The target that is asked.
        enforce: Makes the field by which the wire enforces the schema, and raises if there is none.
        weaker: A `response_format` that the target takes, if it knows no schemas: any JSON.
        also_enforced: Whether the wire enforces the schema without showing it to the model, so that words help.
    """
    answer = request.response_format
    if not isinstance(answer, AnswerSchema) or not answer.may_instruct:
        return request
    schema = Schema(answer)
    words = in_words(None if schema.any_json else schema.schema)
    told = replace(request, system=f"{request.system}\n\n{words}" if request.system else words)
    if target in answer.not_enforced_by:
        return replace(told, response_format=None)
    try:
        enforce()
    except ModelUnsupportedError:
        is_object = schema.any_json or schema.schema.get("type") == "object"
        return replace(told, response_format=weaker if is_object else None)
    return told if also_enforced else request


Choice: TypeAlias = Literal["auto", "none", "required"]
_CHOICES: Final[dict[str, Choice]] = {"auto": "auto", "none": "none", "required": "required"}


class NamedTool(Struct, frozen=True):
    """The choice of one tool, which the model must call."""

    name: str


def tool_choice(request: TaskRequest) -> Choice | NamedTool | None:
    """The request's `tool_choice`: a mode, one named tool, or `None`."""
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
        raise InvalidRequestError(f"tool_choice names {choice!r}, which is not one of the tools: {', '.join(names)}")
    return NamedTool(choice)


def text_metadata(request: TaskRequest, target: Target) -> dict[str, str]:
    """The metadata, for wires that accept only text values."""
    for name, value in request.metadata.items():
        if not isinstance(value, str):
            raise cannot(f"metadata that is not text ({name})", target)
    return dict(request.metadata)


# ── images and sounds ──────────────────────────────────────────────────────────────────────────────────────────────

FOUR_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""The image types that OpenAI and Anthropic accept."""


def image_of(part: ImagePart, target: Target, *, types: Container[str] | None = None, addresses: bool = True) -> Media:
    """The image, checked against what the wire accepts. The type of an image that is an address may be unknown."""
    return _accepted(media.load_image(part.source), "an image", target, types, addresses)


def sound_of(part: AudioPart, target: Target, *, types: Container[str] | None = None, addresses: bool = False) -> Media:
    """The sound, checked against what the wire accepts."""
    return _accepted(media.load_audio(part.source), "audio", target, types, addresses)


def _accepted(source: Media, what: str, target: Target, types: Container[str] | None, addresses: bool) -> Media:
    if source.url is not None and not addresses:
        raise cannot(f"{what} by its address", target)
    if types is not None and source.media_type is not None and source.media_type not in types:
        raise cannot(f"{what} of the type {source.media_type}", target)
    return source


def has_media(request: TaskRequest) -> bool:
    """Whether a request has an image or a sound."""
    return any(isinstance(part, (ImagePart, AudioPart)) for turn in request.conversation for part in turn.parts)


def bypassing(body: Mapping[str, Any], **required: Any) -> dict[str, Any]:
    """The arguments of an SDK's `create` that send this body unchanged.

    Everything but the model and the `required` arguments goes into `extra_body`. As arguments they would be searched,
    field by field, for types that a body never contains here, which is a fifth of what a request costs.
    """
    rest = {name: value for name, value in body.items() if name not in ("model", "extra_body")}
    return {"model": body["model"], **required, "extra_body": rest | dict(body.get("extra_body") or {})}


def encoded(body: Mapping[str, Any]) -> bytes:
    """A body as JSON. Times and pydantic models are written; any other value that is not JSON is an error."""
    return json.dumps(body, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=form_of).encode()
