"""Durations in messages: short ones can be read as well as long ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher import LLM, LLMStream, LLMSwitch, TaskRequest, llm_stream
from llm_dispatcher._durations import in_seconds
from llm_dispatcher.exceptions import ProviderTimeoutError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import Reply, SimulatedVendor, Stall


@given(st.floats(1e-9, 1e9))
def test_a_duration_is_said_to_a_hundredth_of_itself_and_without_an_exponent(seconds: float) -> None:
    figure, unit = in_seconds(seconds).split(" ")
    assert unit == "s" and "e" not in figure
    assert float(figure) == pytest.approx(seconds, rel=0.005)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (-1, "0 s"), (0.0001, "0.0001 s"), (1e-9, "0.000000001 s"), (0.15, "0.15 s"), (300, "300 s"),
     (9.999, "10 s"), (86_400, "86400 s"), (1 / 3, "0.333 s")],
)  # fmt: skip
def test_durations_have_short_texts(seconds: float, said: str) -> None:
    assert in_seconds(seconds) == said


@llm_stream(timeout=0.0001)
def said(topic: str) -> str:
    return topic


@llm_stream(timeout=0.0001)
async def held(llm: LLM, topic: str) -> AsyncIterator[str]:
    async for chunk in llm(topic):
        yield chunk


@pytest.mark.parametrize("function", [said, held])
async def test_a_timeout_says_how_short_it_was(
    function: Callable[[str], LLMStream[str]], simulated_switch: SimulatedSwitch
) -> None:
    simulated_switch(only=Reply(fault=Stall(0)))
    with pytest.raises(TimeoutError, match=r"not complete within 0\.0001 s \(the total clock\)"):
        await function("foxes")


async def test_a_clock_of_a_target_says_how_short_it_was(
    simulated_vendor: Callable[..., SimulatedVendor], switch_over: Callable[..., LLMSwitch]
) -> None:
    switch = switch_over(simulated_vendor("openai-chat", Reply(fault=Stall(0))), timeouts={"first_token": 0.0002})
    with pytest.raises(ProviderTimeoutError, match=r"within 0\.0002 s \(the first_token clock\)"):
        await switch.stream_request(TaskRequest("hi"))
