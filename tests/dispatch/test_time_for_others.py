"""Every clock of an attempt is shared out within `total`: a healthy target has time to answer, whatever others do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Literal, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from llm_dispatcher._dispatch import Job, Ledger, attempts
from llm_dispatcher._resilience import Flow, Resilience, Timeouts
from llm_dispatcher.events import TextDelta
from llm_dispatcher.exceptions import ProviderConnectionError, ProviderTimeoutError
from llm_dispatcher.provider import Ask, Finished, Opened, Piece, ProviderSettings
from llm_dispatcher.tasks import Target, TaskRequest
from tests.faults.leaping_loop import leap_through

TEXT = "abcdefghijklmnopqrstuvwxyz"

Trouble: TypeAlias = Literal["unreachable", "silent", "stall", "drip", "cut", "none"]


class Plan(Struct, frozen=True):
    """What a target does: after `delivered` letters, it is in trouble. Its pauses last `pause` seconds each."""

    trouble: Trouble
    delivered: int = 3
    pause: float = 0.0
    timeouts: Timeouts = Timeouts()
    max_retries: int = 0


class Vendor:
    """A vendor that follows a plan. It continues an open turn."""

    def __init__(self, plan: Plan) -> None:
        self.settings = ProviderSettings(name="v", kind="scripted")
        self.plan = plan

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        plan = self.plan
        if plan.trouble == "unreachable":
            await (asyncio.Event().wait() if ask.connect_timeout is None else asyncio.sleep(ask.connect_timeout))
            raise ProviderTimeoutError("no connection", clock="connect")
        yield Opened()
        if plan.trouble == "silent":
            await asyncio.Event().wait()
        turn = ask.request.messages[-1].text if ask.request.messages else ""
        rest = TEXT.removeprefix(turn)
        for number, letter in enumerate(rest):
            if plan.trouble != "none" and number >= plan.delivered:
                await self._fail()
            await asyncio.sleep(plan.pause)
            yield letter
        yield Finished("stop", "stop")

    async def _fail(self) -> None:
        match self.plan.trouble:
            case "stall":
                await asyncio.Event().wait()
            case "cut":
                raise ProviderConnectionError("cut")
            case _:
                await asyncio.sleep(0.5)

    async def prepare(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def read(plans: list[Plan], total: float) -> tuple[str, Ledger]:
    """The text of a stream over these targets, in virtual time, and its ledger."""
    targets = {Target(f"v{number}", "m"): plan for number, plan in enumerate(plans)}
    vendors = {target: Vendor(plan) for target, plan in targets.items()}
    job = Job(
        request=TaskRequest("Go."),
        targets=tuple(targets),
        provider=vendors.__getitem__,
        style=lambda target: "prefill",
        resilience=Resilience(timeouts=Timeouts(total=total)),
        overrides=lambda target: Resilience(
            timeouts=targets[target].timeouts, max_retries=targets[target].max_retries, backoff=0.01
        ),
        ledger=Ledger(),
    )

    async def text() -> str:
        return "".join([event.text async for event in attempts(job) if isinstance(event, TextDelta)])

    return leap_through(text), job.ledger


seconds = st.floats(0.05, 400)
own_clocks = st.builds(
    Timeouts,
    connect=st.none() | seconds,
    first_token=st.none() | seconds,
    idle=seconds,
    flow=st.builds(Flow, st.just(1000), seconds),
    total=st.just(0.001),  # that of a target does not count
)
troubled = st.builds(
    Plan,
    st.sampled_from(["unreachable", "silent", "stall", "drip", "cut"]),
    st.integers(0, 6),
    timeouts=own_clocks,
    max_retries=st.integers(0, 2),
)


@given(st.lists(troubled, min_size=1, max_size=3), st.floats(0.5, 300))
def test_the_last_healthy_target_completes_the_answer_whatever_the_others_and_their_clocks_do(
    plans: list[Plan], total: float
) -> None:
    text, ledger = read([*plans, Plan("none", timeouts=Timeouts(flow=Flow(1000, 100)))], total)
    assert text == TEXT
    assert sum(attempt.elapsed for attempt in ledger) < total


@pytest.mark.parametrize("trouble", ["unreachable", "silent", "stall", "drip"])
def test_a_call_with_eight_seconds_is_answered_by_the_second_target(trouble: Trouble) -> None:
    """Also where the first one has clocks that are far longer than the call."""
    patient = Timeouts(connect=60, first_token=60, idle=60, flow=Flow(6000, 60))
    text, ledger = read([Plan(trouble, timeouts=patient, max_retries=2), Plan("none")], 8)
    assert text == TEXT
    assert [attempt.target.provider for attempt in ledger] == ["v0", "v1"]
    assert 3.9 <= ledger[0].elapsed <= 5


def test_a_shorter_clock_of_one_target_is_its_own() -> None:
    hasty = Timeouts(connect=0.5, first_token=0.5, idle=0.5)
    text, ledger = read([Plan("stall", timeouts=hasty), Plan("none", pause=0.7)], 60)
    assert text == TEXT
    assert ledger[0].elapsed == pytest.approx(0.5, abs=0.01)


def test_a_target_whose_connection_broke_late_is_asked_again_within_its_share_of_what_is_left() -> None:
    """Its share of the whole time is over. But it was not silent, and it continues its own answer best."""
    text, ledger = read([Plan("cut", delivered=24, pause=0.2, max_retries=1), Plan("none")], 8)
    assert text == TEXT
    assert [attempt.target.provider for attempt in ledger] == ["v0", "v0"]


def test_a_target_that_stalled_gets_no_second_share() -> None:
    text, ledger = read([Plan("stall", delivered=24, pause=0.1, max_retries=1), Plan("none")], 8)
    assert text == TEXT
    assert [attempt.target.provider for attempt in ledger] == ["v0", "v1"]
