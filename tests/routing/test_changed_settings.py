"""What a reload does to counts that began under other settings, and what a vendor's own counts do."""

from __future__ import annotations

from typing import Any

import pytest

from llm_dispatcher._resilience import BreakerSettings
from llm_dispatcher._routing.breaker import Breaker
from llm_dispatcher._routing.rate_limits import Limiter
from llm_dispatcher.provider import Allowance, Limits, ProviderSettings, Remaining
from llm_dispatcher.tasks import Target

A = Target("a", "m")


def settings(**limits: Any) -> dict[str, ProviderSettings]:
    return {"a": ProviderSettings(name="a", kind="openai", limits=Limits(**limits))}


@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_minute"])
async def test_a_raised_limit_holds_at_once(limit: str) -> None:
    gates = Limiter(settings(**{limit: 10}), lambda: 100.0)
    assert [await gates.lease(A, 10).take(0) for _ in range(11)].count(True) == (10 if "requests" in limit else 1)
    gates.adopt(settings(**{limit: 20}))
    assert await gates.lease(A, 10).take(0)


@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_minute"])
async def test_a_limit_that_did_not_change_keeps_its_count(limit: str) -> None:
    gates = Limiter(settings(**{limit: 1}), lambda: 100.0)
    assert await gates.lease(A, 1).take(0)
    gates.adopt(settings(**{limit: 1}, concurrent_streams=5))
    assert not await gates.lease(A, 1).take(0)


def test_a_vendors_count_of_tokens_is_believed_where_no_limit_is_set() -> None:
    now = [100.0]
    gates = Limiter(settings(), lambda: now[0])
    gates.hear(A, Allowance(tokens=Remaining(0, 600, 60)))
    assert gates.seconds_until(A, 100) == pytest.approx(10.0), "six hundred come back in sixty seconds"
    now[0] += 11
    assert gates.seconds_until(A, 100) == 0


@pytest.mark.parametrize(
    ("window", "state"), [(10.0, "open"), (30.0, "closed")], ids=["the same window", "another window"]
)
def test_failures_are_counted_anew_within_another_window(window: float, state: str) -> None:
    breaker = Breaker(A, BreakerSettings(failures=3, window=10.0), lambda: 100.0)
    era = breaker.enter()
    assert era is not None
    breaker.note(era, failed=False)  # so that no three failures in a row decide
    for _ in range(2):
        breaker.note(era, failed=True)
    breaker.adopt(BreakerSettings(failures=3, window=window))
    breaker.note(era, failed=True)
    assert breaker.state == state
