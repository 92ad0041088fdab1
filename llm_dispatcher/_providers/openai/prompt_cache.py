"""OpenAI's prompt cache: the key of a request, and the marks up to which a prompt is kept."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any, Final

from ..._vendors.quirks import Quirk
from ...tasks import CachePoint, TaskRequest

_WITH_BREAKPOINTS: Final = re.compile(r"(.*/)?gpt-(5\.([6-9]|\d\d)|[6-9]|\d\d)")
"""`gpt-5.6` and later models, as the SDK says of the parameter. Others keep prompts without being asked."""


def cache_fields(request: TaskRequest, quirks: Container[Quirk]) -> dict[str, Any]:
    """The fields of a request with a `cache_key`."""
    if request.cache_key is None or "prompt_cache" not in quirks:
        return {}
    return {"prompt_cache_key": request.cache_key}


def takes_breakpoints(model: str, quirks: Container[Quirk]) -> bool:
    """Whether the host takes marks in a prompt for this model."""
    return "prompt_cache" in quirks and _WITH_BREAKPOINTS.match(model) is not None


def breakpoint_of(point: CachePoint, *, may_be_long: bool = False) -> dict[str, Any]:
    """The mark on the part before a point. A prompt is kept for half an hour at least, or for twelve if it is to be an
    hour and the interface `may_be_long`.
    """
    longer = {"ttl": "12h"} if may_be_long and point.ttl == "1h" else {}
    return {"prompt_cache_breakpoint": {"mode": "explicit", **longer}}
