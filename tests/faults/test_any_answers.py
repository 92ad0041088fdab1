"""Whatever vendors send and however they break: the events are in order, and each reader has what they say."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_dispatcher._dispatch import Course, attempts
from llm_dispatcher._resilience import Resilience
from llm_dispatcher.events import (
    Event,
    Failure,
    ReasoningDelta,
    StreamCompleted,
    StreamFailed,
    StreamReset,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
    Usage,
    UsageReport,
    check_order,
)
from llm_dispatcher.exceptions import (
    InvalidRequestError,
    LLMDispatcherError,
    ProviderConnectionError,
    ProviderServiceUnavailableError,
    ProviderTimeoutError,
    StreamingError,
    UnprovenContinuationError,
)
from llm_dispatcher.provider import Ask, Finished, Opened, Piece, TokenTrail
from llm_dispatcher.streaming._transcript import Transcript
from llm_dispatcher.tasks import TaskRequest
from tests.conftest import examples
from tests.dispatch.scripted import KeptAnswer, TakesTokens, job_over

CALLS: Final = [
    (ToolCallDelta(name, name, "{"), ToolCallDelta(name, name, "}"), ToolCall(name, name, {}, "{}")) for name in "fg"
]
FAILURES: Final = [
    ProviderConnectionError("cut"),
    ProviderServiceUnavailableError("overloaded"),
    ProviderTimeoutError("stalled", clock="idle"),
    UnprovenContinuationError("not by me"),
    InvalidRequestError("no", status=400),
    None,
]
ENDS: Final = [
    Finished("stop", None),
    Finished("length", None),
    Finished("tool_calls", None),
    Finished("refusal", None),
]

texts = st.text("ab .\n<>", max_size=12) | st.sampled_from(
    ["The end. ", "Once upon a time there was a fox. ", "<<<", ">>>"]
)
pieces: st.SearchStrategy[Piece] = st.one_of(
    texts,
    texts,
    st.sampled_from([each for call in CALLS for each in call]),
    st.just(ReasoningDelta("hm")),
    st.just(UsageReport(Usage(5, 5, source="reported"))),
)


class Said(NamedTuple):
    """What a vendor answers to one request."""

    pieces: list[Piece]
    end: Finished | None
    failure: LLMDispatcherError | None
    opens: bool
    breaks: list[int]
    has_ids: bool


answers = st.builds(
    Said, st.lists(pieces, max_size=8), st.sampled_from([*ENDS, *[None] * 9]), st.sampled_from(FAILURES),
    st.booleans(), st.just([]) | st.just([]) | st.lists(st.integers(0, 8), max_size=3), st.booleans(),
)  # fmt: skip


def answering(left: list[Said], runs: list[KeptAnswer]) -> Any:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        said = left.pop(0) if left else Said(["Whole."], ENDS[0], None, True, [], False)
        sent = said.pieces if said.end is None else [*said.pieces, said.end]
        if said.breaks:
            runs.append(KeptAnswer(sent, breaks=said.breaks, ends_at=None if said.end else len(sent)))
            async for piece in runs[-1].begin():
                yield piece
            return
        if said.opens:
            yield Opened()
        if said.has_ids:
            yield TokenTrail("ids", [1], [2])
        for piece in sent:
            yield piece
        if said.failure is not None and said.end is None:
            raise said.failure

    return answer


def dropped_or_whole(events: Sequence[Event]) -> None:
    """No call is dropped that was not begun, and none twice."""
    begun: set[str] = set()
    for event in events:
        match event:
            case ToolCallDelta():
                begun.add(event.id)
            case ToolCallDropped():
                assert event.id in begun
                begun.remove(event.id)
            case ToolCall() | StreamReset():
                begun.discard(getattr(event, "id", ""))
            case _:
                pass


@settings(max_examples=examples(400))
@given(
    st.lists(answers, max_size=8),
    st.lists(st.sampled_from(["prefill", "anchored"]), min_size=1, max_size=4),
    st.sampled_from([{}, {"on_break": "raise"}, {"on_break": "restart"}, {"reader_has_nothing": True}]),
    st.sampled_from([TaskRequest("x"), TaskRequest("x", max_tokens=20), TaskRequest("x", response_format={})]),
    st.sampled_from(["next", "show"]),
    st.booleans(),
)
async def test_events_are_in_order_and_say_what_the_reader_has(
    left: list[Said], styles: list[Any], more: dict[str, Any], request: TaskRequest, on_unproven: Any, is_certain: bool
) -> None:
    names = "abcd"[: len(styles)]
    runs: list[KeptAnswer] = []
    provider = TakesTokens(answering(left, runs))
    job = job_over(
        dict.fromkeys(names, provider), dict(zip(names, styles, strict=True)),
        Resilience(max_retries=1, backoff=0.0, on_unproven=on_unproven), request,
        is_certain=lambda target: is_certain, **more,
    )  # fmt: skip
    course = Course()
    events: list[Event] = []
    failure: LLMDispatcherError | None = None
    try:
        async for event in attempts(job, course):
            events.append(event)
    except LLMDispatcherError as error:
        failure = error
        events.append(StreamFailed(Failure.of(error)))
    assert isinstance(failure, StreamingError) or failure is None or not course.transcript.text
    assert not isinstance(failure, StreamingError) or failure.partial == course.transcript.text
    check_order(events)
    dropped_or_whole(events)
    seen = Transcript.of(events)
    assert seen.text == course.transcript.text
    if isinstance(events[-1], StreamCompleted):
        assert events[-1].text == seen.text
        assert [row.outcome for row in job.ledger].count("completed") == 1
    if not any(isinstance(event, StreamReset) for event in events):
        assert sum(row.delivered for row in job.ledger) == len(seen.text)
    assert [row.number for row in job.ledger] == list(range(1, len(job.ledger) + 1))
    assert len(provider.asked) <= 40
