"""Validators of texts in the configuration: names, addresses, headers, targets. Each returns the text or raises."""

from __future__ import annotations

import re
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from pydantic_core import PydanticCustomError

from .._policy import BODY

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def header_name(name: str) -> str:
    """The name of an HTTP header."""
    if not _HEADER_NAME.fullmatch(name):
        raise PydanticCustomError("header_name", "is not a valid name of an HTTP header")
    return name


def header_value(value: str) -> str:
    """The value of an HTTP header, in ASCII."""
    if not all(" " <= character <= "~" or character == "\t" for character in value):
        raise PydanticCustomError("header_value", "holds a character that an HTTP header cannot carry")
    return value


def base_url(url: str) -> str:
    """An HTTP address. Messages do not quote it, because it may hold a password."""
    if not re.fullmatch(r"https?://[^/?#\s]+[^\s]*", url):
        raise PydanticCustomError("base_url", "must be an address that begins with http:// or https://")
    if "@" in url.split("/", 3)[2]:
        raise PydanticCustomError(
            "base_url",
            "holds a user or a password before '@'; put the credentials into api_key or headers",
        )
    return url.rstrip("/")


def provider_name(name: str) -> str:
    """A provider's name, which is the part of a target before its slash."""
    if name == BODY:
        raise PydanticCustomError("reserved", "the name 'body' is reserved for the decorated function's own body")
    printable(name)
    if not name or "/" in name or name != name.strip():
        raise PydanticCustomError("provider_name", "a provider's name is text without slashes or outer spaces")
    return name


def printable(name: str) -> str:
    """A name that log lines and error messages can show."""
    if not name.isprintable():
        raise PydanticCustomError("printable", "must be text without line breaks and control characters")
    return name


def continuation(text: str) -> str:
    """The user turn that asks for the rest of a broken answer."""
    if "{anchor}" not in text:
        raise PydanticCustomError(
            "continuation", "must hold {anchor}, which stands for the last words of the broken answer"
        )
    return text


def time_zone(name: str) -> str:
    """The name of a time zone."""
    if name == "UTC":
        return name  # Not every machine has a file for it.
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        if not available_timezones():
            raise PydanticCustomError(
                "time_zone", "cannot be looked up, because this system has no time zones: `pip install tzdata`"
            ) from None
        raise PydanticCustomError("time_zone", "is not a time zone; write one such as Europe/Berlin") from None
    return name


def target(text: str) -> str:
    """A target: `provider/model`, or `body`."""
    printable(text)
    provider, slash, model = text.partition("/")
    if text == BODY or (slash and provider and model and provider != BODY):
        return text
    raise PydanticCustomError("target", "must be written provider/model, or body; got {got}", {"got": repr(text)})
