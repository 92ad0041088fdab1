"""What is reserved of a budget: enough for what a model may think unseen, and no more than can be spent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher._catalog import Capabilities
from llm_dispatcher._policy import Affinity, Amounts, BudgetSettings, Limits, Policy, ProviderSettings, Route, Wishes
from llm_dispatcher._routing import Admission, RequestFacts, SharedState, demands
from llm_dispatcher._routing.admission import FREE, REASONING_OUTPUT, Pass, TargetPass
from llm_dispatcher._routing.budgets import Budgets
from llm_dispatcher.exceptions import BudgetExceededError, LLMDispatcherError, ProviderRateLimitError
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import Reply, SaidUsage, SimulatedVendor
from tests.conftest import policy_over

pytestmark = pytest.mark.found("B-09")
Start = Callable[..., SimulatedVendor]
A_MILLION = {"input_price": 0.0, "output_price": 1_000_000.0}
"""A dollar a token of output, so that what is reserved can be read off."""


def over(*vendors: SimulatedVendor, daily: float, **known: Any) -> LLMSwitch:
    return LLMSwitch({**policy_over(*vendors), "catalog": {"a/m": known}, "budgets": {"daily": daily}})


async def outcome(switch: LLMSwitch, request: TaskRequest) -> str | LLMDispatcherError:
    try:
        return await switch.stream_request(request)
    except LLMDispatcherError as error:
        return error


@pytest.mark.parametrize("output", [50_000, 2 * REASONING_OUTPUT], ids=["much", "as much as there can be"])
@pytest.mark.parametrize("daily", [0.7, 1.0, 3.0])
async def test_hidden_reasoning_passes_a_budget_by_no_more_than_was_reserved(
    daily: float, output: int, simulated_vendor: Start
) -> None:
    usage = SaidUsage(input=7, output=output, reasoning=output - 10)
    vendor = simulated_vendor("openai-chat", Reply("Hello there.", usage=usage))
    async with over(vendor, daily=daily, input_price=1, output_price=10, reasoning=True) as switch:
        outcomes = await asyncio.gather(*(outcome(switch, TaskRequest("Hello?")) for _ in range(50)))
        assert {type(each) for each in outcomes} == {str, BudgetExceededError}
        reserved_each = REASONING_OUTPUT * 10 / 1_000_000
        at_once = max(1, int(daily / reserved_each))
        assert len(vendor.requests) == at_once
        assert switch.spent()["daily"] <= daily + at_once * reserved_each
        assert switch._shared.traffic.budgets._reserved == {"": 0.0}


async def test_one_after_the_other_a_budget_can_be_spent_to_its_end(simulated_vendor: Start) -> None:
    """What is reserved is more than the whole budget, and what an answer costs is a fiftieth of it."""
    vendor = simulated_vendor("openai-chat", Reply("Hello.", usage=SaidUsage(input=0, output=1_000, reasoning=990)))
    async with over(vendor, daily=0.5, input_price=0, output_price=10, reasoning=True) as switch:
        outcomes = [await outcome(switch, TaskRequest("Hello?")) for _ in range(60)]
        assert outcomes.count("Hello.") == 50
        assert isinstance(outcomes[-1], BudgetExceededError)
        assert switch.spent()["daily"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("wire", "known", "request_", "tokens"),
    [
        ("openai-chat", {}, {}, 500),
        ("openai-chat", {"reasoning": True}, {}, REASONING_OUTPUT),
        ("openai-chat", {"reasoning": True}, {"reasoning_effort": "low"}, REASONING_OUTPUT),
        ("openai-chat", {"reasoning": True}, {"reasoning_effort": "none"}, 500),
        ("openai-chat", {"reasoning": True}, {"max_tokens": 9_000}, 9_000),
        ("openai-chat", {}, {"max_tokens": 9_000}, 9_000),
        ("anthropic", {"reasoning": True}, {}, 4_096),
        ("anthropic", {}, {}, 500),
    ],
)
async def test_the_reservation_covers_the_largest_answer(
    wire: str, known: dict[str, Any], request_: dict[str, Any], tokens: int, simulated_vendor: Start
) -> None:
    async with over(simulated_vendor(wire), daily=1e6, **known, **A_MILLION) as switch:
        runtime, traffic, request = switch._runtime, switch._shared.traffic, TaskRequest("Hello?", **request_)
        decided = runtime.plan(request, Wishes())
        admission = runtime.admission(request, decided, Wishes())
        admitted = await admission.enter(Target("a", "m"))
        assert isinstance(admitted, Pass)
        assert traffic.budgets._reserved == {"": pytest.approx(tokens)}
        admitted.leave()
        assert traffic.budgets._reserved == {"": 0.0}


async def test_two_attempts_of_one_request_hold_and_give_back_their_own() -> None:
    """Each has its own slot, place at the breaker, reserved money and cost; the two costs count together."""
    a, b, now = Target("a", "m"), Target("b", "m"), [100.0]
    limits = Limits(concurrent_streams=1)
    policy = Policy(
        {name: ProviderSettings(name=name, kind="openai", limits=limits) for name in "ab"},
        Route((a, b)),
        budgets=BudgetSettings(daily=100.0),
    )
    state = SharedState(policy, clock=lambda: now[0])
    facts = RequestFacts(
        demands=demands(TaskRequest("Hello?", max_tokens=1)),
        max_cost=4.0,
        capabilities=lambda target: Capabilities(input_price=0.0, output_price=1_000_000.0),
    )
    admission = Admission(state, facts)
    first, second = await admission.enter(a), await admission.enter(b)
    assert isinstance(first, Pass) and isinstance(second, Pass)
    assert admission.pass_of(a) is first and admission.pass_of(b) is second
    assert state.budgets._reserved == {"": 2.0}
    assert isinstance(await Admission(state, facts).enter(a), ProviderRateLimitError), "its one slot is taken"
    assert first.count("four" * 2) is None and second.count("four" * 2) is None
    assert isinstance(second.count("four"), BudgetExceededError), "they have cost five dollars together"
    first.leave()
    assert admission.pass_of(a) is FREE, "what it has cost is the ledger's to say from now on"
    assert state.budgets._reserved == {"": 2.0}, "what the second has reserved"
    third = await Admission(state, RequestFacts(demands=facts.demands)).enter(a)
    assert isinstance(third, Pass), "the first has given back its slot, and only its own"
    assert isinstance(await Admission(state, RequestFacts(demands=facts.demands)).enter(b), ProviderRateLimitError)
    second.leave()
    third.leave()
    assert state.budgets._reserved == {"": 0.0}


ATTEMPTS = st.lists(
    st.tuples(
        st.sampled_from(["", "a"]),
        st.floats(0.01, 2),  # the most that is reserved for it
        st.floats(0, 1),  # what it is expected to cost, as a share of that
        st.floats(0, 2),  # what it costs in the end, as a share of that
        st.integers(0, 5),  # how many attempts begin before it ends
    ),
    max_size=40,
)


@given(ATTEMPTS)
def test_overspending_is_at_most_the_reservation_or_one_answer(
    attempts: list[tuple[str, float, float, float, int]],
) -> None:
    """However attempts overlap, if none costs more than twice what was reserved for it. One that was let in because it
    was alone may cost more than was left, whatever was reserved for it.
    """
    budgets = Budgets(BudgetSettings(daily=3.0, namespaces={"a": Amounts(daily=1.0)}))
    running: list[tuple[int, str, float, float]] = []
    reserved = {"": 0.0, "a": 0.0}
    dearest = {"": 0.0, "a": 0.0}

    def end(until: int) -> None:
        for each in [each for each in running if each[0] <= until]:
            running.remove(each)
            _, namespace, most, cost = each
            budgets.release(namespace, most)
            budgets.spend(namespace, cost)

    for number, (namespace, most, expected, cost, lasts) in enumerate(attempts):
        end(number)
        before = {scope: budgets.spent(scope)["daily"] for scope in reserved}
        if budgets.reserve(namespace, most, most * expected) is None:
            running.append((number + lasts + 1, namespace, most, most * cost))
            for scope in {"", namespace}:
                reserved[scope] = max(reserved[scope], budgets._reserved[scope])
                dearest[scope] = max(dearest[scope], most * cost)
                assert before[scope] < {"": 3.0, "a": 1.0}[scope]
    end(10**9)
    assert budgets.spent()["daily"] <= 3.0 + max(reserved[""], dearest[""]) + 1e-6
    assert budgets.spent("a")["daily"] <= 1.0 + max(reserved["a"], dearest["a"]) + 1e-6
    assert all(left == 0.0 for left in budgets._reserved.values())


@given(st.floats(0.01, 0.99), st.floats(1, 1_000))
def test_a_single_request_reserves_only_the_expected_cost(spent: float, most: float) -> None:
    budgets = Budgets(BudgetSettings(daily=1.0))
    budgets.spend("", spent)
    assert budgets.reserve("", most, (1.0 - spent) / 2) is None
    assert budgets.reserve("", most, 0.0) == "the daily budget", "not beside another"
    budgets.release("", most)
    assert budgets.reserve("", most, 1.0) == "the daily budget", "not even what is expected is left"
    assert budgets.reserve("", most) == "the daily budget", "where nothing else is expected, all of it is needed"


# ── cached tokens ──────────────────────────────────────────────────────────────────────────────────────────────────

PROMPT = TaskRequest("word " * 4_000, max_tokens=1)
"""About 5,000 tokens."""
CACHED = {"input_price": 1_000.0, "cached_input_price": 100.0, "output_price": 0.0}
"""The prompt costs five dollars, or half a dollar if it is cached."""
A = Target("a", "m")
WARM = Wishes(affinity=Affinity(A, {A: 5_000}))


async def admitted(switch: LLMSwitch, wishes: Wishes) -> Pass | LLMDispatcherError:
    runtime = switch._runtime
    return await runtime.admission(PROMPT, runtime.plan(PROMPT, wishes), wishes).enter(A)


async def test_a_reservation_is_for_the_full_price_because_a_cache_may_be_gone(simulated_vendor: Start) -> None:
    async with over(simulated_vendor("openai-chat"), daily=9.0, **CACHED) as switch:
        first = await admitted(switch, WARM)
        assert isinstance(first, TargetPass)
        assert switch._shared.traffic.budgets._reserved == {"": pytest.approx(5.0, rel=0.01)}
        assert first.cost == first.expected == pytest.approx(0.5, rel=0.01), "this is what it will probably cost"
        assert isinstance(await admitted(switch, WARM), BudgetExceededError), "two of them could pass the budget"
        first.leave()


async def test_the_last_dollars_of_a_budget_are_enough_for_a_cached_prompt(simulated_vendor: Start) -> None:
    async with over(simulated_vendor("openai-chat"), daily=1.0, **CACHED) as switch:
        with pytest.raises(BudgetExceededError):
            await admitted(switch, Wishes())
        warm = await admitted(switch, WARM)
        assert isinstance(warm, Pass)
        warm.leave()


async def test_max_cost_expects_a_cached_prompt_at_its_price(simulated_vendor: Start) -> None:
    async with LLMSwitch({
        **policy_over(simulated_vendor("openai-chat")), "routing": {"default": ["a/m"], "max_cost": 1.0},
        "catalog": {"a/m": CACHED},
    }) as switch:  # fmt: skip
        with pytest.raises(BudgetExceededError):
            await admitted(switch, Wishes())
        warm = await admitted(switch, WARM)
        assert isinstance(warm, TargetPass)
        assert warm.count("") is None, "what it has cost so far is below max_cost"
        warm.leave()
