"""What is asked on Google's wire, `streamGenerateContent`."""

from __future__ import annotations

from typing import Any, Final

from ..tasks import (
    AudioPart,
    ImagePart,
    Media,
    Message,
    ReasoningPart,
    Target,
    TaskRequest,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from .requests import (
    NamedTool,
    Schema,
    Tool,
    arguments_of,
    cannot,
    given,
    image_of,
    is_nameless,
    is_vendors_own,
    sound_of,
    split_system,
    text_metadata,
    tool_choice,
)

_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"})


def body(request: TaskRequest, target: Target, *, vertex: bool) -> dict[str, Any]:
    """The request on this wire; it has a place for metadata on Vertex only, as labels."""
    if request.metadata and not vertex:
        raise cannot("metadata", target)
    system, turns = split_system(request, target)
    config = given(
        system_instruction=system,
        temperature=request.temperature,
        top_p=request.top_p,
        max_output_tokens=request.max_tokens,
        stop_sequences=list(request.stop) or None,
        seed=request.seed,
        tools=_tools(request.tools, target) or None,
        tool_config=_tool_config(request),
        thinking_config=None if request.reasoning_effort is None else _thinking(request.reasoning_effort, target),
        labels=text_metadata(request, target),
    )
    if request.response_format is not None:
        config["response_mime_type"] = "application/json"
        schema = Schema(request.response_format)
        if not schema.any_json:
            config["response_json_schema"] = schema.schema
    if request.extra:
        config["http_options"] = {"extra_body": dict(request.extra)}
    names = {part.id: part.name for turn in turns for part in turn.parts if isinstance(part, ToolCallPart)}
    return {"contents": _contents(turns, names, target), **given(config=config)}


def _contents(turns: list[Message], names: dict[str, str], target: Target) -> list[dict[str, Any]]:
    """The turns that hold anything. Results of one turn's calls are one content, however many messages they came in."""
    contents: list[dict[str, Any]] = []
    before = ""
    for turn in turns:
        content = _content(turn, names, target)
        if turn.role == before == "tool":
            contents[-1]["parts"] += content["parts"]
        elif content["parts"]:
            contents.append(content)
            before = turn.role
    return contents


def _content(message: Message, names: dict[str, str], target: Target) -> dict[str, Any]:
    """A turn with its parts. A signature without words of its own belongs to the part after it."""
    parts: list[dict[str, Any]] = []
    signature: dict[str, Any] = {}
    for part in message.parts:
        match part:
            case TextPart():
                if part.text:
                    parts.append({"text": part.text, **signature})
                    signature = {}
            case ReasoningPart():
                if part.signature is not None and part.text:
                    parts.append({"text": part.text, "thought": True, "thought_signature": part.signature})
                elif part.signature is not None:
                    signature = {"thought_signature": part.signature}
            case ToolCallPart():
                parts.append({"function_call": {"name": part.name, "args": arguments_of(part)}, **signature})
                signature = {}
            case ToolResultPart():
                result = {"error" if part.error else "result": part.result}
                name = part.name or names.get(part.id, "")
                parts.append({"function_response": {"name": name, "response": result}})
            case ImagePart():
                parts.append(_media(image_of(part, target, types=_IMAGES), target))
            case AudioPart():
                parts.append(_media(sound_of(part, target, addresses=True), target))
    if signature:
        parts.append({"text": "", **signature})
    return {"role": "model" if message.role == "assistant" else "user", "parts": parts}


def _media(media: Media, target: Target) -> dict[str, Any]:
    if media.media_type is None:
        raise cannot("an address that does not end in the name of its type (.png, .mp3 …)", target)
    if media.url is not None:
        return {"file_data": {"file_uri": media.url, "mime_type": media.media_type}}
    return {"inline_data": {"data": media.content, "mime_type": media.media_type}}


def _tools(given_tools: tuple[Any, ...], target: Target) -> list[dict[str, Any]]:
    """One list of functions, and beside it the vendor's own tools, which bear no name: `{"google_search": {}}`."""
    functions: list[dict[str, Any]] = []
    own: list[dict[str, Any]] = []
    for tool in given_tools:
        if is_vendors_own(tool):
            raise cannot(f"the tool {tool['type']!r}", target)
        if is_nameless(tool):
            own.append(dict(tool))
        else:
            functions.append(_function(Tool(tool), target))
    return [*([{"function_declarations": functions}] if functions else []), *own]


def _function(tool: Tool, target: Target) -> dict[str, Any]:
    if tool.strict:
        raise cannot(f"a strict tool ({tool.name!r})", target)
    return {"name": tool.name, "parameters_json_schema": tool.parameters, **given(description=tool.description)}


def _tool_config(request: TaskRequest) -> dict[str, Any] | None:
    match tool_choice(request):
        case None:
            return None
        case NamedTool(name):
            config: dict[str, Any] = {"mode": "ANY", "allowed_function_names": [name]}
        case "required":
            config = {"mode": "ANY"}
        case choice:
            config = {"mode": choice.upper()}
    return {"function_calling_config": config}


def _thinking(effort: str, target: Target) -> dict[str, Any]:
    if effort == "none":
        return {"thinking_budget": 0}
    if effort == "max":
        raise cannot("the reasoning effort 'max'", target)
    return {"thinking_level": effort.upper(), "include_thoughts": True}
