"""Encoding requests for OpenAI's responses interface."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

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
from ..base.call_ids import RESPONSES_ID
from ..base.conversation import error_text, split_system, text_of, written_arguments
from ..base.encoding import (
    FOUR_IMAGES,
    NamedTool,
    Schema,
    Tool,
    cannot,
    image_of,
    is_vendors_own,
    text_metadata,
    told_in_words,
    tool_choice,
    without_empty,
)
from ..base.schemas import OPENAI
from .prompt_cache import breakpoint_of, cache_fields, takes_breakpoints


def body(request: TaskRequest, model: str, target: Target, quirks: Container[Quirk]) -> dict[str, Any]:
    """The body of a request. This interface has no parameters for stop sequences, seeds and audio."""
    if request.stop:
        raise cannot("a stop sequence", target)
    if request.seed is not None:
        raise cannot("a seed", target)
    request = told_in_words(request, target, lambda: _text(request, target, quirks))
    system, turns = split_system(request, target, RESPONSES_ID)
    marks = takes_breakpoints(model, quirks)
    instructions = text_of(system)
    if marks and any(isinstance(part, CachePoint) for message in system for part in message.parts):
        instructions, turns = None, [*system, *turns]  # a mark needs a part to stand on
    return without_empty(
        model=model,
        input=_without_loose_thoughts(
            [item for message in turns for item in _items(message, target, quirks, marks=marks)]
        ),
        instructions=instructions,
        temperature=request.temperature,
        top_p=request.top_p,
        max_output_tokens=request.max_tokens,
        reasoning=None if request.reasoning_effort is None else {"effort": request.reasoning_effort},
        metadata=text_metadata(request, target),
        tools=[_tool(tool, target) for tool in request.tools] or None,
        tool_choice=_tool_choice(request),
        text=_text(request, target, quirks),
        extra_body=cache_fields(request, quirks) | dict(request.extra),
    )


def _items(message: Message, target: Target, quirks: Container[Quirk], *, marks: bool) -> Iterable[dict[str, Any]]:
    """The items for a turn, in the order of its parts. Adjacent texts and images are one item. With `marks`, cache
    points are sent, except in what the assistant wrote: its parts take none.
    """
    content: list[dict[str, Any]] = []
    marks = marks and message.role != "assistant"
    for part in message.parts:
        match part:
            case TextPart():
                if part.text:
                    content.append({"type": "input_text", "text": part.text})
            case ImagePart():
                types = FOUR_IMAGES if "few_media" in quirks else None
                image = image_of(part, target, types=types, addresses="no_image_urls" not in quirks)
                content.append({"type": "input_image", "image_url": image.uri, "detail": "auto"})
            case ToolCallPart():
                yield from _message_item(message, content)
                call = {"call_id": part.id, "name": part.name, "arguments": written_arguments(part)}
                yield {"type": "function_call", **call}
            case ToolResultPart():
                yield from _message_item(message, content)
                yield {"type": "function_call_output", "call_id": part.id, "output": error_text(part)}
            case AudioPart():
                raise cannot("audio", target)
            case CachePoint():
                if marks and content:
                    content[-1] |= breakpoint_of(part, may_be_long=True)
            case ReasoningPart():
                yield from _message_item(message, content)
                yield from _reasoning_item(part)
    yield from _message_item(message, content)


def _without_loose_thoughts(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items without reasoning that nothing of the assistant follows: a stream has broken there."""
    kept: list[dict[str, Any]] = []
    for item in reversed(items):
        following = kept[-1] if kept else {}
        is_followed = following.get("role") == "assistant" or following.get("type") in ("function_call", "reasoning")
        if item.get("type") != "reasoning" or is_followed:
            kept.append(item)
    return kept[::-1]


def _reasoning_item(part: ReasoningPart) -> Iterable[dict[str, Any]]:
    """Reasoning that the vendor encrypted, with its id. The vendor accepts no reasoning without them."""
    identity, colon, encrypted = (part.signature or "").partition(":")
    if colon and identity.startswith("rs_"):
        summary = [{"type": "summary_text", "text": part.text}] if part.text else []
        yield {"type": "reasoning", "id": identity, "summary": summary, "encrypted_content": encrypted}


def _message_item(message: Message, content: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """What was said so far as one item, if anything was. Text alone is a string, which is right for every role.

    An assistant's item names its type: OpenAI's documents ask for it, and llama.cpp takes none without.
    """
    if content:
        only_text = all(part.keys() == {"type", "text"} for part in content)
        text = "".join(part["text"] for part in content) if only_text else list(content)
        content.clear()
        fields = {"type": "message"} if message.role == "assistant" else {}
        yield {**fields, "role": message.role, "content": text}


def _tool(given_tool: Any, target: Target) -> dict[str, Any]:
    if is_vendors_own(given_tool):
        return dict(given_tool)
    tool = Tool(given_tool)
    rest = without_empty(description=tool.description)
    return {
        "type": "function",
        "name": tool.name,
        "parameters": tool.strict_parameters(OPENAI, target),
        "strict": bool(tool.strict),
        **rest,
    }


def _tool_choice(request: TaskRequest) -> Any:
    choice = tool_choice(request)
    return {"type": "function", "name": choice.name} if isinstance(choice, NamedTool) else choice


def _text(request: TaskRequest, target: Target, quirks: Container[Quirk]) -> dict[str, Any] | None:
    if request.response_format is None:
        return None
    if "partial_responses" in quirks:
        raise cannot("a response_format (this host ignores it here; set api: chat)", target)
    schema = Schema(request.response_format)
    if schema.any_json:
        return {"format": {"type": "json_object"}}
    return {"format": {"type": "json_schema", **schema.for_openai(target)}}
