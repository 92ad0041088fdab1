"""The ladder: which rung each attempt after a break takes, who is asked, and what the request of each rung says."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from llm_dispatcher._dispatch import Course
from llm_dispatcher._resilience import Resilience
from llm_dispatcher.events import (
    ReasoningDelta,
    StreamCompleted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    ToolCall,
    ToolResult,
    Usage,
    UsageReport,
    check_order,
)
from llm_dispatcher.exceptions import (
    InvalidRequestError,
    ModelNotFoundError,
    ProviderConnectionError,
    ProviderError,
    ProviderRateLimitError,
    ProviderServiceUnavailableError,
    ProviderTimeoutError,
    StreamingError,
    StreamTruncatedError,
    UnprovenContinuationError,
)
from llm_dispatcher.provider import BODY, Ask, Finished, TokenTrail
from llm_dispatcher.tasks import Message, Target, TaskRequest
from tests.dispatch.scripted import STOP, Answer, Scripted, TakesTokens, in_turn, job_over, read, says, text_in

WORDS = [f"word{number} " for number in range(12)]
TEXT = "".join(WORDS)
HEAD, REST = WORDS[:4], WORDS[4:]
ANCHOR = "".join(HEAD).strip()
CUT = ProviderConnectionError("cut", provider="a", model="m")
DOWN = ProviderServiceUnavailableError("overloaded", provider="a", model="m")
"""Unlike a cut, it has the next target asked."""
LIMIT = TaskRequest("Count.", max_tokens=100)


def tried(job: Any) -> list[tuple[str, str | None]]:
    return [(row.target.provider, row.rung) for row in job.ledger]


def ids(*pieces: str, prompt: tuple[int, ...] = (1, 2), cut: ProviderError | None = None) -> Answer:
    """An answer with token ids, two for each piece. A continuation goes on with the trail that it was given."""

    async def answer(ask: Ask) -> Any:
        trail = TokenTrail("ids", list(prompt), None if ask.tokens is None else list(ask.tokens.output))
        async for piece in says(trail)(ask):
            yield piece
        for piece in pieces:
            trail.output.extend((7, 8))
            yield piece
        if cut is not None:
            raise cut
        yield STOP

    return answer


# ── each rung, with its name and its proof ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("style", "answer", "on_break", "proof", "seam"),
    [
        ("prefill", says(*REST, STOP), "continue", "an open turn", "plain"),
        ("prefill", says(*HEAD, *REST, STOP), "continue", "the answer again: 4 words", "restart"),
        ("anchored", says(ANCHOR, " ", *REST, STOP), "continue", "the anchor: 4 words", "anchor"),
        ("anchored", says(*WORDS, STOP), "restart", "a new answer", "plain"),
    ],
)
async def test_each_rung_is_named_in_the_ledger_and_in_the_events(
    style: Any, answer: Answer, on_break: str, proof: str | None, seam: str
) -> None:
    job = job_over({"a": says(*HEAD, DOWN), "b": answer}, {"b": style}, on_break=on_break)
    events = await read(job)
    check_order(events)
    assert isinstance(events[-1], StreamCompleted)
    assert events[-1].text == TEXT
    rung = "restarted" if on_break == "restart" else style
    assert tried(job) == [("a", None), ("b", rung)]
    assert [event.rung for event in events if isinstance(event, StreamStarted)] == [None, rung]
    (switched,) = [event for event in events if isinstance(event, StreamSwitched)]
    assert (switched.rung, switched.seam) == (rung, seam)
    assert job.ledger[1].proof == proof


async def test_exact_goes_on_from_the_ids_that_were_delivered() -> None:
    b = TakesTokens(ids(*REST))
    job = job_over({"a": ids(*HEAD, cut=DOWN), "b": b}, request=LIMIT)
    events = await read(job)
    assert text_in(events) == TEXT
    assert tried(job) == [("a", None), ("b", "exact")]
    assert job.ledger[1].proof == "from 8 tokens"
    (ask,) = b.asked
    assert ask.tokens is not None
    assert (ask.tokens.prompt, len(ask.tokens.output)) == ([1, 2], 8)
    assert ask.request.conversation == LIMIT.conversation, "the request is the one that began the answer"
    assert ask.request.max_tokens == 100 - 8, "to the token"


async def test_exact_continuations_can_be_chained() -> None:
    a = TakesTokens(in_turn(ids(*WORDS[:3], cut=DOWN), ids(*WORDS[3:5], cut=DOWN), ids(*WORDS[5:])))
    job = job_over({"a": a}, resilience=Resilience(max_retries=2, backoff=0.0), request=LIMIT)
    assert text_in(await read(job)) == TEXT
    assert tried(job) == [("a", None), ("a", "exact"), ("a", "exact")]
    assert [len(ask.tokens.output) for ask in a.asked if ask.tokens is not None] == [6, 10]
    assert [ask.request.max_tokens for ask in a.asked] == [100, 94, 90]
    assert job.ledger[2].proof == "from 10 tokens"


async def test_no_ids_of_a_text_that_another_model_has_joined_by_an_anchor() -> None:
    def goes_on(ask: Ask) -> Any:
        return says(TEXT.removeprefix(ask.request.conversation[-1].text), STOP)(ask)

    c = TakesTokens(goes_on)
    job = job_over({"a": ids(*HEAD, cut=DOWN), "b": ids(ANCHOR, " ", *WORDS[4:6], cut=DOWN), "c": c}, {"b": "anchored"})
    assert text_in(await read(job)) == TEXT
    assert tried(job) == [("a", None), ("b", "anchored"), ("c", "prefill")]


async def test_the_ids_of_a_prefill_are_gone_on_from_with_its_own_request() -> None:
    """Its ids begin behind the delivered text, which its request has."""
    c = TakesTokens(ids(*WORDS[6:]))
    b = Scripted(ids(*WORDS[4:6], cut=DOWN))
    job = job_over({"a": says(*HEAD, DOWN), "b": b, "c": c}, request=LIMIT)
    assert text_in(await read(job)) == TEXT
    assert tried(job) == [("a", None), ("b", "prefill"), ("c", "exact")]
    assert c.asked[0].request.conversation == b.asked[0].request.conversation


async def test_ids_of_another_family_are_not_taken() -> None:
    async def answer(ask: Ask) -> Any:
        async for piece in says(TokenTrail("others", [1], [5]), *HEAD, DOWN)(ask):
            yield piece

    job = job_over({"a": answer, "b": TakesTokens(says(*REST, STOP))})
    assert text_in(await read(job)) == TEXT
    assert tried(job)[1] == ("b", "prefill")


@pytest.mark.parametrize("refusal", [
    UnprovenContinuationError("the ids do not make the text"), InvalidRequestError("no such id", status=400),
    ModelNotFoundError("no such address", status=404),
])  # fmt: skip
async def test_ids_that_a_host_refuses_cost_no_attempt(refusal: Exception) -> None:
    """It is asked to go on with the open turn instead, in the same attempt, and is not asked for ids again."""

    prefill = in_turn(ids(*REST[:2], cut=DOWN), says(*REST[2:], STOP))
    b = TakesTokens(lambda ask: prefill(ask) if ask.tokens is None else refused(refusal))
    job = job_over({"a": ids(*HEAD, cut=DOWN), "b": b})
    job = replace(job, overrides=lambda target: Resilience(max_retries=int(target.provider == "b"), backoff=0.0))
    assert text_in(await read(job)) == TEXT
    assert tried(job) == [("a", None), ("b", "prefill"), ("b", "prefill")]
    assert [ask.tokens is not None for ask in b.asked] == [True, False, False]


def refused(error: Exception) -> Any:
    async def answer() -> Any:
        raise error
        yield ""  # type: ignore[unreachable]

    return answer()


# ── who is asked ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [CUT, StreamTruncatedError("ended")])
@pytest.mark.parametrize("style", ["prefill", "exact"])
async def test_after_a_broken_connection_the_same_target_is_asked_first(error: Any, style: str) -> None:
    """Also if the policy allows no retry: the model has the answer in its cache."""
    if style == "exact":
        job = job_over({"a": TakesTokens(in_turn(ids(*HEAD, cut=error), ids(*REST))), "b": says("no", STOP)})
    else:
        job = job_over({"a": in_turn(says(*HEAD, error), says(*REST, STOP)), "b": says("no", STOP)})
    assert text_in(await read(job)) == TEXT
    assert tried(job) == [("a", None), ("a", style)]


async def test_it_is_asked_once_more_and_no_more() -> None:
    job = job_over({"a": in_turn(says(*HEAD, CUT), says(*REST[:1], CUT)), "b": says(*REST[1:], STOP)})
    assert text_in(await read(job)) == TEXT
    assert tried(job) == [("a", None), ("a", "prefill"), ("b", "prefill")]


@pytest.mark.parametrize("error", [
    ProviderTimeoutError("stalled", clock="idle"), ProviderServiceUnavailableError("overloaded"),
    ProviderRateLimitError("too many"),
])  # fmt: skip
async def test_after_a_stall_or_an_overload_another_target_is_asked(error: ProviderError) -> None:
    job = job_over({"a": says(*HEAD, error), "b": says(*REST, STOP)})
    assert text_in(await read(job)) == TEXT
    assert tried(job) == [("a", None), ("b", "prefill")]


async def test_a_target_that_takes_no_prefill_is_not_asked_again() -> None:
    job = job_over({"a": says(*HEAD, CUT), "b": says(*REST, STOP)}, {"a": "anchored"})
    assert text_in(await read(job)) == TEXT
    assert tried(job) == [("a", None), ("b", "prefill")]


async def test_a_target_whose_host_may_not_take_prefill_is_not_asked_again() -> None:
    job = job_over({"a": says(*HEAD, CUT), "b": says(*REST, STOP)}, is_certain=lambda target: target.provider == "b")
    assert text_in(await read(job)) == TEXT
    assert tried(job) == [("a", None), ("b", "prefill")]


async def test_nobody_is_asked_again_before_the_reader_has_anything() -> None:
    job = job_over({"a": says(CUT), "b": says(*WORDS, STOP)})
    assert text_in(await read(job)) == TEXT
    assert tried(job) == [("a", None), ("b", None)]


@pytest.mark.parametrize(
    ("figures", "asked"),
    [((1.0, 2.0, 2.0, 2.0), "dcb"), ((1.0, 2.0, 2.0, 3.0), "cbd"), ((1.0, 2.0, 3.0, 4.0), "bcd"), ((), "bcd")],
)
async def test_a_stronger_rung_comes_first_where_the_plan_holds_targets_equal(
    figures: tuple[float, ...], asked: str
) -> None:
    down = ProviderServiceUnavailableError("down")
    fails = TakesTokens(says(down))
    fails_too = Scripted(says(down))
    job = job_over(
        {"a": ids(*HEAD, cut=down), "b": Scripted(says(down)), "c": fails_too, "d": fails},
        {"b": "anchored", "c": "prefill"},
        figures=figures,
    )
    with pytest.raises(StreamingError):
        await read(job)
    assert "".join(row.target.provider for row in job.ledger)[1:] == asked


# ── a host that is not known to take prefill ───────────────────────────────────────────────────────────────────────

UNKNOWN: dict[str, Any] = {"is_certain": lambda target: False}


@pytest.mark.parametrize("status", [400, 422])
async def test_a_host_that_refuses_an_open_turn_is_asked_again_at_no_attempts_cost(status: int) -> None:
    learnt: list[Target] = []
    refusal = InvalidRequestError("the last message must be a user's", status=status)
    b = Scripted(in_turn(lambda ask: refused(refusal), says(ANCHOR, " ", *REST, STOP)))
    job = job_over({"a": says(*HEAD, DOWN), "b": b}, takes_no_prefill=learnt.append, **UNKNOWN)
    events = await read(job)
    check_order(events)
    assert text_in(events) == TEXT
    assert tried(job) == [("a", None), ("b", "anchored")]
    assert learnt == [Target("b", "m")]
    assert [ask.request.conversation[-1].role for ask in b.asked] == ["assistant", "user"]
    (switched,) = [event for event in events if isinstance(event, StreamSwitched)]
    assert (switched.rung, switched.seam) == ("anchored", "anchor")


async def test_a_request_that_is_refused_either_way_teaches_nothing() -> None:
    learnt: list[Target] = []
    b = Scripted(lambda ask: refused(InvalidRequestError("no", status=400)))
    job = job_over({"a": says(*HEAD, DOWN), "b": b}, takes_no_prefill=learnt.append, **UNKNOWN)
    with pytest.raises(StreamingError) as raised:
        await read(job)
    assert raised.value.partial == "".join(HEAD)
    assert len(b.asked) == 2
    assert learnt == []


async def test_a_host_that_is_known_is_not_asked_again() -> None:
    b = Scripted(lambda ask: refused(InvalidRequestError("no", status=400)))
    job = job_over({"a": says(*HEAD, DOWN), "b": b})
    with pytest.raises(StreamingError):
        await read(job)
    assert len(b.asked) == 1


async def test_another_refusal_than_that_of_the_turn_is_not_asked_again() -> None:
    b = Scripted(lambda ask: refused(ProviderServiceUnavailableError("down", status=503)))
    job = job_over({"a": says(*HEAD, DOWN), "b": b, "c": says(*REST, STOP)}, **UNKNOWN)
    assert text_in(await read(job)) == TEXT
    assert len(b.asked) == 1


async def test_a_target_that_drips_is_asked_again_if_only_the_body_is_left() -> None:
    """The body does not continue what a model has begun."""
    drip = ProviderTimeoutError("it drips", clock="flow")
    answers = in_turn(says(*HEAD, drip), says(*REST, STOP))
    job = job_over({"a": answers, BODY: says("never", STOP)}, resilience=Resilience(max_retries=1, backoff=0.0))
    assert text_in(await read(job)) == TEXT


# ── what is left of max_tokens ─────────────────────────────────────────────────────────────────────────────────────


async def left_for(a: Answer, style: Any = "prefill", **more: Any) -> int | None:
    """The limit of the request that continues this answer, of 100 tokens."""
    b = Scripted(says(*WORDS, STOP))
    await read(job_over({"a": a, "b": b}, {"b": style, "a": "anchored"}, request=LIMIT, **more))
    return b.asked[0].request.max_tokens


async def test_ids_are_counted() -> None:
    assert await left_for(ids(*HEAD, cut=DOWN)) == 100 - 8


async def test_ids_of_text_that_was_cut_off_are_not_charged() -> None:
    """The second host began the answer again, and broke soon after the first new word."""
    again, c = ids(*WORDS, "new ", cut=DOWN), Scripted(says("end.", STOP))
    await read(job_over({"a": says(*WORDS, DOWN), "b": again, "c": c}, request=LIMIT))
    assert c.asked[0].request.max_tokens is not None
    assert 100 - 2 * len(WORDS) - 2 <= c.asked[0].request.max_tokens < 100


async def test_chunks_are_counted_where_each_is_a_token() -> None:
    chunks = [f" {word}" * 6 for word in "abcd"]
    estimate = await left_for(says(*chunks, DOWN))
    exact = await left_for(says(*chunks, DOWN), chunk_is_token=lambda target: True)
    assert exact == 100 - 4
    assert estimate is not None and estimate < exact


@pytest.mark.parametrize(
    ("chunks", "charged"),
    [(["One:", "\n", "\n"], 1), (["One", ":\n\n"], 1), (["One", ":", "\n  "], 2), (["One", " "], 2), (["One", ":"], 2)],
)
async def test_line_breaks_that_an_open_turn_leaves_out_are_not_charged(chunks: list[str], charged: int) -> None:
    left = await left_for(says(*chunks, DOWN), chunk_is_token=lambda target: True)
    assert left == 100 - charged


@pytest.mark.parametrize(("is_token", "left"), [(True, 2), (False, 8)])
async def test_the_last_tokens_are_a_few_only_where_they_are_not_counted(is_token: bool, left: int) -> None:
    words = [f" word{number}" for number in range(98)]
    assert await left_for(says(*words, DOWN), chunk_is_token=lambda target: is_token) == left


async def test_usage_that_is_reported_on_the_way_is_counted() -> None:
    report = UsageReport(Usage(9, 30, 10, source="reported"))
    assert await left_for(says(*HEAD, report, DOWN)) == 100 - 20, "reasoning is not part of the text"


async def test_usage_of_text_that_was_not_delivered_is_not_counted() -> None:
    report = UsageReport(Usage(9, 90, source="reported"))
    left = await left_for(says(ReasoningDelta("hm " * 40), *HEAD, report, DOWN))
    assert left is not None and left > 80


async def test_an_anchor_has_room_on_top() -> None:
    prefill = await left_for(ids(*HEAD, cut=DOWN))
    anchored = await left_for(ids(*HEAD, cut=DOWN), "anchored")
    assert prefill is not None and anchored is not None
    assert anchored == prefill + -(-len(ANCHOR) // 4)


async def test_a_target_that_begins_again_gets_room_for_all_of_it() -> None:
    """It began again, and was cut off by its limit before it said much that was new. It is asked once more."""
    length = Finished("length", "length")
    b = Scripted(in_turn(says(*WORDS, length), says(*WORDS, "The end.", STOP)))
    job = job_over(
        {"a": ids(*WORDS[:11], cut=DOWN), "b": b}, {"a": "anchored", "b": "anchored"}, request=LIMIT,
        overrides=lambda target: Resilience(max_retries=int(target.provider == "b"), backoff=0.0),
    )  # fmt: skip
    events = await read(job)
    assert text_in(events) == TEXT + "The end."
    assert isinstance(events[-1], StreamCompleted)
    assert events[-1].finish_reason == "stop"
    limits = [ask.request.max_tokens for ask in b.asked]
    assert limits[0] is not None and limits[1] is not None and limits[1] > limits[0]


async def test_a_limit_that_ends_the_whole_answer_ends_the_stream() -> None:
    request = TaskRequest("Count.", max_tokens=24)
    job = job_over({"a": ids(*HEAD, cut=DOWN), "b": says(*WORDS, Finished("length", None))}, {"b": "anchored"},
                   request=request)  # fmt: skip
    events = await read(job)
    assert isinstance(events[-1], StreamCompleted)
    assert events[-1].finish_reason == "length"


async def test_a_restart_has_the_whole_limit() -> None:
    assert await left_for(ids(*HEAD, cut=DOWN), on_break="restart") == 100


async def test_the_estimate_of_a_continuation_has_all_that_it_was_sent() -> None:
    """The vendor reports nothing. What was delivered is input of the next attempt, as text or as ids."""
    job = job_over({"a": ids(*HEAD, cut=DOWN), "b": ids(*REST[:1], cut=DOWN), "c": TakesTokens(ids(*REST[1:]))})
    assert text_in(await read(job)) == TEXT
    first, second, third = [row.usage.input_tokens for row in job.ledger]
    assert second == first + -(-len(ANCHOR) // 4)
    assert third == second + 2


# ── readers of the whole ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_reader_of_the_whole_gets_a_new_answer_where_going_on_is_not_sound() -> None:
    schema = TaskRequest("x", response_format={"type": "object"})
    job = job_over({"a": says('{"a": ', DOWN), "b": says('{"b": 1}', STOP)}, request=schema, reader_has_nothing=True)
    events = await read(job)
    check_order(events)
    assert isinstance(events[-1], StreamCompleted)
    assert events[-1].text in ('{"b": 1}', '{"a": ')
    assert sum(isinstance(event, StreamReset) for event in events) == 1


async def test_a_reader_of_the_whole_has_an_ordinary_answer_continued() -> None:
    job = job_over({"a": says(*HEAD, DOWN), "b": says(*REST, STOP)}, {"a": "anchored"}, reader_has_nothing=True)
    events = await read(job)
    assert text_in(events) == TEXT
    assert tried(job)[1] == ("b", "prefill")


async def test_a_whole_call_of_an_answer_that_broke_was_never_shown() -> None:
    call, other, done = ToolCall("1", "f", {}, "{}"), ToolCall("2", "f", {}, "{}"), Finished("tool_calls", None)
    for text in ([], ["Well."]):
        job = job_over({"a": says(*text, call, DOWN), "b": says(other, done)}, on_break="restart")
        events = await read(job)
        check_order(events)
        assert [event for event in events if isinstance(event, ToolCall)] == [other]
        assert (StreamReset() in events) == bool(text)


async def test_an_earlier_turn_of_the_stream_is_never_taken_back() -> None:
    earlier = Course()
    await read(job_over({"a": says("First turn. ", STOP)}), earlier)
    earlier.transcript.take(ToolResult("1", "f", "x"))
    schema = TaskRequest(messages=[Message("user", "x")], response_format={"type": "object"})
    job = job_over({"a": says('{"a"', DOWN), "b": says("{}", STOP)}, request=schema, reader_has_nothing=True)
    events = await read(job, Course(earlier))
    assert StreamReset() in events
    assert isinstance(events[-1], StreamCompleted) and events[-1].text == "First turn. {}"
    assert [row.delivered for row in job.ledger] == [4, 2]
