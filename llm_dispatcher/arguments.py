"""From a decorated function's arguments to the request that they stand for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import date, time
from enum import Enum
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from .tasks import TaskRequest

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
"""Arguments that are a field of the request, by name."""


class Local:
    """`db: Annotated[Database, Local]`: an argument for the body alone, which is no part of the request."""


def request_of(
    function: Callable[..., Any], arguments: Mapping[str, Any], defaults: Mapping[str, Any], prompt: Any = None
) -> TaskRequest:
    """The request for a call. `defaults` are the decorator's. With a `prompt`, the function's body has said it, and
    only the arguments that are fields of a request count beside it.
    """
    fields = dict(defaults)
    others: dict[str, Any] = {}
    local = _local_names(function)
    for name, value in arguments.items():
        if value is None:
            continue
        if name in REQUEST_NAMES:
            fields[REQUEST_NAMES[name]] = value
        elif not name.startswith("_") and name not in local:
            others[name] = value
    if prompt is None:
        prompt = _prompt(function, others)
    elif isinstance(prompt, list):
        prompt, fields["messages"] = None, prompt
    return TaskRequest(prompt, **fields)


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
            raise TypeError(
                f"{function.__qualname__}(): the argument {name!r} is a {type(value).__name__}, which cannot be put "
                f"into words; if only the body needs it, annotate it Annotated[…, Local] or call it _{name}"
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
