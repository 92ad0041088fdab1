"""Conversations in the form that everyone knows: OpenAI's chat messages, as dicts, become our messages.

What a dict says is said by our parts or refused where it stands (`messages[2].content[0]`), never dropped. A key that
is `None` says nothing: the dumps of SDKs are full of them.
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
"""How sounds are called on this wire. OpenAI itself takes the first two, other hosts more."""

_ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_NO_PLACE: Final = "there is no place for it here: leave it out"
_NOT_HELD: Final = {
    "refusal": "a refusal has no place of its own here: write it as content",
    "function_call": "this is the old form of a call: write it in tool_calls",
    "audio": "what a model has said aloud has no place here: write its transcript as content",
    "reasoning_content": "llm_dispatcher.tasks.ReasoningPart in a Message holds what a model thought",
    "reasoning": "llm_dispatcher.tasks.ReasoningPart in a Message holds what a model thought",
    "parsed": "content says the same: leave it out",
    "annotations": _NO_PLACE,
}
"""What a message may have in such a dump, and here only as `None` or an empty list."""


def messages_of(name: str, given: tuple[Any, ...]) -> tuple[Message, ...]:
    """The messages of the field `name`, each given as a `Message` or in OpenAI's form."""
    if all(isinstance(each, Message) for each in given):
        return given
    made: list[Message] = []
    called: dict[str, str] = {}
    for number, each in enumerate(given):
        message = each if isinstance(each, Message) else _message(each, f"{name}[{number}]", called)
        called.update((part.id, part.name) for part in message.parts if isinstance(part, ToolCallPart))
        made.append(message)
    return tuple(made)


def _message(given: object, where: str, called: Mapping[str, str]) -> Message:
    """A message; `called` has the names of the tools that were called before it, by the calls' ids."""
    dump = getattr(given, "model_dump", None)  # the SDK's own object is its dump
    said = dump() if callable(dump) else given
    if not isinstance(said, Mapping):
        raise TypeError(f"{where}: a message is a Message or a dict with role and content, got {type(said).__name__}")
    keys = ("role", "content", "name", "tool_calls", "tool_call_id")
    fields = _fields(said, where, "a message", keys, _NOT_HELD)
    written = _text(fields, "role", where)
    if written not in _ROLES:
        raise ValueError(f"{where}.role is one of {', '.join(_ROLES)}; got {written!r}")
    role = _ROLES[written]
    _only("tool_call_id", "tool", fields, where, role, "leave it out")
    _only("name", "tool", fields, where, role, "write it in the content")
    _only("tool_calls", "assistant", fields, where, role, "leave them out")
    if role == "tool":
        return Message("tool", _result(fields, where, called))
    calls = _several(fields.get("tool_calls", ()), f"{where}.tool_calls", "tool calls")
    if "content" not in fields and not calls:
        beside = " (or None beside tool_calls)" if role == "assistant" else ""
        raise TypeError(f'{where}: a message has "role" and "content": the content is missing{beside}')
    parts = list(_content(fields["content"], f"{where}.content", role)) if "content" in fields else []
    parts += [_call(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls)]
    return Message(role, parts)


def _only(key: str, who: Role, fields: Mapping[str, Any], where: str, role: Role, instead: str) -> None:
    if role != who and fields.get(key, []) != []:
        raise TypeError(f"{where}.{key}: only a message of role {who!r} has it, this one's is {role!r}: {instead}")


def _content(content: object, where: str, role: Role) -> Iterable[Part]:
    if isinstance(content, str):
        return (TextPart(content),)
    if isinstance(content, Part):
        return (content,)
    parts = _several(content, where, "parts, or a str")
    return [_part(part, f"{where}[{number}]", role) for number, part in enumerate(parts)]


def _part(given: object, where: str, role: Role) -> Part:
    if isinstance(given, Part):
        return given
    if isinstance(given, str):
        return TextPart(given)
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind in ("image_url", "input_audio") and role != "user":
        raise ValueError(f"{where}: a message of role {role!r} holds text, not {kind!r}: a user's holds it")
    match kind:
        case "text":
            return TextPart(_text(_part_fields(given, where, "text"), "text", where))
        case "image_url":
            return _image(_needed(_part_fields(given, where, kind), kind, where), f"{where}.{kind}")
        case "input_audio":
            return _sound(_needed(_part_fields(given, where, kind), kind, where), f"{where}.{kind}")
        case None:
            raise TypeError(f'{where}: a part is a str, one of ours or a dict with "type", got {_shape(given)}')
        case _:
            raise ValueError(f"{where}.type is 'text', 'image_url' or 'input_audio', got {_short(kind)}")


def _part_fields(given: object, where: str, kind: str) -> dict[str, Any]:
    return _fields(given, where, f"a part of type {kind!r}", ("type", kind), {"prompt_cache_breakpoint": _NO_PLACE})


def _image(given: object, where: str) -> ImagePart:
    """An image by its address or as data. No path: a conversation may come from someone who may not read files here."""
    if isinstance(given, str):
        url = given
    else:
        fields = _fields(given, where, "an image_url", ("url", "detail"), {})
        url = _text(fields, "url", where)
        if (detail := fields.get("detail", "auto")) != "auto":
            raise ValueError(f"{where}.detail: most vendors know no such thing: leave it out, got {_short(detail)}")
        where = f"{where}.url"
    if not url[:8].lower().startswith(("https://", "data:")):
        raise ValueError(
            f'{where} is an https address or a data URI; a file is llm_dispatcher.tasks.ImagePart("…"), got a str that '
            f"begins with {url[:8]!r}"
        )
    return ImagePart(url)


def _sound(given: object, where: str) -> AudioPart:
    fields = _fields(given, where, "an input_audio", ("data", "format"), {})
    data, written = _text(fields, "data", where), _text(fields, "format", where)
    if written not in AUDIO_FORMATS:
        raise ValueError(f"{where}.format is one of {', '.join(AUDIO_FORMATS)}; got {_short(written)}")
    if data[:5].lower() == "data:":
        raise ValueError(f"{where}.data is base64 alone: leave out what stands before it in the data URI")
    return AudioPart(f"data:{AUDIO_FORMATS[written]};base64,{data}")


def _call(given: object, where: str) -> ToolCallPart:
    fields = _fields(given, where, "a tool call", ("id", "type", "function"), {})
    if (kind := _text(fields, "type", where)) != "function":
        raise ValueError(f"{where}.type is 'function', got {_short(kind)}")
    same = {"parsed_arguments": "arguments says the same: leave it out"}
    place = f"{where}.function"
    inner = _fields(_needed(fields, "function", where), place, "a call's function", ("name", "arguments"), same)
    if isinstance(inner.get("arguments"), Mapping):
        raise TypeError(f"{place}.arguments is JSON as a str, got a dict: json.dumps makes one of it")
    return ToolCallPart(_text(fields, "id", where), _text(inner, "name", place), _text(inner, "arguments", place))


def _result(fields: Mapping[str, Any], where: str, called: Mapping[str, str]) -> ToolResultPart:
    """A tool's result. Some vendors want the tool's name with it: the call has it, or the message itself."""
    identity = _text(fields, "tool_call_id", where)
    name = _text(fields, "name", where) if "name" in fields else called.get(identity)
    if name is None:
        raise ValueError(
            f"{where}.tool_call_id is the id of an assistant's tool call before it, got {_short(identity)}"
        )
    if name != called.get(identity, name):
        raise ValueError(f"{where}.name: the tool that was called is {called[identity]!r}, got {_short(name)}")
    texts: list[str] = []
    for part in _content(_needed(fields, "content", where), f"{where}.content", "tool"):
        if not isinstance(part, TextPart):
            raise TypeError(f"{where}.content: a tool's result is text, not {type(part).__name__}")
        texts.append(part.text)
    return ToolResultPart(identity, name, "".join(texts))


# ── looking at what is written ─────────────────────────────────────────────────────────────────────────────────────


def _fields(
    given: object, where: str, what: str, known: tuple[str, ...], not_held: Mapping[str, str]
) -> dict[str, Any]:
    """The known fields that say something; of those that are not held, none may."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{where}: {what} is a dict, got {type(given).__name__}")
    for key, value in given.items():
        if key in not_held:
            if value is not None and value != []:
                raise TypeError(f"{where}.{key}: {not_held[key]}")
        elif key not in known:
            raise TypeError(f"{where}: unknown key {_short(key)}; {what} has {', '.join(known)}")
    return {key: given[key] for key in known if given.get(key) is not None}


def _needed(fields: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in fields:
        raise TypeError(f"{where}: {key!r} is missing")
    return fields[key]


def _text(fields: Mapping[str, Any], key: str, where: str) -> str:
    value = _needed(fields, key, where)
    if not isinstance(value, str):
        raise TypeError(f"{where}.{key} is a str, got {type(value).__name__}")
    return value


def _several(given: object, where: str, what: str) -> tuple[Any, ...]:
    if not isinstance(given, (list, tuple)):
        raise TypeError(f"{where} is a list of {what}, got {type(given).__name__}")
    return tuple(given)


def _shape(given: object) -> str:
    return "one without" if isinstance(given, Mapping) else type(given).__name__


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}…"
