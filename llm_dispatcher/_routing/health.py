"""How each target has been doing, as this switch has seen it, and whether it may be asked.

Health takes in the ledger's rows of all streams, and keeps statistics and a breaker for each target. A switch may be
used from several threads, each with its loop, so `_lock` guards both dictionaries and all that is in them; it is held
for moments. `is_healthy` and `is_new` read one entry without it. Notices of breakers are kept in `_unsent` and sent
after the lock is released.

Every successful `enter` is followed by `leave`, and by `note` before that if the attempt has a row.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from .. import _clock
from .._log import write
from .._resilience import BreakerSettings, Resilience
from ..events import Attempt, Failure
from ..exceptions import (
    ContentFilterError,
    InvalidRequestError,
    LocalResourceError,
    ModelUnsupportedError,
    ProviderTimeoutError,
)
from ..notices import Notice, Notify
from ..tasks import Target
from .breaker import Breaker, counts
from .target_stats import TargetHealth, TargetStats

KNOWN: Final = 1_000
"""How many targets are remembered. A request may name any model, so there must be a bound."""

_REFUSED_HERE: Final = frozenset((ModelUnsupportedError.__name__, InvalidRequestError.__name__))
"""The errors of a request that cannot be written on a vendor's wire. A vendor's own refusals have the same classes."""

REFUSED: Final = ContentFilterError.__name__
"""The failure of an attempt whose model refused to answer, or whose answer a filter stopped."""

LOCAL: Final = LocalResourceError.__name__
"""A failure of this machine says nothing about a target."""


class RouteBreakers(Struct, frozen=True):
    """The breakers of a route that has settings of its own for them. They take in the attempts of this route only, and
    its requests ask no others.
    """

    route: str
    settings: Callable[[Target], BreakerSettings]


class Health:
    """The statistics and the breakers of all targets. `resilience_of` gives a target's settings, whatever the task.

    A target has one breaker for all routes, and one more for each route that has breakers of its own (`own`).
    """

    def __init__(
        self,
        resilience_of: Callable[[Target], Resilience],
        clock: Callable[[], float] = _clock.monotonic,
        notify: Notify = write,
    ) -> None:
        self._resilience_of = resilience_of
        self._clock = clock
        self._notify = notify
        self._stats: dict[Target, TargetStats] = {}
        self._breakers: dict[Target, Breaker] = {}
        self._route_breakers: dict[tuple[str, Target], Breaker] = {}
        self._lock = Lock()
        self._unsent: list[Notice] = []

    def adopt(self, resilience_of: Callable[[Target], Resilience]) -> None:
        """Use other settings of breakers and clocks from now on."""
        with self._lock:
            self._resilience_of = resilience_of
            for target, breaker in self._breakers.items():
                breaker.adopt(resilience_of(target).breaker)

    def enter(self, target: Target, own: RouteBreakers | None = None) -> int | None:
        """Ask a target's breaker to admit an attempt: the number of its era, or `None` if it does not."""
        with self._lock:
            breaker = self._breaker(target, own)
            if breaker is None:
                self._make_room()
                breaker = self._new_breaker(target, own)
            elif own is not None:
                breaker.adopt(own.settings(target))  # the configuration may have been reloaded
            era = breaker.enter()
        self._send_notices()
        return era

    def _breaker(self, target: Target, own: RouteBreakers | None) -> Breaker | None:
        return self._breakers.get(target) if own is None else self._route_breakers.get((own.route, target))

    def _new_breaker(self, target: Target, own: RouteBreakers | None) -> Breaker:
        settings = self._resilience_of(target).breaker if own is None else own.settings(target)
        breaker = Breaker(target, settings, self._clock, self._unsent.append, "" if own is None else own.route)
        if own is None:
            self._breakers[target] = breaker
        else:
            self._route_breakers[own.route, target] = breaker
        return breaker

    def leave(self, target: Target, era: int | None, own: RouteBreakers | None = None) -> None:
        """An attempt that was admitted in this era is over, or was not made. Without an era, no breaker admitted it."""
        with self._lock:
            if era is not None and (breaker := self._breaker(target, own)) is not None:
                breaker.leave(era)

    def note(self, attempt: Attempt, era: int | None, own: RouteBreakers | None = None) -> None:
        """Take in an attempt that is over. It says nothing about the target if its reader has left, or if the vendor
        has never seen the request. Without an era it was not admitted here, so it counts for no breaker.

        A model that refuses has answered: what it does with one request is no failure of its target.
        """
        failed = self._failed(attempt)
        with self._lock:
            if failed is not None and era is not None and (breaker := self._breaker(attempt.target, own)) is not None:
                breaker.note(era, failed=failed)
            if attempt.outcome == "completed" or (attempt.failure is not None and _was_sent(attempt, attempt.failure)):
                stats = self._stats.get(attempt.target)
                if stats is None:
                    stats = self._stats[attempt.target] = TargetStats(self._clock)
                is_refusal = attempt.failure is not None and attempt.failure.kind == REFUSED
                stats.note(replace(attempt, failure=None) if is_refusal else attempt, is_counted=failed is True)
        self._send_notices()

    def _send_notices(self) -> None:
        """Send the notices of the breakers. No lock is held, so an observer may ask for the health."""
        while self._unsent:
            try:
                notice = self._unsent.pop(0)
            except IndexError:  # another thread has sent it
                return
            self._notify(notice)

    def _make_room(self) -> None:
        """Forget the targets that have never answered, unless their breaker is open or half open."""
        if len(self._route_breakers) >= KNOWN:
            self._route_breakers = {key: each for key, each in self._route_breakers.items() if not each.is_closed}
        if len(self._breakers) < KNOWN:
            return
        for target, breaker in list(self._breakers.items()):
            stats = self._stats.get(target)
            if breaker.is_closed and (stats is None or stats.health.attempts == stats.health.failures):
                del self._breakers[target]
                self._stats.pop(target, None)

    def _failed(self, attempt: Attempt) -> bool | None:
        """Whether the target failed; `None` if the attempt does not say. A first token that was late for the short
        timeout of one call, but not by the configured clock, does not say it.
        """
        failure = attempt.failure
        if failure is None:
            return False if attempt.outcome == "completed" else None
        if failure.kind == ProviderTimeoutError.__name__ and failure.status is None and not attempt.delivered:
            latest = self._resilience_of(attempt.target).timeouts.first_token
            if attempt.first_token_after is None and (latest is None or attempt.elapsed < latest):
                return None
        if failure.kind == REFUSED and failure.status is None:
            return False
        return True if counts(failure) else None

    def is_healthy(self, target: Target) -> bool:
        """Whether the last attempt at a target was a success."""
        stats = self._stats.get(target)
        return stats is not None and stats.health.failures_in_a_row == 0

    def is_new(self, target: Target) -> bool:
        """Whether this switch has not asked a target yet."""
        return target not in self._stats

    def snapshot(self, own: RouteBreakers | None = None) -> dict[Target, TargetHealth]:
        """The health of each target that was asked, as it is now: with the route's own breakers, or else with those for
        all routes.
        """
        with self._lock:
            all_targets = {target: stats.health for target, stats in self._stats.items()}
            breakers = self._breakers
            if own is not None:
                breakers = {
                    target: each for (route, target), each in self._route_breakers.items() if route == own.route
                }
            for target, breaker in breakers.items():
                if not breaker.is_closed and target in all_targets:
                    all_targets[target] = replace(all_targets[target], breaker=breaker.state, opens_in=breaker.opens_in)
        return all_targets


def _was_sent(attempt: Attempt, failure: Failure) -> bool:
    """Whether the vendor has seen the request. Its refusals have a status, or belong to an answer that had begun."""
    if failure.kind == LOCAL:
        return False
    return failure.kind not in _REFUSED_HERE or failure.status is not None or attempt.usage.source != "unknown"
