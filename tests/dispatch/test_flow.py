"""The `flow` clock: a vendor that drips is left, and nobody else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher._dispatch import Job, Ledger, attempts
from llm_dispatcher._dispatch.watchdog import Watchdog
from llm_dispatcher._resilience import Flow, Resilience, Timeouts
from llm_dispatcher.events import Event, ProviderEvent, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta
from llm_dispatcher.exceptions import StreamingError
from llm_dispatcher.provider import Ask, Finished, Opened, Piece, ProviderSettings
from llm_dispatcher.tasks import Target, TaskRequest
from tests.faults.leaping_loop import LeapingLoop, leap_through

Step: TypeAlias = "float | Piece | Callable[[], None]"

P, Q = Target("p", "m"), Target("q", "m")
ENDLESS = Timeouts(first_token=None, idle=None, total=None)
REST = "And so it ends."


class Plays:
    """A vendor that plays steps: a number is a pause in seconds, a function is called."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.settings = ProviderSettings(name="p", kind="scripted")
        self.steps = steps

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        for step in self.steps:
            if isinstance(step, (int, float)):
                await asyncio.sleep(step)
            elif callable(step):
                step()
            else:
                yield step
        yield Finished("stop", "stop")

    async def prepare(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def drip(pieces: int, every: float, piece: Piece = "x") -> list[Step]:
    """So many pieces of one character, and a pause before each but the first."""
    return [piece, *[step for _ in range(pieces - 1) for step in (every, piece)]]


def read(
    steps: Sequence[Step],
    flow: Flow | None,
    timeouts: Timeouts = ENDLESS,
    *,
    targets: tuple[Target, ...] = (P, Q),
    max_retries: int = 0,
    pause: float = 0.0,
    pauses: Sequence[float] = (),
    **job: Any,
) -> tuple[list[Event], Ledger]:
    """The events of a stream whose first vendor plays these steps, up to its end or its error. The second vendor ends
    the answer at once. The reader takes `pauses` for the first events, and `pause` seconds for each other one.
    """
    vendors = {P: Plays(steps), Q: Plays([REST])}
    clocks = Timeouts(timeouts.connect, timeouts.first_token, timeouts.idle, flow, timeouts.total)
    made = Job(
        request=TaskRequest("Go."),
        targets=targets,
        provider=vendors.__getitem__,
        style=lambda target: "prefill",
        resilience=Resilience(max_retries=max_retries, timeouts=clocks, backoff=0),
        ledger=Ledger(),
        **job,
    )

    async def events() -> list[Event]:
        found: list[Event] = []
        with suppress(StreamingError):
            async for event in attempts(made):
                found.append(event)
                await asyncio.sleep(pauses[len(found) - 1] if len(found) <= len(pauses) else pause)
        return found

    return leap_through(events), made.ledger


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def is_left(ledger: Ledger) -> bool:
    """Whether the first vendor was left because it was too slow."""
    failure = ledger[0].failure
    return failure is not None and "(the flow clock)" in failure.message


def test_a_vendor_that_drips_is_left_and_another_one_ends_the_answer() -> None:
    events, ledger = read(drip(1000, every=1), Flow(20, 5.5))
    assert text(events) == "x" * 6 + REST
    assert ledger[0].elapsed == pytest.approx(5.5, abs=0.01)
    failure = ledger[0].failure
    assert failure is not None and failure.kind == "ProviderTimeoutError"
    assert failure.message == "only 5 of 20 characters came within 5.5 s (the flow clock)"


@given(
    characters=st.integers(1, 30),
    seconds=st.integers(1, 12).map(lambda quarters: quarters + 0.25),
    came=st.lists(st.tuples(st.integers(0, 8).map(lambda halves: halves / 2), st.integers(1, 25)), max_size=30),
    pause=st.sampled_from([0.0, 0.3, 40.0]),
)
def test_the_next_characters_have_to_come_within_the_seconds(
    characters: int, seconds: float, came: list[tuple[float, int]], pause: float
) -> None:
    """Whatever the reader does: its time does not count."""
    steps: list[Step] = ["x"]
    for wait, size in came:
        steps += [wait, "x" * size]
    _, ledger = read(steps, Flow(characters, seconds), pause=pause)
    now = begins = 0.0
    counted, late = 0, None
    for wait, size in came:
        now += wait
        if now > begins + seconds:
            late = begins + seconds
            break
        counted += size
        if counted >= characters:
            begins, counted = now, 0
    assert is_left(ledger) == (late is not None)
    assert ledger[0].outcome == ("completed" if late is None else "failed")
    if late is not None and not pause:
        assert ledger[0].elapsed == pytest.approx(late, abs=0.01)


def test_a_vendor_with_no_other_to_go_on_may_drip() -> None:
    """A slow answer is better than none."""
    events, ledger = read(drip(50, every=1), Flow(20, 5.5), targets=(P,))
    assert text(events) == "x" * 50 and ledger[0].outcome == "completed"
    events, ledger = read(drip(50, every=1), Flow(20, 5.5), on_break="raise")
    assert text(events) == "x" * 50 and ledger[0].outcome == "completed"


def test_a_drip_leads_to_a_retry_where_there_is_no_other_target() -> None:
    """The last try may take its time."""
    _, ledger = read(drip(50, every=1), Flow(20, 5.5), targets=(P,), max_retries=2)
    assert [attempt.outcome for attempt in ledger] == ["failed", "failed", "completed"]


def test_the_flow_is_shortened_to_leave_time_for_the_next_vendor() -> None:
    """The speed stays the same: a shorter stretch needs fewer characters."""
    events, ledger = read(drip(1000, every=0.6), Flow(600, 60), Timeouts(total=8))
    assert text(events).endswith(REST)
    assert ledger[0].elapsed == pytest.approx(4, abs=0.01)
    failure = ledger[0].failure
    assert failure is not None
    assert failure.message == (
        "only 6 of 40 characters came within 4 s (the flow clock), "
        "shortened from 60 s to leave time for the next attempt"
    )


def test_a_vendor_that_is_fast_enough_keeps_its_answer_to_the_end_of_the_time() -> None:
    _, ledger = read(drip(70, every=0.1), Flow(240, 30), Timeouts(total=8))
    assert [attempt.outcome for attempt in ledger] == ["completed"]


def test_a_stretch_that_begins_late_ends_early_enough() -> None:
    """The reader holds the first piece for more than half of the time. The second stretch begins at 4.7 seconds. Half
    of the time that is left is its share, so it ends before the first one would have.
    """
    steps: list[Step] = ["x", 0.5, "x" * 40, *drip(99, every=0.5)]
    events, ledger = read(steps, Flow(600, 60), Timeouts(idle=None, total=8), pauses=[0, 4.2])
    assert text(events).endswith(REST), "and the total clock did not run out"
    assert is_left(ledger)
    assert ledger[0].elapsed == pytest.approx(6.35, abs=0.01)


def test_the_first_of_two_clocks_counts() -> None:
    _, ledger = read(["x", 1, "x", 60], Flow(20, 5), Timeouts(idle=2, total=None))
    failure = ledger[0].failure
    assert failure is not None and "(the idle clock)" in failure.message
    assert ledger[0].elapsed == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("piece", [ReasoningDelta("x"), ToolCallDelta("1", "look_up", "x")])
def test_reasoning_and_arguments_count_like_text(piece: Piece) -> None:
    _, ledger = read(drip(40, every=0.1, piece=piece), Flow(10, 2.05))
    assert ledger[0].outcome == "completed"
    _, ledger = read(drip(40, every=0.5, piece=piece), Flow(10, 2.05))
    assert is_left(ledger)


def test_a_search_begins_a_new_stretch() -> None:
    """While a vendor searches, it writes nothing."""
    search = ProviderEvent("search", {})
    steps: list[Step] = ["x", *[step for _ in range(5) for step in (4.0, search)], 4.0, "the end"]
    _, ledger = read(steps, Flow(10, 5.5))
    assert ledger[0].outcome == "completed"
    _, ledger = read(["x", 4.0, "y", 4.0, "the end"], Flow(10, 5.5))
    assert is_left(ledger)


def test_a_whole_tool_call_completes_a_stretch_and_the_speed_matters_after_it() -> None:
    """The call waits for the end of its answer. Until then another attempt can continue."""
    call = ToolCall("1", "look_up", {}, "{}")
    for first in (["x"], []):
        _, ledger = read([*first, 4, call, 4, call, 4, call], Flow(10, 5))
        assert [attempt.outcome for attempt in ledger] == ["completed"]
        _, ledger = read([*first, call, *drip(20, every=3)], Flow(10, 5))
        assert [attempt.outcome for attempt in ledger] == ["failed", "completed"]


def test_a_drip_goes_to_another_target_before_a_retry() -> None:
    """The vendor that drips would drip again. A vendor that stalls is retried."""
    _, ledger = read(drip(100, every=1), Flow(20, 5.5), max_retries=2)
    assert [attempt.target for attempt in ledger] == [P, Q]
    _, ledger = read(["x", 60], None, Timeouts(idle=2, total=None), max_retries=1)
    assert [attempt.target for attempt in ledger] == [P, P, Q]


def test_a_loop_that_was_held_up_reads_what_has_come_before_it_blames_the_vendor() -> None:
    """Ten seconds pass in one callback. What came meanwhile is read in many small steps."""

    def hold_up() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, LeapingLoop)
        loop._leaping.leapt += 10

    steps: list[Step] = ["x", 0.1, "x", hold_up, *drip(30, every=0.0008)]
    _, ledger = read(steps, Flow(25, 5.5))
    assert [attempt.outcome for attempt in ledger] == ["completed"]


def test_a_stream_without_the_clock_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(*_: Any) -> None:
        raise AssertionError("nobody asked for this")

    monkeypatch.setattr(Watchdog, "count", count)
    events, _ = read(drip(50, every=1), None)
    assert text(events) == "x" * 50
    with pytest.raises(AssertionError):
        read(drip(2, every=1), Flow(1, 9))


def test_each_target_has_a_flow_of_its_own() -> None:
    """A model that is known to be slow may be."""
    own = {P: Timeouts(first_token=None, idle=None, total=None), Q: ENDLESS}

    def override(target: Target) -> Resilience:
        return Resilience(max_retries=0, timeouts=own[target])

    _, ledger = read(drip(50, every=1), Flow(20, 5.5), overrides=override)
    assert ledger[0].outcome == "completed"
    own[P] = Timeouts(first_token=None, idle=None, total=None, flow=Flow(20, 5.5))
    _, ledger = read(drip(50, every=1), None, overrides=override)
    assert is_left(ledger)
