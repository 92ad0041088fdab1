"""Health: what attempts show of a target, and how it moves traffic away and back."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_dispatcher import LLMSwitch
from llm_dispatcher._catalog import Capabilities
from llm_dispatcher._durations import in_seconds
from llm_dispatcher._policy import Policy, Route, Strategy, Wishes
from llm_dispatcher._resilience import BreakerSettings, Resilience
from llm_dispatcher._routing import Admission, Conditions, Pass, RequestFacts, SharedState, TargetHealth, demands, plan
from llm_dispatcher._routing import rate_limits as limits
from llm_dispatcher._routing.health import KNOWN, Health
from llm_dispatcher._routing.rate_limits import Limiter
from llm_dispatcher._routing.target_stats import FRESH, TAIL
from llm_dispatcher.events import Attempt, Failure, Usage
from llm_dispatcher.notices import BreakerChanged, Notice
from llm_dispatcher.provider import Allowance, Limits, ProviderSettings, Remaining
from llm_dispatcher.tasks import Target, TaskRequest
from llm_dispatcher.testing import HttpError, Reply, SimulatedVendor

A, B = Target("a", "m"), Target("b", "m")
OFF = BreakerSettings(failures=None)
DOWN = Failure("ProviderServiceUnavailableError", "down", status=503)


def test_unknown_models_are_forgotten_by_health() -> None:
    health = Health(lambda target: Resilience())
    unknown = Failure("ModelNotFoundError", "no such model", status=404)
    world = World("ordered")
    for number in range(3 * KNOWN):
        target = Target("a", f"made-up-{number}")
        era = health.enter(target)
        assert era is not None
        health.note(replace(world.attempt(target), outcome="failed", failure=unknown), era)
        if number == 0:
            health.note(world.attempt(A), health.enter(A) or 0)
    assert len(health.snapshot()) <= KNOWN
    assert health.snapshot()[A].attempts == 1, "who has answered is not forgotten"


def test_a_receiver_of_a_notice_can_read_the_health() -> None:
    """The notice of a breaker is sent when the lock is released."""
    states: list[tuple[str, str]] = []

    def notify(notice: Notice) -> None:
        assert isinstance(notice, BreakerChanged) and not health._lock.locked()
        states.append((notice.state, health.snapshot()[A].breaker))

    health = Health(
        lambda target: Resilience(breaker=BreakerSettings(failures=1, cooldown=10.0)), lambda: world.now, notify
    )
    world = World("ordered")
    world.ill.add(A)
    health.note(world.attempt(A), health.enter(A) or 0)
    world.now += 11.0
    assert health.enter(A) is not None
    assert states == [("open", "open"), ("half_open", "half_open")]


def test_a_probe_that_is_refused_by_the_model_was_answered() -> None:
    health = Health(lambda target: Resilience(breaker=BreakerSettings(failures=1, cooldown=10.0)), lambda: world.now)
    world = World("ordered")
    world.ill.add(A)
    health.note(world.attempt(A), health.enter(A) or 0)
    world.ill.clear()
    world.now += 11.0
    refused = Failure("ContentFilterError", "the model refused to answer")
    health.note(replace(world.attempt(A), outcome="failed", failure=refused), health.enter(A))
    assert (health.snapshot()[A].breaker, health.snapshot()[A].failures) == ("closed", 1)


def test_an_open_breaker_is_not_forgotten_when_room_is_made() -> None:
    """Otherwise a request for many models that nobody has would open the way to a target that is down."""
    health = Health(lambda target: Resilience(breaker=BreakerSettings(failures=1, cooldown=60.0)), lambda: 0.0)
    world = World("ordered")
    world.ill.add(A)
    health.note(world.attempt(A), health.enter(A) or 0)
    for number in range(3 * KNOWN):
        health.enter(Target("a", f"made-up-{number}"))
    assert health.enter(A) is None
    assert health.snapshot()[A].breaker == "open"


async def test_rate_limits_of_unknown_models_are_forgotten() -> None:
    limiter = Limiter({"a": ProviderSettings(name="a", kind="openai", limits=Limits(requests_per_minute=1))}, lambda: 0)
    for number in range(3 * KNOWN):
        limiter.lease(Target("a", f"made-up-{number}"), 1)
    await limiter.lease(A, 1).take(0)
    assert len(limiter.exhausted()) <= KNOWN
    assert not await limiter.lease(A, 1).take(0), "the limit itself is kept"


async def test_vendor_reports_about_unknown_models_are_forgotten() -> None:
    limiter = Limiter({}, lambda: 0)
    limiter.close_for(B, 60)
    for number in range(3 * KNOWN):
        if number % (KNOWN // 2) == 0:
            limiter.close_for(A, 60)
        limiter.hear(Target("a", f"made-up-{number}"), Allowance(requests=Remaining(1, 0, 60)))
    assert len(limiter._reported) <= KNOWN
    assert (limiter.seconds_until(A, 1), limiter.seconds_until(B, 1)) == (60, 0), "who is spoken of is remembered"


def test_a_limiter_may_be_asked_and_told_from_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KNOWN", 2)
    limiter = Limiter({}, lambda: 0)

    def work(offset: int) -> None:
        for number in range(30_000):
            target = Target("a", f"made-up-{(number * offset) % 7}")
            limiter.close_for(target, 60)
            if number % 10 == 0:
                limiter.seconds_until(target, 1)
                limiter.exhausted()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(3) as threads:
            for done in [threads.submit(work, offset) for offset in (1, 2, 5)]:
                done.result()
    finally:
        sys.setswitchinterval(interval)


class World:
    """Two targets, a clock that is turned by hand, and requests that take no time."""

    def __init__(self, strategy: Strategy) -> None:
        self.now = 1_000.0
        self.strategy = strategy
        self.policy = Policy(
            {name: ProviderSettings(name=name, kind="openai") for name in "ab"},
            Route((A, B)),
            resilience=Resilience(breaker=BreakerSettings(cooldown=10.0)),
        )
        self.traffic = SharedState(self.policy, clock=lambda: self.now)
        self.ill: set[Target] = set()
        self.slow: set[Target] = set()

    async def request(self) -> Target:
        """Who answers the next request."""
        decided = plan(
            TaskRequest("hi"),
            self.policy,
            capabilities=lambda target: Capabilities(),
            conditions=Conditions(health=self.traffic.health.snapshot()),
            wishes=Wishes(strategy=self.strategy),
        )
        admission = Admission(self.traffic, RequestFacts(demands=demands(TaskRequest("hi"))))
        for target in decided.targets:
            admitted = await admission.enter(target)
            if isinstance(admitted, Pass):
                admitted.note(self.attempt(target))
                admitted.leave()
                if target not in self.ill:
                    return target
        raise AssertionError("nobody answered")

    def attempt(self, target: Target) -> Attempt:
        ill, first = target in self.ill, 5.0 if target in self.slow else 0.5
        return Attempt(
            target=target, number=1, outcome="failed" if ill else "completed", failure=DOWN if ill else None,
            delivered=0, trimmed="", seam=None, usage=Usage(output_tokens=100), request_id=None,
            first_token_after=None if ill else first, elapsed=first + 1.0,
        )  # fmt: skip

    async def first_asked(self, requests: int = 10) -> list[Target]:
        return [await self.request() for _ in range(requests)]


@pytest.mark.parametrize("strategy", ["ordered", "speed"])
async def test_an_outage_moves_traffic_away_and_its_end_moves_it_back(strategy: Strategy) -> None:
    world = World(strategy)
    world.slow.add(B)
    assert set(await world.first_asked()) <= {A, B}
    assert (await world.first_asked())[-1] == A
    world.ill.add(A)
    assert set(await world.first_asked()) == {B}
    asked = world.traffic.health.snapshot()[A].attempts
    await world.first_asked(100)
    assert world.traffic.health.snapshot()[A].attempts == asked, "while its breaker is open nobody asks it"
    world.ill.clear()
    world.now += 10.0
    await world.first_asked()
    world.now += 60.0
    assert set(await world.first_asked()) == {A}


async def test_a_slow_day_moves_traffic_away_and_it_is_looked_at_again() -> None:
    world = World("speed")
    world.slow.add(B)
    await world.first_asked(30)
    assert (await world.first_asked())[-1] == A
    world.slow = {A}
    world.now += FRESH + 1  # what was seen of B is old, and so it is tried again
    await world.first_asked(30)
    assert set(await world.first_asked()) == {B}
    world.slow = {B}
    world.now += FRESH + 1
    await world.first_asked(30)
    assert set(await world.first_asked()) == {A}


@given(st.lists(st.floats(0.01, 30), min_size=1, max_size=64))
def test_nine_of_ten_are_faster_than_the_tail(seconds: list[float]) -> None:
    health = Health(lambda target: Resilience(), lambda: 0.0)
    for first in seconds:
        era = health.enter(A)
        assert era is not None
        health.note(
            Attempt(A, 1, "completed", None, 5, "", None, Usage(output_tokens=10), None, first, first + 0.5), era
        )
    seen = health.snapshot()[A]
    tail = seen.first_token_tail
    assert tail in seconds
    assert sum(each <= tail for each in seconds) >= TAIL * len(seconds)
    assert seen.tokens_a_second == pytest.approx(20, rel=1e-6)


def test_a_missing_first_token_counts_as_the_time_waited() -> None:
    health = Health(lambda target: Resilience(), lambda: 0.0)
    late = Failure("ProviderTimeoutError", "nothing came")
    for _ in range(3):
        era = health.enter(A)
        assert era is not None
        health.note(Attempt(A, 1, "failed", late, 0, "", None, Usage(), None, None, 7.0), era)
    assert health.snapshot()[A].first_token_tail == 7.0


def test_a_new_first_token_moves_the_mean_by_an_eighth() -> None:
    health = Health(lambda target: Resilience(), lambda: 0.0)
    for first in (1.0, 9.0):
        era = health.enter(A)
        assert era is not None
        health.note(Attempt(A, 1, "completed", None, 5, "", None, Usage(), None, first, first), era)
    assert health.snapshot()[A].first_token_after == 2.0


@pytest.mark.parametrize(("elapsed", "state"), [(7.0, "closed"), (30.0, "open")])
def test_a_short_timeout_of_a_caller_opens_no_breaker(elapsed: float, state: str) -> None:
    """A call may have little time. What is late for it is not late by the configured clock, which is 30 seconds."""
    health = Health(lambda target: Resilience(), lambda: 0.0)
    late = Failure("ProviderTimeoutError", "nothing came")
    for _ in range(5):
        era = health.enter(A)
        assert era is not None
        health.note(Attempt(A, 1, "failed", late, 0, "", None, Usage(), None, None, elapsed), era)
    assert health.snapshot()[A].breaker == state


def test_an_abandoned_attempt_does_not_change_health() -> None:
    health = Health(lambda target: Resilience(breaker=BreakerSettings(failures=1)), lambda: 0.0)
    era = health.enter(A)
    assert era is not None
    health.note(Attempt(A, 1, "cancelled", None, 5, "", None, Usage(), None, 0.1, 0.5), era)
    assert health.snapshot() == {}
    assert TargetHealth().breaker == "closed"


# ── what an operator sees ──────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e5)), min_size=1, max_size=20))
def test_the_last_failure_stays_in_view_with_its_age(attempts: list[tuple[bool, float]]) -> None:
    world = World("ordered")
    health, failed_at, answered_since = Health(lambda target: Resilience(breaker=OFF), lambda: world.now), None, False
    for fails, seconds in attempts:
        (world.ill.add if fails else world.ill.discard)(A)
        health.note(world.attempt(A), health.enter(A) or 0)
        failed_at, answered_since = (world.now, False) if fails else (failed_at, True)
        world.now += seconds
    seen = health.snapshot()[A]
    if failed_at is None:
        assert (seen.last_failure, seen.failed_ago, seen.failed) == (None, None, None)
        return
    assert (seen.last_failure, seen.failed_ago) == (DOWN, world.now - failed_at)
    since = ", and has answered since" if answered_since else ""
    ago = in_seconds(world.now - failed_at)
    assert seen.failed == f"it failed {ago} ago with ProviderServiceUnavailableError (HTTP 503){since}"


async def test_a_wrong_key_shows_while_another_answers(
    simulated_vendor: Callable[..., SimulatedVendor], switch_over: Callable[..., LLMSwitch]
) -> None:
    """A refusal opens no breaker and moves nobody: the plan stays as it was, and says what an operator has to know."""
    request = TaskRequest("My secret wish.")
    quoting = HttpError(401, message="My secret wish.")
    switch = switch_over(simulated_vendor("openai-chat", Reply(fault=quoting)), simulated_vendor("openai-chat"))
    before = switch.explain(request)
    assert "failed" not in f"{before} {before.reasons}"
    for _ in range(7):
        assert await switch.stream_request(request) == "Hello!"
    seen = switch.health()[A]
    assert (seen.failures, seen.failures_in_a_row, seen.breaker) == (7, 7, "closed")
    assert seen.last_failure is not None and seen.last_failure.kind == "ProviderAuthenticationError"
    assert seen.failed_ago is not None and seen.failed_ago >= 0
    after = switch.explain(request)
    assert after.targets == before.targets
    words = r"it failed [\d.]+ s ago with ProviderAuthenticationError \(HTTP 401\)"
    assert re.fullmatch(rf"number 1 as listed; {words}", after.reasons[A])
    assert re.match(rf"1\. a/m \(if it breaks: anchored\): {words}\n2\. b/m \(if it breaks: anchored\)$", str(after))
    assert "secret" not in f"{after} {after.reasons}"


async def test_a_breaker_that_is_open_says_what_opened_it(
    simulated_vendor: Callable[..., SimulatedVendor], switch_over: Callable[..., LLMSwitch]
) -> None:
    ill = simulated_vendor("openai-chat", Reply(fault=HttpError(503)))
    switch = switch_over(ill, simulated_vendor("openai-chat"), breaker={"failures": 1, "cooldown": 60})
    await switch.stream_request(TaskRequest("hi"))
    rejected = switch.explain(TaskRequest("hi")).rejected[A]
    assert re.fullmatch(
        r"its breaker is open for [\d.]+ s more; it failed [\d.]+ s ago with "
        r"ProviderServiceUnavailableError \(HTTP 503\)",
        rejected,
    )


async def test_an_unsent_request_is_not_a_failure_of_its_target(
    simulated_vendor: Callable[..., SimulatedVendor], switch_over: Callable[..., LLMSwitch]
) -> None:
    unasked, asked = simulated_vendor("anthropic"), simulated_vendor("openai-chat")
    switch = switch_over(unasked, asked)
    stream = switch.stream_request(TaskRequest("hi", seed=7))
    assert await stream == "Hello!"
    first, second = stream.response.attempts
    assert first.failure is not None
    assert (first.target, first.outcome, first.failure.kind) == (A, "failed", "ModelUnsupportedError")
    assert (second.outcome, len(unasked.requests)) == ("completed", 0)
    assert set(switch.health()) == {Target("b", "m")}


@pytest.mark.parametrize("probing", [False, True])
def test_an_unsent_request_leaves_the_breaker_unchanged(probing: bool) -> None:
    world = World("ordered")
    health = Health(lambda target: Resilience(breaker=BreakerSettings(failures=1, cooldown=10)), lambda: world.now)
    if probing:
        world.ill.add(A)
        health.note(world.attempt(A), health.enter(A) or 0)
        world.now += 11
    before = health.snapshot().get(A, TargetHealth())
    unsent = Failure("ModelUnsupportedError", "a seed cannot be sent on this wire")
    for _ in range(3):
        era = health.enter(A)
        assert era is not None, "its probe came back unused"
        health.note(replace(world.attempt(A), outcome="failed", failure=unsent, usage=Usage()), era)
        health.leave(A, era)
    after = health.snapshot().get(A, TargetHealth())
    assert after == before
    refused = replace(unsent, status=415)
    health.note(replace(world.attempt(A), outcome="failed", failure=refused, usage=Usage()), health.enter(A) or 0)
    assert health.snapshot()[A].failures == before.failures + 1, "that one the vendor has seen"
