"""Strategies of tenacity's decide how often a target is tried and how long the loop waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from itertools import pairwise
from typing import Any

import pytest
import tenacity
from tenacity import stop_after_attempt, stop_after_delay, stop_before_delay, wait_chain, wait_exception, wait_fixed

from llm_dispatcher import LLMSwitch, TaskRequest, _clock
from llm_dispatcher._dispatch import attempts, check_strategies
from llm_dispatcher._dispatch.retrying import Retrying, policy_wait
from llm_dispatcher._resilience import Resilience
from llm_dispatcher.events import TextDelta
from llm_dispatcher.exceptions import (
    ConfigurationError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderRateLimitError,
    ProviderServiceUnavailableError,
    StreamingError,
)
from llm_dispatcher.provider import Ask, Finished, Opened, Piece
from llm_dispatcher.testing import HttpError, Reply, SimulatedVendor
from tests.conftest import policy_over
from tests.dispatch.test_loop import dispatch
from tests.faults.leaping_loop import leap_through

BROKEN = ProviderConnectionError("broke")
EAGER = Resilience(max_retries=0)


def pauses(job_of: dict[str, Any], failing: int = 100) -> list[float]:
    """The seconds between the tries of one target whose first tries fail, in virtual time."""
    began: list[float] = []

    async def read() -> None:
        loop = asyncio.get_running_loop()

        async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
            began.append(loop.time())
            if len(began) <= failing:
                raise ProviderConnectionError("broke")
            yield Opened()
            yield "text"
            yield Finished("stop", "stop")

        async for _ in attempts(dispatch(answer, EAGER, **job_of)):
            pass

    try:
        leap_through(read)
    except ProviderConnectionError:
        pass
    return [round(after - before, 6) for before, after in pairwise(began)]


def test_an_applications_strategies_replace_those_of_the_policy() -> None:
    wait = wait_chain(wait_fixed(1), wait_fixed(2), wait_fixed(4))
    assert pauses({"retry_wait": wait, "retry_stop": stop_after_attempt(4)}) == [1, 2, 4]
    assert pauses({"retry_wait": wait, "retry_stop": stop_after_attempt(9)}, failing=2) == [1, 2]
    assert pauses({"retry_wait": wait}) == [], "the policy's max_retries is 0"


def test_strategies_get_the_time_of_the_loops_clock() -> None:
    assert pauses({"retry_wait": wait_fixed(3), "retry_stop": stop_after_delay(7)}) == [3, 3, 3]
    assert pauses({"retry_wait": wait_fixed(3), "retry_stop": stop_before_delay(7)}) == [3, 3]


def test_a_strategy_gets_the_same_state_as_from_tenacitys_own_loop() -> None:
    seen: list[tuple[int, str, float | None, float, float]] = []

    def stop(state: tenacity.RetryCallState) -> bool:
        assert state.outcome is not None
        error = state.outcome.exception()
        after, slept, upcoming = state.seconds_since_start, state.idle_for, state.upcoming_sleep
        seen.append((state.attempt_number, str(error), after, slept, upcoming))
        return len(seen) == 3

    assert pauses({"retry_wait": wait_fixed(2), "retry_stop": stop}) == [2, 2]
    assert seen == [(1, "broke", 0.0, 0.0, 2.0), (2, "broke", 2.0, 2.0, 2.0), (3, "broke", 4.0, 4.0, 2.0)]


def test_a_wait_can_depend_on_the_error() -> None:
    by_kind = wait_exception(lambda error: 5.0 if isinstance(error, ProviderConnectionError) else 9.0)
    assert Retrying(Resilience(), by_kind).seconds_to_wait(BROKEN, 1, None) == 5.0


def test_no_strategy_retries_what_cannot_pass_or_comes_before_the_vendors_time() -> None:
    eager = Retrying(Resilience(max_retry_after=20.0), wait_fixed(0), lambda state: False)
    assert eager.seconds_to_wait(ProviderAuthenticationError("no"), 1, None) is None
    assert (eager.seconds_to_wait(ProviderRateLimitError("later", retry_after=4.0), 1, None) or 0.0) >= 4.0
    assert eager.seconds_to_wait(ProviderRateLimitError("later", retry_after=21.0), 1, None) is None
    slow = Retrying(Resilience(), wait_fixed(10), lambda state: False)
    assert slow.seconds_to_wait(BROKEN, 1, 5.0) is None, "the time of the request would be over"
    assert slow.seconds_to_wait(BROKEN, 1, 5.0, once_more=True) == 2.5, "a target that continues best is tried in time"
    assert slow.seconds_to_wait(BROKEN, 1, 0.0, once_more=True) is None
    later = ProviderRateLimitError("later", retry_after=6.0)
    assert slow.seconds_to_wait(later, 1, 5.0, once_more=True) is None, "the vendor has said when to come back"


def test_the_policys_backoff_is_tenacitys_with_the_packages_own_randomness() -> None:
    class Highest:
        monotonic = wall = staticmethod(lambda: 0.0)
        random = staticmethod(lambda: 1.0)
        token_bytes = staticmethod(bytes)
        sleep = staticmethod(lambda seconds: None)

    retrying = Retrying(Resilience(max_retries=9, backoff=0.25, max_backoff=3.0))
    with _clock.use(Highest()):
        assert [retrying.seconds_to_wait(BROKEN, tries, None) for tries in range(1, 7)] == [0.25, 0.5, 1, 2, 3, 3]
    assert callable(policy_wait(Resilience()))


class Asynchronous:
    async def __call__(self, state: object) -> float:
        return 1.0


async def coroutine_function(state: object) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"retry_wait": 3}, "retry_wait is a strategy of tenacity's, such as wait_exponential(max=8), got int"),
        ({"retry_stop": "never"}, "retry_stop is a strategy of tenacity's, such as stop_after_attempt(3), got str"),
        ({"retry_wait": wait_fixed}, "got the class wait_fixed; write wait_exponential(max=8)"),
        ({"retry_stop": coroutine_function}, "got a coroutine function"),
        ({"retry_wait": Asynchronous()}, "got a coroutine function"),
    ],
)
def test_a_wrong_strategy_is_refused_at_once(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError) as refused:
        check_strategies(settings.get("retry_wait"), settings.get("retry_stop"))
    assert words in str(refused.value)


def broken_strategy(state: object) -> float:
    raise ZeroDivisionError("no such pause")


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (lambda state: -1.0, "from 0 on, got -1.0"),
        (lambda state: float("nan"), "got nan"),
        (lambda state: float("inf"), "got inf"),
        (lambda state: "soon", "got 'soon'"),
        (coroutine_function, "it has to answer at once, got <coroutine"),
        (broken_strategy, "it raised ZeroDivisionError: no such pause"),
    ],
)
async def test_a_strategy_that_fails_ends_the_stream_with_what_was_delivered(strategy: Any, words: str) -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        yield "text"
        raise ProviderConnectionError("cut")

    job = dispatch(answer, Resilience(max_retries=3), retry_wait=strategy)
    texts: list[str] = []
    with pytest.raises(StreamingError) as raised:
        async for event in attempts(job):
            if isinstance(event, TextDelta):
                texts.append(event.text)
    assert raised.value.partial == "text" == "".join(texts)
    cut, wrong = raised.value.failures
    assert isinstance(cut, ProviderConnectionError) and isinstance(wrong, ConfigurationError)
    assert wrong.key == "retry_wait" and words in str(wrong)
    assert len(job.ledger) == 1


async def test_a_stop_strategy_that_returns_a_coroutine_is_an_error() -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        raise ProviderConnectionError("cut")

    job = dispatch(answer, Resilience(max_retries=3), retry_stop=coroutine_function)
    with pytest.raises(ConfigurationError, match="retry_stop: it has to answer at once, got <coroutine"):
        async for _ in attempts(job):
            pass


# ── in a switch ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("options", "requests"), [({}, 4), ({"max_retries": 1}, 2)])
async def test_a_switch_uses_its_strategies_unless_a_call_says_how_often(
    options: dict[str, Any], requests: int, simulated_vendor: Callable[..., SimulatedVendor]
) -> None:
    down = simulated_vendor("openai-chat", Reply(fault=HttpError(503)))
    async with LLMSwitch(policy_over(down), retry_wait=wait_fixed(0), retry_stop=stop_after_attempt(4)) as switch:
        with pytest.raises(ProviderServiceUnavailableError):
            await switch.stream_request(TaskRequest("hi"), **options)
    assert len(down.requests) == requests


def test_a_switch_refuses_an_object_that_is_not_a_strategy() -> None:
    with pytest.raises(TypeError, match="retry_wait is a strategy of tenacity's"):
        LLMSwitch({"providers": {"ollama": {"models": ["m"]}}}, retry_wait=3)  # type: ignore[arg-type]
