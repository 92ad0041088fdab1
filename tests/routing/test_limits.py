"""Rate limits: those that the operator sets, and those that vendors tell of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import force_setattr

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher._routing import SharedState
from llm_dispatcher._routing.rate_limits import SOON, Limiter
from llm_dispatcher._routing.token_bucket import Semaphore, TokenBucket
from llm_dispatcher.exceptions import ProviderError, ProviderRateLimitError, RequestTimeoutError
from llm_dispatcher.provider import LONGEST_WAIT, Allowance, Limits, ModelSettings, ProviderSettings, Remaining
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import HttpError, Reply, SimulatedVendor, Stall
from tests.conftest import PATIENT, examples
from tests.faults.leaping_loop import leap_through

A = Target("a", "m")
Start = Callable[..., SimulatedVendor]


@given(st.integers(1, 600), st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), max_size=60))
def test_a_bucket_gives_no_more_than_it_had_and_got(a_minute: int, steps: list[tuple[float, int]]) -> None:
    now = 0.0
    bucket = TokenBucket(a_minute, lambda: now)
    taken: list[tuple[float, int]] = []
    for wait, amount in steps:
        now += wait
        if amount <= a_minute and bucket.seconds_until(amount) == 0.0:
            bucket.take(amount)
            taken.append((now, amount))
    for begin, (start, _) in enumerate(taken):
        total = 0
        for when, amount in taken[begin:]:
            total += amount
            assert total <= a_minute + (when - start) * a_minute / 60 + 1e-6


@given(st.integers(1, 600), st.integers(1, 1_000))
def test_a_bucket_admits_after_the_wait_it_names(a_minute: int, amount: int) -> None:
    now = 0.0
    bucket = TokenBucket(a_minute, lambda: now)
    bucket.take(a_minute)
    now += bucket.seconds_until(amount)
    assert bucket.seconds_until(amount) < 1e-6


@given(
    st.floats(0, 1),
    st.floats(1, 1_000_000),
    st.floats(0.001, LONGEST_WAIT),
    st.lists(st.floats(1, 100_000), max_size=5),
)
def test_what_a_vendor_reported_does_not_outlive_its_own_time(
    share_left: float, limit: float, full_in: float, amounts: list[float]
) -> None:
    """Also an absurd report, such as one token a day: two minutes after its time, the bucket is full."""
    now = 0.0
    bucket = TokenBucket(600, lambda: now)
    bucket.set_level(share_left * limit, limit, full_in)
    for amount in amounts:
        bucket.take(amount)
    now += full_in
    assert bucket.seconds_until(limit) < 121
    now += 121
    assert bucket.seconds_until(limit) == 0.0
    bucket.take(limit)
    assert bucket.seconds_until(limit) <= 60.001


def limiter(**limits: Any) -> tuple[Limiter, list[float]]:
    """A limiter with a clock that is turned by hand."""
    now = [100.0]
    settings = ProviderSettings(
        name="a", kind="openai", limits=Limits(**limits) if limits else None,
        models={"m": ModelSettings(), "small": ModelSettings(limits=Limits(requests_per_minute=1))},
    )  # fmt: skip
    return Limiter({"a": settings}, lambda: now[0]), now


async def test_a_models_limit_stands_beside_its_providers() -> None:
    gates, _ = limiter(requests_per_minute=2)
    small = Target("a", "small")
    assert await gates.lease(small, 1).take(0)
    assert not await gates.lease(small, 1).take(0)
    assert await gates.lease(A, 1).take(0)
    assert not await gates.lease(A, 1).take(0), "the provider's two are gone"
    assert gates.exhausted() == {A: pytest.approx(30), small: pytest.approx(60)}


async def test_tokens_that_were_not_used_are_given_back() -> None:
    gates, _ = limiter(tokens_per_minute=1_000)
    entry = gates.lease(A, 900)
    assert await entry.take(0)
    assert gates.seconds_until(A, 500) > 0
    entry.count(100)
    entry.leave()
    assert gates.seconds_until(A, 900) == 0


async def test_reported_rate_limits_are_respected() -> None:
    gates, now = limiter()
    gates.hear(A, Allowance(requests=Remaining(0, 60, 30)))
    assert gates.seconds_until(A, 1) == pytest.approx(0.5), "sixty come back in thirty seconds: one in half of one"
    now[0] += 0.6
    assert gates.seconds_until(A, 1) == 0
    gates.close_for(A, 12.0)
    assert gates.exhausted() == {A: pytest.approx(12.0)}


@pytest.mark.parametrize("after", [None, 1, 3])
async def test_a_reload_while_requests_wait_in_line_loses_no_slot(after: int | None) -> None:
    """Each gives its slot back where it has taken it; and where the limit is lifted, nobody waits for it any more."""

    def settings(count: int | None) -> dict[str, ProviderSettings]:
        return {"a": ProviderSettings(name="a", kind="openai", limits=Limits(concurrent_streams=count))}

    gates = Limiter(settings(1), lambda: 100.0)
    first, second = gates.lease(A, 1), gates.lease(A, 1)
    assert await first.take(0)
    waiting = asyncio.create_task(second.take(60))
    await asyncio.sleep(0)
    gates.adopt(settings(None))
    gates.adopt(settings(after))
    assert await waiting
    second.leave()
    first.leave()
    entries = [gates.lease(A, 1) for _ in range(5)]
    assert sum([await entry.take(0) for entry in entries]) == (5 if after is None else after)


@pytest.mark.parametrize("leaving", ["in line", "before its turn", "at its turn", "never"])
async def test_slots_are_passed_on_in_line(leaving: str) -> None:
    slots = Semaphore(1)
    assert await slots.acquire(0)
    assert not await slots.acquire(0)
    order: list[int] = []

    async def wait(number: int) -> None:
        assert await slots.acquire(10)
        order.append(number)
        slots.release()

    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    await asyncio.sleep(0)
    if leaving == "in line":
        waiting[1].cancel()
        await asyncio.sleep(0)
    slots.release()
    if leaving == "before its turn":
        waiting[0].cancel()
    elif leaving == "at its turn":
        asyncio.get_running_loop().call_soon(waiting[0].cancel)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == {"in line": [0, 2], "never": [0, 1, 2]}.get(leaving, [1, 2])
    assert await slots.acquire(0), "none was lost"


async def test_a_task_that_survived_a_cancellation_stops_waiting_in_time() -> None:
    slots = Semaphore(1)
    assert await slots.acquire(0)

    async def wait() -> bool:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await slots.acquire(0.001)
        return True

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    assert not await waiting


async def test_a_request_stops_waiting_when_its_time_is_over() -> None:
    slots = Semaphore(1)
    assert await slots.acquire(0)
    assert not await slots.acquire(0.001)
    slots.release()
    assert not slots.is_full


@pytest.mark.found("B-24")
def test_requests_waiting_for_the_vendors_time_are_spread_out() -> None:
    """A hundred requests wait for it. None is early, and they do not come in one instant."""

    async def wait() -> list[float]:
        loop = asyncio.get_running_loop()
        gates = Limiter({}, loop.time)
        gates.close_for(A, 2.0)

        async def one() -> float:
            assert await gates.lease(A, 1.0).take(60.0)
            return loop.time()

        return sorted(await asyncio.gather(*(one() for _ in range(100))))

    times = leap_through(wait)
    assert times[0] >= 2.0 - 1e-6
    assert times[-1] <= 4.0 + 1e-6, "as long again as the vendor said, at most"
    assert times[90] - times[10] > 1.0


def test_requests_waiting_for_a_bucket_wait_exactly() -> None:
    """Each request takes its share at once, so these waits differ by themselves."""

    async def wait() -> list[float]:
        loop = asyncio.get_running_loop()
        provider = ProviderSettings(name="a", kind="openai", limits=Limits(requests_per_minute=60))
        gates = Limiter({"a": provider}, loop.time)

        async def one() -> float:
            assert await gates.lease(A, 1.0).take(60.0)
            return loop.time()

        return sorted(await asyncio.gather(*(one() for _ in range(63))))

    assert leap_through(wait) == pytest.approx([0.0] * 60 + [1.0, 2.0, 3.0])


def test_the_spread_does_not_outlast_the_patience_of_a_request() -> None:
    async def wait() -> float:
        loop = asyncio.get_running_loop()
        gates = Limiter({}, loop.time)
        gates.close_for(A, 2.0)
        assert await gates.lease(A, 1.0).take(2.1)
        return loop.time()

    assert all(2.0 - 1e-6 <= leap_through(wait) <= 2.1 + 1e-6 for _ in range(20))


@given(
    st.integers(3, 60),
    st.lists(st.tuples(st.floats(0, 8), st.booleans()), min_size=4, max_size=40),
    st.floats(0, 60),
)
@settings(max_examples=examples(60), deadline=None)
def test_requests_that_a_retry_after_delays_stay_within_the_limit(
    a_minute: int, requests: list[tuple[float, bool]], closed: float
) -> None:
    """In any time: a minute's amount at once, and then as many as come back. Only one of the two models is closed."""

    async def send_all() -> list[float]:
        loop = asyncio.get_running_loop()
        provider = ProviderSettings(name="a", kind="openai", limits=Limits(requests_per_minute=a_minute))
        gates = Limiter({"a": provider}, loop.time)
        gates.close_for(A, closed)
        sent: list[float] = []

        async def send(after: float, target: Target) -> None:
            await asyncio.sleep(after)
            if await gates.lease(target, 1.0).take(90.0):
                sent.append(loop.time())

        await asyncio.gather(*(send(after, A if is_closed else Target("a", "other")) for after, is_closed in requests))
        return sorted(sent)

    sent = leap_through(send_all)
    assert sent
    for first, began in enumerate(sent):
        for last in range(first, len(sent)):
            most = a_minute + (sent[last] - began + SOON) * a_minute / 60
            assert last - first + 1 <= most + 1e-6


# ── in a switch ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def limited() -> AsyncIterator[Callable[..., LLMSwitch]]:
    made: list[LLMSwitch] = []

    def make(limits: dict[str, Any], *vendors: SimulatedVendor, **resilience: Any) -> LLMSwitch:
        """The first vendor has these limits."""
        providers: dict[str, Any] = {}
        for name, vendor in zip("ab", vendors, strict=False):
            entry = {"kind": "openai", "api": "chat", "api_key": "test-key", "base_url": vendor.base_url}
            providers[name] = {**entry, "models": ["m"], **({"limits": limits} if name == "a" and limits else {})}
        made.append(LLMSwitch({"providers": providers, "resilience": {"max_retries": 0, **PATIENT, **resilience}}))
        # Its time stands still: however long a test takes, nothing comes back meanwhile.
        force_setattr(made[-1]._shared, "traffic", SharedState(made[-1].policy, clock=lambda: 100.0))
        return made[-1]

    yield make
    for switch in made:
        await switch.aclose()


async def ask(switch: LLMSwitch, **more: Any) -> str:
    return await switch.stream_request(TaskRequest("hi", **more))


async def test_the_next_target_is_asked_after_the_limit_of_requests(
    simulated_vendor: Start, limited: Callable[..., LLMSwitch]
) -> None:
    first, second = simulated_vendor("openai-chat", Reply("A")), simulated_vendor("openai-chat", Reply("B"))
    switch = limited({"requests_per_minute": 3}, first, second)
    assert [await ask(switch) for _ in range(5)] == ["A", "A", "A", "B", "B"]
    assert str(switch.explain(TaskRequest("hi"))).splitlines()[-1].startswith("-  a/m: its rate limit is spent for")


async def test_concurrent_requests_stay_within_the_limit(
    simulated_vendor: Start, limited: Callable[..., LLMSwitch]
) -> None:
    first, second = simulated_vendor("openai-chat", Reply("A")), simulated_vendor("openai-chat", Reply("B"))
    switch = limited({"requests_per_minute": 10}, first, second)
    await asyncio.gather(*(ask(switch) for _ in range(40)))
    assert (len(first.requests), len(second.requests)) == (10, 30)


async def test_a_limit_with_waiting_delays_requests_and_refuses_none(
    simulated_vendor: Start, limited: Callable[..., LLMSwitch]
) -> None:
    first, second = simulated_vendor("openai-chat", Reply("A", pace=0.01)), simulated_vendor("openai-chat", Reply("B"))
    switch = limited({"concurrent_streams": 2, "on_limit": "wait"}, first, second, max_retry_after=3_600)
    assert await asyncio.gather(*(ask(switch) for _ in range(12))) == ["A"] * 12
    assert second.requests == []


async def test_a_request_waits_or_says_when_to_retry_if_no_other_target_can_serve(
    simulated_vendor: Start, limited: Callable[..., LLMSwitch]
) -> None:
    only = simulated_vendor("openai-chat", Reply("A"))
    switch = limited({"requests_per_minute": 1200}, only)
    switch._shared.traffic.limiter.lease(A, 0)._change(1200, 0)  # as if so many had been sent: the next may go in 50 ms
    assert await ask(switch) == "A"
    hasty = limited({"requests_per_minute": 1}, only, max_retry_after=1)
    assert await ask(hasty) == "A"
    with pytest.raises(ProviderRateLimitError, match=r"its rate limit is spent for 60 s more"):
        await ask(hasty)


async def test_waiting_in_line_ends_with_the_time_of_the_call(
    simulated_vendor: Start, limited: Callable[..., LLMSwitch]
) -> None:
    first, second = (simulated_vendor("openai-chat", Reply("One two.", fault=Stall(1))) for _ in range(2))
    switch = limited({"concurrent_streams": 1, "on_limit": "wait"}, first, second, max_retry_after=3_600)
    async with switch.stream_request(TaskRequest("hi")) as held:
        reader = aiter(held)
        assert await anext(reader) == "One"
        in_line = switch.stream_request(TaskRequest("hi", model="a/m"), timeout=0.05)
        async with asyncio.timeout(60):
            with pytest.raises(RequestTimeoutError, match=r"within 0.05 s \(the total clock\)"):
                await in_line
    assert len(first.requests) == 1


async def test_a_vendor_is_not_asked_before_its_retry_after(
    simulated_vendor: Start, limited: Callable[..., LLMSwitch]
) -> None:
    busy = simulated_vendor("openai-chat", Reply(fault=HttpError(429, retry_after=60)))
    other = simulated_vendor("openai-chat", Reply("B"))
    switch = limited({}, busy, other)
    assert [await ask(switch) for _ in range(3)] == ["B"] * 3
    assert len(busy.requests) == 1


async def test_the_headers_of_an_answer_move_traffic_away(
    simulated_vendor: Start, limited: Callable[..., LLMSwitch]
) -> None:
    spent = {
        "x-ratelimit-limit-requests": "2", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120s",
    }  # fmt: skip
    told = simulated_vendor("openai-chat", Reply("A", headers=spent))
    switch = limited({}, told, simulated_vendor("openai-chat", Reply("B")))
    assert [await ask(switch) for _ in range(3)] == ["A", "B", "B"]


async def test_a_stream_that_is_left_gives_its_slot_back(
    simulated_vendor: Start, limited: Callable[..., LLMSwitch]
) -> None:
    vendor = simulated_vendor("openai-chat", Reply("one two", fault=Stall(1)))
    switch = limited({"concurrent_streams": 1}, vendor, max_retry_after=0)
    async with switch.stream_request(TaskRequest("hi")) as stream:
        async for _ in stream:
            break
    vendor.script = Reply("A")
    assert await ask(switch) == "A"
    vendor.script = Reply(fault=HttpError(500))
    with pytest.raises(ProviderError):
        await ask(switch)
    vendor.script = Reply("A")
    assert await ask(switch) == "A"
