"""Encoding requests for Google's wire, `streamGenerateContent`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from ...exceptions import InvalidRequestError
from ...tasks import (
    AudioPart,
    CachePoint,
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
from ..base.conversation import arguments_of, split_system, text_of
from ..base.encoding import (
    NamedTool,
    Schema,
    Tool,
    cannot,
    image_of,
    is_nameless,
    is_vendors_own,
    sound_of,
    text_metadata,
    told_in_words,
    tool_choice,
    without_empty,
)

_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+=*")
_LABEL: Final = re.compile(r"[\w-]{1,63}")
_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"})


_WITHOUT_SIGNATURES: Final = re.compile(r"(.*/)?(gemini-[12]|(?!gemini-))")
"""Models that take a function call without its thought signature. Gemini 3 and later models refuse it."""
NO_SIGNATURE: Final = "skip_thought_signature_validator"
"""What Google documents as the signature of a call that the model has not made itself."""


def body(request: TaskRequest, target: Target, model: str = "") -> dict[str, Any]:
    """The body of a request to a model (the vendor's name), in the form that the SDK would give it."""
    request = told_in_words(request, target)
    prompt, turns = split_system(request, target)
    system = text_of(prompt)
    names = {part.id: part.name for turn in turns for part in turn.parts if isinstance(part, ToolCallPart)}
    contents = _contents(turns, names, target)
    if not _WITHOUT_SIGNATURES.match(model.rpartition("/")[2]):
        _sign(contents)
    if not contents:
        raise InvalidRequestError("the request holds nothing to send: its messages are empty")
    fields = {
        "contents": contents,
        **without_empty(
            systemInstruction=None if system is None else {"role": "user", "parts": [{"text": system}]},
            tools=_tools(request.tools, target) or None,
            toolConfig=_tool_config(request),
            labels=_labels(request, target),
            generationConfig=_generation(request, target),
        ),
    }
    return _merged(fields, request.extra)


def own_tools(request: TaskRequest) -> list[Any]:
    """The tools that Google runs itself."""
    return [tool for tool in request.tools if is_nameless(tool)]


def _labels(request: TaskRequest, target: Target) -> dict[str, str]:
    """Metadata as labels of Google's cloud, where it has that form."""
    labels = text_metadata(request, target)
    for name, value in labels.items():
        is_one = _LABEL.fullmatch(name) and name[0].isalpha() and _LABEL.fullmatch(value or "_")
        if not is_one or (name + value) != (name + value).lower():
            raise cannot(f"metadata that is not a label of Google's ({name}: small letters, figures, _ and -)", target)
    return labels


def _generation(request: TaskRequest, target: Target) -> dict[str, Any]:
    config = without_empty(
        temperature=request.temperature,
        topP=request.top_p,
        maxOutputTokens=request.max_tokens,
        stopSequences=list(request.stop) or None,
        seed=request.seed,
        thinkingConfig=None if request.reasoning_effort is None else _thinking(request.reasoning_effort, target),
    )
    if request.response_format is not None:
        config["responseMimeType"] = "application/json"
        schema = Schema(request.response_format)
        if not schema.any_json:
            config["responseJsonSchema"] = schema.schema
    return config


def _merged(body: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The body with the request's `extra`. This wire accepts two spellings of a name; both are the same field here."""
    both = dict(body)
    for word, value in extra.items():
        name = camel if word not in body and (camel := _camel(str(word))) in body else word
        ours = body.get(name)
        both[name] = _merged(ours, value) if isinstance(ours, dict) and isinstance(value, Mapping) else value
    return both


def _camel(word: str) -> str:
    first, *rest = word.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _contents(turns: list[Message], names: dict[str, str], target: Target) -> list[dict[str, Any]]:
    """The turns that are not empty. Adjacent turns of the model are one content: a call may not follow another turn of
    the model.
    """
    contents: list[dict[str, Any]] = []
    for turn in turns:
        content = _content(turn, names, target)
        if contents and content["role"] == contents[-1]["role"] == "model":
            contents[-1]["parts"] += content["parts"]
        elif content["parts"]:
            contents.append(content)
    return contents


def _content(message: Message, names: dict[str, str], target: Target) -> dict[str, Any]:
    """A turn with its parts. A signature belongs to the call after it, or else to its own text or the text after it."""
    parts: list[dict[str, Any]] = []
    signature: dict[str, Any] = {}
    for place, part in enumerate(message.parts):
        match part:
            case TextPart():
                if part.text:
                    parts.append({"text": part.text, **signature})
                    signature = {}
            case ReasoningPart():
                is_before_a_call = isinstance(next(iter(message.parts[place + 1 :]), None), ToolCallPart)
                signed = {"thoughtSignature": _signature(part.signature)} if part.signature else {}
                if part.text and signed:
                    parts.append({"text": part.text, "thought": True, **({} if is_before_a_call else signed)})
                if signed and (is_before_a_call or not part.text):
                    signature = signed
            case CachePoint():
                continue  # this vendor finds by itself what it has read before
            case ToolCallPart():
                parts.append({"functionCall": {"name": part.name, "args": arguments_of(part)}, **signature})
                signature = {}
            case ToolResultPart():
                result = {"error" if part.error else "result": part.result}
                name = part.name or names.get(part.id, "")
                parts.append({"functionResponse": {"name": name, "response": result}})
            case ImagePart():
                parts.append(_media(image_of(part, target, types=_IMAGES), target))
            case AudioPart():
                parts.append(_media(sound_of(part, target, addresses=True), target))
    if signature:
        parts.append({"text": "", **signature})
    return {"role": "model" if message.role == "assistant" else "user", "parts": parts}


def _sign(contents: list[dict[str, Any]]) -> None:
    """Mark the calls of other models: the first call of each step has to have a signature."""
    for content in contents:
        call = next((part for part in content["parts"] if "functionCall" in part), None)
        if call is not None and "thoughtSignature" not in call:
            call["thoughtSignature"] = NO_SIGNATURE


def _signature(signature: str) -> str:
    if not _BASE64.fullmatch(signature):
        raise InvalidRequestError("a ReasoningPart's signature is not Google's: name the provider who gave it")
    return signature


def _media(media: Media, target: Target) -> dict[str, Any]:
    if media.media_type is None:
        raise cannot("an address that does not end in the name of its type (.png, .mp3 …)", target)
    if media.url is not None:
        return {"fileData": {"fileUri": media.url, "mimeType": media.media_type}}
    return {"inlineData": {"data": media.data, "mimeType": media.media_type}}


def _tools(given_tools: tuple[Any, ...], target: Target) -> list[dict[str, Any]]:
    """Google's own tools, which have no name (`{"google_search": {}}`), and one list of functions."""
    own: list[dict[str, Any]] = []
    functions: list[dict[str, Any]] = []  # Google refuses more than one list
    for tool in given_tools:
        if is_vendors_own(tool):
            raise cannot(f"the tool {tool['type']!r}", target)
        if is_nameless(tool):
            entry = _googles_own(tool)
            functions += entry.pop("functionDeclarations", [])
            own += [entry] if entry else []
        else:
            functions.append(_function(Tool(tool), target))
    return [*own, *([{"functionDeclarations": functions}] if functions else [])]


def _googles_own(tool: Mapping[str, Any]) -> dict[str, Any]:
    """One of Google's own tools, in either spelling. The SDK, which a client has imported, knows them all."""
    from google.genai.types import Tool as Known

    try:
        model = Known.model_validate(dict(tool))
    except ValueError as error:
        wrong = cast("Any", error).errors(include_input=False, include_url=False)  # a tool may hold a key
        places = ", ".join(dict.fromkeys(".".join(map(str, each["loc"])) for each in wrong))
        raise InvalidRequestError(f"google-genai takes no such tool; what it does not know: {places}") from None
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def _function(tool: Tool, target: Target) -> dict[str, Any]:
    if tool.strict:
        raise cannot(f"a strict tool ({tool.name!r})", target)
    return {"name": tool.name, "parametersJsonSchema": tool.parameters, **without_empty(description=tool.description)}


def _tool_config(request: TaskRequest) -> dict[str, Any] | None:
    match tool_choice(request):
        case None:
            return None
        case NamedTool(name):
            config: dict[str, Any] = {"mode": "ANY", "allowedFunctionNames": [name]}
        case "required":
            config = {"mode": "ANY"}
        case choice:
            config = {"mode": choice.upper()}
    return {"functionCallingConfig": config}


def _thinking(effort: str, target: Target) -> dict[str, Any]:
    if effort == "none":
        return {"thinkingBudget": 0}
    if effort == "max":
        raise cannot("the reasoning effort 'max'", target)
    return {"thinkingLevel": effort.upper(), "includeThoughts": True}
