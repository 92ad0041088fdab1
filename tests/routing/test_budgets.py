"""Budgets: what is spent is what the ledger has, and the last dollar is spent once."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher import LLMSwitch, TaskRequest, TaskResponse
from llm_dispatcher._policy import Amounts, BudgetSettings
from llm_dispatcher._routing.budgets import Budgets
from llm_dispatcher.exceptions import (
    BudgetExceededError,
    ConfigurationError,
    LLMDispatcherError,
    StreamBudgetExceededError,
)
from llm_dispatcher.notices import BudgetAlert
from llm_dispatcher.testing import HttpError, Reply, SaidUsage, SimulatedVendor
from tests.conftest import PATIENT

Start = Callable[..., SimulatedVendor]
Make = Callable[..., LLMSwitch]
TEXT = "word " * 40
COUNTED = SaidUsage(input=10, output=50)
PRICES = {"input_price": 1_000.0, "output_price": 1_000.0}
"""A tenth of a cent a token, so that sums are easy: a request of ten tokens and an answer of fifty cost 6 cents."""
COST = 0.06
ASK = TaskRequest("hi", max_tokens=50)


@pytest.fixture
async def make(simulated_vendor: Start) -> AsyncIterator[Make]:
    made: list[LLMSwitch] = []

    def with_budgets(vendor: SimulatedVendor, alert: Any = None, **budgets: Any) -> LLMSwitch:
        entry = {"kind": "openai", "api": "chat", "api_key": "test-key", "base_url": vendor.base_url, "models": ["m"]}
        policy = {
            "providers": {"a": entry},
            "catalog": {"a/m": PRICES},
            "budgets": budgets,
            "resilience": {"max_retries": 0, **PATIENT},
        }
        made.append(LLMSwitch(policy, on_budget_alert=alert))
        return made[-1]

    yield with_budgets
    for switch in made:
        await switch.aclose()


async def outcome(switch: LLMSwitch, request: TaskRequest = ASK, **settings: Any) -> TaskResponse:
    """What is left of a stream, whether it failed or not."""
    stream = switch.stream_request(request, **settings)
    async for _ in stream.events():
        pass
    return stream.response


def cost_of(responses: list[TaskResponse]) -> float:
    return sum(attempt.usage.cost or 0.0 for response in responses for attempt in response.attempts)


# ── by themselves ──────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.floats(0, 2), st.floats(0, 2)), max_size=40))
def test_spent_and_reserved_dollars_never_exceed_a_budget(steps: list[tuple[str, float, float]]) -> None:
    budgets = Budgets(BudgetSettings(daily=5.0, namespaces={"a": Amounts(daily=2.0)}))
    spent = {"": 0.0, "a": 0.0, "b": 0.0}
    for namespace, dollars, share in steps:
        if budgets.reserve(namespace, dollars) is not None:
            continue
        budgets.release(namespace, dollars)
        budgets.spend(namespace, dollars * min(share, 1.0))
        for scope in {"", namespace}:
            spent[scope] += dollars * min(share, 1.0)
    for scope, sum_ in spent.items():
        assert budgets.spent(scope)["daily"] == pytest.approx(sum_)
    assert spent[""] <= 5.0 + 1e-9 and spent["a"] <= 2.0 + 1e-9
    assert budgets.left("b")[0] == pytest.approx(5.0 - spent[""])


def test_a_day_ends_at_midnight_of_its_time_zone() -> None:
    now = datetime(2026, 11, 30, 22, 59, tzinfo=UTC)
    budgets = Budgets(BudgetSettings(daily=1.0, monthly=1.5, time_zone="Europe/Berlin"), now=lambda: now)
    budgets.spend("", 1.0)
    assert budgets.reserve("", 0.1) == "the daily budget"
    assert budgets.left("") == (0.0, "the daily budget")
    now += timedelta(minutes=2)  # midnight in Berlin, and a new month
    assert budgets.spent() == {"daily": 0.0, "monthly": 0.0}
    assert budgets.reserve("", 0.9) is None


def test_an_alert_comes_once_a_period_and_its_callback_may_raise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[BudgetAlert] = []

    def alert(alert: BudgetAlert) -> None:
        told.append(alert)
        raise RuntimeError("out of paper")

    now = datetime(2026, 11, 21, tzinfo=UTC)
    settings = BudgetSettings(daily=10.0, alert_at=0.5, namespaces={"team": Amounts(monthly=4.0)})
    budgets = Budgets(settings, alert, lambda: now)
    with caplog.at_level(logging.WARNING, "llm_dispatcher"):
        for _ in range(5):
            budgets.spend("team", 1.0)
    assert [str(each) for each in told] == [
        "the monthly budget of 'team' is spent to 50%: $2.0000 of $4",
        "the daily budget is spent to 50%: $5.0000 of $10",
    ]
    assert "out of paper" in caplog.text
    now += timedelta(days=1)
    budgets.spend("", 6.0)
    assert len(told) == 3


def test_two_threads_that_spend_send_one_alert() -> None:
    class Slow(set[Any]):
        """Answers when both threads have asked. A lock keeps the second one from asking."""

        def __contains__(self, line: object) -> bool:
            is_known = super().__contains__(line)
            with suppress(BrokenBarrierError):
                both.wait(0.2)
            return is_known

    both, told = Barrier(2), list[BudgetAlert]()
    budgets = Budgets(BudgetSettings(daily=1.0, alert_at=0.5), told.append)
    budgets._alerted = Slow()
    threads = [Thread(target=budgets.spend, args=("", 0.6)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 1


def test_spending_survives_a_restart(tmp_path: Path) -> None:
    settings = BudgetSettings(daily=1.0, path=str(tmp_path / "new" / "spending.sqlite3"))
    first = Budgets(settings)
    first.spending.read()
    first.spend("team", 0.75)
    again = Budgets(settings)
    assert not again.spending.is_read
    again.spending.read()
    assert again.spent("team")["daily"] == again.spent()["monthly"] == 0.75
    assert again.reserve("team", 0.5) == "the daily budget"
    first.spend("team", 0.125)  # another process, at the same time
    again.spend("", 0.0625)
    assert again.spent()["daily"] == 0.9375


async def test_explain_makes_no_file(simulated_vendor: Start, make: Make, tmp_path: Path) -> None:
    """To look is not to spend; and who looks after a restart sees what was spent before it."""
    vendor = simulated_vendor("openai-chat", Reply(TEXT, usage=COUNTED))
    path = tmp_path / "new" / "spending.sqlite3"
    switch = make(vendor, daily=10.0, path=str(path))
    assert (await switch.aexplain(TaskRequest("hi"))).targets
    assert switch.spent()["daily"] == 0.0
    assert not path.parent.exists()
    response = await outcome(switch)
    await switch.aclose()
    assert path.exists()
    again = make(vendor, daily=10.0, path=str(path))
    assert (await again.aspent())["daily"] == pytest.approx(cost_of([response])) != 0.0


def test_a_file_that_is_not_a_database_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "spending.sqlite3"
    path.write_text("this is no database, but it is long enough to be taken for one" * 100)
    with pytest.raises(ConfigurationError, match=r"budgets\.path: cannot be used: file is not a database"):
        Budgets(BudgetSettings(path=str(path))).spending.read()


def test_an_unfinished_write_counts_as_unwritten(tmp_path: Path) -> None:
    """Who closes a switch meanwhile waits for it."""
    spending = Budgets(BudgetSettings(path=str(tmp_path / "spending.sqlite3"))).spending
    spending.read()
    asked: list[bool] = []

    class Watched(sqlite3.Connection):
        def executemany(self, *args: Any) -> sqlite3.Cursor:
            asked.append(spending.is_unwritten)
            return super().executemany(*args)

    connect = sqlite3.connect
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sqlite3, "connect", lambda path, timeout: connect(path, timeout, factory=Watched))
        spending.add([("", "2026-11-21")], 0.5)
    assert asked == [True]
    assert not spending.is_unwritten


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets = Budgets(BudgetSettings(path=str(tmp_path / "spending.sqlite3")))
    budgets.spending.read()

    def full(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", full)
        budgets.spend("", 0.25)
    budgets.spend("", 0.5)
    assert budgets.spent()["daily"] == 0.75
    again = Budgets(BudgetSettings(path=str(tmp_path / "spending.sqlite3")))
    again.spending.read()
    assert again.spent()["daily"] == 0.75


# ── in a switch ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_is_sent_after_the_daily_budget_is_spent(simulated_vendor: Start, make: Make) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT, usage=COUNTED))
    switch = make(vendor, daily=0.1)
    first, second = await outcome(switch), await outcome(switch)
    assert first.cost == pytest.approx(COST)
    assert isinstance(second.error, BudgetExceededError)
    assert "is left of the daily budget" in str(second.error)
    assert len(vendor.requests) == 1
    assert switch.spent()["daily"] == cost_of([first])


async def test_namespaces_do_not_spend_each_others_money(simulated_vendor: Start, make: Make) -> None:
    switch = make(simulated_vendor("openai-chat", Reply(TEXT, usage=COUNTED)), namespaces={"poor": {"monthly": 0.01}})
    poor = TaskRequest("hi", max_tokens=50, metadata={"namespace": "poor"})
    rich = TaskRequest("hi", max_tokens=50, metadata={"namespace": "rich"})
    assert isinstance((await outcome(switch, poor)).error, BudgetExceededError)
    assert (await outcome(switch, rich)).error is None
    assert switch.spent("poor")["daily"] == 0
    assert switch.spent("rich")["daily"] == switch.spent()["daily"] == pytest.approx(COST)


async def test_a_request_has_a_budget_of_its_own(simulated_vendor: Start, make: Make) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT * 10, usage=COUNTED))
    switch = make(vendor)
    refused = await outcome(switch, max_cost=0.01)
    assert isinstance(refused.error, BudgetExceededError) and vendor.requests == []
    ended = await outcome(switch, max_cost=0.1)
    assert isinstance(ended.error, StreamBudgetExceededError)
    assert ended.error.partial == ended.text
    assert 0 < len(ended.text) < len(TEXT * 10)
    assert ended.error.usage.cost == ended.cost == pytest.approx(0.1, abs=0.01)
    assert ended.attempts[0].outcome == "cancelled"
    assert (await outcome(switch, max_cost=1.0)).error is None


async def test_an_attempt_that_failed_costs_and_counts(simulated_vendor: Start, make: Make) -> None:
    vendor = simulated_vendor("openai-chat", [Reply(TEXT, usage=COUNTED), Reply(fault=HttpError(500))])
    switch = make(vendor, daily=10.0)
    responses = [await outcome(switch) for _ in range(3)]
    assert [response.error is None for response in responses] == [True, False, False]
    assert switch.spent()["daily"] == pytest.approx(cost_of(responses))
    assert switch._shared.traffic.budgets._reserved == {"": 0.0}


async def test_five_hundred_concurrent_requests_stay_within_the_budget(
    simulated_vendor: Start, make: Make, tmp_path: Path
) -> None:
    """Overshoot is at most what was reserved; what is spent is what the ledger has; and after a restart it still is."""
    vendor = simulated_vendor("openai-chat", Reply(TEXT, usage=COUNTED))
    told: list[BudgetAlert] = []
    path = str(tmp_path / "spending.sqlite3")
    budgets = {"daily": 3.0, "namespaces": {"team": {"daily": 1.0}}, "path": path}
    switch = make(vendor, told.append, **budgets)
    requests = [
        TaskRequest("hi", max_tokens=50, metadata={"namespace": "team"} if number % 2 else {}) for number in range(500)
    ]
    responses = await asyncio.gather(*(outcome(switch, request) for request in requests))
    served = [response for response in responses if response.error is None]
    assert {type(response.error) for response in responses} == {type(None), BudgetExceededError}
    spent = switch.spent()["daily"]
    assert spent == pytest.approx(cost_of(responses)) == pytest.approx(COST * len(served))
    reserved_each = (1 + 50) / 1_000
    assert 3.0 - 2 * COST <= spent <= 3.0 + len(served) * (COST - reserved_each)
    assert switch.spent("team")["daily"] <= 1.0 + COST * 20
    assert len(vendor.requests) == len(served)
    assert sorted(alert.namespace for alert in told) == ["", "team"]
    await switch.aclose()
    again = make(vendor, **budgets)
    refused = await outcome(again)
    assert isinstance(refused.error, BudgetExceededError)
    assert again.spent()["daily"] == pytest.approx(spent)


async def test_an_answer_ends_when_its_budget_is_spent(simulated_vendor: Start, make: Make) -> None:
    vendor = simulated_vendor("openai-chat", Reply("word " * 4_000, usage=None))
    switch = make(vendor, daily=1.0)
    response = await outcome(switch)
    assert isinstance(response.error, LLMDispatcherError) and "the daily budget is spent" in str(response.error)
    assert switch.spent()["daily"] == pytest.approx(1.0, abs=0.15)
