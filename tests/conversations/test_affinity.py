"""A conversation goes on at the target that answered last: later turns of one stream, and turns of a session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from llm_dispatcher import LLM, LLMSwitch, use_switch
from llm_dispatcher.events import TaskResponse
from llm_dispatcher.testing import HttpError, Reply, SaidToolCall, SimulatedVendor, Wire
from tests.conftest import policy_over

Start = Callable[..., SimulatedVendor]
Over = Callable[..., LLMSwitch]

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
