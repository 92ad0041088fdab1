"""What vendors' headers say of their rate limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

LONGEST: Final = 86_400.0
"""Seconds. If a vendor says that a limit lasts longer than a day, this is not believed: it is taken for a mistake, and
counts as if the vendor had not said when to come back.
"""


class Left(Struct, frozen=True):
    """How much of a rate limit is left, and in how many seconds all of it will be there again."""

    left: float
    limit: float
    full_in: float


class Allowance(Struct, frozen=True):
    """What a vendor said of its limits with one answer; `None` where it said nothing."""

    requests: Left | None = None
    tokens: Left | None = None


_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    # The first header that is there decides. Anthropic's `tokens` is the most restrictive of its token limits.
    "requests": ("x-ratelimit-{}-requests", "anthropic-ratelimit-requests-{}"),
    "tokens": ("x-ratelimit-{}-tokens", "anthropic-ratelimit-tokens-{}", "anthropic-ratelimit-input-tokens-{}"),
}
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


def allowance(headers: Mapping[str, str], now: datetime | None = None) -> Allowance | None:
    """The limits in an answer's headers, whose names are in lower case; `None` where there are none."""
    if not any("ratelimit" in name for name in headers):
        return None
    moment = now or datetime.now(UTC)
    requests, tokens = (_left(headers, names, moment) for names in _NAMES.values())
    return None if requests is None and tokens is None else Allowance(requests, tokens)


def _left(headers: Mapping[str, str], names: tuple[str, ...], now: datetime) -> Left | None:
    for name in names:
        left, limit = (_number(headers.get(name.format(part))) for part in ("remaining", "limit"))
        full_in = _seconds(headers.get(name.format("reset")), now)
        if left is not None and limit is not None and full_in is not None and full_in <= LONGEST:
            return Left(left, limit, full_in)
    return None


def _number(written: str | None) -> float | None:
    written = (written or "").strip()
    return float(written) if re.fullmatch(r"\d{1,15}", written) else None


def _seconds(written: str | None, now: datetime) -> float | None:
    """Vendors write `6m0s`, `120ms`, seconds, or a moment."""
    if not written:
        return None
    written = written.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", written):
        return float(written)
    if (found := _DURATION.fullmatch(written)) is not None and any(found.groups()):
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
        return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        return None
    return max(0.0, (moment - now).total_seconds()) if moment.tzinfo is not None else None
