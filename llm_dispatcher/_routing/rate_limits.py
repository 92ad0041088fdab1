"""Rate limits: what the operator allows, and what vendors say that they allow."""

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
"""Seconds that are no wait: clocks and timers differ by less."""
SPREAD: Final = 8.0
"""Seconds, at most, over which those are spread who wait for the moment at which a vendor said to come back."""
KNOWN: Final = 1_000
"""Targets whose gates are kept at hand; those of others are found again. Of as many is remembered what their vendors
said last: a request may name any model.
"""


class RateLimit:
    """The limits of one provider or of one model."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._clock = clock
        self._requests = _bucket(limits.requests_per_minute, clock)
        self._tokens = _bucket(limits.tokens_per_minute, clock)
        self.slots = None if limits.concurrent_streams is None else Semaphore(limits.concurrent_streams)
        self._shut_until = 0.0

    def seconds_until(self, tokens: float) -> float:
        """Seconds until a request of so many tokens may be sent; slots are another matter."""
        return max(
            self.shut_for,
            self._requests.seconds_until(1) if self._requests is not None else 0.0,
            self._tokens.seconds_until(tokens) if self._tokens is not None else 0.0,
        )

    @property
    def shut_for(self) -> float:
        """Seconds until the moment at which the vendor has said to come back."""
        return self._shut_until - self._clock()

    def take(self, requests: int, tokens: float) -> None:
        if self._requests is not None:
            self._requests.take(requests)
        if self._tokens is not None:
            self._tokens.take(tokens)

    def shut(self, seconds: float) -> None:
        """The vendor has said when to come back. A time longer than `LONGEST_WAIT` is not believed."""
        if 0 <= seconds <= LONGEST_WAIT:
            self._shut_until = max(self._shut_until, self._clock() + seconds)

    def believe(self, allowance: Allowance) -> None:
        """Count as the vendor counts. A limit that is full again only after `LONGEST_WAIT` is not believed."""
        if (said := allowance.requests) is not None and 0 <= said.full_in <= LONGEST_WAIT:
            self._requests = self._requests or TokenBucket(said.limit, self._clock)
            self._requests.believe(said.left, said.limit, said.full_in)
        if (said := allowance.tokens) is not None and 0 <= said.full_in <= LONGEST_WAIT:
            self._tokens = self._tokens or TokenBucket(said.limit, self._clock)
            self._tokens.believe(said.left, said.limit, said.full_in)

    def change(self, limits: Limits) -> None:
        """Other limits from now on. Streams that are under way keep their slots."""
        before, self.limits = self.limits, limits
        if limits.requests_per_minute != before.requests_per_minute:
            self._requests = _bucket(limits.requests_per_minute, self._clock)
        if limits.tokens_per_minute != before.tokens_per_minute:
            self._tokens = _bucket(limits.tokens_per_minute, self._clock)
        if limits.concurrent_streams is None:
            if self.slots is not None:
                self.slots.resize(maxsize)  # those in line go on
            self.slots = None
        elif self.slots is None:
            self.slots = Semaphore(limits.concurrent_streams)
        else:
            self.slots.resize(limits.concurrent_streams)


class Lease:
    """What one attempt has taken at the gates, to be given back when it is over."""

    def __init__(self, gates: tuple[RateLimit, ...], tokens: float) -> None:
        self._gates = gates
        self._tokens = tokens
        self._slots: list[Semaphore] = []

    async def take(self, patience: float) -> bool:
        """Pass all gates, in line; false, with nothing taken, where that took longer than there was patience for."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        try:
            for gate in self._gates:
                slots = gate.slots  # (a reload may change the gate's while this waits)
                if slots is not None:
                    if not await slots.take(end - loop.time()):
                        self._give_slots()
                        return False
                    self._slots.append(slots)
            seconds = max((gate.seconds_until(self._tokens) for gate in self._gates), default=0.0)
            if seconds > max(end - loop.time(), SOON):
                self._give_slots()
                return False
            self._change(1, self._tokens)
        except BaseException:
            self._give_slots()
            raise
        if seconds > SOON:
            try:
                await asyncio.sleep(seconds + self._spread(seconds, end - loop.time()))
            except BaseException:
                self.give_back()
                raise
        return True

    def _spread(self, seconds: float, patience: float) -> float:
        """A random time more to wait, where the vendor has said when to come back. All who wait for that moment would
        come back in it together; the other waits differ, because each request takes its share of a bucket at once.
        """
        shut = max((gate.shut_for for gate in self._gates), default=0.0)
        if shut < seconds:
            return 0.0
        most = min(seconds, SPREAD, patience - seconds)
        return _clock.uniform(0.0, most) if most > 0 else 0.0

    def give_back(self) -> None:
        """Nothing was sent."""
        self._change(-1, -self._tokens)
        self._give_slots()

    def count(self, tokens: int) -> None:
        """Replace the number of tokens that was expected by the number that the attempt took."""
        self._change(0, tokens - self._tokens)

    def leave(self) -> None:
        """The attempt is over: give back its slots."""
        self._give_slots()

    def _change(self, requests: int, tokens: float) -> None:
        for gate in self._gates:
            gate.take(requests, tokens)

    def _give_slots(self) -> None:
        for slots in self._slots:
            slots.give()
        self._slots.clear()


class Limiter:
    """The gates of all providers and models. What a vendor says of its limits is kept apart, in a gate of its own."""

    def __init__(self, providers: Mapping[str, ProviderSettings], clock: Callable[[], float]) -> None:
        self._providers = providers
        self._clock = clock
        self._gates: dict[str | Target, RateLimit] = {}
        self._lock = Lock()  # (a switch may be used from several threads, each with its loop)
        self._said: LRUCache[Target, RateLimit] = LRUCache(KNOWN)
        self._seen: dict[Target, tuple[RateLimit, ...]] = {}

    def adopt(self, providers: Mapping[str, ProviderSettings]) -> None:
        """Limits as these settings have them, from now on. What vendors said of their limits is forgotten: a reload
        is how an operator asks again a target that its vendor's word has shut.
        """
        self._providers = providers
        with self._lock:
            self._said.clear()
        self._seen.clear()
        for scope, gate in list(self._gates.items()):  # (a copy: other threads may add theirs meanwhile)
            gate.change(self._limits(scope) or Limits())

    def lease(self, target: Target, tokens: float) -> Lease:
        return Lease(self._of(target), tokens)

    def waits(self, target: Target) -> bool:
        """Whether a request waits for this target even where it could go elsewhere."""
        return any(gate.limits.on_limit == "wait" for gate in self._of(target))

    def seconds_until(self, target: Target, tokens: float) -> float:
        """Seconds until a request of so many tokens may be sent; infinite where all streams are taken."""
        longest = 0.0
        for gate in self._of(target):
            if gate.slots is not None and gate.slots.are_taken:
                return inf
            longest = max(longest, gate.seconds_until(tokens))
        return longest if longest > SOON else 0.0

    def spent(self) -> dict[Target, float]:
        """The targets that no request may be sent to now, but for those that one waits for."""
        return {
            target: seconds
            for target, gates in list(self._seen.items())
            if gates and (seconds := self.seconds_until(target, 1.0)) and not self.waits(target)
        }

    def hear(self, target: Target, allowance: Allowance) -> None:
        """The vendor has said how much it allows."""
        self._told(target).believe(allowance)

    def shut(self, target: Target, seconds: float) -> None:
        """The vendor has said when to come back."""
        self._told(target).shut(seconds)

    def _told(self, target: Target) -> RateLimit:
        with self._lock:
            gate = self._said.get(target)
            if gate is None:
                gate = self._said[target] = RateLimit(Limits(), self._clock)
                self._seen.pop(target, None)
            return gate

    def _of(self, target: Target) -> tuple[RateLimit, ...]:
        gates = self._seen.get(target)
        if gates is None:
            with self._lock:
                told = self._said.get(target)
            found = [self._gate(target.provider), self._gate(target), told]
            if len(self._seen) >= KNOWN:
                self._seen.clear()
            gates = self._seen[target] = tuple(gate for gate in found if gate is not None)
        return gates

    def _gate(self, scope: str | Target) -> RateLimit | None:
        if scope not in self._gates and (limits := self._limits(scope)) is not None:
            self._gates[scope] = RateLimit(limits, self._clock)
        return self._gates.get(scope)

    def _limits(self, scope: str | Target) -> Limits | None:
        settings = self._providers.get(scope if isinstance(scope, str) else scope.provider)
        if settings is None:
            return None
        if isinstance(scope, str):
            return settings.limits
        model = settings.models.get(scope.model)
        return None if model is None else model.limits


def _bucket(a_minute: int | None, clock: Callable[[], float]) -> TokenBucket | None:
    return None if a_minute is None else TokenBucket(float(a_minute), clock)
