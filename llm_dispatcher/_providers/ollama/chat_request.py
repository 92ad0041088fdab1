"""Encoding requests for Ollama's native chat."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
from ..base.conversation import arguments_of, conversation, error_text
from ..base.encoding import (
    Schema,
    Tool,
    cannot,
    image_of,
    is_vendors_own,
    told_in_words,
    tool_choice,
    without_empty,
)


def body(request: TaskRequest, model: str, target: Target) -> dict[str, Any]:
    """The body of a request. This wire has no parameters for metadata and for the choice of a tool."""
    if request.metadata:
        raise cannot("metadata", target)
    if tool_choice(request) not in (None, "auto"):
        raise cannot("a tool choice", target)
    request = told_in_words(request, target, also_enforced=True)
    messages: list[dict[str, Any]] = []
    if request.system is not None:
        messages.append({"role": "system", "content": request.system})
    for message in conversation(request, target):
        messages.extend(_messages(message, target))
    options = without_empty(
        temperature=request.temperature,
        top_p=request.top_p,
        num_predict=request.max_tokens,
        stop=list(request.stop) or None,
        seed=request.seed,
    )
    effort = request.reasoning_effort
    return {
        "model": model,
        "messages": messages,
        "stream": True,
        **without_empty(
            options=options,
            tools=[_tool(tool, target) for tool in request.tools] or None,
            format=None if request.response_format is None else _format(request.response_format),
            think=None if effort is None else _think(effort, target),
        ),
        **request.extra,
    }


def _messages(message: Message, target: Target) -> Iterable[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    images: list[str] = []
    for part in message.parts:
        match part:
            case ToolCallPart():
                calls.append({"function": {"name": part.name, "arguments": arguments_of(part)}})
            case ToolResultPart():
                yield {"role": "tool", "tool_name": part.name, "content": error_text(part)}
            case ImagePart():
                images.append(image_of(part, target, addresses=False).data)
            case AudioPart():
                raise cannot("audio", target)
            case TextPart() | ReasoningPart() | CachePoint():
                continue
    if message.text or calls or images:
        thought = "".join(part.text for part in message.parts if isinstance(part, ReasoningPart)) if calls else ""
        more = without_empty(thinking=thought or None, images=images or None, tool_calls=calls or None)
        yield {"role": message.role, "content": message.text, **more}


def _format(response_format: Any) -> Any:
    schema = Schema(response_format)
    return "json" if schema.any_json else schema.schema


def _think(effort: str, target: Target) -> str | bool:
    if effort == "none":
        return False
    if effort not in ("low", "medium", "high"):
        raise cannot(f"the reasoning effort {effort!r}", target)
    return effort


def _tool(given_tool: Any, target: Target) -> dict[str, Any]:
    if is_vendors_own(given_tool):
        raise cannot(f"the tool {given_tool['type']!r}", target)
    tool = Tool(given_tool)
    if tool.strict:
        raise cannot(f"a strict tool ({tool.name!r})", target)
    function = {"name": tool.name, "parameters": tool.parameters, **without_empty(description=tool.description)}
    return {"type": "function", "function": function}
