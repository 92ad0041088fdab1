"""A provider's, a model's and a route's own `resilience` is in force, and what a call sets wins over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher._config import load
from llm_dispatcher._resilience import BreakerSettings, Resilience
from llm_dispatcher._routing import RouteBreakers
from llm_dispatcher._routing import health as health_module
from llm_dispatcher._routing.health import Health
from llm_dispatcher.cache import StreamingCache
from llm_dispatcher.cache._english.lexicon import load_words
from llm_dispatcher.events import Attempt
from llm_dispatcher.exceptions import LLMDispatcherError, RequestTimeoutError
from llm_dispatcher.notices import Notify
from llm_dispatcher.provider import Ask, Piece, Provider, ProviderSettings
from llm_dispatcher.tasks import Target, TaskType
from llm_dispatcher.testing import Continuing, Cut, HttpError, Reply, SimulatedProvider, Simulation, SlowHeaders, Stall
from llm_dispatcher.testing._simulation.provider import ProviderScript

T = TypeVar("T")

TALE = "Once upon a time there was a fox."
MATH = TaskRequest("Tell it.", task_type=TaskType.MATH)
TEXT = TaskRequest("Tell it.")
P, SIBLING, Q = Target("p", "m"), Target("p", "sibling"), Target("q", "n")


class Keeping(SimulatedProvider):
    """Keeps every ask."""

    def __init__(self, settings: ProviderSettings, script: ProviderScript) -> None:
        super().__init__(settings, script)
        self.asks: list[Ask] = []

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        self.asks.append(ask)
        async for piece in super().stream(ask):
            yield piece


def switch_with(
    *,
    p: ProviderScript = TALE,
    q: ProviderScript = Continuing(TALE),
    top: dict[str, Any] | None = None,
    route: dict[str, Any] | None = None,
    provider: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    **entry: Any,
) -> LLMSwitch:
    """A switch with two vendors, whose route for math and whose provider and model `p/m` have these overrides."""
    scripts = {"p": p, "q": q}

    class Simulated(LLMSwitch):
        @staticmethod
        def _make_provider(settings: ProviderSettings, notify: Notify) -> Provider:
            return Keeping(settings, scripts[settings.name])

    return Simulated(config_of(top, route, provider, model, **entry))


def config_of(
    top: dict[str, Any] | None = None,
    route: dict[str, Any] | None = None,
    provider: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    **entry: Any,
) -> dict[str, Any]:
    own = {"models": {"m": {"resilience": model}, "sibling": {}}, "resilience": provider, **entry}
    return {
        "providers": {
            "p": {"kind": "openai", "api": "chat", "api_key": "k", **own},
            "q": {"kind": "openai", "api": "chat", "api_key": "k", "models": ["n"]},
        },
        "routing": {
            "default": ["p/m", "q/n"],
            "tasks": {"math": {"targets": ["p/m", "q/n"], "resilience": route}},
        },
        "resilience": {"max_retries": 0, **(top or {})},
    }


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run this in virtual time."""
    results: list[T] = []

    async def kept() -> None:
        results.append(await work())

    with Simulation(1) as simulation:
        simulation.run(kept)
    return results[0]


def attempts_of(switch: LLMSwitch, request: TaskRequest = TEXT, **settings: Any) -> tuple[Attempt, ...]:
    """The attempts of a request, which may fail, in virtual time."""

    async def work() -> tuple[Attempt, ...]:
        stream = switch.stream_request(request, **settings)
        try:
            await stream
        except LLMDispatcherError:
            pass
        return stream.response.attempts

    return run(work)


def asked(attempts: tuple[Attempt, ...]) -> list[str]:
    return [attempt.target.provider for attempt in attempts]


# ── clocks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("levels", "seconds"),
    [
        ({}, 20.0),
        ({"route": {"timeouts": {"idle": 9}}}, 9.0),
        ({"route": {"timeouts": {"idle": 9}}, "provider": {"timeouts": {"idle": 7}}}, 7.0),
        ({"provider": {"timeouts": {"idle": 7}}, "model": {"timeouts": {"idle": 60}}}, 60.0),
    ],
)
@pytest.mark.parametrize("clock", ["idle", "first_token"])
def test_a_silent_vendor_has_the_seconds_of_the_nearest_level(levels: Any, seconds: float, clock: str) -> None:
    levels = {level: {"timeouts": {clock: value["timeouts"]["idle"]}} for level, value in levels.items()}
    top = {"timeouts": {clock: 20, "total": None}}
    switch = switch_with(p=Reply(TALE, fault=Stall(2 if clock == "idle" else 0)), top=top, **levels)
    first, second = attempts_of(switch, MATH)
    assert first.elapsed == pytest.approx(seconds, abs=0.01)
    assert first.failure is not None and f"(the {clock} clock)" in first.failure.message
    assert second.outcome == "completed"


def test_the_other_target_and_other_tasks_keep_the_seconds_of_the_policy() -> None:
    stall = Reply(TALE, fault=Stall(0))
    levels: dict[str, Any] = {"route": {"timeouts": {"first_token": 5}}, "model": {"timeouts": {"first_token": 3}}}
    top = {"timeouts": {"first_token": 20, "total": None}}
    math = attempts_of(switch_with(p=stall, q=stall, top=top, **levels), MATH)
    text = attempts_of(switch_with(p=stall, q=stall, top=top, **levels), TEXT)
    assert [round(attempt.elapsed) for attempt in math] == [3, 5]
    assert [round(attempt.elapsed) for attempt in text] == [3, 20]


def test_each_attempt_gets_the_connect_timeout_of_its_target() -> None:
    switch = switch_with(
        p=Reply(fault=HttpError(503)), top={"timeouts": {"connect": 4}}, provider={"timeouts": {"connect": 0.5}}
    )
    attempts_of(switch)
    providers: Any = switch._runtime.providers
    assert [ask.connect_timeout for name in "pq" for ask in providers[name].asks] == [0.5, 4]


def test_a_route_has_a_total_of_its_own_and_the_timeout_of_a_call_wins() -> None:
    stall = Reply(TALE, fault=Stall(0))
    clocks = {"total": 50, "first_token": None}
    switch = switch_with(p=stall, q=stall, top={"timeouts": clocks}, route={"timeouts": {"total": 8}})

    def seconds(request: TaskRequest, **settings: Any) -> float:
        return sum(attempt.elapsed for attempt in attempts_of(switch, request, **settings))

    assert seconds(TEXT) == pytest.approx(50, abs=0.1)
    assert seconds(MATH) == pytest.approx(8, abs=0.1)
    assert seconds(MATH, timeout=30) == pytest.approx(30, abs=0.1)


def test_a_cache_that_shares_streams_keeps_the_total_of_the_route() -> None:
    switch = switch_with(
        p=Reply(TALE, fault=Stall(2)), top={"timeouts": {"total": 50}}, route={"timeouts": {"total": 8}}
    )

    load_words()

    async def work() -> float:
        stream = switch.stream_request(replace(MATH, providers=("p",)), cache=StreamingCache())
        with pytest.raises(RequestTimeoutError):
            await stream
        return stream.response.attempts[0].elapsed

    assert run(work) == pytest.approx(8, abs=0.1)


@pytest.mark.parametrize(("own", "seconds"), [(2, 2.0), (60, 4.0), (None, 4.0)])
def test_max_latency_bounds_the_first_token_of_every_target(own: float | None, seconds: float) -> None:
    """A model's own clock may be shorter; a longer one does not outlast what the call has asked for."""
    switch = switch_with(p=Reply(TALE, fault=Stall(0)), model={"timeouts": {"first_token": own}})
    assert attempts_of(switch, max_latency=4)[0].elapsed == pytest.approx(seconds, abs=0.01)


# ── retries ────────────────────────────────────────────────────────────────────────────────────────────────────────

DOWN = Reply(fault=HttpError(503))


def test_a_target_is_retried_as_often_as_its_own_level_says() -> None:
    levels: dict[str, Any] = {"top": {"max_retries": 1}, "provider": {"max_retries": 3}, "route": {"max_retries": 0}}
    assert asked(attempts_of(switch_with(p=DOWN, q=DOWN, **levels), TEXT)) == ["p"] * 4 + ["q"] * 2
    assert asked(attempts_of(switch_with(p=DOWN, q=DOWN, **levels), MATH)) == ["p"] * 4 + ["q"]
    of_call = attempts_of(switch_with(p=DOWN, q=DOWN, **levels), MATH, max_retries=2)
    assert asked(of_call) == ["p"] * 3 + ["q"] * 3, "the call's own setting wins over all levels"


def test_a_retry_after_is_waited_for_as_long_as_the_target_says() -> None:
    busy = Reply(fault=HttpError(503, retry_after=30))
    top: dict[str, Any] = {"max_retries": 1, "max_retry_after": 10}
    assert asked(attempts_of(switch_with(p=[busy, TALE], top=top))) == ["p", "q"]
    assert asked(attempts_of(switch_with(p=[busy, TALE], top=top, model={"max_retry_after": 40}))) == ["p", "p"]


def test_a_wait_for_a_rate_limit_is_bounded_by_the_targets_own_patience() -> None:
    async def second(switch: LLMSwitch) -> str:
        await switch.stream_request(TEXT)
        stream = switch.stream_request(TEXT)
        await stream
        return stream.response.attempts[0].target.provider

    limits = {"requests_per_minute": 2, "on_limit": "wait"}
    impatient = switch_with(top={"max_retry_after": 1}, limits=limits)
    patient = switch_with(top={"max_retry_after": 1}, provider={"max_retry_after": 100}, limits=limits)

    async def work() -> tuple[str, str]:
        for each in (impatient, patient):
            await each.stream_request(TEXT)
        return await second(impatient), await second(patient)

    assert run(work) == ("q", "p")


def test_the_pause_before_a_retry_is_that_of_the_target() -> None:
    top: dict[str, Any] = {"max_retries": 1, "backoff": 0}
    waits = {"backoff": 3000, "max_backoff": 3000}
    clocks = {"timeouts": {"total": None}}

    async def seconds(switch: LLMSwitch) -> float:
        began = asyncio.get_running_loop().time()
        await switch.stream_request(TEXT)
        return asyncio.get_running_loop().time() - began

    quick = switch_with(p=[DOWN, TALE], top={**top, **clocks})
    slow = switch_with(p=[DOWN, TALE], top={**top, **clocks}, provider=waits)
    assert run(lambda: seconds(quick)) < 1 < run(lambda: seconds(slow))


def test_a_retry_budget_of_a_provider_is_its_own() -> None:
    switch = switch_with(
        p=DOWN,
        q=DOWN,
        top={"max_retries": 5, "breaker": {"failures": None}, "retry_budget": {"share": 0, "floor": 4}},
        provider={"retry_budget": {"floor": 2}},
    )
    assert asked(attempts_of(switch)) == ["p"] * 3 + ["q"] * 4, "the switch to q draws on the budget of q too"


# ── breakers ───────────────────────────────────────────────────────────────────────────────────────────────────────


def is_open(switch: LLMSwitch, target: Target) -> bool:
    """Whether a breaker has opened. The virtual time in which it did is over, so it may be half open by now."""
    return switch._shared.traffic.health.snapshot()[target].breaker != "closed"


def test_a_breaker_opens_as_its_target_says() -> None:
    switch = switch_with(p=DOWN, q=DOWN, top={"breaker": {"failures": 3}}, provider={"breaker": {"failures": 1}})

    async def work() -> None:
        with pytest.raises(LLMDispatcherError):
            await switch.stream_request(TEXT)

    run(work)
    assert (is_open(switch, P), is_open(switch, Q)) == (True, False)


def test_a_breaker_of_a_route_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """It opens by the failures of this route's requests, and holds up no others; the others do not open it."""
    hasty = {"breaker": {"failures": 1, "cooldown": 3000}}
    switch = switch_with(p=DOWN, q=TALE, top={"max_retries": 0, "breaker": {"failures": 3}}, route=hasty)

    async def asked_for(*requests: TaskRequest) -> list[list[str]]:
        return [
            [each.target.provider for each in (await switch.stream_request(request).collect()).attempts]
            for request in requests
        ]

    assert run(lambda: asked_for(TEXT, TEXT, MATH, MATH, TEXT, TEXT)) == [
        ["p", "q"], ["p", "q"],  # two failures: the breaker for all routes is closed
        ["p", "q"], ["q"],  # the route's own opens by its first failure
        ["p", "q"], ["q"],  # the third failure outside that route opens the other one
    ]  # fmt: skip
    assert "p/m: the breaker is open: 1 of 1 attempts failed within 30 s" in caplog.text
    assert ", for the route math" in caplog.text
    health = switch._shared.traffic.health
    assert health.snapshot()[P].breaker != "closed"
    assert Q not in health._breakers or health.snapshot()[Q].breaker == "closed"


def test_the_breakers_of_a_route_are_bounded_and_follow_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "KNOWN", 3)
    health = Health(lambda target: Resilience())
    quick, slow = BreakerSettings(failures=1), BreakerSettings(failures=9)
    for number in range(9):
        target = Target("p", str(number))
        era = health.enter(target, RouteBreakers("math", lambda target: quick))
        assert era is not None
        health.leave(target, era, RouteBreakers("math", lambda target: quick))
    assert len(health._route_breakers) <= 3
    health.enter(Target("p", "8"), RouteBreakers("math", lambda target: slow))
    assert health._route_breakers["math", Target("p", "8")]._settings == slow


def test_a_reload_gives_breakers_and_budgets_their_new_settings() -> None:
    switch = switch_with(p=DOWN, q=DOWN)
    traffic = switch._shared.traffic
    attempts_of(switch)
    new = load(config_of(provider={"breaker": {"failures": 1}, "retry_budget": {"floor": 0}}), environ={})
    traffic.adopt(new)
    assert traffic.health._breakers[P]._settings.failures == 1
    assert traffic.health._breakers[Q]._settings.failures == 5
    assert traffic.retry_budget("p")._settings.floor == 0
    assert traffic.retry_budget("q")._settings.floor == 10


def test_a_first_token_that_is_late_for_a_route_only_says_nothing_of_the_target() -> None:
    """The breaker serves all routes. What is late for a hasty one is not late by the clock of the target."""
    slow = Reply(TALE, fault=SlowHeaders(10))
    top: dict[str, Any] = {"breaker": {"failures": 1}}

    def opens(**levels: Any) -> bool:
        switch = switch_with(p=slow, top=top, **levels)
        assert asked(attempts_of(switch, MATH)) == ["p", "q"]
        return is_open(switch, P)

    assert not opens(route={"timeouts": {"first_token": 2}})
    assert opens(model={"timeouts": {"first_token": 2}})


# ── what is for a whole request ────────────────────────────────────────────────────────────────────────────────────


def test_a_route_decides_about_breaks_and_fallbacks() -> None:
    cut = Reply(TALE, fault=Cut(after=2))
    assert asked(attempts_of(switch_with(p=cut, route={"on_break": "raise"}), TEXT)) == ["p", "q"]
    assert asked(attempts_of(switch_with(p=cut, route={"on_break": "raise"}), MATH)) == ["p"]
    assert asked(attempts_of(switch_with(p=cut, route={"on_break": "raise"}), MATH, on_break="continue")) == ["p", "q"]
    assert asked(attempts_of(switch_with(p=DOWN, route={"fallback_enabled": False}), TEXT)) == ["p", "q"]
    assert asked(attempts_of(switch_with(p=DOWN, route={"fallback_enabled": False}), MATH)) == ["p"]
    switch = switch_with(p=DOWN, route={"fallback_enabled": False})
    assert asked(attempts_of(switch, MATH, fallback_enabled=True)) == ["p", "q"]


def test_a_model_is_asked_for_the_rest_in_its_own_words() -> None:
    switch = switch_with(
        p=[Reply(TALE, fault=Cut(after=4)), Continuing(TALE)],
        top={"max_retries": 1},
        model={"continuation": "Weiter ab: {anchor}"},
    )
    assert asked(attempts_of(switch)) == ["p", "p"]
    provider: Any = switch._runtime.providers["p"]
    assert provider.requests[1].turns[-1].text.startswith("Weiter ab: ")
