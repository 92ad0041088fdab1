"""Converting OpenAI's chat messages, as dicts, to `Message` values.

Nothing in a dict is dropped silently: a key is either converted, or refused with its place (`messages[2].content[0]`).
A key whose value is `None` counts as missing, because the dumps of SDKs have many of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ._messages import AudioPart, ImagePart, Message, Part, Role, TextPart, ToolCallPart, ToolResultPart

AUDIO_FORMATS: Final = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "m4a": "audio/mp4",
    "webm": "audio/webm",
    "aac": "audio/aac",
    "aiff": "audio/aiff",
}
"""The names of audio formats on this wire. OpenAI itself takes the first two, other hosts take more."""

_ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_UNSUPPORTED: Final = "it is not supported: leave it out"
_CACHE_POINT: Final = "write a CachePoint (llm_dispatcher.tasks) after the part, for all vendors"
_REFUSED: Final = {
    "refusal": "a refusal is not supported as a key: write it as content",
    "function_call": "this is the old form of a call: write it in tool_calls",
    "audio": "audio from a model is not supported: write its transcript as content",
    "reasoning_content": "it is not supported as a key: pass a Message with a ReasoningPart (llm_dispatcher.tasks)",
    "reasoning": "it is not supported as a key: pass a Message with a ReasoningPart (llm_dispatcher.tasks)",
    "parsed": "it repeats the content: leave it out",
    "annotations": _UNSUPPORTED,
    "cache_control": _CACHE_POINT,
    "prompt_cache_breakpoint": _CACHE_POINT,
}
"""Keys that a message may have only with `None` or an empty list, and what to do instead."""


def messages_of(name: str, values: tuple[Any, ...]) -> tuple[Message, ...]:
    """The messages of the field `name`. Each value is a `Message`, a dict in OpenAI's form, or an object of its SDK.

    Raises a `TypeError` or a `ValueError` that names the place of the first value that cannot be converted.
    """
    if all(isinstance(value, Message) for value in values):
        return values
    messages: list[Message] = []
    tool_names: dict[str, str] = {}
    for number, value in enumerate(values):
        message = value if isinstance(value, Message) else _message(value, f"{name}[{number}]", tool_names)
        tool_names.update((part.id, part.name) for part in message.parts if isinstance(part, ToolCallPart))
        messages.append(message)
    return tuple(messages)


def _message(value: object, where: str, tool_names: Mapping[str, str]) -> Message:
    """Convert one message. `tool_names` has the name of each tool that was called before it, by the id of the call."""
    dump = getattr(value, "model_dump", None)  # an object of the SDK is converted from its dump
    message = dump() if callable(dump) else value
    if not isinstance(message, Mapping):
        kind = type(message).__name__
        raise TypeError(f"{where}: a message is a Message or a dict with role and content, got {kind}")
    keys = ("role", "content", "name", "tool_calls", "tool_call_id")
    fields = _fields(message, where, "a message", keys, _REFUSED)
    role_name = _text(fields, "role", where)
    if role_name not in _ROLES:
        raise ValueError(f"{where}.role is one of {', '.join(_ROLES)}; got {role_name!r}")
    role = _ROLES[role_name]
    _only("tool_call_id", "tool", fields, where, role, "leave it out")
    _only("name", "tool", fields, where, role, "write it in the content")
    _only("tool_calls", "assistant", fields, where, role, "leave them out")
    if role == "tool":
        return Message("tool", _result(fields, where, tool_names))
    calls = _several(fields.get("tool_calls", ()), f"{where}.tool_calls", "tool calls")
    if "content" not in fields and not calls:
        exception = " (it may be None if there are tool_calls)" if role == "assistant" else ""
        raise TypeError(f'{where}: a message has "role" and "content": the content is missing{exception}')
    parts = list(_content(fields["content"], f"{where}.content", role)) if "content" in fields else []
    parts += [_call(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls)]
    return Message(role, parts)


def _only(key: str, owner: Role, fields: Mapping[str, Any], where: str, role: Role, fix: str) -> None:
    """Refuse a key that only messages of the role `owner` may have."""
    if role != owner and fields.get(key, []) != []:
        raise TypeError(f"{where}.{key}: only a message of role {owner!r} may have it, not one of role {role!r}: {fix}")


def _content(content: object, where: str, role: Role) -> Iterable[Part]:
    if isinstance(content, str):
        return (TextPart(content),)
    if isinstance(content, Part):
        return (content,)
    parts = _several(content, where, "parts, or a str")
    return [_part(part, f"{where}[{number}]", role) for number, part in enumerate(parts)]


def _part(value: object, where: str, role: Role) -> Part:
    if isinstance(value, Part):
        return value
    if isinstance(value, str):
        return TextPart(value)
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind in ("image_url", "input_audio") and role != "user":
        raise ValueError(
            f"{where}: a message of role {role!r} cannot hold a part of type {kind!r}: use a message of role 'user'"
        )
    match kind:
        case "text":
            return TextPart(_text(_part_fields(value, where, "text"), "text", where))
        case "image_url":
            return _image(_value_of(_part_fields(value, where, kind), kind, where), f"{where}.{kind}")
        case "input_audio":
            return _sound(_value_of(_part_fields(value, where, kind), kind, where), f"{where}.{kind}")
        case None:
            raise TypeError(
                f'{where}: a part is a str, a part of llm_dispatcher.tasks or a dict with "type", got {_shape(value)}'
            )
        case _:
            raise ValueError(f"{where}.type is 'text', 'image_url' or 'input_audio', got {_short(kind)}")


def _part_fields(value: object, where: str, kind: str) -> dict[str, Any]:
    marks = {"prompt_cache_breakpoint": _CACHE_POINT, "cache_control": _CACHE_POINT}
    return _fields(value, where, f"a part of type {kind!r}", ("type", kind), marks)


def _image(value: object, where: str) -> ImagePart:
    """An image as a URL or a data URI. A path is refused, because a conversation may come from an untrusted client."""
    if isinstance(value, str):
        url = value
    else:
        fields = _fields(value, where, "an image_url", ("url", "detail"), {})
        url = _text(fields, "url", where)
        if (detail := fields.get("detail", "auto")) != "auto":
            raise ValueError(f"{where}.detail: most vendors do not support it: leave it out, got {_short(detail)}")
        where = f"{where}.url"
    if not url[:8].lower().startswith(("https://", "data:")):
        raise ValueError(
            f"{where} is an https URL or a data URI, got a str that begins with {url[:8]!r}; for a file, pass "
            'llm_dispatcher.tasks.ImagePart("…")'
        )
    return ImagePart(url)


def _sound(value: object, where: str) -> AudioPart:
    fields = _fields(value, where, "an input_audio", ("data", "format"), {})
    data, audio_format = _text(fields, "data", where), _text(fields, "format", where)
    if audio_format not in AUDIO_FORMATS:
        raise ValueError(f"{where}.format is one of {', '.join(AUDIO_FORMATS)}; got {_short(audio_format)}")
    if data[:5].lower() == "data:":
        raise ValueError(f"{where}.data is base64, got a data URI: pass only the part after the comma")
    return AudioPart(f"data:{AUDIO_FORMATS[audio_format]};base64,{data}")


def _call(value: object, where: str) -> ToolCallPart:
    fields = _fields(value, where, "a tool call", ("id", "type", "function"), {})
    if (kind := _text(fields, "type", where)) != "function":
        raise ValueError(f"{where}.type is 'function', got {_short(kind)}")
    unsupported = {"parsed_arguments": "it repeats the arguments: leave it out"}
    place = f"{where}.function"
    inner = _fields(
        _value_of(fields, "function", where), place, "a call's function", ("name", "arguments"), unsupported
    )
    if isinstance(inner.get("arguments"), Mapping):
        raise TypeError(f"{place}.arguments is JSON as a str, got a dict: convert it with json.dumps")
    return ToolCallPart(_text(fields, "id", where), _text(inner, "name", place), _text(inner, "arguments", place))


def _result(fields: Mapping[str, Any], where: str, tool_names: Mapping[str, str]) -> ToolResultPart:
    """A tool's result. Some vendors require the tool's name with it: it is in the message or in the call."""
    identity = _text(fields, "tool_call_id", where)
    name = _text(fields, "name", where) if "name" in fields else tool_names.get(identity)
    if name is None:
        raise ValueError(f"{where}.tool_call_id is the id of an earlier tool call, got {_short(identity)}")
    if name != tool_names.get(identity, name):
        raise ValueError(f"{where}.name is the name of the called tool, {tool_names[identity]!r}; got {_short(name)}")
    texts: list[str] = []
    for part in _content(_value_of(fields, "content", where), f"{where}.content", "tool"):
        if not isinstance(part, TextPart):
            raise TypeError(f"{where}.content: a tool's result is text, not {type(part).__name__}")
        texts.append(part.text)
    return ToolResultPart(identity, name, "".join(texts))


# ── reading the keys of a dict ─────────────────────────────────────────────────────────────────────────────────────


def _fields(
    mapping: object, where: str, what: str, keys: tuple[str, ...], unsupported: Mapping[str, str]
) -> dict[str, Any]:
    """The values of these keys, without `None`. An unsupported key may have no value, and other keys are errors."""
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{where}: {what} is a dict, got {type(mapping).__name__}")
    for key, value in mapping.items():
        if key in unsupported:
            if value is not None and value != []:
                raise TypeError(f"{where}.{key}: {unsupported[key]}")
        elif key not in keys:
            raise TypeError(f"{where}: unknown key {_short(key)}; {what} has {', '.join(keys)}")
    return {key: mapping[key] for key in keys if mapping.get(key) is not None}


def _value_of(fields: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in fields:
        raise TypeError(f"{where}: {key!r} is missing")
    return fields[key]


def _text(fields: Mapping[str, Any], key: str, where: str) -> str:
    value = _value_of(fields, key, where)
    if not isinstance(value, str):
        raise TypeError(f"{where}.{key} is a str, got {type(value).__name__}")
    return value


def _several(value: object, where: str, what: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{where} is a list of {what}, got {type(value).__name__}")
    return tuple(value)


def _shape(value: object) -> str:
    return 'a dict without "type"' if isinstance(value, Mapping) else type(value).__name__


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
