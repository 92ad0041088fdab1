"""A conversation goes on at the target that answered last: later turns of one stream, and turns of a session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from llm_dispatcher import LLM, LLMSwitch, Session, use_switch
from llm_dispatcher.events import TaskResponse
from llm_dispatcher.exceptions import BudgetExceededError, StreamingError
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import Cut, HttpError, Reply, SaidToolCall, SaidUsage, SimulatedVendor, Wire
from tests.conftest import policy_over

Start = Callable[..., SimulatedVendor]
Over = Callable[..., LLMSwitch]

A, B = Target("a", "m"), Target("b", "m")
DOWN = Reply(fault=HttpError(503))
CALLS = Reply("I look. ", tool_calls=(SaidToolCall("look_up", '{"name": "wing"}'),))
DONE = Reply("It has two wings.")


@pytest.fixture
async def routed() -> AsyncIterator[Over]:
    """Switches over simulated vendors, with changes of the routing and prices."""
    made: list[LLMSwitch] = []

    def make(*vendors: SimulatedVendor, catalog: dict[str, Any] | None = None, **routing: Any) -> LLMSwitch:
        policy = policy_over(*vendors)
        policy["routing"] |= routing
        policy["catalog"] |= catalog or {}
        made.append(LLMSwitch(policy))
        return made[-1]

    yield make
    for switch in made:
        await switch.aclose()


async def look_up(name: str) -> str:
    """Look up a part of a bird."""
    return f"two {name}s"


async def with_tool(switch: LLMSwitch, **options: Any) -> TaskResponse:
    with use_switch(switch):
        return await LLM(tools=[look_up], **options)("How many wings has a bird?").collect()


def asked(response: TaskResponse) -> list[str]:
    return [str(attempt.target) for attempt in response.attempts]


# ── later turns of one stream ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", list(Wire))
async def test_a_later_turn_is_asked_of_the_target_that_made_the_calls(
    wire: Wire, simulated_vendor: Start, routed: Over
) -> None:
    first = simulated_vendor(Wire.OPENAI_CHAT, [DOWN, DONE])
    second = simulated_vendor(wire, [CALLS, DONE])
    response = await with_tool(routed(first, second))
    assert response.text == "I look. It has two wings."
    assert asked(response) == ["a/m", "b/m", "b/m"]


async def test_with_affinity_off_the_route_decides_about_each_turn(simulated_vendor: Start, routed: Over) -> None:
    first = simulated_vendor(Wire.OPENAI_CHAT, [DOWN, DONE])
    second = simulated_vendor(Wire.OPENAI_CHAT, [CALLS, DONE])
    assert asked(await with_tool(routed(first, second, affinity="off"))) == ["a/m", "b/m", "a/m"]


async def test_a_failure_moves_the_rest_of_the_stream(simulated_vendor: Start, routed: Over) -> None:
    """The target that made the calls is down in the next turn. The turns after that stay with the one that went on."""
    first = simulated_vendor(Wire.OPENAI_CHAT, [CALLS, DOWN, DONE])
    second = simulated_vendor(Wire.ANTHROPIC, [CALLS, CALLS, DONE])
    response = await with_tool(routed(first, second))
    assert asked(response) == ["a/m", "a/m", "b/m", "b/m", "b/m"]
    assert response.text == "I look. " * 3 + "It has two wings."


# ── turns of a session ─────────────────────────────────────────────────────────────────────────────────────────────

LONG = "word " * 2_000
"""About 2,500 tokens, so that there is something to cache."""


def reporting(cached: int, text: str = "Yes. ") -> Reply:
    return Reply(text, usage=SaidUsage(input=2_600, output=9, cached=cached))


async def said(switch: LLMSwitch, session: Session, *prompts: str) -> list[str]:
    """The targets that answered these turns."""
    targets: list[str] = []
    with use_switch(switch):
        for prompt in prompts:
            response = await session.stream(prompt).collect()
            targets.append(str(response.target))
    return targets


async def test_a_failure_moves_a_session_once_and_not_back(simulated_vendor: Start, routed: Over) -> None:
    first = simulated_vendor(Wire.OPENAI_CHAT, [DOWN, DONE, DONE])
    second = simulated_vendor(Wire.ANTHROPIC, [DONE, DONE, DOWN, DONE])
    switch = routed(first, second)
    assert await said(switch, Session(), *"12345") == ["b/m", "b/m", "a/m", "a/m", "a/m"]
    assert await said(switch, Session(), "a conversation of its own") == ["a/m"]


async def test_a_session_follows_the_strategy_if_affinity_is_off(simulated_vendor: Start, routed: Over) -> None:
    first, second = simulated_vendor(Wire.OPENAI_CHAT, [DOWN, DONE]), simulated_vendor(Wire.OPENAI_CHAT, DONE)
    switch = routed(first, second, affinity="off")
    session = Session()
    assert await said(switch, session, *"123") == ["b/m", "a/m", "a/m"]
    with use_switch(switch):
        plan = session.explain("4")
    assert plan.affinity is None
    assert "answered last" not in str([plan, plan.reasons])


@pytest.mark.parametrize("wire", [Wire.OPENAI_CHAT, Wire.OPENAI_RESPONSES, Wire.ANTHROPIC, Wire.GOOGLE])
async def test_explain_says_who_answered_last_and_what_it_has_cached(
    wire: Wire, simulated_vendor: Start, routed: Over
) -> None:
    first = simulated_vendor(Wire.OPENAI_CHAT, DOWN)
    second = simulated_vendor(wire, [reporting(0), reporting(1_200)])
    switch, session = routed(first, second), Session()
    await said(switch, session, LONG)
    with use_switch(switch):
        assert session.explain("And?").reasons[B].startswith("it answered last; number 2 as listed")
    await said(switch, session, "And?")
    with use_switch(switch):
        plan = session.explain("And then?")
    words = "it answered last, and has about 1,200 tokens of this prompt in its cache"
    assert plan.targets == (B, A)
    assert plan.reasons[B] == f"{words}; number 2 as listed"
    assert str(plan).startswith(f"1. b/m (if it breaks: {plan.rungs[0]}): {words}")


async def test_cost_counts_what_each_vendor_has_cached(simulated_vendor: Start, routed: Over) -> None:
    """The cheapest target was down once. By its prompt cache, the one that stood in is the cheapest now."""
    first, second = (
        simulated_vendor(Wire.OPENAI_CHAT, [DOWN, DONE]),
        simulated_vendor(Wire.OPENAI_CHAT, reporting(2_000)),
    )
    prices = {
        "a/m": {"input_price": 10.0, "cached_input_price": 1.0, "output_price": 0.0},
        "b/m": {"input_price": 12.0, "cached_input_price": 1.0, "output_price": 0.0},
    }
    switch = routed(first, second, catalog=prices, optimization_strategy="cost")
    session = Session()
    with use_switch(switch):
        before = session.explain(LONG)
    assert before.targets == (A, B)
    await said(switch, session, LONG)
    with use_switch(switch):
        after = session.explain("And?")
    assert after.targets == (B, A)
    cost_of_b, cost_of_a = (dollars or 0.0 for dollars in after.dollars)
    tokens = cost_of_a / 10e-6
    assert cost_of_b == pytest.approx(2_000 * 1e-6 + (tokens - 2_000) * 12e-6, rel=1e-3)
    assert cost_of_b < cost_of_a


async def test_max_cost_lets_a_session_go_on_because_its_prompt_is_cached(
    simulated_vendor: Start, routed: Over
) -> None:
    """The whole prompt at the full price costs more than `max_cost`, and most of it is cached."""
    vendor = simulated_vendor(Wire.OPENAI_CHAT, reporting(2_400))
    prices = {"a/m": {"input_price": 10.0, "cached_input_price": 0.0, "output_price": 0.0}}
    switch, session = routed(vendor, catalog=prices), Session()
    await said(switch, session, LONG)
    with use_switch(switch):
        response = await session.stream("And?", max_cost=0.005).collect()
        assert response.cost is not None and response.cost < 0.005
        with pytest.raises(BudgetExceededError):
            await LLM(max_cost=0.005)(messages=session.messages)


async def test_a_target_that_broke_a_stream_for_good_is_not_asked_first_because_of_that(
    simulated_vendor: Start, routed: Over
) -> None:
    broken = Reply("Half of", fault=Cut(1))
    first = simulated_vendor(Wire.OPENAI_CHAT, [DOWN, DONE, DOWN, DONE])
    second = simulated_vendor(Wire.OPENAI_CHAT, [broken, broken, DONE])
    switch, session = routed(first, second), Session()
    with use_switch(switch), pytest.raises(StreamingError):
        await session.stream("1").collect()
    assert session.affinity is None or session.affinity.last is None
    assert await said(switch, session, "2") == ["a/m"], "nobody has answered yet, so the route decides"
