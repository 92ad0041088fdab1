"""What YAML, a call and a decorator say of routing acts, all the way to the vendors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from llm_dispatcher import LLM, LLMSwitch, TaskRequest, llm_stream, use_switch
from llm_dispatcher.exceptions import BudgetExceededError
from llm_dispatcher.testing import Reply, SimulatedVendor, Stall
from tests.faults.leaping_loop import leap_through

ASK = TaskRequest("hi")
PRICES = {"a/m": {"input_price": 9, "output_price": 9}, "b/m": {"input_price": 1, "output_price": 1}}


def policy(dear: SimulatedVendor, cheap: SimulatedVendor, **routing: Any) -> dict[str, Any]:
    """Two targets, the dear one first; what is said of `default` is said of their route."""
    entry = {"kind": "openai", "api": "chat", "api_key": "test-key", "models": ["m"]}
    route = {"targets": ["a/m", "b/m"], **routing.pop("default", {})}
    return {
        "providers": {"a": {**entry, "base_url": dear.base_url}, "b": {**entry, "base_url": cheap.base_url}},
        "routing": {"default": route, **routing},
        "catalog": PRICES,
        "resilience": {"max_retries": 0},
    }


@pytest.fixture
async def over(simulated_vendor: Callable[..., SimulatedVendor]) -> AsyncIterator[Callable[..., LLMSwitch]]:
    made: list[LLMSwitch] = []

    def make(**routing: Any) -> LLMSwitch:
        dear, cheap = (simulated_vendor("openai-chat", Reply(text)) for text in ("dear", "cheap"))
        made.append(LLMSwitch(policy(dear, cheap, **routing)))
        return made[-1]

    yield make
    for switch in made:
        await switch.aclose()


@pytest.mark.parametrize(
    ("routing", "answer"),
    [
        ({}, "dear"),
        ({"default": {"strategy": "cost"}}, "cheap"),
        ({"optimization_strategy": "cost"}, "cheap"),
        ({"optimization_strategy": "cost", "default": {"strategy": "ordered"}}, "dear"),
        ({"max_cost": 0.001}, "cheap"),
        ({"default": {"max_cost": 0.001}}, "cheap"),
        ({"default": {"strategy": "weighted", "split": {"b/m": 1}}}, "cheap"),
    ],
)
async def test_settings_of_a_route_take_effect(
    routing: dict[str, Any], answer: str, over: Callable[..., LLMSwitch]
) -> None:
    assert await over(**routing).stream_request(ASK) == answer


async def test_settings_of_a_call_take_effect(over: Callable[..., LLMSwitch]) -> None:
    switch = over()
    assert await switch.stream_request(ASK, optimization_strategy="cost") == "cheap"
    assert await switch.stream_request(ASK, max_cost=0.001) == "cheap"
    with pytest.raises(BudgetExceededError, match="over max_cost"):
        await switch.stream_request(ASK, max_cost=1e-9)
    assert str(switch.explain(ASK, optimization_strategy="cost").targets[0]) == "b/m"
    with use_switch(switch):
        assert await LLM(optimization_strategy="cost")("hi") == "cheap"
        assert await LLM()("hi", max_cost=0.001) == "cheap"


async def test_settings_of_a_decorator_take_effect(over: Callable[..., LLMSwitch]) -> None:
    @llm_stream(optimization_strategy="cost")
    def frugal() -> str:
        return "hi"

    @llm_stream(max_cost=1e-9)
    def penniless() -> str:
        return "hi"

    with use_switch(over()):
        assert await frugal() == "cheap"
        with pytest.raises(BudgetExceededError):
            await penniless()


def test_max_latency_switches_while_another_target_is_left() -> None:
    async def ask() -> None:
        async with (
            SimulatedVendor("openai-chat", Reply("dear", fault=Stall(0))) as silent,
            SimulatedVendor("openai-chat", Reply("cheap")) as quick,
        ):
            async with LLMSwitch(policy(silent, quick)) as switch:
                assert await switch.stream_request(ASK, max_latency=0.4) == "cheap"
            async with LLMSwitch(policy(silent, quick, default={"max_latency": 0.4})) as switch:
                assert [await switch.stream_request(ASK) for _ in range(2)] == ["cheap"] * 2
                slow = {target.provider for target in switch.explain(ASK).late}
                assert slow == {"a"}, "what was too slow is asked last from then on"

    leap_through(ask)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"optimization_strategy": "cheapest"}, "optimization_strategy is one of ordered, cost, .*; got 'cheapest'"),
        ({"max_cost": 0}, "max_cost is more than 0 US dollars"),
        ({"max_latency": -1}, "max_latency is more than 0 seconds"),
    ],
)
def test_impossible_settings_are_refused_when_they_are_written(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LLM(**setting)
    with pytest.raises(ValueError, match=words):
        llm_stream(**setting)
    with pytest.raises(TypeError, match="max_cost is a number of US dollars"):
        LLM(max_cost="1")  # type: ignore[arg-type]
