"""Rate limits: those of the configuration, and those that vendors report.

A provider and each of its models can have a limit from the configuration. What a vendor reports in its headers, or with
`Retry-After`, is kept apart, in a limit for each target. A request has to pass all three: its `Lease` first takes a
slot of each limit that has slots, then the request and its tokens from the buckets, and then it sleeps until the
buckets have made up for it. If that takes longer than the request has patience, or the task is cancelled, the lease
gives back everything.

The buckets count expected tokens first; `Lease.count` corrects the number when the attempt is over.

A switch may be used from several threads, each with its loop. `Limiter._lock` guards the reported limits. The other
dictionaries are filled by single assignments: two threads may make the same entry, and the last one stays.
See docs/decisions/0012.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from math import inf
from sys import maxsize
from threading import Lock
from typing import Final

from cachetools import LRUCache

from .. import _clock
from .._policy import Limits, ProviderSettings
from ..provider import LONGEST_WAIT, Allowance
from ..tasks import Target
from .token_bucket import Semaphore, TokenBucket

SOON: Final = 0.01
"""Waits of fewer seconds are skipped, because clocks and timers differ by more."""
SPREAD: Final = 8.0
"""Seconds, at most, over which requests are spread that wait for the moment at which a vendor said to come back."""
KNOWN: Final = 1_000
"""How many targets' limits are kept at hand, and how many reported limits are remembered. A request may name any model,
so there must be a bound.
"""


class RateLimit:
    """The limit of one provider or of one model."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._clock = clock
        self._requests = _bucket(limits.requests_per_minute, clock)
        self._tokens = _bucket(limits.tokens_per_minute, clock)
        self.semaphore = None if limits.concurrent_streams is None else Semaphore(limits.concurrent_streams)
        self._closed_until = 0.0

    def seconds_until(self, tokens: float) -> float:
        """Seconds until a request of so many tokens may be sent. This says nothing of slots."""
        return max(
            self.closed_for,
            self._requests.seconds_until(1) if self._requests is not None else 0.0,
            self._tokens.seconds_until(tokens) if self._tokens is not None else 0.0,
        )

    @property
    def closed_for(self) -> float:
        """Seconds until the moment at which the vendor has said to come back."""
        return self._closed_until - self._clock()

    def take(self, requests: int, tokens: float, seconds: float = 0.0) -> None:
        """Take requests and tokens out of the buckets, or put them back if they are negative. The request is sent in so
        many seconds.
        """
        if self._requests is not None:
            self._requests.take(requests, seconds)
        if self._tokens is not None:
            self._tokens.take(tokens, seconds)

    def close_for(self, seconds: float) -> None:
        """Send nothing for as long as the vendor has asked. A time longer than `LONGEST_WAIT` is not believed."""
        if 0 <= seconds <= LONGEST_WAIT:
            self._closed_until = max(self._closed_until, self._clock() + seconds)

    def take_over(self, allowance: Allowance) -> None:
        """Count as the vendor counts. A limit that is full again only after `LONGEST_WAIT` is not believed."""
        if (requests := allowance.requests) is not None and 0 <= requests.full_in <= LONGEST_WAIT:
            self._requests = self._requests or TokenBucket(requests.limit, self._clock)
            self._requests.set_level(requests.left, requests.limit, requests.full_in)
        if (tokens := allowance.tokens) is not None and 0 <= tokens.full_in <= LONGEST_WAIT:
            self._tokens = self._tokens or TokenBucket(tokens.limit, self._clock)
            self._tokens.set_level(tokens.left, tokens.limit, tokens.full_in)

    def change(self, limits: Limits) -> None:
        """Use other limits from now on. Open streams keep their slots."""
        before, self.limits = self.limits, limits
        if limits.requests_per_minute != before.requests_per_minute:
            self._requests = _bucket(limits.requests_per_minute, self._clock)
        if limits.tokens_per_minute != before.tokens_per_minute:
            self._tokens = _bucket(limits.tokens_per_minute, self._clock)
        if limits.concurrent_streams is None:
            if self.semaphore is not None:
                self.semaphore.resize(maxsize)  # the tasks in the line go on
            self.semaphore = None
        elif self.semaphore is None:
            self.semaphore = Semaphore(limits.concurrent_streams)
        else:
            self.semaphore.resize(limits.concurrent_streams)


class Lease:
    """What one attempt takes of its limits. Nothing is taken before `take`, and `leave` gives back the slots."""

    def __init__(self, limits: tuple[RateLimit, ...], tokens: float) -> None:
        self._limits = limits
        self._tokens = tokens
        self._slots: list[Semaphore] = []
        self._is_taken = False

    async def take(self, patience: float) -> bool:
        """Pass all limits, in line. False, with nothing taken, if that took longer than `patience` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        try:
            for limit in self._limits:
                semaphore = limit.semaphore  # a reload may replace the limit's while this waits
                if semaphore is not None:
                    if not await semaphore.acquire(end - loop.time()):
                        self._release_slots()
                        return False
                    self._slots.append(semaphore)
            seconds = max((limit.seconds_until(self._tokens) for limit in self._limits), default=0.0)
            if seconds > max(end - loop.time(), SOON):
                self._release_slots()
                return False
            wait = seconds + self._jitter(seconds, end - loop.time()) if seconds > SOON else 0.0
            self._change(1, self._tokens, wait)
            self._is_taken = True
        except BaseException:
            self._release_slots()
            raise
        if wait:
            try:
                await asyncio.sleep(wait)
            except BaseException:
                self.give_back()
                raise
        return True

    def _jitter(self, seconds: float, patience: float) -> float:
        """A random time more to wait, if the vendor has said when to come back: otherwise all who wait for that moment
        would come back in it together. Other waits differ anyway, because each request takes its share of a bucket.
        """
        closed = max((limit.closed_for for limit in self._limits), default=0.0)
        if closed < seconds:
            return 0.0
        most = min(seconds, SPREAD, patience - seconds)
        return _clock.uniform(0.0, most) if most > 0 else 0.0

    def give_back(self) -> None:
        """Give back everything: nothing was sent."""
        if self._is_taken:
            self._change(-1, -self._tokens)
        self._release_slots()

    def count(self, tokens: int) -> None:
        """Replace the expected number of tokens by the number that the attempt used."""
        self._change(0, tokens - self._tokens)

    def leave(self) -> None:
        """Give back the slots: the attempt is over."""
        self._release_slots()

    def _change(self, requests: int, tokens: float, seconds: float = 0.0) -> None:
        for limit in self._limits:
            limit.take(requests, tokens, seconds)

    def _release_slots(self) -> None:
        for semaphore in self._slots:
            semaphore.release()
        self._slots.clear()


class Limiter:
    """The limits of all providers, models and targets."""

    def __init__(self, providers: Mapping[str, ProviderSettings], clock: Callable[[], float]) -> None:
        self._providers = providers
        self._clock = clock
        self._configured: dict[str | Target, RateLimit] = {}
        self._lock = Lock()
        self._reported: LRUCache[Target, RateLimit] = LRUCache(KNOWN)
        self._by_target: dict[Target, tuple[RateLimit, ...]] = {}

    def adopt(self, providers: Mapping[str, ProviderSettings]) -> None:
        """Use the limits of these settings from now on. Reported limits are forgotten, because a reload is how an
        operator asks a target again that its vendor has closed.
        """
        self._providers = providers
        with self._lock:
            self._reported.clear()
        self._by_target.clear()
        for scope, limit in list(self._configured.items()):  # a copy: other threads may add theirs meanwhile
            limit.change(self._settings(scope) or Limits())

    def lease(self, target: Target, tokens: float) -> Lease:
        """A lease for one attempt of so many tokens."""
        return Lease(self._of(target), tokens)

    def waits(self, target: Target) -> bool:
        """Whether a request waits for this target although it could go elsewhere."""
        return any(limit.limits.on_limit == "wait" for limit in self._of(target))

    def seconds_until(self, target: Target, tokens: float) -> float:
        """Seconds until a request of so many tokens may be sent; infinite if all streams are taken."""
        longest = 0.0
        for limit in self._of(target):
            if limit.semaphore is not None and limit.semaphore.is_full:
                return inf
            longest = max(longest, limit.seconds_until(tokens))
        return longest if longest > SOON else 0.0

    def exhausted(self) -> dict[Target, float]:
        """The targets that accept no request now, with the seconds until they do. Those that requests wait for are left
        out.
        """
        return {
            target: seconds
            for target, limits in list(self._by_target.items())
            if limits and (seconds := self.seconds_until(target, 1.0)) and not self.waits(target)
        }

    def hear(self, target: Target, allowance: Allowance) -> None:
        """The vendor has reported its limits."""
        self._reported_limit(target).take_over(allowance)

    def close_for(self, target: Target, seconds: float) -> None:
        """The vendor has said when to come back."""
        self._reported_limit(target).close_for(seconds)

    def _reported_limit(self, target: Target) -> RateLimit:
        with self._lock:
            limit = self._reported.get(target)
            if limit is None:
                limit = self._reported[target] = RateLimit(Limits(), self._clock)
                self._by_target.pop(target, None)
            return limit

    def _of(self, target: Target) -> tuple[RateLimit, ...]:
        limits = self._by_target.get(target)
        if limits is None:
            with self._lock:
                reported = self._reported.get(target)
            all_three = [self._configured_limit(target.provider), self._configured_limit(target), reported]
            if len(self._by_target) >= KNOWN:
                self._by_target.clear()
            limits = self._by_target[target] = tuple(limit for limit in all_three if limit is not None)
        return limits

    def _configured_limit(self, scope: str | Target) -> RateLimit | None:
        if scope not in self._configured and (limits := self._settings(scope)) is not None:
            self._configured[scope] = RateLimit(limits, self._clock)
        return self._configured.get(scope)

    def _settings(self, scope: str | Target) -> Limits | None:
        """The configured limits of a provider or of a model."""
        settings = self._providers.get(scope if isinstance(scope, str) else scope.provider)
        if settings is None:
            return None
        if isinstance(scope, str):
            return settings.limits
        model = settings.models.get(scope.model)
        return None if model is None else model.limits


def _bucket(a_minute: int | None, clock: Callable[[], float]) -> TokenBucket | None:
    return None if a_minute is None else TokenBucket(float(a_minute), clock)
