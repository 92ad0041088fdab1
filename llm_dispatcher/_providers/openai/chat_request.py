"""Encoding requests for the chat completions interface of OpenAI and of the hosts that speak it, with their quirks."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
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
from ..base.call_ids import ANY_ID, CHAT_ID, NINE_CHARACTERS, IdForm
from ..base.conversation import conversation, error_text, written_arguments
from ..base.encoding import (
    FOUR_IMAGES,
    NamedTool,
    Schema,
    Tool,
    cannot,
    image_of,
    is_vendors_own,
    sound_of,
    text_metadata,
    told_in_words,
    tool_choice,
    without_empty,
)
from ..base.schemas import OPENAI
from .prompt_cache import breakpoint_of, cache_fields, takes_breakpoints

Quirks = Container[Quirk]

CONTINUE: Final[Mapping[str, bool]] = {"continue_final_message": True, "add_generation_prompt": False}
"""Fields by which vLLM and servers like it continue an open turn. Without them vLLM begins a new turn, in silence."""

_MISTRALS: Final = re.compile(r"(?i)(.*/)?[a-z0-9-]*(mistral|mixtral|magistral|devstral|codestral|pixtral|voxtral)")
"""Models of Mistral. Their tokenizer takes no other ids than its own, whatever host serves them."""
_KIMIS: Final = re.compile(r"(?i)(.*/)?kimi")
"""Models of Moonshot. They read names in their ids (`functions.look:0`), so they get them back unchanged."""
_NO_REASONING: Final = " "
"""Stands for reasoning that a turn does not have. Moonshot takes an empty text for none at all."""
_BETWEEN: Final = "OK."
"""What the assistant says between results and a user's turn, to hosts that insist on it."""

_MORE_FORMATS: Final = {media_type: name for name, media_type in AUDIO_FORMATS.items()}
_FORMATS: Final = {media_type: name for media_type, name in _MORE_FORMATS.items() if name in ("wav", "mp3")}


def body(request: TaskRequest, model: str, target: Target, quirks: Quirks) -> dict[str, Any]:
    """The body of a request, for a host with these quirks."""
    _refuse(request, target, quirks)
    weaker = None if "no_json_object" in quirks else {"type": "json_object"}
    request = told_in_words(request, target, lambda: _response_format(request, target, quirks), weaker=weaker)
    messages: list[dict[str, Any]] = []
    if request.system is not None:
        messages.append({"role": "system", "content": request.system})
    marks = takes_breakpoints(model, quirks)
    for message in conversation(request, target, _ids(model, quirks)):
        if message.role == "user" and messages and messages[-1]["role"] == "tool" and "assistant_after_tools" in quirks:
            messages.append({"role": "assistant", "content": _BETWEEN})
        messages.extend(_messages(message, target, quirks, marks=marks))
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
        response_format=_response_format(request, target, quirks),
        extra_body=extra | cache_fields(request, quirks) | dict(request.extra),
        **{limit: request.max_tokens},
    )


def _ids(model: str, quirks: Quirks) -> IdForm:
    if "nine_character_ids" in quirks or _MISTRALS.match(model):
        return NINE_CHARACTERS
    return CHAT_ID if "short_ids" in quirks and not _KIMIS.match(model) else ANY_ID


def _refuse(request: TaskRequest, target: Target, quirks: Quirks) -> None:
    if request.tools and "no_tools" in quirks:
        raise cannot("tools", target)
    if request.seed is not None and "no_seed" in quirks:
        raise cannot("a seed", target)
    if request.metadata and "no_metadata" in quirks:
        raise cannot("metadata", target)
    if request.metadata and "stored_metadata" in quirks and not request.extra.get("store"):
        raise cannot("metadata without extra={'store': True}", target)


def _messages(message: Message, target: Target, quirks: Quirks, *, marks: bool) -> Iterable[dict[str, Any]]:
    """The messages on this wire for a turn. Each tool result is a message of its own. With `marks`, cache points are
    sent.
    """
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
            case CachePoint():
                if marks and content:
                    content[-1] |= breakpoint_of(part)
            case ToolCallPart():
                function = {"name": part.name, "arguments": written_arguments(part)}
                calls.append({"id": part.id, "type": "function", "function": function})
            case ToolResultPart():
                yield {"role": "tool", "tool_call_id": part.id, "content": error_text(part)}
            case ReasoningPart():
                continue  # see `_reasoning`
    if text := _content(content):
        yield {"role": message.role, "content": text, **_calls(message, calls, quirks)}
    elif calls:
        yield {"role": message.role, "content": None, **_calls(message, calls, quirks)}


def _content(parts: Sequence[dict[str, Any]]) -> Any:
    """The content of a message: a text if it is nothing else and has no marks."""
    return "".join(part["text"] for part in parts) if all(part.keys() == {"type", "text"} for part in parts) else parts


def _calls(message: Message, calls: list[dict[str, Any]], quirks: Quirks) -> dict[str, Any]:
    """The calls of a turn, with the reasoning before them if the host wants it back."""
    if not calls:
        return {}
    if "reasoning_content" not in quirks:
        return {"tool_calls": calls}
    thought = "".join(part.text for part in message.parts if isinstance(part, ReasoningPart))
    return {"reasoning_content": thought or _NO_REASONING, "tool_calls": calls}


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


def _response_format(request: TaskRequest, target: Target, quirks: Quirks) -> dict[str, Any] | None:
    if request.response_format is None:
        return None
    schema = Schema(request.response_format)
    if schema.any_json:
        if "no_json_object" in quirks:
            raise cannot("a response_format without a schema", target)
        return {"type": "json_object"}
    if "no_json_schema" in quirks:
        raise cannot("a response_format with a schema", target)
    return {"type": "json_schema", "json_schema": schema.for_openai(target)}
