"""Retry budgets: an outage is not made worse by those who wait for its end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import force_setattr, replace

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher._policy import Policy, ProviderSettings, Route
from llm_dispatcher._resilience import Resilience, RetryBudgetSettings
from llm_dispatcher._routing import Admission, Pass, RequestFacts, SharedState, demands
from llm_dispatcher._routing.retry_budget import WINDOW, RetryBudget
from llm_dispatcher._serving.current import get_global_switch
from llm_dispatcher._usage import Usage
from llm_dispatcher.events import Attempt, Failure
from llm_dispatcher.exceptions import LLMDispatcherError, ProviderError
from llm_dispatcher.pytest_plugin import SimulatedSwitch
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import HttpError, Reply, SimulatedVendor
from llm_dispatcher.testing._received import ReceivedRequest
from tests.conftest import PATIENT

NO_BREAKER = {"failures": None}
BUDGET = {"share": 0.1, "floor": 10}


@given(st.lists(st.sampled_from(["request", "retry", "wait"]), max_size=300))
def test_retries_within_a_minute_stay_within_the_budget(steps: list[str]) -> None:
    now, requests, retries = 0.0, 0, 0
    budget = RetryBudget(RetryBudgetSettings(share=0.1, floor=3), lambda: now)
    for step in steps:
        match step:
            case "request":
                budget.request()
                requests += 1
            case "retry":
                drawn = budget.draw()
                assert drawn == (retries + 1 <= 0.1 * requests + 3)
                retries += drawn
            case _:
                now += WINDOW * 1.2  # all of it is forgotten
                requests = retries = 0


async def answered(switch: LLMSwitch, requests: int, at_once: int = 40) -> int:
    """How many of so many requests were answered."""
    gate = asyncio.Semaphore(at_once)

    async def one() -> bool:
        async with gate:
            try:
                await switch.stream_request(TaskRequest("hi"))
            except LLMDispatcherError:
                return False
            return True

    return sum(await asyncio.gather(*(one() for _ in range(requests))))


def in_one_minute(switch: LLMSwitch) -> LLMSwitch:
    """Let its time stand still: all requests fall in one window of the budget, however slow the machine is."""
    force_setattr(switch._shared, "traffic", SharedState(switch.policy, clock=lambda: 100.0))
    return switch


def policy(*names: str, **resilience: Any) -> dict[str, Any]:
    """Asks these vendors one after the other."""
    return {
        "providers": {name: {"kind": "openai", "models": ["m"]} for name in names},
        "routing": {"default": [f"{name}/m" for name in names]},
        "resilience": {"max_retries": 0, "backoff": 0.0, "breaker": NO_BREAKER, **PATIENT, **resilience},
    }


@pytest.mark.simulated(seeds=2)
async def test_retries_to_a_single_failing_vendor_stay_within_the_budget(simulated_switch: SimulatedSwitch) -> None:
    limited = policy("a", max_retries=2, retry_budget={"share": 0.1, "floor": 2})
    vendors = simulated_switch(limited, a=Reply(fault=HttpError(500)))
    assert await answered(get_global_switch(), 100) == 0
    assert len(vendors["a"].requests) == 100 + 10 + 2


@pytest.mark.simulated(seeds=2)
async def test_a_switch_to_a_healthy_vendor_is_never_refused(simulated_switch: SimulatedSwitch) -> None:
    limited = policy("a", "b", retry_budget={"share": 0.0, "floor": 0})
    vendors = simulated_switch(limited, a=Reply(fault=HttpError(500)), b=Reply("Hello!"))
    assert await answered(get_global_switch(), 100, at_once=100) == 100
    assert [len(vendor.requests) for vendor in vendors.values()] == [100, 100]


async def test_only_a_switch_may_overdraw_a_retry_budget() -> None:
    """A second try of the same target has to be in the budget, also if the target has just answered somebody else."""
    a, b = Target("a", "m"), Target("b", "m")
    resilience = Resilience(retry_budget=RetryBudgetSettings(share=0.0, floor=0))
    providers = {name: ProviderSettings(name=name, kind="openai") for name in "ab"}
    state = SharedState(Policy(providers, Route((a, b)), resilience=resilience), clock=lambda: 100.0)
    answer = Attempt(a, 1, "completed", None, 5, "", None, Usage(), None, 0.1, 0.5)
    failure = Failure("ProviderServiceUnavailableError", "down", status=503)
    admission = Admission(state, RequestFacts(demands=demands(TaskRequest("hi"))))
    admitted = await admission.enter(a)
    assert isinstance(admitted, Pass)
    admitted.note(replace(answer, outcome="failed", failure=failure))
    admitted.leave()
    for target in (a, b):  # another request is answered by both
        state.health.note(replace(answer, target=target), state.health.enter(target) or 0)
    refused = await admission.enter(a)
    assert isinstance(refused, ProviderError) and "the retry budget of a is spent" in str(refused)
    assert isinstance(await admission.enter(b), Pass)


@pytest.mark.simulated(seeds=2)
async def test_a_switch_draws_on_the_vendor_that_receives_it(simulated_switch: SimulatedSwitch) -> None:
    limited, ill = policy("a", "b", retry_budget={"share": 0.0, "floor": 3}), Reply(fault=HttpError(500))
    vendors = simulated_switch(limited, a=ill, b=ill)
    assert await answered(get_global_switch(), 20, at_once=1) == 0
    assert [len(vendor.requests) for vendor in vendors.values()] == [20, 3]


@pytest.mark.slow
@pytest.mark.parametrize("breaker", [NO_BREAKER, {}], ids=["budget alone", "budget and breaker"])
async def test_in_a_total_outage_retries_add_at_most_a_tenth(
    breaker: dict[str, None],
    simulated_vendor: Callable[..., SimulatedVendor],
    switch_over: Callable[..., LLMSwitch],
) -> None:
    down, well = simulated_vendor("openai-chat", Reply(fault=HttpError(503))), simulated_vendor("anthropic")
    switch = in_one_minute(switch_over(down, well, max_retries=2, breaker=breaker, retry_budget=BUDGET))
    assert await answered(switch, 2000) == 2000
    assert len(down.requests) <= 1.1 * 2000 + BUDGET["floor"]
    assert len(well.requests) == 2000


@pytest.mark.slow
@pytest.mark.parametrize("breaker", [NO_BREAKER, {}], ids=["budget alone", "budget and breaker"])
async def test_with_half_of_the_attempts_failing_nearly_all_requests_are_answered(
    breaker: dict[str, None],
    simulated_vendor: Callable[..., SimulatedVendor],
    switch_over: Callable[..., LLMSwitch],
) -> None:
    dice = random.Random(8)

    def half(request: ReceivedRequest) -> Reply:
        return Reply("Well.", fault=HttpError(503) if dice.random() < 0.5 else None)

    flaky, well = simulated_vendor("openai-chat", half), simulated_vendor("anthropic")
    switch = in_one_minute(switch_over(flaky, well, max_retries=2, breaker=breaker, retry_budget=BUDGET))
    served = await answered(switch, 2000)
    assert served >= 0.99 * 2000
    assert len(flaky.requests) <= 1.1 * 2000 + BUDGET["floor"]
