"""Encoding requests for the chat completions interface of OpenAI and of the hosts that speak it, with their quirks."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any, Final

from ..._chat_messages import AUDIO_FORMATS
from ..._vendors.quirks import Quirk
from ...tasks import (
    AudioPart,
    CachePoint,
    ImagePart,
    Message,
    ReasoningPart,
    Target,
    TaskRequest,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from ..base.encoding import (
    FOUR_IMAGES,
    NamedTool,
    Schema,
    Tool,
    cannot,
    conversation,
    image_of,
    is_vendors_own,
    sound_of,
    text_metadata,
    tool_choice,
    without_empty,
)
from ..base.schemas import OPENAI

Quirks = Container[Quirk]

CONTINUE: Final[Mapping[str, bool]] = {"continue_final_message": True, "add_generation_prompt": False}
"""Fields by which vLLM and servers like it continue an open turn. Without them vLLM begins a new turn, in silence."""

_MORE_FORMATS: Final = {media_type: name for name, media_type in AUDIO_FORMATS.items()}
_FORMATS: Final = {media_type: name for media_type, name in _MORE_FORMATS.items() if name in ("wav", "mp3")}


def body(request: TaskRequest, model: str, target: Target, quirks: Quirks) -> dict[str, Any]:
    """The body of a request, for a host with these quirks."""
    _refuse(request, target, quirks)
    messages: list[dict[str, Any]] = []
    if request.system is not None:
        messages.append({"role": "system", "content": request.system})
    for message in conversation(request, target):
        messages.extend(_messages(message, target, quirks))
    extra: dict[str, Any] = {}
    if messages and messages[-1]["role"] == "assistant":
        if "prefix" in quirks:
            messages[-1]["prefix"] = True
        if "continue_final_message" in quirks or "may_prefill" in quirks:
            extra = dict(CONTINUE)
    if request.seed is not None and "random_seed" in quirks:
        extra["random_seed"] = request.seed
    limit = "max_completion_tokens" if "max_completion_tokens" in quirks else "max_tokens"
    return without_empty(
        model=model,
        messages=messages,
        stream_options=None if "no_stream_options" in quirks else {"include_usage": True},
        temperature=request.temperature,
        top_p=request.top_p,
        stop=list(request.stop) or None,
        seed=None if "random_seed" in quirks else request.seed,
        reasoning_effort=request.reasoning_effort,
        metadata=text_metadata(request, target),
        tools=[_tool(tool, target) for tool in request.tools] or None,
        tool_choice=_tool_choice(request),
        response_format=None
        if request.response_format is None
        else _response_format(request.response_format, target, quirks),
        extra_body=extra | dict(request.extra),
        **{limit: request.max_tokens},
    )


def _refuse(request: TaskRequest, target: Target, quirks: Quirks) -> None:
    if request.tools and "no_tools" in quirks:
        raise cannot("tools", target)
    if request.seed is not None and "no_seed" in quirks:
        raise cannot("a seed", target)
    if request.metadata and "no_metadata" in quirks:
        raise cannot("metadata", target)
    if request.metadata and "stored_metadata" in quirks and not request.extra.get("store"):
        raise cannot("metadata without extra={'store': True}", target)


def _messages(message: Message, target: Target, quirks: Quirks) -> Iterable[dict[str, Any]]:
    """The messages on this wire for a turn. Each tool result is a message of its own."""
    content: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case TextPart():
                if part.text:
                    content.append({"type": "text", "text": part.text})
            case ImagePart():
                content.append(_image(part, target, quirks))
            case AudioPart():
                content.append(_sound(part, target, quirks))
            case ToolCallPart():
                function = {"name": part.name, "arguments": part.arguments}
                calls.append({"id": part.id, "type": "function", "function": function})
            case ToolResultPart():
                yield {"role": "tool", "tool_call_id": part.id, "content": part.result}
            case CachePoint():
                continue
            case ReasoningPart():
                continue  # this interface has no parameter for earlier reasoning
    if all(part["type"] == "text" for part in content):
        text: Any = "".join(part["text"] for part in content) or None
    else:
        text = content
    if text or calls:
        yield {"role": message.role, "content": text, **without_empty(tool_calls=calls or None)}


def _image(part: ImagePart, target: Target, quirks: Quirks) -> dict[str, Any]:
    types = FOUR_IMAGES if "few_media" in quirks else None
    image = image_of(part, target, types=types, addresses="no_image_urls" not in quirks)
    return {"type": "image_url", "image_url": {"url": image.uri}}


def _sound(part: AudioPart, target: Target, quirks: Quirks) -> dict[str, Any]:
    formats = _FORMATS if "few_media" in quirks else _MORE_FORMATS
    sound = sound_of(part, target, types=formats)
    if "plain_audio" in quirks:
        return {"type": "input_audio", "input_audio": sound.data}
    return {"type": "input_audio", "input_audio": {"data": sound.data, "format": formats[str(sound.media_type)]}}


def _tool(given_tool: Any, target: Target) -> dict[str, Any]:
    if is_vendors_own(given_tool):
        return dict(given_tool)
    tool = Tool(given_tool)
    parameters = tool.strict_parameters(OPENAI, target)
    function = without_empty(description=tool.description, parameters=parameters, strict=tool.strict)
    return {"type": "function", "function": {"name": tool.name, **function}}


def _tool_choice(request: TaskRequest) -> Any:
    choice = tool_choice(request)
    return {"type": "function", "function": {"name": choice.name}} if isinstance(choice, NamedTool) else choice


def _response_format(response_format: Mapping[str, Any], target: Target, quirks: Quirks) -> dict[str, Any]:
    schema = Schema(response_format)
    if schema.any_json:
        if "no_json_object" in quirks:
            raise cannot("a response_format without a schema", target)
        return {"type": "json_object"}
    if "no_json_schema" in quirks:
        raise cannot("a response_format with a schema", target)
    return {"type": "json_schema", "json_schema": schema.for_openai(target)}
