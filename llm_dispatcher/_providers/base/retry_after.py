"""When to come back, as vendors' headers say it."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from math import isfinite
from typing import Final

from .rate_limit_headers import LONGEST

Clock = Callable[[], float]

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_STEP: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_RESET: Final = re.compile(r"x-ratelimit-reset(-.+)?|anthropic-ratelimit(-.+)-reset")
_EPOCH: Final = 1e9
"""A number as large as this is no time to wait but a moment, in seconds or in milliseconds since 1970."""


def retry_after(headers: Mapping[str, str], now: Clock = time.time) -> float | None:
    """Seconds to wait: in milliseconds, in seconds, or as a date."""
    if (milliseconds := amount(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    given = headers.get("retry-after")
    if given is None:
        return None
    if (seconds := amount(given)) is not None:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - now())
    except (ValueError, OverflowError):  # (no date, or one that no clock of this machine can show)
        return None


def believable(seconds: float | None) -> float | None:
    """A time that a vendor said to wait, or `None` if it is longer than `LONGEST`, which is taken for a mistake."""
    return seconds if seconds is not None and 0 <= seconds <= LONGEST else None


def reset_after(headers: Mapping[str, str], now: Clock = time.time) -> float | None:
    """Seconds until the limit that was reached is lifted: the longest of those of which nothing remains. Where
    something remains of each, the request was larger than what is left of the tokens.
    """
    used_up: list[float] = []
    of_tokens: list[float] = []
    for name, value in headers.items():
        found = _RESET.fullmatch(name)
        seconds = believable(_until(value, now)) if found else None
        if found is None or seconds is None:
            continue
        if amount(headers.get(_remaining(found))) == 0:
            used_up.append(seconds)
        elif "token" in name:
            of_tokens.append(seconds)
    return max(used_up or of_tokens, default=None)


def _remaining(reset: re.Match[str]) -> str:
    openais, anthropics = reset.groups()
    return f"anthropic-ratelimit{anthropics}-remaining" if anthropics else f"x-ratelimit-remaining{openais or ''}"


def _until(value: str, now: Clock) -> float | None:
    """A duration (`6m0s`, `120ms`), a number of seconds, or a moment."""
    if _DURATION.fullmatch(value):
        return sum(float(count) * _UNITS[unit] for count, unit in _STEP.findall(value))
    if (given := amount(value)) is not None:
        moment = given / 1000 if given >= _EPOCH * 1000 else given
        return moment if moment < _EPOCH else max(0.0, moment - now())
    try:
        return max(0.0, datetime.fromisoformat(value).timestamp() - now())
    except (ValueError, OverflowError):
        return None


def amount(text: object) -> float | None:
    """A number of whatever can be waited for."""
    try:
        value = float(text) if isinstance(text, (str, int, float)) else -1.0
    except ValueError:
        return None
    return value if isfinite(value) and value >= 0 else None
