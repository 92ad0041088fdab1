"""Rate limits in HTTP headers: how much of a limit remains, when it is lifted, and when to retry.

Every vendor writes a time in one of the same few forms: a duration (`6m0s`, `120ms`), a number of seconds, a Unix time
in seconds or milliseconds, or an ISO 8601 date. `_seconds_until` reads all of them, for every header.

No header raises an error: one that cannot be read counts as missing. Header names are in lower case here.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from math import isfinite
from typing import Final, TypeAlias

from .. import _clock
from . import LONGEST_WAIT, Allowance, Remaining

Clock: TypeAlias = Callable[[], float]
"""The current Unix time."""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_STEP: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_DURATION: Final = re.compile(f"(?:{_STEP.pattern})+")
_COUNT: Final = re.compile(r"\d{1,15}")
_RESET: Final = re.compile(r"x-ratelimit-reset(-.+)?|anthropic-ratelimit(-.+)-reset")
_UNIX_TIME: Final = 1e9
"""A number from here on is a Unix time, in seconds or milliseconds. A smaller number is seconds to wait."""

_REQUESTS: Final = ("x-ratelimit-{}-requests", "anthropic-ratelimit-requests-{}")
_TOKENS: Final = ("x-ratelimit-{}-tokens", "anthropic-ratelimit-tokens-{}", "anthropic-ratelimit-input-tokens-{}")
"""The first header that is present decides. Anthropic's `tokens` is the most restrictive of its token limits."""


def allowance(headers: Mapping[str, str], now: Clock = _clock.wall) -> Allowance | None:
    """The rate limits in the headers of an answer, or `None` if they name none."""
    if not any("ratelimit" in name for name in headers):
        return None
    requests, tokens = _remaining(headers, _REQUESTS, now), _remaining(headers, _TOKENS, now)
    return None if requests is None and tokens is None else Allowance(requests, tokens)


def retry_after(headers: Mapping[str, str], now: Clock = _clock.wall) -> float | None:
    """Seconds to wait before a retry: `retry-after-ms`, or `retry-after` in seconds or as an HTTP date."""
    if (milliseconds := amount(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    if (seconds := amount(value)) is not None:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now())
    except (ValueError, OverflowError):  # no date, or a date that this machine cannot represent
        return None


def reset_after(headers: Mapping[str, str], now: Clock = _clock.wall) -> float | None:
    """Seconds until the limit that a refused request hit is lifted.

    This is the longest reset among the limits with nothing remaining. If every limit has something remaining, the
    request needed more tokens than remained, and the longest reset of a token limit counts.
    """
    used_up: list[float] = []
    of_tokens: list[float] = []
    for name, value in headers.items():
        match = _RESET.fullmatch(name)
        seconds = believable(_seconds_until(value, now)) if match else None
        if match is None or seconds is None:
            continue
        if amount(headers.get(_remaining_name(match))) == 0:
            used_up.append(seconds)
        elif "token" in name:
            of_tokens.append(seconds)
    return max(used_up or of_tokens, default=None)


def believable(seconds: float | None) -> float | None:
    """A vendor's waiting time, or `None` if it is longer than `LONGEST_WAIT`, which must be a mistake."""
    return seconds if seconds is not None and 0 <= seconds <= LONGEST_WAIT else None


def amount(value: object) -> float | None:
    """A finite number of 0 or more, or `None`."""
    try:
        number = float(value) if isinstance(value, (str, int, float)) else -1.0
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) and number >= 0 else None


def _remaining(headers: Mapping[str, str], names: tuple[str, ...], now: Clock) -> Remaining | None:
    for name in names:
        left, limit = (_count(headers.get(name.format(part))) for part in ("remaining", "limit"))
        full_in = believable(_seconds_until(headers.get(name.format("reset"), ""), now))
        if left is not None and limit is not None and full_in is not None:
            return Remaining(left, limit, full_in)
    return None


def _remaining_name(reset: re.Match[str]) -> str:
    """The header that belongs to a reset header and says how much remains."""
    openai, anthropic = reset.groups()
    return f"anthropic-ratelimit{anthropic}-remaining" if anthropic else f"x-ratelimit-remaining{openai or ''}"


def _count(value: str | None) -> float | None:
    value = (value or "").strip()
    return float(value) if _COUNT.fullmatch(value) else None


def _seconds_until(value: str, now: Clock) -> float | None:
    """Seconds until a time in any of the forms that vendors use."""
    value = value.strip()
    if _DURATION.fullmatch(value):
        return sum(float(count) * _UNITS[unit] for count, unit in _STEP.findall(value))
    if (number := amount(value)) is not None:
        moment = number / 1000 if number >= _UNIX_TIME * 1000 else number
        return moment if moment < _UNIX_TIME else max(0.0, moment - now())
    try:
        date = datetime.fromisoformat(value)
        return max(0.0, date.timestamp() - now()) if date.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
