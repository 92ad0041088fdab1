"""Questions to a switch: they hold up no event loop, and one request that nobody can serve spoils no grouping."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher import _catalog as catalog
from llm_dispatcher._routing.spending import Spending
from llm_dispatcher.exceptions import EventLoopRunningError
from llm_dispatcher.testing import Reply, SimulatedVendor
from tests.conftest import policy_over

Start = Callable[..., SimulatedVendor]

POLICY: dict[str, Any] = {
    "providers": {
        "openai": {"api_key": "test-key", "models": ["gpt-6-luna", "gpt-6.1-terra"]},
        "google": {"api_key": "test-key", "models": ["gemini-3.8-flash"]},
    },
    "routing": {
        "default": ["openai/gpt-6-luna"],
        "tasks": {
            "classification": {"targets": ["openai/gpt-6.1-terra", "openai/gpt-6-luna"], "strategy": "cost"},
            "vision_analysis": ["google/gemini-3.8-flash"],
        },
    },
}
PLAIN = TaskRequest("Hello.")
BY_COST = TaskRequest("Hello.", task_type="classification")
SOUND = TaskRequest("What is said?", audio=["a.wav"])


# ── grouping ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.found("S-D11")
@pytest.mark.parametrize(
    "unroutable",
    [SOUND, TaskRequest(" "), TaskRequest("x", providers="nobody"), TaskRequest("x", model="nobody/m")],
    ids=["nobody takes it", "nothing is asked", "no such provider", "no such model"],
)
def test_a_request_without_a_target_is_grouped_under_the_empty_name(unroutable: TaskRequest) -> None:
    seen = TaskRequest("What is this?", images=["a.png"], task_type="vision_analysis")
    groups = LLMSwitch(POLICY).group_requests_by_provider([PLAIN, unroutable, seen, PLAIN])
    assert groups == {"openai": [PLAIN, PLAIN], "": [unroutable], "google": [seen]}


def test_grouping_refuses_a_value_that_is_not_a_request() -> None:
    with pytest.raises(TypeError, match="a request is a TaskRequest, got str"):
        LLMSwitch(POLICY).group_requests_by_provider([PLAIN, "Hello."])  # type: ignore[list-item]


# ── in a running loop ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """A process that has not loaded the price list yet; the threads that load it are listed."""
    threads: list[threading.Thread] = []

    def load() -> None:
        threads.append(threading.current_thread())

    monkeypatch.setattr(catalog, "load_prices", load)
    monkeypatch.setattr(catalog, "are_prices_loaded", lambda: bool(threads))
    return threads


@pytest.mark.found("S-D12")
async def test_prices_are_never_loaded_in_a_running_loop(unloaded: list[threading.Thread]) -> None:
    switch = LLMSwitch(POLICY)
    assert str(switch.explain(PLAIN).targets[0]) == "openai/gpt-6-luna"
    assert set(switch.group_requests_by_provider([PLAIN, PLAIN])) == {"openai"}
    assert switch.capabilities("openai/gpt-6-luna").vision
    await switch.aexplain(PLAIN)
    assert unloaded and threading.current_thread() not in unloaded


@pytest.mark.found("S-D12")
async def test_a_plan_that_depends_on_prices_is_not_guessed(unloaded: list[threading.Thread]) -> None:
    switch = LLMSwitch(POLICY)
    for ask in (switch.explain, lambda request: switch.group_requests_by_provider([request])):
        with pytest.raises(EventLoopRunningError, match=r"write: await switch\.aexplain\(request\)"):
            ask(BY_COST)
    with pytest.raises(EventLoopRunningError):
        switch.explain(PLAIN, max_cost=0.5)
    assert unloaded == []
    assert str((await switch.aexplain(PLAIN, optimization_strategy="cost")).targets[0]) == "openai/gpt-6-luna"
    assert (await switch.aexplain(BY_COST)).targets[0].model == "gpt-6-luna"
    assert set(switch.group_requests_by_provider([BY_COST])) == {"openai"}, "they are loaded now"
    assert threading.current_thread() not in unloaded


@pytest.mark.found("S-D12")
def test_without_a_running_loop_prices_are_loaded_at_once(unloaded: list[threading.Thread]) -> None:
    assert str(LLMSwitch(POLICY).explain(BY_COST).targets[0]) == "openai/gpt-6-luna"
    assert unloaded == [threading.current_thread()]


@pytest.mark.found("S-D12")
async def test_the_spending_file_is_never_read_in_a_running_loop(
    simulated_vendor: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spent.sqlite"
    Spending(path).read()  # an earlier process has made it
    readers: list[threading.Thread] = []
    read = Spending.read

    def watched(spending: Spending) -> None:
        readers.append(threading.current_thread())
        read(spending)

    monkeypatch.setattr(Spending, "read", watched)
    policy = {
        **policy_over(simulated_vendor("openai-chat", Reply("Hello."))),
        "budgets": {"daily": 5, "path": str(path)},
    }
    async with LLMSwitch(policy) as switch:
        with pytest.raises(EventLoopRunningError, match=r"write: await switch\.aspent\(\)"):
            switch.spent()
        with pytest.raises(EventLoopRunningError, match=r"write: await switch\.aexplain\(request\)"):
            switch.explain(PLAIN)
        assert await switch.aspent() == {"daily": 0.0, "monthly": 0.0}
        assert switch.spent() == {"daily": 0.0, "monthly": 0.0}
        await switch.aexplain(PLAIN)
        assert switch.explain(PLAIN).targets
    assert readers and threading.current_thread() not in readers


async def test_without_a_file_spending_is_known_at_once(simulated_vendor: Start, tmp_path: Path) -> None:
    for budgets in ({"daily": 5}, {"daily": 5, "path": str(tmp_path / "none.sqlite")}):
        policy = {**policy_over(simulated_vendor("openai-chat", Reply("Hello."))), "budgets": budgets}
        async with LLMSwitch(policy) as switch:
            assert switch.spent()["daily"] == 0.0
    assert not list(tmp_path.iterdir())


@pytest.mark.found("S-D12")
def test_in_a_new_process_the_loop_does_not_load_the_price_list() -> None:
    """With the real list: `genai_prices` is not imported in the thread of the loop."""
    program = """
import asyncio, sys, threading
from llm_dispatcher import LLMSwitch, TaskRequest

class Found:
    def find_spec(self, name, path=None, target=None):
        if name == "genai_prices" and threading.current_thread() is threading.main_thread():
            print("in the loop")

sys.meta_path.insert(0, Found())

async def main():
    switch = LLMSwitch({"providers": {"openai": {"api_key": "test-key", "models": ["gpt-6-luna"]}}})
    switch.explain(TaskRequest("Hello."))
    switch.group_requests_by_provider([TaskRequest("Hello.")])
    assert (await switch.aexplain(TaskRequest("Hello."))).dollars[0] is not None
    print("done")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["done"]
