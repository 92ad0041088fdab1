"""The affinity of a session: where its conversation has been, and for how long a vendor's prompt cache stays warm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from .. import _clock
from .._policy import Affinity
from ..events import Attempt
from ..tasks import CachePoint, Message, Target
from .format import Places

WARM: Final = 600.0
"""Seconds for which the tokens that a vendor has reported as cached count. Vendors keep a prompt for 5 to 10 minutes
after its last use.
"""

WARM_FOR_AN_HOUR: Final = 3600.0
"""The same for a conversation with a `CachePoint("1h")`."""


def after_answer(before: Places, target: Target | None, ledger: Iterable[Attempt]) -> Places:
    """Where the conversation has been after one more answer.

    Args:
        before: Where it was before.
        target: The target that has answered; `None` if nothing was answered.
        ledger: The attempts of the stream. The last report of each target counts.
    """
    cached = dict(before.cached)
    reports = False
    for attempt in ledger:
        usage = attempt.usage
        if usage.source == "reported":
            reports = True
            cached.pop(str(attempt.target), None)
            if tokens := usage.cache_read_tokens + usage.cache_write_tokens:
                cached[str(attempt.target)] = tokens
    if target is None and not reports:
        return before
    return Places(before.last if target is None else str(target), cached, _clock.wall())


def affinity_of(places: Places, messages: Sequence[Message]) -> Affinity | None:
    """The affinity for the next request. Tokens count as cached only while a vendor may still have them."""
    if places.last is None and not places.cached:
        return None
    last = None if places.last is None else Target.parse(places.last)
    for_an_hour = any(isinstance(part, CachePoint) and part.ttl == "1h" for each in messages for part in each.parts)
    is_warm = _clock.wall() - places.at < (WARM_FOR_AN_HOUR if for_an_hour else WARM)
    return Affinity(last, {Target.parse(each): tokens for each, tokens in places.cached.items()} if is_warm else {})
