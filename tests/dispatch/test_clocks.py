"""Every clock of an attempt leaves time for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher._dispatch import Job, Ledger, attempts
from llm_dispatcher._dispatch.job import NoAdmission, Pass
from llm_dispatcher._resilience import Resilience, Timeouts
from llm_dispatcher.events import TextDelta
from llm_dispatcher.exceptions import (
    LLMDispatcherError,
    ProviderConnectionError,
    ProviderRateLimitError,
    StreamTimeoutError,
)
from llm_dispatcher.provider import BODY, Ask, Finished, Opened, Piece, ProviderSettings
from llm_dispatcher.tasks import Target, TaskRequest
from tests.faults.leaping_loop import leap_through

WORDS = ["One ", "two ", "three ", "four ", "five ", "six ", "seven ", "eight."]


class Stalls:
    """A vendor that takes `pause` seconds for each word, and says nothing more after `words` of them."""

    def __init__(self, words: int | None, pause: float = 0.0) -> None:
        self.settings = ProviderSettings(name="a", kind="scripted")
        self.words = words
        self.pause = pause

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        turn = ask.request.messages[-1].text if ask.request.messages else ""
        yield Opened()
        for number, word in enumerate(WORDS):
            if "".join(WORDS[: number + 1]).rstrip() in turn:
                continue
            if number == self.words:
                await asyncio.Event().wait()
            await asyncio.sleep(self.pause)
            yield word
        yield Finished("stop", "stop")

    async def prepare(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def read(vendors: list[Stalls], timeouts: Timeouts, max_retries: int = 0) -> tuple[str, Ledger]:
    """The text of a stream over these vendors, in virtual time, and its ledger."""
    targets = {Target(f"v{number}", "m"): vendor for number, vendor in enumerate(vendors)}
    job = Job(
        request=TaskRequest("Count."),
        targets=tuple(targets),
        provider=targets.__getitem__,
        style=lambda target: "prefill",
        resilience=Resilience(max_retries=max_retries, timeouts=timeouts),
        ledger=Ledger(),
    )

    async def text() -> str:
        return "".join([event.text async for event in attempts(job) if isinstance(event, TextDelta)])

    return leap_through(text), job.ledger


@pytest.mark.found("S-D1")
@given(
    total=st.floats(0.5, 300),
    idle=st.floats(0.05, 400),
    first_token=st.none() | st.floats(0.05, 400),
    stalls=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    max_retries=st.integers(0, 2),
)
def test_the_last_healthy_vendor_completes_the_answer_however_the_others_stall(
    total: float, idle: float, first_token: float | None, stalls: list[int], max_retries: int
) -> None:
    vendors = [*(Stalls(words) for words in stalls), Stalls(None)]
    text, ledger = read(vendors, Timeouts(first_token=first_token, idle=idle, total=total), max_retries)
    assert text == "".join(WORDS)
    assert sum(attempt.elapsed for attempt in ledger) < total


@pytest.mark.found("S-D1")
def test_retries_of_one_target_do_not_use_up_the_time_of_the_next() -> None:
    text, ledger = read([Stalls(0), Stalls(None)], Timeouts(total=30), max_retries=20)
    assert text == "".join(WORDS)
    assert sum(attempt.elapsed for attempt in ledger if attempt.target.provider == "v0") <= 15.1


def test_a_vendor_that_pauses_for_a_second_is_not_taken_for_a_stalled_one() -> None:
    """Also where little time is left: before the last word there are 1.35 seconds, and half of that is less."""
    text, ledger = read([Stalls(None, pause=0.95), Stalls(None)], Timeouts(total=8))
    assert text == "".join(WORDS)
    assert len(ledger) == 1


def test_an_idle_clock_that_is_off_stays_off() -> None:
    with pytest.raises(StreamTimeoutError, match="the total clock"):
        read([Stalls(2), Stalls(None)], Timeouts(idle=None, total=8))


class InLine(NoAdmission):
    """The first vendor's rate limit lets a request in after so many seconds, if it can wait for as long."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def enter(self, target: Target, left: float | None) -> Pass | LLMDispatcherError:
        if target.provider != "v0":
            return self
        if left is not None and self.seconds > left:
            return ProviderRateLimitError("not asked: its rate limit is spent")
        await asyncio.sleep(self.seconds)
        return self


@given(total=st.floats(1, 300), in_line=st.floats(0, 300), others=st.integers(0, 2))
def test_a_target_has_time_to_answer_after_a_wait_in_line(total: float, in_line: float, others: int) -> None:
    """A wait for a rate limit uses up neither the time of the target that is waited for nor that of the next ones."""
    targets = tuple(Target(f"v{number}", "m") for number in range(1 + others))
    job = Job(
        request=TaskRequest("Count."),
        targets=targets,
        provider=lambda target: Stalls(None, pause=0.01),
        style=lambda target: "prefill",
        resilience=Resilience(max_retries=0, timeouts=Timeouts(total=total)),
        ledger=Ledger(),
        admission=InLine(min(in_line, total - 0.5)),
    )

    async def text() -> str:
        return "".join([event.text async for event in attempts(job) if isinstance(event, TextDelta)])

    assert leap_through(text) == "".join(WORDS)
    assert [attempt.outcome for attempt in job.ledger] == ["completed"], "nobody was asked in vain"


def test_a_broken_answer_is_retried_late_where_only_the_functions_body_comes_next() -> None:
    """The body stands in for an answer, not for the rest of one. So no time is kept for it."""
    tries: list[Ask] = []

    class Breaks(Stalls):
        async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
            tries.append(ask)
            async for piece in super().stream(ask):
                yield piece
                if piece == WORDS[5] and len(tries) == 1:
                    raise ProviderConnectionError("cut")

    vendor = Breaks(None, pause=10)
    job = Job(
        request=TaskRequest("Count."),
        targets=(Target("v0", "m"), Target(BODY, "")),
        provider=lambda target: vendor,
        style=lambda target: "prefill",
        resilience=Resilience(max_retries=1, timeouts=Timeouts(total=100)),
        ledger=Ledger(),
    )

    async def text() -> str:
        return "".join([event.text async for event in attempts(job) if isinstance(event, TextDelta)])

    assert leap_through(text) == "".join(WORDS)
