"""The rung `reattached`: a run that its vendor keeps is read on where it broke, and is cancelled when it is left."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from llm_dispatcher._dispatch import OpenStreams, attempts
from llm_dispatcher._dispatch.row import MOST_EMPTY_READINGS
from llm_dispatcher._resilience import Resilience
from llm_dispatcher.events import (
    Event,
    ReasoningDelta,
    StreamCompleted,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
    Usage,
    UsageReport,
    check_order,
)
from llm_dispatcher.exceptions import (
    ProviderConnectionError,
    ProviderServiceUnavailableError,
    ProviderTimeoutError,
    StreamingError,
    StreamTruncatedError,
)
from llm_dispatcher.notices import Notice, RunNotCancelled, RunReadOn
from llm_dispatcher.provider import Ask, Finished, Piece, RawEvent
from llm_dispatcher.tasks import TaskRequest
from tests.dispatch.scripted import STOP, KeptAnswer, in_turn, job_over, read, says, text_in

WORDS = [f"word{number} " for number in range(12)]
TEXT = "".join(WORDS)
CUT = ProviderConnectionError("cut", provider="a", model="m")


def begun(run: KeptAnswer) -> Any:
    return lambda ask: run.begin()


def rungs(events: list[Event]) -> list[str | None]:
    return [event.rung for event in events if isinstance(event, StreamStarted)]


async def settled() -> None:
    """The tasks that were started have run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_run_is_read_on_as_often_as_it_brings_something_new() -> None:
    run = KeptAnswer([*WORDS, STOP], breaks=range(1, 12))
    job = job_over({"a": begun(run), "b": says("never", STOP)})
    events = await read(job)
    check_order(events)
    assert text_in(events) == TEXT
    assert isinstance(events[-1], StreamCompleted)
    assert events[-1].text == TEXT
    assert rungs(events) == [None, *["reattached"] * 11]
    assert [row.rung for row in job.ledger] == rungs(events)
    assert [row.proof for row in job.ledger] == [None, *(f"from event {place}" for place in range(1, 12))]
    assert [row.delivered for row in job.ledger] == [len(word) for word in [*WORDS[:11], WORDS[11]]]
    assert not any(isinstance(event, StreamSwitched) for event in events)
    await settled()
    assert run.cancels == 0


@pytest.mark.parametrize(
    "error",
    [
        ProviderTimeoutError("stalled", clock="idle"),
        ProviderServiceUnavailableError("overloaded"),
        StreamTruncatedError("ended"),
    ],
)
async def test_a_run_is_read_on_after_any_failure_of_the_vendor(error: Any) -> None:
    run = KeptAnswer([*WORDS, STOP], breaks=[4], error=error)
    assert text_in(await read(job_over({"a": begun(run)}))) == TEXT


@pytest.mark.parametrize("on_break", ["continue", "raise", "restart"])
async def test_a_run_is_read_on_whatever_on_break_says(on_break: str) -> None:
    run = KeptAnswer([*WORDS, STOP], breaks=[4, 7])
    events = await read(job_over({"a": begun(run)}, on_break=on_break))
    assert text_in(events) == TEXT
    assert not any(isinstance(event, StreamReset) for event in events)


async def test_an_answer_with_a_schema_is_read_on() -> None:
    run = KeptAnswer(['{"a": ', "1}", STOP], breaks=[1])
    request = TaskRequest("x", response_format={"type": "object"})
    assert text_in(await read(job_over({"a": begun(run)}, request=request))) == '{"a": 1}'


async def test_half_a_tool_call_is_completed_and_nothing_is_dropped() -> None:
    fragments = [ToolCallDelta("1", "f", part) for part in ('{"a"', ": ", "1}")]
    call = ToolCall("1", "f", {"a": 1}, '{"a": 1}')
    pieces: list[Piece] = ["Look: ", *fragments, call, Finished("tool_calls", None)]
    for place in range(1, len(pieces)):
        run = KeptAnswer(pieces, breaks=[place])
        events = await read(job_over({"a": begun(run)}))
        check_order(events)
        assert [event for event in events if isinstance(event, (ToolCallDelta, ToolCall))] == [*fragments, call]
        assert not any(isinstance(event, ToolCallDropped) for event in events)
        assert isinstance(events[-1], StreamCompleted)


async def test_fragments_of_a_run_that_is_gone_are_dropped_once() -> None:
    run = KeptAnswer(["Look: ", ToolCallDelta("1", "f", "{"), ToolCallDelta("1", "f", '"a"')], breaks=[2, 3])
    whole = ToolCall("2", "f", {}, "{}")
    job = job_over({"a": begun(run), "b": says(whole, Finished("tool_calls", None))})
    run.ends_at = 3
    events = await read(job)
    check_order(events)
    assert [event for event in events if isinstance(event, ToolCallDropped)] == [ToolCallDropped("1", "f")]
    assert [event for event in events if isinstance(event, ToolCall)] == [whole]
    assert rungs(events) == [None, "reattached", "prefill"]


# ── what counts as a try ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_that_brings_nothing_new_is_left() -> None:
    run = KeptAnswer([*WORDS, STOP], breaks=[4, 4, 4])
    job = job_over({"a": begun(run), "b": says(*WORDS[4:], STOP)})
    events = await read(job)
    check_order(events)
    assert text_in(events) == TEXT
    assert rungs(events) == [None, "prefill"]
    assert [(row.target.provider, row.rung) for row in job.ledger] == [
        ("a", None), ("a", "reattached"), ("b", "prefill"),
    ]  # fmt: skip
    await settled()
    assert run.cancels == 1


@pytest.mark.parametrize("shown", [0, 3])
async def test_a_run_that_brings_events_without_content_is_left(shown: int) -> None:
    """A vendor that sends nothing else would keep the stream until `total` fires."""
    run = KeptAnswer([*WORDS[:shown], *[RawEvent({})] * 500], breaks=range(1, 500))
    job = job_over({"a": begun(run), "b": says(*WORDS[shown:], STOP)})
    assert text_in(await read(job)) == TEXT
    assert run.reads == shown + MOST_EMPTY_READINGS


async def test_events_without_content_between_the_words_are_news() -> None:
    run = KeptAnswer([*[RawEvent({})] * 10, "one ", *[RawEvent({})] * 10, "two", STOP], breaks=range(1, 23))
    job = job_over({"a": begun(run), "b": says("never", STOP)})
    assert text_in(await read(job)) == "one two"
    assert run.reads == 22


async def test_the_retries_of_the_policy_read_a_silent_run_again() -> None:
    for breaks, rungs_after in ([4, 4, 4], ["reattached"] * 3), ([4, 4, 4, 4], ["reattached"] * 3 + ["prefill"]):
        run = KeptAnswer([*WORDS, STOP], breaks=breaks)
        providers = {"a": begun(run), "b": says(*WORDS[4:], STOP)}
        job = job_over(providers, resilience=Resilience(max_retries=2, backoff=0.0))
        assert text_in(await read(job)) == TEXT
        assert [row.rung for row in job.ledger] == [None, *rungs_after]


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_runs_that_die_again_and_again_are_tries_like_others(retries: int) -> None:
    """Each new request begins a run that brings something, and dies. That must end."""
    asked = 0

    def answer(ask: Ask) -> Any:
        nonlocal asked
        asked += 1
        assert asked < 20
        return KeptAnswer([f"word{asked} ", "x"], ends_at=1).begin()

    job = job_over({"a": answer}, {"a": "anchored"}, resilience=Resilience(max_retries=retries, backoff=0.0))
    with pytest.raises((StreamingError, StreamTruncatedError)):
        await read(job)
    assert asked == 1 + retries


async def test_reading_on_takes_no_try_from_the_policy() -> None:
    """The run is read on five times; its end is one failed try, and the one retry is left."""
    run = KeptAnswer(WORDS, breaks=[1, 2, 3, 4, 5], ends_at=6)
    job = job_over(
        {"a": in_turn(begun(run), says(*WORDS[6:], STOP))}, resilience=Resilience(max_retries=1, backoff=0.0)
    )
    events = await read(job)
    assert text_in(events) == TEXT
    assert rungs(events) == [None, *["reattached"] * 5, "prefill"]


async def test_a_run_that_is_forgotten_leads_to_the_next_rung() -> None:
    run = KeptAnswer(WORDS, breaks=[4])
    job = job_over(
        {"a": in_turn(lambda ask: broken_then_gone(run), says(*WORDS[4:], STOP))},
        resilience=Resilience(max_retries=1, backoff=0.0),
    )
    events = await read(job)
    assert text_in(events) == TEXT
    assert [row.rung for row in job.ledger] == [None, "reattached", "prefill"]
    await settled()
    assert run.cancels == 0, "there is nothing left to cancel"


def broken_then_gone(run: KeptAnswer) -> Any:
    pieces = run.begin()

    async def begin() -> Any:
        try:
            async for piece in pieces:
                yield piece
        finally:
            run.gone = True

    return begin()


# ── what carries over ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_state_of_the_join_carries_over() -> None:
    """The run of the continuation breaks at each place, also in the middle of the anchor."""
    anchor = "".join(WORDS[:4]).strip()
    pieces = [*anchor, " ", *WORDS[4:], STOP]
    for place in range(1, len(pieces)):
        run = KeptAnswer(pieces, breaks=[place])
        job = job_over({"a": says(*WORDS[:4], CUT), "b": begun(run)}, {"a": "anchored", "b": "anchored"})
        events = await read(job)
        check_order(events)
        assert text_in(events) == TEXT, place
        (switched,) = [event for event in events if isinstance(event, StreamSwitched)]
        assert (switched.seam, switched.rung, switched.trimmed.strip()) == ("anchor", "anchored", anchor), place
        assert [row.rung for row in job.ledger] == [None, "anchored", "reattached"]
        assert [row.seam for row in job.ledger].count("anchor") == 1, "it was found once"
        assert sum(len(row.trimmed) for row in job.ledger) == len(switched.trimmed), "it was cut off once"
        assert sum(row.delivered for row in job.ledger) == len(TEXT)


async def test_events_that_were_held_back_are_shown_after_the_text_before_them() -> None:
    anchor = "".join(WORDS[:4])
    pieces: list[Piece] = [ReasoningDelta("hm"), anchor, *WORDS[4:], STOP]
    run = KeptAnswer(pieces, breaks=[1])
    job = job_over({"a": says(*WORDS[:4], CUT), "b": begun(run)}, {"b": "anchored"})
    events = await read(job)
    check_order(events)
    assert text_in(events) == TEXT
    assert [event.text for event in events if isinstance(event, ReasoningDelta)] == ["hm"]


@pytest.mark.parametrize("place", [0, 1, 5])
async def test_a_new_answer_that_is_read_on_takes_back_the_old_one_once(place: int) -> None:
    """The run of the new answer breaks before anything of it was shown, or after that."""
    run = KeptAnswer(["A ", "new ", "answer ", "by ", "b", ".", STOP], breaks=[place])
    job = job_over({"a": says("An old", CUT), "b": begun(run)}, on_break="restart")
    events = await read(job)
    check_order(events)
    (reset,) = [number for number, event in enumerate(events) if isinstance(event, StreamReset)]
    assert text_in(events[reset:]) == "A new answer by b."
    assert isinstance(events[-1], StreamCompleted)
    assert events[-1].text == "A new answer by b."
    (switched,) = [event for event in events if isinstance(event, StreamSwitched)]
    assert switched.rung == "restarted"


# ── usage ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("breaks", [[], [3], [1, 2, 3, 4, 5]])
@pytest.mark.parametrize(
    "report",
    [Usage(9, 40, source="reported"), Usage(900, 400, 30, 20, source="reported"), Usage(1, 2, 1, source="reported")],
)
async def test_the_usage_of_a_run_sums_to_the_vendors_report(breaks: list[int], report: Usage) -> None:
    run = KeptAnswer([*WORDS, UsageReport(report), STOP], breaks=breaks)
    job = job_over({"a": begun(run)})
    events = await read(job)
    assert isinstance(events[-1], StreamCompleted)
    total = events[-1].usage
    assert (total.input_tokens, total.output_tokens, total.reasoning_tokens, total.cache_read_tokens) == (
        report.input_tokens, report.output_tokens, report.reasoning_tokens, report.cache_read_tokens,
    )  # fmt: skip


async def test_a_report_on_the_way_is_not_charged_twice() -> None:
    reports = [UsageReport(Usage(500, output, source="reported")) for output in (10, 20, 30)]
    run = KeptAnswer(["one ", reports[0], "two ", reports[1], "three ", reports[2], "x"], breaks=[2, 4], ends_at=6)
    job = job_over({"a": begun(run)}, on_break="raise")
    with pytest.raises(StreamingError) as raised:
        await read(job)
    assert raised.value.usage.input_tokens == 500
    assert raised.value.usage.output_tokens == 30


# ── leaving ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("breaks", [[], [2]])
async def test_a_reader_who_leaves_has_the_run_cancelled(breaks: list[int]) -> None:
    run = KeptAnswer([*WORDS, STOP], breaks=breaks)
    job = job_over({"a": begun(run)})
    seen = 0
    async with aclosing(attempts(job)) as events:
        async for event in events:
            seen += isinstance(event, TextDelta)
            if seen == 4:
                break
    await settled()
    assert run.cancels == 1
    assert [row.outcome for row in job.ledger][-1] == "cancelled"


async def test_a_cancelled_reader_has_the_run_cancelled() -> None:
    run = KeptAnswer([*WORDS, STOP])
    started = asyncio.Event()

    async def reading() -> None:
        async for event in attempts(job_over({"a": begun(run)})):
            if isinstance(event, TextDelta):
                started.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(reading())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settled()
    assert run.cancels == 1


async def test_closing_the_switch_waits_until_the_vendor_knows() -> None:
    told = asyncio.Event()

    class Slow(KeptAnswer):
        async def cancel(self) -> None:
            await asyncio.sleep(0)
            await super().cancel()
            told.set()

    run, streams = Slow([*WORDS, STOP]), OpenStreams()
    events = attempts(job_over({"a": begun(run)}, open_streams=streams))
    async for event in events:
        if isinstance(event, TextDelta):
            break
    await streams.end()
    with pytest.raises(StreamingError, match="the switch was closed"):
        await anext(events)
    await streams.end()
    assert told.is_set()
    assert run.cancels == 1


@pytest.mark.parametrize("error", [ProviderConnectionError("no way"), ZeroDivisionError("a bug")])
async def test_a_cancel_that_fails_is_a_notice(error: Exception) -> None:
    notices: list[Notice] = []
    run = KeptAnswer([*WORDS, STOP], on_cancel=error)
    async with aclosing(attempts(job_over({"a": begun(run)}, notify=notices.append))) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    await settled()
    (notice,) = [each for each in notices if isinstance(each, RunNotCancelled)]
    assert (notice.run, notice.failure.kind) == ("run_1", type(error).__name__)


async def test_the_name_of_a_run_is_fit_for_a_log() -> None:
    """The vendor has written it, and may have written anything."""
    notices: list[Notice] = []
    run = KeptAnswer([*WORDS, STOP], breaks=[4, 4, 4], on_cancel=ZeroDivisionError("a bug"))
    run.id = "run_1\nWARNING sk-proj-A1b2C3d4E5f6G7h8I9j0K1l2M3n4" + "x" * 1_000
    await read(job_over({"a": begun(run), "b": says(*WORDS[4:], STOP)}, notify=notices.append))
    await settled()
    names = [each.run for each in notices if isinstance(each, (RunReadOn, RunNotCancelled))]
    assert len(names) == 2 and len(set(names)) == 1
    assert names[0].startswith("run_1 WARNING [redacted]") and len(names[0]) <= 200


async def test_a_run_is_cancelled_when_the_loop_of_the_program_ends() -> None:
    """`asyncio.run` ends with the reader's own exception; the vendor is told all the same."""
    run = KeptAnswer([*WORDS, STOP])

    async def program() -> None:
        async with aclosing(attempts(job_over({"a": begun(run)}))) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    return

    await asyncio.to_thread(asyncio.run, program())
    assert run.cancels == 1


async def test_a_whole_answer_has_nothing_cancelled() -> None:
    run = KeptAnswer([*WORDS, STOP, "late"])
    events = await read(job_over({"a": begun(run)}))
    assert isinstance(events[-1], StreamCompleted)
    await settled()
    assert run.cancels == 0


async def test_an_interruption_is_told_also_if_the_run_is_read_on() -> None:
    run = KeptAnswer([*WORDS, STOP], breaks=[4])
    events = await read(job_over({"a": begun(run)}))
    (broken,) = [event for event in events if isinstance(event, StreamInterrupted)]
    assert broken.delivered == len("".join(WORDS[:4]))
