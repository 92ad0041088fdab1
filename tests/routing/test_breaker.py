"""The breaker of a target: against a model of it with a fake clock, and in a switch."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from llm_dispatcher import LLMSwitch, Target, TaskRequest
from llm_dispatcher._resilience import BreakerSettings
from llm_dispatcher._routing.breaker import Breaker, counts
from llm_dispatcher._routing.sliding_window import SLOTS
from llm_dispatcher.events import Failure
from llm_dispatcher.exceptions import AllProvidersFailedError, ProviderError
from llm_dispatcher.testing import Cut, HttpError, Reply, SimulatedVendor, Stall
from tests.conftest import policy_over
from tests.faults.leaping_loop import leap_through

SETTINGS = BreakerSettings(failures=3, window=10.0, cooldown=4.0, probes=2)
TARGET = Target("a", "m")


class BreakerMachine(RuleBasedStateMachine):
    """Any order of attempts, ends and time: the breaker does what the rules in its docstring say."""

    passes = Bundle("passes")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(TARGET, SETTINGS, lambda: self.now)
        self.state = "closed"
        self.opened_at = self.probed_at = 0.0
        self.era = 0
        self.probes = 0
        self.ends: list[tuple[float, bool]] = []

    def change(self, state: str) -> None:
        self.state, self.probes, self.ends = state, 0, []
        self.era += 1
        if state == "open":
            self.opened_at = self.now

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=passes)
    def an_attempt_begins(self) -> tuple[int | None, int]:
        cooled = self.now - self.opened_at >= SETTINGS.cooldown
        may = self.state == "closed" or (self.state == "open" and cooled)
        held = self.now - self.probed_at >= SETTINGS.cooldown
        may = may or (self.state == "half_open" and (self.probes < SETTINGS.probes or held))
        era = self.breaker.enter()
        assert (era is not None) == may
        if may and self.state == "open":
            self.change("half_open")
        if may and self.state == "half_open":
            self.probes += 1
            self.probed_at = self.now
        return era, self.era

    @rule(given=consumes(passes), failed=st.sampled_from([True, True, False, None]))
    def an_attempt_ends(self, given: tuple[int | None, int], failed: bool | None) -> None:
        era, began_in = given
        if era is None:
            return
        if failed is not None:
            self.breaker.note(era, failed=failed)
        self.breaker.leave(era)
        if began_in != self.era:
            return
        if self.state == "half_open":
            self.probes -= 1
            if failed is not None:
                self.change("open" if failed else "closed")
        elif failed is not None:
            self.ends.append((self.now, failed))
            slot = SETTINGS.window / SLOTS
            recent = [bad for when, bad in self.ends if int(when / slot) > int(self.now / slot) - SLOTS]
            in_a_row = all(bad for _, bad in self.ends[-3:])
            if failed and sum(recent) >= 3 and (in_a_row or 2 * sum(recent) >= len(recent)):
                self.change("open")

    @invariant()
    def it_says_what_it_is(self) -> None:
        cooled = self.now - self.opened_at >= SETTINGS.cooldown
        assert self.breaker.state == ("half_open" if self.state == "open" and cooled else self.state)

    @precondition(lambda self: self.state == "half_open" and self.now - self.probed_at < SETTINGS.cooldown)
    @invariant()
    def probes_that_are_out_keep_others_away_for_a_while(self) -> None:
        assert self.breaker.opens_in is None or self.probes >= SETTINGS.probes


TestBreaker = BreakerMachine.TestCase


@pytest.mark.parametrize(
    ("failure", "counted"),
    [
        (Failure("ProviderConnectionError", "reset"), True),
        (Failure("ProviderServiceUnavailableError", "down", status=503), True),
        (Failure("ProviderTimeoutError", "late first token"), True),
        (Failure("ProviderTimeoutError", "slow", status=408), True),
        (Failure("ProviderRateLimitError", "busy", status=429), True),
        (Failure("StreamTruncatedError", "cut"), True),
        (Failure("ProviderAuthenticationError", "key", status=401), False),
        (Failure("ProviderQuotaExceededError", "money", status=402), False),
        (Failure("ModelNotFoundError", "who?", status=404), False),
        (Failure("ContextLengthExceededError", "long", status=400), False),
        (Failure("InvalidRequestError", "wrong", status=400), False),
        (Failure("ContentFilterError", "no"), False),
        (Failure("RequestTimeoutError", "the caller's own clock"), False),
    ],
)
def test_only_failures_of_the_target_count(failure: Failure, counted: bool) -> None:
    assert counts(failure) == counted


def test_a_few_failures_among_many_answers_do_not_open_the_breaker() -> None:
    breaker = Breaker(TARGET, SETTINGS, lambda: 0.0)
    for end in range(100):
        era = breaker.enter()
        assert era is not None
        breaker.note(era, failed=end % 10 == 9)
        breaker.leave(era)
    assert breaker.state == "closed"


@pytest.mark.parametrize(("ends", "state"), [("FSFSSF", "open"), ("FSFSSSF", "closed")], ids=["half", "less than half"])
def test_three_failures_open_the_breaker_if_they_are_at_least_half(ends: str, state: str) -> None:
    breaker = Breaker(TARGET, SETTINGS, lambda: 0.0)
    for end in ends:
        breaker.note(breaker.enter() or 0, failed=end == "F")
    assert breaker.state == state


async def ask(switch: LLMSwitch) -> str:
    return await switch.stream_request(TaskRequest("hi"))


@pytest.mark.parametrize("fault", [HttpError(500), Cut(1), Stall(0), Stall(1)])
def test_a_target_with_an_open_breaker_is_not_asked(
    fault: HttpError | Cut | Stall, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_dispatcher")

    async def ask_six_times() -> None:
        async with (
            SimulatedVendor("openai-chat", Reply("One two.", fault=fault)) as ill,
            SimulatedVendor("anthropic") as well,
            LLMSwitch(policy_over(ill, well, breaker={"failures": 3, "cooldown": 60})) as switch,
        ):
            for _ in range(6):
                await ask(switch)
            assert len(ill.requests) == 3
            health = switch.health()
            assert (health[Target("a", "m")].breaker, health[Target("b", "m")].breaker) == ("open", "closed")
            assert 0 < (health[Target("a", "m")].opens_in or 0) <= 60

    leap_through(ask_six_times)
    told = [record.getMessage() for record in caplog.records if "the breaker is" in record.getMessage()]
    assert len(told) == 1 and told[0].startswith("a/m: the breaker is open: 3 of 3 attempts failed within 30 s")


async def test_a_successful_probe_closes_the_breaker(
    simulated_vendor: Callable[..., SimulatedVendor], switch_over: Callable[..., LLMSwitch]
) -> None:
    vendor = simulated_vendor("openai-chat", [Reply(fault=HttpError(500))] * 2 + [Reply("Well.")])
    switch = switch_over(vendor, breaker={"failures": 2, "cooldown": 1e-9})
    for _ in range(2):
        with pytest.raises(ProviderError):
            await ask(switch)
    assert await ask(switch) == "Well."
    assert switch.health()[Target("a", "m")].breaker == "closed"


def test_a_probe_that_never_ends_does_not_block_the_target_forever() -> None:
    now = 0.0
    breaker = Breaker(TARGET, BreakerSettings(failures=1, cooldown=4.0, probes=1), lambda: now)
    breaker.note(breaker.enter() or 0, failed=True)
    now = 4.0
    assert breaker.enter() is not None, "the probe, whose reader thinks from now on"
    now = 7.9
    assert breaker.enter() is None
    now = 8.0
    another = breaker.enter()
    assert another is not None
    breaker.note(another, failed=False)
    assert breaker.is_closed


async def test_the_error_says_that_every_breaker_is_open(
    simulated_vendor: Callable[..., SimulatedVendor], switch_over: Callable[..., LLMSwitch]
) -> None:
    ill = Reply(fault=HttpError(500))
    first, second = simulated_vendor("openai-chat", ill), simulated_vendor("anthropic", ill)
    switch = switch_over(first, second, breaker={"failures": 1, "cooldown": 60})
    with pytest.raises(AllProvidersFailedError):
        await ask(switch)
    with pytest.raises(ProviderError, match=r"a/m.*its breaker is open.*b/m.*its breaker is open"):
        await ask(switch)
    assert len(first.requests) == len(second.requests) == 1


async def test_a_wrong_key_opens_no_breaker(
    simulated_vendor: Callable[..., SimulatedVendor], switch_over: Callable[..., LLMSwitch]
) -> None:
    vendor = simulated_vendor("openai-chat", Reply(fault=HttpError(401)))
    switch = switch_over(vendor, breaker={"failures": 1})
    for _ in range(3):
        with pytest.raises(ProviderError):
            await ask(switch)
    assert len(vendor.requests) == 3
    assert switch.health()[Target("a", "m")].breaker == "closed"
