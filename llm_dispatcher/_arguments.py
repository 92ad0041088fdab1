"""From a decorated function's arguments to the request that they stand for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Mapping
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
"""The first of these that holds a text is the prompt; without any, the first `str` is."""

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
"""Arguments that are a field of the request, by name, unless the body is the prompt and reads them."""


class Local:
    """`db: Annotated[Database, Local]`: an argument for the body alone, which is no part of the request."""


class Arguments(Struct):
    """A call's arguments, sorted by what they are to the request."""

    settings: dict[str, Any]
    media: dict[Kind, list[Any]]
    others: dict[str, Any]

    @property
    def data_uris(self) -> list[str]:
        """The images and sounds that are strings: a body may have written them into a prompt."""
        return [source for sources in self.media.values() for source in sources if isinstance(source, str)]


def sorted_arguments(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    settings: Mapping[str, Any],
    read: Container[str] = (),
) -> Arguments:
    """Sort a call's arguments. `settings` are the decorator's; an argument with the name of one wins over it.

    An image or a sound is taken out of every argument, whatever its name, and out of lists and dicts. `read` has the
    names that the function's body reads: nothing but images and sounds is taken from those.
    """
    found = Arguments(dict(settings), {"image": [], "audio": []}, {})
    local = _local_names(function)
    for name, value in arguments.items():
        if value is None or name.startswith("_") or name in local:
            continue
        if name in _MEDIA_NAMES:
            sources = value if isinstance(value, (list, tuple)) else [value]
            found.media[_MEDIA_NAMES[name]] += [each for each in sources if name not in read or _leads_to_media(each)]
        elif name in REQUEST_NAMES and name not in read and kind_of(value) is None:
            found.settings[REQUEST_NAMES[name]] = value
        else:
            rest = _without_media(value, found.media, levels=1 if name in read else None)
            if rest is not _NOTHING and name not in read:
                found.others[name] = rest
    return found


def request_of(function: Callable[..., Any], arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> TaskRequest:
    """The request of a function whose arguments are the request."""
    found = sorted_arguments(function, arguments, settings)
    return _request(_prompt(function, found.others), found)


def prompted(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    settings: Mapping[str, Any],
    prompt: str | list[Any] | TaskRequest,
    read: Container[str],
) -> TaskRequest:
    """The request of a function whose body returned the `prompt`; `read` has the names that the body reads.

    An argument that the body reads is the body's own, whatever its name. Of these only images and sounds are sent, and
    only beside a text, because a text cannot hold them.
    """
    if not isinstance(prompt, str):
        arguments = {name: value for name, value in arguments.items() if name not in read}
    found = sorted_arguments(function, arguments, settings, read)
    for name, value in found.others.items():
        _refuse_to_lose(function, name, value)
    if isinstance(prompt, str):
        _refuse_written_bytes(function, found, prompt)
    match prompt:
        case TaskRequest():
            return _completed(prompt, found)
        case list():
            history = TaskRequest(messages=found.settings.get("messages", ())).messages
            found.settings["messages"] = [*history, *prompt]
            return _request(None, found)
        case _:
            return _request(prompt, found)


def _request(prompt: str | None, found: Arguments) -> TaskRequest:
    request = TaskRequest(prompt, images=found.media["image"], audio=found.media["audio"], **found.settings)
    return with_its_task(request_with_media(request, found.data_uris), found.settings)


def _completed(request: TaskRequest, found: Arguments) -> TaskRequest:
    """The body's own request, with the settings where it leaves them open, and with the media that it does not have."""
    blank, settings = TaskRequest(), TaskRequest(**found.settings)
    open_fields = {
        name: getattr(settings, name) for name in found.settings if getattr(request, name) == getattr(blank, name)
    }
    images, audio = (*request.images, *found.media["image"]), (*request.audio, *found.media["audio"])
    return with_its_task(replace(request, images=images, audio=audio, **open_fields), found.settings)


# ── images and sounds ──────────────────────────────────────────────────────────────────────────────────────────────

_MEDIA_NAMES: Final[dict[str, Kind]] = {"images": "image", "audio": "audio"}
"""Parameters that hold nothing else: here a string is a path or an address."""

_NOTHING: Final = object()


def _without_media(value: object, found: dict[Kind, list[Any]], levels: int | None = None) -> object:
    """The value without the images and sounds in it, which go to `found`; `_NOTHING` if it was nothing else.

    `levels` is how deep to look into lists and dicts: what a body reads may be large, or contain itself.
    """
    if (kind := kind_of(value)) is not None:
        found[kind].append(value.source if isinstance(value, (ImagePart, AudioPart)) else value)
        return _NOTHING
    if levels == 0:
        return value
    deeper = None if levels is None else levels - 1
    rest: list[object] | dict[object, object]
    match value:
        case list() | tuple() | set() | frozenset():
            rest = [left for each in value if (left := _without_media(each, found, deeper)) is not _NOTHING]
        case dict():
            pairs = [(key, _without_media(each, found, deeper)) for key, each in value.items()]
            rest = {key: left for key, left in pairs if left is not _NOTHING}
        case _:
            return value
    return rest if rest or not value else _NOTHING


def _leads_to_media(value: object) -> bool:
    """Whether a value of a body's own `images` or `audio` is one, and not a word of its prompt."""
    if isinstance(value, str) and kind_of(value) is None:
        return value[:8].lower() == "https://" or kind_of(Path(value)) is not None
    return kind_of(value) is not None


def refuse_unread_media(function: Callable[..., Any], arguments: Mapping[str, Any], read: Container[str]) -> None:
    """Refuse an image or a sound that the body, which holds the stream, does not read: it would not be sent."""
    for name, value in arguments.items():
        if name not in read and any(sorted_arguments(function, {name: value}, {}).media.values()):
            raise TypeError(
                f"{function.__qualname__}(): the argument {name!r} is an image or a sound, and the body does not read "
                f"it, so it would not be sent: pass it on, as in llm(prompt, images={name}), or annotate it "
                "Annotated[…, Local]"
            )


def _refuse_to_lose(function: Callable[..., Any], name: str, value: object) -> None:
    """Refuse what is probably meant as an image or a sound, but would not be sent: the body does not read it."""
    fix = how_to_pass(value)
    if fix is None and isinstance(value, bytes):
        fix = "its first bytes are those of no image and no sound that is known"
    if fix is None and isinstance(value, str) and (kind := kind_of_name(value)) is not None:
        plural = next(parameter for parameter, medium in _MEDIA_NAMES.items() if medium == kind)
        fix = f"pass Path(…) or bytes, or call the parameter {plural!r}, where text is a path or an address"
    if fix is not None:
        raise TypeError(
            f"{function.__qualname__}(): the argument {name!r} is a {type(value).__name__}, and the body does not read "
            f"it, so it would not be sent: {fix}"
        )


def _refuse_written_bytes(function: Callable[..., Any], found: Arguments, prompt: str) -> None:
    """Refuse a prompt into which the bytes of an image or a sound were formatted: `f"What is in {photo}?"`."""
    for kind, sources in found.media.items():
        if any(isinstance(source, bytes) and repr(source[:8])[2:-1] in prompt for source in sources):
            raise TypeError(
                f"{function.__qualname__}(): the bytes of the {_NOUNS[kind]} stand in the prompt, as text: leave them "
                f"out of it, since the {_NOUNS[kind]} is sent beside it; or, to give it a place between the words, "
                f"pass encode_{kind}(…) as the argument"
            )


_NOUNS: Final[dict[Kind, str]] = {"image": "image", "audio": "sound"}


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _prompt(function: Callable[..., Any], arguments: Mapping[str, Any]) -> str | None:
    """The prompt with every other argument in a labelled line under it, so that nothing a caller passed vanishes."""
    texts = [name for name, value in arguments.items() if _is_text(value)]
    chosen = next((name for name in PROMPT_NAMES if name in texts), texts[0] if texts else None)
    lines = [f"{name}: {_written(function, name, value)}" for name, value in arguments.items() if name != chosen]
    if chosen is None:
        return "\n".join(lines) or None
    return "\n".join([arguments[chosen], "", *lines]) if lines else str(arguments[chosen])


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not isinstance(value, Enum)


def _written(function: Callable[..., Any], name: str, value: object) -> str:
    plain = _plain(function, name, value)
    if isinstance(plain, str):
        return plain
    import json

    return json.dumps(plain, ensure_ascii=False)


def _plain(function: Callable[..., Any], name: str, value: object) -> object:
    """The value in JSON's terms; what has none, such as a request object or a database, is refused by name."""
    match value:
        case Enum():
            return _plain(function, name, value.value)
        case None | str() | bool() | int() | float():
            return value
        case date() | time():
            return value.isoformat()
        case list() | tuple() | set() | frozenset():
            return [_plain(function, name, item) for item in value]
        case dict():
            return {str(key): _plain(function, name, item) for key, item in value.items()}
        case _:
            fix = how_to_pass(value)
            raise TypeError(
                f"{function.__qualname__}(): the argument {name!r} is a {type(value).__name__}, which cannot be put "
                "into words"
                + (f" and is no image or sound as it is: {fix}" if fix else "")
                + f"; if only the body needs it, annotate it Annotated[…, Local] or call it _{name}"
            )


def _local_names(function: Callable[..., Any]) -> frozenset[str]:
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # Names that exist for type checkers only: what is written has to do.
        written = {name: parameter.annotation for name, parameter in inspect.signature(function).parameters.items()}
        return frozenset(name for name, text in written.items() if isinstance(text, str) and "Local]" in text)
    return frozenset(
        name for name, hint in hints.items() if get_origin(hint) is Annotated and Local in get_args(hint)[1:]
    )
