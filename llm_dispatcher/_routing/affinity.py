"""Affinity: a conversation goes on at the target that answered last, whose vendor has its beginning in a prompt cache.

Pure functions over the values of a plan. A conversation needs no reset after a failure: the next target that answers is
reported as the last one, so the conversation stays there.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from .._policy import BODY, Affinity, Route
from ..events import Attempt
from ..tasks import Target
from .target_stats import TargetHealth


def affinity_on(route: Route, affinity: Affinity | None) -> Affinity | None:
    """The affinity of a call, if its route has it switched on."""
    return None if affinity is None or route.affinity == "off" else affinity


def after(before: Affinity | None, attempts: Iterable[Attempt]) -> Affinity | None:
    """Where a conversation is at home after these attempts; `None` if no model has answered yet.

    Args:
        before: Where it was before.
        attempts: The attempts since then, in their order. Of each target, the last report of its vendor counts: what
            was read from the prompt cache or written to it is there for the next prompt.
    """
    last = None if before is None else before.last
    cached = {} if before is None else dict(before.cached)
    for attempt in attempts:
        target, usage = attempt.target, attempt.usage
        if target.provider == BODY:
            continue
        if attempt.outcome == "completed" or (attempt.outcome == "cancelled" and attempt.delivered):
            last = target  # a reader who leaves has had an answer of it
        elif attempt.outcome == "failed" and target == last:
            last = None  # if nobody answers instead, the strategy decides where the conversation begins again
        if usage.source == "reported":
            cached[target] = usage.cache_read_tokens + usage.cache_write_tokens
    return None if last is None and not cached else Affinity(last, cached)


def stays(target: Target, health: TargetHealth, late: AbstractSet[Target], route: Route, *, is_sticky: bool) -> bool:
    """Whether the target that answered last is asked first, given that it can serve.

    It is not if its breaker is half open, or if it is slower than `max_latency`. Under the strategy `weighted` the
    operator decides: a sticky key goes where the split sends it, and a target without a share is asked first for
    nobody. The body never is asked first for its answer to an earlier turn.

    Args:
        target: The target that answered last.
        health: How it has been doing.
        late: The targets that are slower than `max_latency`.
        route: The route of the request.
        is_sticky: Whether the request has a sticky key.
    """
    if target.provider == BODY or health.breaker != "closed" or target in late:
        return False
    return route.strategy != "weighted" or (not is_sticky and route.split.get(target, 0.0) > 0)


def in_words(affinity: Affinity, target: Target, health: TargetHealth) -> str | None:
    """What an affinity says of a target that can serve; `None` if it says nothing."""
    tokens = affinity.cached.get(target, 0)
    cached = f"has about {tokens:,} tokens of this prompt in its cache" if tokens > 0 else None
    if target != affinity.last:
        return None if cached is None else f"it {cached}"
    but = "" if health.breaker == "closed" else ", but its breaker is half open"
    return "it answered last" + ("" if cached is None else f", and {cached}") + but
