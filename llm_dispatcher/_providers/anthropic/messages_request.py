"""Encoding requests for Anthropic's messages interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ...tasks import (
    AudioPart,
    CachePoint,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Target,
    TaskRequest,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from ..base.call_ids import ANTHROPIC_ID
from ..base.conversation import arguments_of, split_system
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
from ..base.schemas import ANTHROPIC
from .prompt_cache import Marks, system_prompt

REDACTED: Final = "redacted:"
"""Begins the signature of reasoning that the vendor keeps to itself. The rest is its data."""
_THOUGHTS: Final = ("thinking", "redacted_thinking")


def body(request: TaskRequest, model: str, target: Target, max_tokens: int) -> dict[str, Any]:
    """The body of a request. This wire has no parameter for a seed, and of metadata it takes the user's id only."""
    if request.seed is not None:
        raise cannot("a seed", target)
    if extra_metadata := set(request.metadata) - {"user_id"}:
        raise cannot(f"metadata other than user_id ({', '.join(sorted(map(str, extra_metadata)))})", target)
    request = told_in_words(request, target, lambda: _output_config(request, target))
    system, turns = split_system(request, target, ANTHROPIC_ID)
    tools = [_tool(tool, target) for tool in request.tools]
    marks = Marks(tools)
    prompt = system_prompt(system, marks, is_marked=any(_has_points(message) for message in (*system, *turns)))
    messages = _turns(turns, target, marks)
    marks.set()
    return without_empty(
        model=model,
        max_tokens=request.max_tokens or max_tokens,
        messages=messages,
        system=prompt,
        stop_sequences=list(request.stop) or None,
        metadata=text_metadata(request, target),
        tools=tools or None,
        tool_choice=_tool_choice(request),
        thinking={"type": "disabled"} if request.reasoning_effort == "none" else None,
        output_config=_output_config(request, target),
        # The SDK has dropped these parameters, because newer models refuse them. Older models still accept them.
        extra_body=without_empty(temperature=request.temperature, top_p=request.top_p) | _extra(request, messages),
    )


def _extra(request: TaskRequest, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The request's `extra`. Thinking with a budget is off where the vendor would refuse it: while the results of calls
    are sent that another model has made, or that came without thoughts.
    """
    extra = dict(request.extra)
    thinking = extra.get("thinking")
    if isinstance(thinking, Mapping) and thinking.get("type") == "enabled" and _has_calls_without_thoughts(messages):
        extra["thinking"] = {"type": "disabled"}
    return extra


def _has_calls_without_thoughts(messages: list[dict[str, Any]]) -> bool:
    if len(messages) < 2 or messages[-1]["content"][0]["type"] != "tool_result":
        return False
    return messages[-2]["content"][0]["type"] not in _THOUGHTS


def _output_config(request: TaskRequest, target: Target) -> dict[str, Any]:
    effort = None if request.reasoning_effort == "none" else request.reasoning_effort
    if effort == "minimal":
        raise cannot("the reasoning effort 'minimal'", target)
    config: dict[str, Any] = without_empty(effort=effort)
    if request.response_format is not None:
        schema = Schema(request.response_format)
        if schema.any_json:
            raise cannot("a response_format without a schema", target)
        config["format"] = {"type": "json_schema", "schema": schema.for_anthropic(target)}
    return config


def _has_points(message: Message) -> bool:
    return any(isinstance(part, CachePoint) for part in message.parts)


def _turns(messages: list[Message], target: Target, marks: Marks) -> list[dict[str, Any]]:
    """The turns with their blocks. Adjacent turns of a role are merged; tool results come first in a user's turn."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = list(_blocks(message, target, marks))
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        elif blocks:
            turns.append({"role": role, "content": blocks})
    turns = [turn for turn in turns if _end_of_thoughts(turn)]
    for turn in turns:
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    return turns


def _end_of_thoughts(turn: dict[str, Any]) -> bool:
    """Remove thoughts at the end of a turn, where a stream has broken. Whether anything is left."""
    content = turn["content"]
    while content and content[-1]["type"] in _THOUGHTS:
        content.pop()
    return bool(content)


def _blocks(message: Message, target: Target, marks: Marks) -> Iterable[dict[str, Any]]:
    for part in message.parts:
        if isinstance(part, CachePoint):
            marks.add(part)
        elif isinstance(part, TextPart) and message.role == "assistant" and not part.text.strip():
            continue  # white space before a call, which the vendor's models write and the vendor refuses
        elif (block := _block(part, target)) is not None:
            marks.pass_by(block)
            yield block


def _block(part: Part, target: Target) -> dict[str, Any] | None:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text} if part.text else None
        case ReasoningPart():
            return _thinking(part)
        case ToolCallPart():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments_of(part)}
        case ToolResultPart():
            content = {"content": part.result} if part.result else {}  # an empty text is refused
            return {"type": "tool_result", "tool_use_id": part.id, **content, "is_error": part.error}
        case ImagePart():
            return {"type": "image", "source": _source(part, target)}
        case AudioPart():
            raise cannot("audio", target)
        case CachePoint():
            return None  # a mark on a block


def _thinking(part: ReasoningPart) -> dict[str, Any] | None:
    if part.signature is None:
        return None  # the vendor refuses reasoning without its signature
    if part.signature.startswith(REDACTED):
        return {"type": "redacted_thinking", "data": part.signature.removeprefix(REDACTED)}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _source(part: ImagePart, target: Target) -> dict[str, Any]:
    image = image_of(part, target, types=FOUR_IMAGES)
    if image.url is not None:
        return {"type": "url", "url": image.url}
    return {"type": "base64", "media_type": image.media_type, "data": image.data}


def _tool(given_tool: Any, target: Target) -> dict[str, Any]:
    if is_vendors_own(given_tool):
        return dict(given_tool)
    tool = Tool(given_tool)
    return {
        "name": tool.name,
        "input_schema": tool.strict_parameters(ANTHROPIC, target),
        **without_empty(description=tool.description, strict=tool.strict),
    }


def _tool_choice(request: TaskRequest) -> dict[str, Any] | None:
    match tool_choice(request):
        case None:
            return None
        case NamedTool(name):
            return {"type": "tool", "name": name}
        case "required":
            return {"type": "any"}
        case choice:
            return {"type": choice}
