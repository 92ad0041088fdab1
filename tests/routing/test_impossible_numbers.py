"""Numbers that make no sense: they cost nobody an answer, a slot, money or a vendor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import force_setattr

from llm_dispatcher import LLMSwitch, TaskRequest, TaskResponse
from llm_dispatcher import _catalog as catalog
from llm_dispatcher._catalog import Capabilities
from llm_dispatcher._dispatch import Job, Ledger, attempts
from llm_dispatcher._policy import BudgetSettings, Policy, Route
from llm_dispatcher._resilience import BreakerSettings, Resilience
from llm_dispatcher._routing import Admission, RequestFacts, SharedState, demands
from llm_dispatcher._routing.health import Health
from llm_dispatcher._routing.rate_limits import Lease, Limiter
from llm_dispatcher._routing.token_bucket import TokenBucket
from llm_dispatcher.events import Attempt, StreamCompleted, Usage
from llm_dispatcher.exceptions import InvalidRequestError, ProviderError
from llm_dispatcher.provider import (
    LONGEST_WAIT,
    Allowance,
    Ask,
    Finished,
    Limits,
    Opened,
    Piece,
    ProviderSettings,
    Remaining,
)
from llm_dispatcher.provider._errors import ErrorReply, error_for
from llm_dispatcher.provider._rate_limit_headers import allowance, believable, reset_after, retry_after
from llm_dispatcher.tasks import MOST_TOKENS, Target
from llm_dispatcher.testing import HttpError, Reply, SaidUsage, SimulatedVendor
from tests.conftest import KINDS, PATIENT
from tests.dispatch.test_loop import Scripted

Start = Callable[..., SimulatedVendor]
Over = Callable[..., LLMSwitch]
A = Target("a", "m")
ASK = TaskRequest("Hello?")
HUGE = 10**400
PRICES = {"a/m": {"input_price": 1, "output_price": 2}}


def said(**counts: int) -> SaidUsage:
    """A usage report with these counts, whether they are possible or not."""
    usage = SaidUsage()
    for name, count in counts.items():
        force_setattr(usage, name, count)
    return usage


@pytest.fixture
async def over() -> AsyncIterator[Over]:
    """A switch over one vendor with two slots, a rate limit and a budget."""
    made: list[LLMSwitch] = []

    def make(vendor: SimulatedVendor, model: str = "m", **more: Any) -> LLMSwitch:
        entry = {**KINDS[vendor.wire], "api_key": "test-key", "base_url": vendor.base_url, "models": [model]}
        limits = {"concurrent_streams": 2, "tokens_per_minute": 100_000}
        resilience = {"max_retries": 0, "max_retry_after": 1, **PATIENT}
        policy = {"providers": {"a": {**entry, "limits": limits}}, "budgets": {"daily": 100}, "resilience": resilience}
        made.append(LLMSwitch({**policy, **more}))
        return made[-1]

    yield make
    for switch in made:
        await switch.aclose()


async def outcome(switch: LLMSwitch) -> TaskResponse:
    stream = switch.stream_request(ASK)
    async for _ in stream.events():
        pass
    return stream.response


# ── what an attempt held is given back, whatever was said of it ────────────────────────────────────────────────────


@pytest.mark.found("B-01")
@pytest.mark.parametrize("wire", ["openai-chat", "openai-responses", "google"])
async def test_more_cached_tokens_than_input_tokens_are_priced_and_recorded(
    wire: str, simulated_vendor: Start, over: Over
) -> None:
    """Gateways that leave cached tokens out of the input report this. The models have real prices."""
    vendor = simulated_vendor(wire, Reply("Hello there.", usage=said(input=7, output=3, cached=50)))
    switch = over(vendor, "gemini-2.5-flash" if wire == "google" else "gpt-4o-mini")
    responses = [await outcome(switch) for _ in range(4)]  # twice as many as there are slots
    assert [response.text for response in responses] == ["Hello there."] * 4
    assert all(response.error is None and len(response.attempts) == 1 for response in responses)
    assert all(response.cost for response in responses)
    assert switch.spent()["daily"] == pytest.approx(sum(response.cost or 0.0 for response in responses))
    assert switch._shared.traffic.budgets._reserved == {"": 0.0}


@pytest.mark.found("B-01", "B-12")
@given(
    st.sampled_from(["gpt-4o-mini", "gpt-5", "o3", "gpt-4-turbo"]),
    st.tuples(*[st.integers(0, MOST_TOKENS)] * 4),
)
def test_every_believable_usage_has_a_price(model: str, counts: tuple[int, ...]) -> None:
    dollars = catalog.cost("openai", model, Usage(counts[0], counts[1], 0, counts[2], counts[3], source="reported"))
    assert dollars is not None
    assert 0 <= dollars < 1_000_000


class FailingError(Exception):
    """What an account raises here."""


def fail(*args: object, **settings: object) -> Any:
    raise FailingError("out of ink")


def traffic_of_one_slot_and_one_probe() -> SharedState:
    """Its target has one slot, and a breaker that is half open: it lets in one probe at a time."""
    provider = ProviderSettings(name="a", kind="openai", limits=Limits(concurrent_streams=1))
    breaker = BreakerSettings(failures=1, cooldown=1.0)
    now = [100.0]
    traffic = SharedState(
        Policy({"a": provider}, Route((A,)), resilience=Resilience(breaker=breaker), budgets=BudgetSettings(daily=1.0)),
        clock=lambda: now[0],
    )
    era = traffic.health.enter(A) or 0
    traffic.health._breakers[A].note(era, failed=True)
    now[0] += 2.0
    return traffic


@pytest.mark.found("B-01", "B-12")
@pytest.mark.parametrize("broken", ["price", "health", "rate limits", "cost", "outcome"])
async def test_failed_bookkeeping_loses_no_answer_and_no_slot(
    broken: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever account fails: the answer is complete, the others are told, and slot, pass and money come back."""
    traffic, ledger = traffic_of_one_slot_and_one_probe(), Ledger()
    match broken:
        case "price":
            pass
        case "health":
            monkeypatch.setattr(traffic.health, "note", fail)
        case "rate limits":
            monkeypatch.setattr(Lease, "count", fail)
        case "cost":
            monkeypatch.setattr(traffic.budgets, "spend", fail)
        case _:
            monkeypatch.setattr(ledger, "add", fail)

    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        yield "Hello."
        assert traffic.budgets._reserved[""] > 0
        yield Finished("stop", "stop")

    priced = Capabilities(input_price=1.0, output_price=1.0)
    facts = RequestFacts(demands=demands(ASK), capabilities=lambda target: priced)
    job = Job(
        request=ASK, targets=(A,), provider=lambda target: Scripted(answer), style=lambda target: "anchored",
        resilience=Resilience(), ledger=ledger, admission=Admission(traffic, facts),
        price=fail if broken == "price" else lambda target, usage: 0.5,
    )  # fmt: skip
    events = [event async for event in attempts(job)]
    assert isinstance(events[-1], StreamCompleted)
    assert len(ledger) == (broken != "outcome")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"a/m: could not record the {broken} of an attempt: FailingError: out of ink" in warnings
    slots = traffic.limiter.lease(A, 1.0)._limits[0].semaphore
    assert slots is not None and not slots.is_full
    assert traffic.budgets._reserved == {"": 0.0}
    assert traffic.health._breakers[A]._probes == 0
    assert traffic.budgets.spent()["daily"] == (0.5 if broken in ("health", "rate limits") else 0.0)
    told = broken not in ("health", "outcome")
    assert (A in traffic.health.snapshot()) == traffic.health._breakers[A].is_closed == told


# ── counts ─────────────────────────────────────────────────────────────────────────────────────────────────────────

IMPOSSIBLE = [said(input=HUGE, output=HUGE), said(input=10**15, output=10**15), said(input=-(10**6), output=-(10**6)),
              said(input=1, output=MOST_TOKENS + 1)]  # fmt: skip


@pytest.mark.found("B-12")
@pytest.mark.parametrize("usage", IMPOSSIBLE, ids=["400 digits", "10^15", "negative", "one too many"])
@pytest.mark.parametrize("wire", list(KINDS))
async def test_an_impossible_count_is_not_believed_and_the_attempt_is_estimated(
    wire: str, usage: SaidUsage, simulated_vendor: Start, over: Over
) -> None:
    vendor = simulated_vendor(wire, [Reply("Hello there.", usage=usage), *[Reply("Hello there.")] * 2])
    switch = over(vendor, catalog=PRICES)
    responses = [await outcome(switch) for _ in range(3)]
    assert [response.text for response in responses] == ["Hello there."] * 3
    assert [response.usage.source for response in responses] == ["estimated", "reported", "reported"]
    assert 0 < responses[0].usage.total_tokens < 100
    assert 0 < switch.spent()["daily"] < 0.001
    assert switch._shared.traffic.budgets._reserved == {"": 0.0}
    assert switch.health()[A].tokens_a_second is not None


@pytest.mark.found("B-12")
def test_health_keeps_no_sample_that_it_cannot_count_with() -> None:
    """No provider gets such a count past the loop. If one did, the attempts after it would still be noted."""
    health = Health(lambda target: Resilience(), lambda: 100.0)

    def note(output: int) -> None:
        attempt = Attempt(A, 1, "completed", None, 5, "", None, Usage(output_tokens=output), None, 0.5, 1.5)
        health.note(attempt, health.enter(A) or 0)

    note(20)
    with pytest.raises(OverflowError):
        note(HUGE)
    note(20)
    assert health.snapshot()[A].tokens_a_second == pytest.approx(20)


@pytest.mark.found("B-12")
def test_a_debt_of_tokens_is_waited_for_no_longer_than_a_day() -> None:
    now = 0.0
    bucket = TokenBucket(600.0, lambda: now)
    bucket.take(10.0**15)
    now += LONGEST_WAIT + 61
    assert bucket.seconds_until(600) == 0


@pytest.mark.found("B-20")
async def test_a_limit_of_tokens_that_is_too_large_is_refused_by_name(simulated_vendor: Start, over: Over) -> None:
    vendor = simulated_vendor("openai-chat")
    switch = over(vendor)
    for number in (MOST_TOKENS + 1, HUGE, 10**5_000):
        request = TaskRequest("Hello?", max_tokens=number)
        with pytest.raises(InvalidRequestError, match="max_tokens is more than 100000000: give a smaller number"):
            await switch.stream_request(request)
        with pytest.raises(InvalidRequestError, match="max_tokens"):
            switch.explain(request)
    assert not vendor.requests
    assert await switch.stream_request(TaskRequest("Hello?", max_tokens=MOST_TOKENS, model="a/m"))


# ── times ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def limits_that_reset_in(duration: str) -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": duration,
    }


@pytest.mark.found("B-12")
@pytest.mark.parametrize("duration", ["9" * 400 + "s", "9" * 400 + "h1m", "8760h0m0s", "24h0m1s", "999999999"])
async def test_a_reset_that_is_too_far_away_is_not_believed(duration: str, simulated_vendor: Start, over: Over) -> None:
    vendor = simulated_vendor("openai-chat", Reply("Hello.", headers=limits_that_reset_in(duration)))
    switch = over(vendor)
    assert [(await outcome(switch)).text for _ in range(3)] == ["Hello."] * 3


@pytest.mark.found("B-12")
@pytest.mark.parametrize("seconds", [1e18, 31_536_000, 86_401])
async def test_a_retry_after_that_is_too_long_is_not_believed(
    seconds: float, simulated_vendor: Start, over: Over
) -> None:
    refusal = Reply(fault=HttpError(429, retry_after=seconds))
    vendor = simulated_vendor("openai-chat", [refusal, Reply("Hello.")])
    switch = over(vendor)
    error = (await outcome(switch)).error
    assert isinstance(error, ProviderError) and error.retry_after is None
    assert (await outcome(switch)).text == "Hello."


@pytest.mark.found("B-12")
@pytest.mark.parametrize("seconds", [float("inf"), 1e18, LONGEST_WAIT + 1, -1.0])
def test_a_limiter_believes_no_provider_that_shuts_a_target_for_more_than_a_day(seconds: float) -> None:
    """Also a provider of a third party, whose errors were not read by us."""
    limiter = Limiter({}, lambda: 100.0)
    limiter.close_for(A, seconds)
    limiter.hear(A, Allowance(Remaining(0, 10, seconds), Remaining(0, 10, seconds)))
    assert limiter.seconds_until(A, 1) == 0
    limiter.close_for(A, LONGEST_WAIT)
    assert limiter.seconds_until(A, 1) == LONGEST_WAIT


@pytest.mark.found("B-12")
async def test_a_reload_forgets_the_vendors_reports(simulated_vendor: Start, over: Over, tmp_path: Any) -> None:
    vendor = simulated_vendor("openai-chat", [Reply(fault=HttpError(429, retry_after=80_000)), Reply("Hello.")])
    file = tmp_path / "policy.yaml"
    file.write_text(
        f"providers: {{a: {{kind: openai, api: chat, api_key: test-key, base_url: '{vendor.base_url}', models: [m]}}}}"
    )
    async with LLMSwitch(file) as switch:
        assert [(await outcome(switch)).error is None for _ in range(2)] == [False, False]
        assert len(vendor.requests) == 1
        switch.reload()
        assert (await outcome(switch)).text == "Hello."


HEADERS = st.dictionaries(
    st.sampled_from([
        "retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-remaining", "x-ratelimit-reset-requests",
        "x-ratelimit-remaining-requests", "x-ratelimit-limit-requests", "anthropic-ratelimit-requests-reset",
        "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-limit",
    ]),
    st.one_of(
        st.text(max_size=30),
        st.integers(-10, 10**20).map(str),
        st.integers(300, 500).map(lambda digits: "9" * digits),
        st.from_regex(r"[0-9]{1,400}(ms|[smhd])([0-9]{1,20}(ms|[smhd]))?", fullmatch=True),
        st.from_regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:00:00(Z|[+-][0-9]{2}:00)?", fullmatch=True),
        st.from_regex(r"Mon, [0-9]{1,20} Jan [0-9]{1,20} 00:00:00 [+-][0-9]{4,9}", fullmatch=True),
    ),
)  # fmt: skip


@pytest.mark.found("B-12")
@given(HEADERS)
def test_no_header_breaks_its_reader_or_shuts_a_target_for_more_than_a_day(headers: Mapping[str, str]) -> None:
    assert (retry_after(headers) or 0.0) >= 0.0
    assert 0 <= (reset_after(headers) or 0.0) <= LONGEST_WAIT
    error = error_for(ErrorReply("busy", 429, headers=headers), A)
    assert error.retry_after is None or 0 <= error.retry_after <= LONGEST_WAIT
    limiter = Limiter({}, lambda: 100.0)
    if error.retry_after is not None:
        limiter.close_for(A, error.retry_after)
    if (told := allowance(headers, lambda: datetime(2026, 11, 1, tzinfo=UTC).timestamp())) is not None:
        limiter.hear(A, told)
    assert 0 <= limiter.seconds_until(A, 1.0) <= LONGEST_WAIT


def test_a_day_is_believed_and_more_is_not() -> None:
    assert believable(LONGEST_WAIT) == LONGEST_WAIT
    assert believable(LONGEST_WAIT + 1) is None and believable(None) is None


@pytest.mark.found("B-12")
async def test_slots_come_back_from_streams_that_are_left_at_once(simulated_vendor: Start, over: Over) -> None:
    """Both ends of an attempt at once, many times: nothing that was held stays so."""
    vendor = simulated_vendor("openai-chat", Reply("one two three", usage=said(input=HUGE)))
    switch = over(vendor)
    for _ in range(5):
        async with switch.stream_request(ASK) as stream:
            async for _ in stream:
                break
        await asyncio.sleep(0)
    assert (await outcome(switch)).text == "one two three"
