"""What a text in the configuration may be: names, addresses, headers, targets. Each function refuses what it is not."""

from __future__ import annotations

import re
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from pydantic_core import PydanticCustomError

from .._policy import BODY

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise PydanticCustomError("header_name", "is not a valid name of an HTTP header")
    return name


def header_value(value: str) -> str:
    if not all(" " <= character <= "~" or character == "\t" for character in value):
        raise PydanticCustomError("header_value", "holds a character that an HTTP header cannot carry")
    return value


def base_url(url: str) -> str:
    # The value is not quoted: an address may hold a password.
    if not re.fullmatch(r"https?://[^/?#\s]+[^\s]*", url):
        raise PydanticCustomError("base_url", "must be an address that begins with http:// or https://")
    if "@" in url.split("/", 3)[2]:
        raise PydanticCustomError(
            "base_url",
            "holds a user or a password before '@'; put the credentials into api_key or headers",
        )
    return url.rstrip("/")


def provider_name(name: str) -> str:
    if name == BODY:
        raise PydanticCustomError("reserved", "the name 'body' is reserved for the decorated function's own body")
    printable(name)
    if not name or "/" in name or name != name.strip():
        raise PydanticCustomError("provider_name", "a provider's name is text without slashes or outer spaces")
    return name


def printable(name: str) -> str:
    # Names stand in log lines and in error messages.
    if not name.isprintable():
        raise PydanticCustomError("printable", "must be text without line breaks and control characters")
    return name


def wording(text: str) -> str:
    if "{anchor}" not in text:
        raise PydanticCustomError(
            "wording", "must hold {{anchor}}, which stands for the last words of the broken answer"
        )
    return text


def time_zone(name: str) -> str:
    if name == "UTC":
        return name  # (which not every machine has a file for)
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        if not available_timezones():
            raise PydanticCustomError(
                "time_zone", "cannot be looked up, because this system has no time zones: `pip install tzdata`"
            ) from None
        raise PydanticCustomError("time_zone", "is not a time zone; write one such as Europe/Berlin") from None
    return name


def target(written: str) -> str:
    printable(written)
    provider, slash, model = written.partition("/")
    if written == BODY or (slash and provider and model and provider != BODY):
        return written
    raise PydanticCustomError("target", "must be written provider/model, or body; got {got}", {"got": repr(written)})
