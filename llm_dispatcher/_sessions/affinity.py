"""The affinity of a session: where its conversation has been, and for how long a vendor's prompt cache stays warm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .. import _clock
from .._policy import Affinity
from ..events import Attempt
from ..tasks import CachePoint, Message, Target
from .format import Cached, Places

WARM: Final = 600.0
"""Seconds for which the tokens that a vendor has reported as cached count. Vendors keep a prompt for 5 to 10 minutes
after its last use.
"""

WARM_FOR_AN_HOUR: Final = 3600.0
"""The same for a conversation with a `CachePoint("1h")`."""


def after_stream(before: Places, ledger: Sequence[Attempt]) -> Places:
    """Where the conversation has been after one more stream, whose attempts are in the ledger."""
    from .._routing import affinity_after  # loaded with the first stream

    now = _clock.wall()
    affinity = affinity_after(None if before.last is None else Affinity(Target.parse(before.last)), ledger)
    if affinity is None:
        return before
    reports = {str(target): Cached(tokens, now) for target, tokens in affinity.cached.items()}
    cached = {target: report for target, report in {**before.cached, **reports}.items() if report.tokens}
    return Places(None if affinity.last is None else str(affinity.last), cached)


def affinity_of(places: Places, messages: Sequence[Message]) -> Affinity | None:
    """The affinity for the next request. Tokens count as cached only while their vendor may still have them."""
    if places.last is None and not places.cached:
        return None
    for_an_hour = any(isinstance(part, CachePoint) and part.ttl == "1h" for each in messages for part in each.parts)
    since = _clock.wall() - (WARM_FOR_AN_HOUR if for_an_hour else WARM)
    warm = {Target.parse(target): each.tokens for target, each in places.cached.items() if each.at > since}
    return Affinity(None if places.last is None else Target.parse(places.last), warm)
