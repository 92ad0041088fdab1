"""A continuation that is itself cut is never complete: over chains of any length, on all rungs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_dispatcher._dispatch import Course, attempts
from llm_dispatcher._join.join import anchor_of
from llm_dispatcher._resilience import Resilience
from llm_dispatcher.events import Event, StreamCompleted, StreamReset, StreamStarted, TextDelta
from llm_dispatcher.exceptions import (
    LLMDispatcherError,
    ProviderConnectionError,
    ProviderError,
    ProviderServiceUnavailableError,
    StreamingError,
)
from llm_dispatcher.provider import Ask, Opened, Piece, TokenTrail
from tests.conftest import examples
from tests.dispatch.scripted import STOP, KeptAnswer, TakesTokens, job_over

WORDS: Final = [f"word{number}" for number in range(24)]
PIECES: Final = [
    WORDS[0], *(f" {each}" for each in WORDS[1:12]), ".\n\n", WORDS[12], *(f" {each}" for each in WORDS[13:]), ".",
]  # fmt: skip
TEXT: Final = "".join(PIECES)
ENOUGH: Final = 5
FAILURES: Final = (ProviderConnectionError("cut"), ProviderServiceUnavailableError("overloaded"), None)
"""How an answer breaks; `None` is an end without the vendor's word that it is complete."""


class Step(NamedTuple):
    """One request: how many pieces come before the break, which break it is, and what the vendor keeps of it."""

    pieces: int
    failure: int
    has_ids: bool = False
    keeps: bool = False
    begins_again: bool = False


steps = st.builds(
    Step, st.integers(0, len(PIECES)), st.integers(0, len(FAILURES) - 1), st.booleans(), st.booleans(), st.booleans()
)


class Chain:
    """All targets of a stream. The steps are taken in the order of the requests; what comes after them is complete, or
    breaks at once.
    """

    def __init__(self, chain: Sequence[Step], *, is_whole: bool) -> None:
        self._left = list(chain)
        self._is_whole = is_whole
        self.completed = 0
        self.course = Course()

    async def answer(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        if self._left:
            step = self._left.pop(0)
            breaks: ProviderError | None = FAILURES[step.failure]
            ends = False
        else:
            step, breaks, ends = Step(len(PIECES) if self._is_whole else 0, 1), FAILURES[1], self._is_whole
        texts = self._pieces(ask, step)
        texts = texts if ends else texts[: step.pieces]
        if step.keeps and not ends:
            run = KeptAnswer(texts, breaks=[len(texts) // 2], ends_at=len(texts))
            async for piece in run.begin():
                yield piece
            return
        yield Opened()
        trail = TokenTrail("ids", [1], None if ask.tokens is None else list(ask.tokens.output))
        if step.has_ids or ask.tokens is not None:
            yield trail
        for text in texts:
            trail.output.append(7)
            yield text
        if ends:
            self.completed += 1
            yield STOP
        elif breaks is not None:
            raise breaks

    def _pieces(self, ask: Ask, step: Step) -> list[str]:
        """What the model writes: the rest, after what it was asked to repeat."""
        if ask.tokens is not None:
            return _split(TEXT.removeprefix(self.course.text))  # the host knows the text of its ids
        turns = ask.request.conversation
        if len(turns) == 1:
            return PIECES
        if turns[-1].role == "assistant":
            # With an open turn, a few words are no proof that the answer begins again.
            begins_again = step.begins_again and len(turns[-1].text.split()) > ENOUGH
            return PIECES if begins_again else _split(TEXT.removeprefix(turns[-1].text))
        delivered = turns[-2].text
        if step.begins_again:
            return PIECES
        gap = delivered[len(delivered.rstrip()) :]
        return _split(anchor_of(delivered) + gap + TEXT.removeprefix(delivered))


def _split(text: str) -> list[str]:
    """In pieces that are cut within words, too."""
    return [text[at : at + 5] for at in range(0, len(text), 5)]


Outcome = tuple[list[Event], LLMDispatcherError | None, Any]


async def outcome(chain: Chain, styles: Sequence[Any], **more: Any) -> Outcome:
    names = "abcdefgh"[: len(styles)]
    job = job_over(
        {name: TakesTokens(chain.answer) for name in names}, dict(zip(names, styles, strict=True)),
        resilience=Resilience(max_retries=1, backoff=0.0), **more,
    )  # fmt: skip
    events: list[Event] = []
    try:
        async for event in attempts(job, chain.course):
            events.append(event)
    except LLMDispatcherError as error:
        return events, error, job
    return events, None, job


@settings(max_examples=examples(200))
@given(
    st.lists(steps, max_size=9),
    st.lists(st.sampled_from(["prefill", "anchored"]), min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from([{}, {"on_break": "restart"}, {"reader_has_nothing": True}]),
)
@example([Step(len(PIECES), 2)] * 3, ["prefill", "prefill"], False, {})
@example([Step(len(PIECES), 2)] * 3, ["anchored", "anchored"], False, {})
@example([Step(12, 0), Step(300, 2), Step(300, 0)], ["anchored"] * 3, False, {})
async def test_a_stream_is_complete_only_by_the_word_of_its_last_attempt(
    chain: list[Step], styles: list[Any], is_whole: bool, more: dict[str, Any]
) -> None:
    made = Chain(list(chain), is_whole=is_whole)
    events, error, job = await outcome(made, styles, **more)
    resets = [place for place, event in enumerate(events) if isinstance(event, StreamReset)]
    read = "".join(event.text for event in events[resets[-1] if resets else 0 :] if isinstance(event, TextDelta))
    completed = [event for event in events if isinstance(event, StreamCompleted)]
    assert len(completed) == made.completed == (error is None)
    outcomes = [row.outcome for row in job.ledger]
    assert outcomes == ["failed"] * (len(outcomes) - made.completed) + ["completed"] * made.completed
    if error is None:
        assert read == completed[0].text == TEXT
    else:
        assert TEXT.startswith(read)
        assert isinstance(error, StreamingError) == bool(read)
        assert not isinstance(error, StreamingError) or error.partial == read
    for event in events:
        if isinstance(event, StreamStarted) and event.rung is not None:
            assert job.ledger[event.attempt - 1].rung is not None
    assert all((row.rung is None) == (row.proof is None) for row in job.ledger if row.delivered)
