"""Turns the arguments of a decorated function into a request.

Arguments are sorted by name and by value: settings of the request, images and sounds, and all others, which become
part of the prompt. An argument that cannot be sent is refused with a `TypeError` that names it.
See docs/decisions/0030.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Container, Mapping
from datetime import date, time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from msgspec import Struct
from msgspec.structs import replace

from ._media import Kind, kind_of, kind_of_name, request_with_media, with_its_task
from ._messages import how_to_pass
from .tasks import AudioPart, ImagePart, TaskRequest

PROMPT_NAMES: Final = ("prompt", "message", "text", "query", "question", "input", "description", "topic")
"""The first of these parameters that holds text is the prompt. If there is none, the first `str` argument is."""

REQUEST_NAMES: Final = {
    "system": "system",
    "messages": "messages",
    "conversation_history": "messages",
    "images": "images",
    "audio": "audio",
    "tools": "tools",
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
}
"""Parameters that set a field of the request, unless the body returns the prompt and reads them."""

PARAMETER_NAMES: Final = frozenset((*REQUEST_NAMES, "tool_context"))
"""All parameters that set an option. `tool_context` goes to the tools, and no part of it is sent."""


class Local:
    """Marks a parameter that only the body uses and that is not sent: `db: Annotated[Database, Local]`."""


class Arguments(Struct):
    """The arguments of a call, sorted by their place in the request."""

    settings: dict[str, Any]
    media: dict[Kind, list[Any]]
    others: dict[str, Any]

    @property
    def data_uris(self) -> list[str]:
        """The images and sounds that are strings. A body may have put them into a prompt."""
        return [source for sources in self.media.values() for source in sources if isinstance(source, str)]


def sorted_arguments(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    settings: Mapping[str, Any],
    read: Container[str] = (),
) -> Arguments:
    """Sort the arguments of a call.

    Images and sounds are taken out of all arguments, and out of lists and dicts in them.

    Args:
        function: The decorated function.
        arguments: The arguments by name.
        settings: The decorator's settings. An argument with the same name wins over a setting.
        read: Names of parameters that the body reads. Only images and sounds are taken out of these.
    """
    parts = Arguments(dict(settings), {"image": [], "audio": []}, {})
    local = _local_names(function)
    for name, value in arguments.items():
        if value is None or name.startswith("_") or name in local or name == "tool_context":
            continue
        if name in _MEDIA_NAMES:
            sources = value if isinstance(value, (list, tuple)) else [value]
            parts.media[_MEDIA_NAMES[name]] += [each for each in sources if name not in read or _leads_to_media(each)]
        elif name in REQUEST_NAMES and name not in read and kind_of(value) is None:
            parts.settings[REQUEST_NAMES[name]] = value
        else:
            rest = _without_media(value, parts.media, levels=1 if name in read else None)
            if rest is not _NOTHING and name not in read:
                parts.others[name] = rest
    return parts


def request_of(function: Callable[..., Any], arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> TaskRequest:
    """The request of a function whose arguments are the request."""
    parts = sorted_arguments(function, arguments, settings)
    return _request(_prompt(function, parts.others), parts)


def request_with_prompt(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    settings: Mapping[str, Any],
    prompt: str | list[Any] | TaskRequest,
    read: Container[str],
) -> TaskRequest:
    """The request of a function whose body returned the `prompt`. `read` has the names that the body reads.

    The body itself uses the arguments that it reads, also those with the name of a setting. Only images and sounds
    among them are sent, and only if the prompt is text, because text cannot hold them.
    """
    if not isinstance(prompt, str):
        arguments = {name: value for name, value in arguments.items() if name not in read}
    parts = sorted_arguments(function, arguments, settings, read)
    for name, value in parts.others.items():
        _refuse_to_lose(function, name, value)
    if isinstance(prompt, str):
        _refuse_written_bytes(function, parts, prompt)
    match prompt:
        case TaskRequest():
            return _fill_open_fields(prompt, parts)
        case list():
            history = TaskRequest(messages=parts.settings.get("messages", ())).messages
            parts.settings["messages"] = [*history, *prompt]
            return _request(None, parts)
        case _:
            return _request(prompt, parts)


def _request(prompt: str | None, parts: Arguments) -> TaskRequest:
    request = TaskRequest(prompt, images=parts.media["image"], audio=parts.media["audio"], **parts.settings)
    return with_its_task(request_with_media(request, parts.data_uris), parts.settings)


def _fill_open_fields(request: TaskRequest, parts: Arguments) -> TaskRequest:
    """The request that the body returned, with the settings that it leaves open and the media that it lacks."""
    blank, settings = TaskRequest(), TaskRequest(**parts.settings)
    open_fields = {
        name: getattr(settings, name) for name in parts.settings if getattr(request, name) == getattr(blank, name)
    }
    images, audio = (*request.images, *parts.media["image"]), (*request.audio, *parts.media["audio"])
    return with_its_task(replace(request, images=images, audio=audio, **open_fields), parts.settings)


# ── images and sounds ──────────────────────────────────────────────────────────────────────────────────────────────

_MEDIA_NAMES: Final[dict[str, Kind]] = {"images": "image", "audio": "audio"}
"""Parameters that hold only media. A string in one of them is a path or an address."""

_NOTHING: Final = object()


def _without_media(value: object, media: dict[Kind, list[Any]], levels: int | None = None) -> object:
    """The value without its images and sounds, which are added to `media`. `_NOTHING` if no value is left.

    `levels` limits how deep lists and dicts are searched, because a value that a body reads may be large or contain
    itself.
    """
    if (kind := kind_of(value)) is not None:
        media[kind].append(value.source if isinstance(value, (ImagePart, AudioPart)) else value)
        return _NOTHING
    if levels == 0:
        return value
    deeper = None if levels is None else levels - 1
    rest: list[object] | dict[object, object]
    match value:
        case list() | tuple() | set() | frozenset():
            items = _in_order(value)
            rest = [left for each in items if (left := _without_media(each, media, deeper)) is not _NOTHING]
        case dict():
            pairs = [(key, _without_media(each, media, deeper)) for key, each in value.items()]
            rest = {key: left for key, left in pairs if left is not _NOTHING}
        case _:
            return value
    return rest if rest or not value else _NOTHING


def _in_order(values: Collection[Any]) -> Collection[Any]:
    """The values; those of a set are sorted, so that they have the same order in every process."""
    if not isinstance(values, (set, frozenset)):
        return values
    try:
        return sorted(values)
    except TypeError:  # they are of several types, or of one that has no order
        return sorted(values, key=repr)


def _leads_to_media(value: object) -> bool:
    """Whether a value that a body reads from `images` or `audio` is an image or a sound, not just text."""
    if isinstance(value, str) and kind_of(value) is None:
        return value[:8].lower() == "https://" or kind_of(Path(value)) is not None
    return kind_of(value) is not None


def refuse_unread_media(function: Callable[..., Any], arguments: Mapping[str, Any], read: Container[str]) -> None:
    """Refuse an image or a sound that would not be sent, because the body that calls the model does not read it."""
    for name, value in arguments.items():
        if name not in read and any(sorted_arguments(function, {name: value}, {}).media.values()):
            raise TypeError(
                f"{function.__qualname__}(): the argument {name!r} is an image or a sound, and the body does not read "
                f"it, so it would not be sent: pass it on, as in llm(prompt, images={name}), or annotate it "
                "Annotated[…, Local]"
            )


def _refuse_to_lose(function: Callable[..., Any], name: str, value: object) -> None:
    """Refuse a value that is probably meant as an image or a sound, but would not be sent."""
    fix = how_to_pass(value)
    if fix is None and isinstance(value, bytes):
        fix = "its first bytes do not match a known image or sound format"
    if fix is None and isinstance(value, str) and (kind := kind_of_name(value)) is not None:
        plural = next(parameter for parameter, medium in _MEDIA_NAMES.items() if medium == kind)
        fix = f"pass Path(…) or bytes, or call the parameter {plural!r}, where text is a path or an address"
    if fix is not None:
        raise TypeError(
            f"{function.__qualname__}(): the argument {name!r} is a {type(value).__name__}, and the body does not read "
            f"it, so it would not be sent: {fix}"
        )


def _refuse_written_bytes(function: Callable[..., Any], parts: Arguments, prompt: str) -> None:
    """Refuse a prompt that contains the bytes of an image or a sound as text, as in `f"What is in {photo}?"`."""
    for kind, sources in parts.media.items():
        if any(isinstance(source, bytes) and repr(source[:8])[2:-1] in prompt for source in sources):
            raise TypeError(
                f"{function.__qualname__}(): the prompt contains the bytes of the {_NOUNS[kind]} as text: leave "
                f"them out, because the {_NOUNS[kind]} is sent with the prompt; or, to place it between the words, "
                f"pass encode_{kind}(…) as the argument"
            )


_NOUNS: Final[dict[Kind, str]] = {"image": "image", "audio": "sound"}


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _prompt(function: Callable[..., Any], arguments: Mapping[str, Any]) -> str | None:
    """The prompt, followed by every other argument on a labelled line, so that no argument is dropped."""
    texts = [name for name, value in arguments.items() if _is_text(value)]
    prompt_name = next((name for name in PROMPT_NAMES if name in texts), texts[0] if texts else None)
    lines = [f"{name}: {_as_text(function, name, value)}" for name, value in arguments.items() if name != prompt_name]
    if prompt_name is None:
        return "\n".join(lines) or None
    return "\n".join([arguments[prompt_name], "", *lines]) if lines else str(arguments[prompt_name])


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not isinstance(value, Enum)


def _as_text(function: Callable[..., Any], name: str, value: object) -> str:
    plain = _plain(function, name, value)
    if isinstance(plain, str):
        return plain
    import json

    return json.dumps(plain, ensure_ascii=False)


def _plain(function: Callable[..., Any], name: str, value: object) -> object:
    """The value as JSON types. A value that JSON cannot hold, such as a database, is refused by name."""
    match value:
        case Enum():
            return _plain(function, name, value.value)
        case None | str() | bool() | int() | float():
            return value
        case date() | time():
            return value.isoformat()
        case list() | tuple() | set() | frozenset():
            return [_plain(function, name, item) for item in _in_order(value)]
        case dict():
            return {str(key): _plain(function, name, item) for key, item in value.items()}
        case _:
            fix = how_to_pass(value)
            raise TypeError(
                f"{function.__qualname__}(): the argument {name!r} is a {type(value).__name__}, which cannot be "
                "written as text"
                + (f" and is not an image or a sound: {fix}" if fix else "")
                + f"; if only the body needs it, annotate it Annotated[…, Local] or call it _{name}"
            )


def _local_names(function: Callable[..., Any]) -> frozenset[str]:
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # The names are imported for type checkers only, so only their text is known.
        annotations = {name: parameter.annotation for name, parameter in inspect.signature(function).parameters.items()}
        return frozenset(name for name, text in annotations.items() if isinstance(text, str) and "Local]" in text)
    return frozenset(
        name for name, hint in hints.items() if get_origin(hint) is Annotated and Local in get_args(hint)[1:]
    )
