"""Runs that the vendor keeps, end to end: the reader of a broken stream gets what it would have got without a break."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from msgspec.structs import replace

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher.cache import StreamingCache
from llm_dispatcher.events import (
    Event,
    ReasoningDelta,
    StreamInterrupted,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
    Usage,
    check_order,
)
from llm_dispatcher.exceptions import InvalidRequestError, StreamingError
from llm_dispatcher.testing import (
    Background,
    Continuing,
    Cut,
    CutEach,
    HttpError,
    Reply,
    RunFails,
    RunIsLost,
    RunStalls,
    SaidToolCall,
    SaidUsage,
    SimulatedVendor,
    Stall,
)
from tests.conftest import policy_over, thinned
from tests.faults.leaping_loop import leap_through

Start = Callable[..., SimulatedVendor]
Over = Callable[..., LLMSwitch]

TEXT = "Once upon a time there was a fox. It had a red tail."
ASK = TaskRequest("Tell me a story.")
USAGE = SaidUsage(input=20, output=90, reasoning=30)
HASTY = {"idle": 0.2, "first_token": None, "total": None}


def over(vendor: SimulatedVendor, *others: SimulatedVendor, **resilience: Any) -> dict[str, Any]:
    """A policy whose first vendor runs requests in the background."""
    policy = policy_over(vendor, *others, **resilience)
    policy["providers"]["a"]["options"] = {"background": True}
    return policy


async def read(switch: LLMSwitch, request: TaskRequest = ASK) -> tuple[list[Event], Any]:
    stream = switch.stream_request(request)
    events = [event async for event in stream.events()]
    check_order(events)
    return events, stream.response


def of(kind: type[Any], events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def content(events: list[Event]) -> list[tuple[Any, ...]]:
    """What a reader of events gets of the answer itself, without where it came from."""
    return [
        (type(event), *(getattr(event, name, None) for name in ("text", "fragment", "arguments", "id", "name")))
        for event in events
        if isinstance(event, (TextDelta, ReasoningDelta, ToolCallDelta, ToolCall))
    ]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(TEXT, usage=USAGE),
        Reply(TEXT, reasoning=("Let me ", "think."), usage=USAGE),
        Reply("I look.", tool_calls=(SaidToolCall("look", '{"word": "fox"}', "call_7"),), usage=USAGE),
        Reply(tool_calls=(SaidToolCall("look", '{"a": 1}', "c1"), SaidToolCall("look", '{"a": 2}', "c2")), usage=USAGE),
    ],
    ids=["text", "reasoning", "text and a tool call", "two tool calls"],
)
async def test_a_cut_after_any_event_is_not_noticed(reply: Reply, simulated_vendor: Start) -> None:
    vendor, other = simulated_vendor("openai-responses", reply), simulated_vendor("anthropic", "Nobody asks me.")
    async with LLMSwitch(over(vendor, other)) as switch:
        whole, _ = await read(switch)
        positions = thinned(range(1, len(vendor.runs[0].frames)))
        for position in positions:
            vendor.script = replace(reply, fault=CutEach(position, times=1, moment=0.01))
            events, response = await read(switch)
            assert content(events) == content(whole), position
            assert [attempt.rung for attempt in response.attempts] == [None, "reattached"]
            assert response.attempts[1].proof == f"from event {position - 1}"
            assert [str(attempt.target) for attempt in response.attempts] == ["a/m", "a/m"]
            usage = response.usage
            assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == (20, 90, 30), position
            assert not of(ToolCallDropped, events) and not of(StreamSwitched, events)
            began = [event.rung for event in of(StreamStarted, events)]
            assert began == ([None, "reattached"] if of(StreamInterrupted, events) else began[:1])
    assert len(vendor.runs) == 1 + len(positions) and other.requests == []


async def test_every_connection_may_be_cut_and_costs_no_retry(simulated_vendor: Start, switch_over: Over) -> None:
    """One event a connection, without any retries in the policy."""
    vendor = simulated_vendor("openai-responses", Reply(TEXT, usage=USAGE, fault=CutEach(1, moment=0.01)))
    async with LLMSwitch(over(vendor, max_retries=0, retry_budget={"share": 0.0, "floor": 0})) as switch:
        stream = switch.stream_request(ASK)
        assert await stream == TEXT
        assert vendor.runs[0].connections == len(vendor.runs[0].frames) == len(stream.response.attempts)
        assert (stream.response.usage.input_tokens, stream.response.usage.output_tokens) == (20, 90)
    assert len([request for request in vendor.requests if request.method == "POST"]) == 1


async def test_an_answer_that_follows_a_schema_is_read_on(simulated_vendor: Start) -> None:
    answer = '{"title": "Fox", "year": 1999}'
    schema = {"type": "object", "properties": {"title": {"type": "string"}, "year": {"type": "integer"}}}
    vendor = simulated_vendor("openai-responses", Reply(answer, chunk_size=3, fault=CutEach(7, moment=0.01)))
    async with LLMSwitch(over(vendor)) as switch:
        assert await switch.stream_request(TaskRequest("hi", response_format=schema)) == answer


@pytest.mark.parametrize("chunks", [1, 4])
async def test_several_readers_of_one_stream_notice_nothing(chunks: int, simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, pace=0.002, fault=CutEach(5 + chunks, moment=0.01)))
    async with LLMSwitch(over(vendor)) as switch:
        cache = StreamingCache()
        texts = await asyncio.gather(*[_whole(switch, cache) for _ in range(3)])
    assert texts == [TEXT] * 3 and len(vendor.runs) == 1


async def _whole(switch: LLMSwitch, cache: StreamingCache) -> str:
    return "".join([chunk async for chunk in switch.stream_request(ASK, cache=cache)])


# ── runs that are gone ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "background"),
    [
        (Cut(3), Background(stream_for=0.0)),
        (RunIsLost(3), Background()),
        (RunFails(3), Background()),
        (Cut(3), Background(reads=(HttpError(401),))),
        (Cut(3), Background(reads=(HttpError(500),) * 9)),
    ],
    ids=["too old", "lost", "failed", "key refused", "vendor down"],
)
async def test_a_run_that_is_gone_is_continued_by_the_next_target(
    fault: Any, background: Background, simulated_vendor: Start
) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, fault=fault), background=background)
    other = simulated_vendor("anthropic", Continuing(TEXT))
    async with LLMSwitch(over(vendor, other)) as switch:
        events, response = await read(switch)
    assert "".join(event.text for event in of(TextDelta, events)) == TEXT
    assert response.attempts[-1].rung == "anchored" and str(response.attempts[-1].target) == "b/m"
    assert {str(attempt.target) for attempt in response.attempts[:-1]} == {"a/m"}
    assert len(other.requests) == len(vendor.runs) == 1


def test_a_run_that_writes_nothing_more_is_left_and_cancelled() -> None:
    async def read() -> None:
        async with (
            SimulatedVendor("openai-responses", Reply(TEXT, fault=RunStalls(3))) as vendor,
            SimulatedVendor("anthropic", Continuing(TEXT)) as other,
            LLMSwitch(over(vendor, other, timeouts=HASTY)) as switch,
        ):
            assert await switch.stream_request(ASK) == TEXT
        assert vendor.runs[0].is_cancelled and vendor.runs[0].connections >= 2

    leap_through(read)


def test_a_run_is_read_on_after_a_silence() -> None:
    """The connection has gone silent, and the run has not."""

    async def read() -> None:
        async with (
            SimulatedVendor("openai-responses", Reply(TEXT, fault=Stall(3))) as vendor,
            LLMSwitch(over(vendor, timeouts=HASTY)) as switch,
        ):
            assert await switch.stream_request(ASK) == TEXT
        assert vendor.runs[0].connections == 2

    leap_through(read)


async def test_a_run_that_nobody_else_can_continue_ends_with_its_text(simulated_vendor: Start) -> None:
    call = SaidToolCall("look", '{"word": "fox"}')
    vendor = simulated_vendor("openai-responses", Reply("I look.", tool_calls=(call,), fault=RunIsLost(3)))
    async with LLMSwitch(over(vendor, on_break="raise")) as switch:
        with pytest.raises(StreamingError) as failure:
            async for _ in switch.stream_request(ASK):
                pass
    assert failure.value.partial == "I look."


# ── leaving ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_reader_that_leaves_cancels_the_run(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, pace=3600.0))
    async with LLMSwitch(over(vendor)) as switch, switch.stream_request(ASK) as stream:
        async for _ in stream:
            break
    assert vendor.runs[0].is_cancelled
    assert [request.path for request in vendor.requests[1:]] == [f"/v1/responses/{vendor.runs[0].id}/cancel"]


async def test_a_reader_that_leaves_after_a_reconnection_cancels_the_run(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, pace=0.1, fault=Cut(2)))
    async with LLMSwitch(over(vendor)) as switch, switch.stream_request(ASK) as stream:
        async for _ in stream:
            if len(stream.partial.split()) == 4:
                break
    assert vendor.runs[0].is_cancelled and vendor.runs[0].connections == 2


async def test_closing_the_switch_cancels_the_run(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, pace=3600.0))
    switch = LLMSwitch(over(vendor))
    chunks = aiter(switch.stream_request(ASK))
    assert await anext(chunks) == "Once"
    await switch.aclose()
    with pytest.raises(StreamingError):
        await anext(chunks)
    assert await vendor.runs[0].until_cancelled()


def test_a_thread_that_leaves_cancels_the_run(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, pace=3600.0))
    for _ in LLMSwitch(over(vendor)).stream_request(ASK):
        break
    assert asyncio.run(vendor.runs[0].until_cancelled())


async def _break(switch: LLMSwitch, held: list[Any]) -> None:
    async for _ in switch.stream_request(ASK):
        break


async def _fail(switch: LLMSwitch, held: list[Any]) -> None:
    with suppress(KeyError):
        async for _ in switch.stream_request(ASK):
            raise KeyError


async def _hold(switch: LLMSwitch, held: list[Any]) -> None:
    held.append(aiter(switch.stream_request(ASK)))
    await anext(held[0])


@pytest.mark.parametrize("leave", [_break, _fail, _hold])
@pytest.mark.filterwarnings("error")
def test_a_reader_that_leaves_at_the_end_of_its_loop_cancels_the_run(
    simulated_vendor: Start, caplog: pytest.LogCaptureFixture, leave: Callable[..., Any]
) -> None:
    """`asyncio.run` closes the client of the vendor and the stream at the same time."""
    vendor = simulated_vendor("openai-responses", Reply(TEXT, pace=3600.0))
    switch = LLMSwitch(over(vendor))
    asyncio.run(leave(switch, []))
    assert vendor.runs[0].is_cancelled
    assert [request.path for request in vendor.requests[1:]] == [f"/v1/responses/{vendor.runs[0].id}/cancel"]
    assert not caplog.records


@pytest.mark.filterwarnings("ignore:asynchronous generator.*was scheduled:ResourceWarning")  # the SDK reads the error
def test_a_cancellation_that_fails_at_the_end_of_a_loop_is_logged_once(
    simulated_vendor: Start, caplog: pytest.LogCaptureFixture
) -> None:
    vendor = simulated_vendor(
        "openai-responses", Reply(TEXT, pace=3600.0), background=Background(cancel=HttpError(500))
    )
    asyncio.run(_break(LLMSwitch(over(vendor)), []))
    (record,) = caplog.records
    assert f"the run {vendor.runs[0].id} could not be cancelled: ProviderServiceUnavailableError" in record.getMessage()


async def test_a_cancelled_reader_cancels_the_run(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, pace=3600.0))
    async with LLMSwitch(over(vendor)) as switch:
        begun = asyncio.Event()

        async def reader() -> None:
            async for _ in switch.stream_request(ASK):
                begun.set()

        task = asyncio.create_task(reader())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await vendor.runs[0].until_cancelled()


async def test_a_cancellation_that_fails_is_logged(simulated_vendor: Start, caplog: pytest.LogCaptureFixture) -> None:
    background = Background(cancel=HttpError(500, message="not now"))
    vendor = simulated_vendor("openai-responses", Reply(TEXT, pace=3600.0), background=background)
    async with LLMSwitch(over(vendor)) as switch, switch.stream_request(ASK) as stream:
        async for _ in stream:
            break
    line = f"a/m: the run {vendor.runs[0].id} could not be cancelled: ProviderServiceUnavailableError:"
    assert any(line in record.getMessage() and "not now" in record.getMessage() for record in caplog.records)


async def test_a_whole_answer_cancels_nothing(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", TEXT)
    async with LLMSwitch(over(vendor)) as switch:
        assert await switch.stream_request(ASK) == TEXT
    assert len(vendor.requests) == 1 and vendor.runs[0].status == "completed"


# ── who asks for it ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", ["policy", "provider", "model"])
async def test_durability_can_be_set_in_three_places(where: str, simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, fault=CutEach(7, times=1)))
    policy, wish = policy_over(vendor), {"durability": "reattachable"}
    match where:
        case "policy":
            policy["resilience"] |= wish
        case "provider":
            policy["providers"]["a"]["resilience"] = wish
        case _:
            policy["providers"]["a"]["models"] = {"m": {"resilience": wish}}
    async with LLMSwitch(policy) as switch:
        stream = switch.stream_request(ASK)
        assert await stream == TEXT
    assert [attempt.rung for attempt in stream.response.attempts] == [None, "reattached"]


async def test_a_vendor_that_cannot_keep_runs_stays_live(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", TEXT)
    async with LLMSwitch(policy_over(vendor, durability="reattachable")) as switch:
        assert await switch.stream_request(ASK) == TEXT
    assert "background" not in vendor.requests[0].body


async def test_a_host_that_ignores_the_wish_is_continued_in_the_next_best_way(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, fault=Cut(3)), host="llamacpp")
    other = simulated_vendor("anthropic", Continuing(TEXT))
    async with LLMSwitch(over(vendor, other)) as switch:
        stream = switch.stream_request(ASK)
        assert await stream == TEXT
    assert [attempt.rung for attempt in stream.response.attempts] == [None, "anchored"]
    assert [request.method for request in vendor.requests] == ["POST"]


async def test_what_must_not_be_stored_is_refused_before_anything_is_sent(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", TEXT)
    async with LLMSwitch(over(vendor)) as switch:
        with pytest.raises(InvalidRequestError, match="leave store out"):
            await switch.stream_request(replace(ASK, extra={"store": False}))
    assert vendor.requests == []


async def test_the_usage_of_a_run_that_was_left_is_estimated(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-responses", Reply(TEXT, pace=3600.0, usage=USAGE))
    async with LLMSwitch(over(vendor)) as switch, switch.stream_request(ASK) as stream:
        async for _ in stream:
            break
    usage: Usage = stream.response.usage
    assert usage.source == "estimated" and usage.input_tokens > 0
