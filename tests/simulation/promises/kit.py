"""What the invariants have in common: how one fails, and what the record of a reader says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, NoReturn

from msgspec import UNSET

from llm_dispatcher._policy import Policy
from llm_dispatcher._resilience import Resilience
from llm_dispatcher.cache import alike
from llm_dispatcher.events import (
    Attempt,
    Event,
    StreamCancelled,
    StreamCompleted,
    StreamFailed,
    StreamReset,
    StreamStarted,
    TextDelta,
    ToolResult,
)
from llm_dispatcher.exceptions import UnprovenContinuationError
from llm_dispatcher.tasks import Target, TaskType
from tests.simulation.record import Outcome, Process, Reading, Run, Served

TIMER: Final = 0.005
"""Seconds by which timers may be late: the watchdog's resolution, its grace, and rounding."""
DOLLARS: Final = 1e-6
"""US dollars by which sums of floats may differ."""
UNPROVEN: Final = UnprovenContinuationError.__name__
ENDS: Final = (StreamCompleted, StreamFailed, StreamCancelled)


def fail(who: Reading | Process | str, expected: object, found: object) -> NoReturn:
    """Raise the error of an invariant that does not hold: who, what was expected, and what was found."""
    match who:
        case Reading():
            name = f"{who.name} of process {who.process} ({who.outcome})"
        case Process():
            name = f"process {who.number}"
        case _:
            name = who
    raise AssertionError(f"{name}: expected {_short(expected)}; found {_short(found)}")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 600 else f"{text[:400]} … {text[-180:]}"


def everyone(run: Run) -> Iterator[Reading]:
    """Every reader, those of the epilogue included."""
    yield from run.readings
    yield from run.epilogue


def finished(run: Run) -> Iterator[Reading]:
    """Every reader that has come to an end. One in a process that was killed has not."""
    return (reading for reading in everyone(run) if reading.outcome != "open")


def ran_to_its_end(reading: Reading) -> bool:
    """Whether the reader has seen the end of its stream, whichever it was."""
    return outcome_of(reading) in ("completed", "failed")


def ended_with_its_switch(reading: Reading) -> bool:
    """Whether the error of the reader's stream says that its switch was closed."""
    return reading.error is not None and "the switch was closed" in str(reading.error)


def outcome_of(reading: Reading) -> Outcome:
    """How the reader ended.

    A reader of events that has got a `StreamFailed` has failed, whatever it did then. One that awaits a stream which
    another task closes gets what there is, and has left.
    """
    if isinstance(end_of(reading.events), StreamFailed):
        return "failed"  # whatever it did after that
    is_cancelled = reading.response is not None and reading.response.finish_reason == "cancelled"
    is_closed = reading.plan.closed_after is not None and reading.plan.way in ("await", "collect")
    return "left" if reading.outcome == "completed" and is_cancelled and is_closed else reading.outcome


def process_of(run: Run, reading: Reading) -> Process:
    return run.processes[reading.process]


def attempts_of(reading: Reading) -> Sequence[Attempt]:
    """The rows of the reader's ledger."""
    return () if reading.response is None else reading.response.attempts


def has_body(reading: Reading) -> bool:
    """Whether the reader reads a decorated body that holds the stream: its observer sees the stream inside."""
    return reading.plan.through == "body"


def is_free(reading: Reading) -> bool:
    """Whether another reader's answer, or a recording, served this one."""
    return any(isinstance(event, StreamStarted) and event.cached for event in reading.watched)


def end_of(events: Sequence[Event]) -> Event | None:
    """The event that ended a stream."""
    return next((event for event in events if isinstance(event, ENDS)), None)


def text_of(events: Iterable[Event]) -> str:
    """The text of these events, without what a reset has taken back. A reset takes back one turn."""
    pieces: list[str] = []
    turn_began = 0
    for event in events:
        if isinstance(event, TextDelta):
            pieces.append(event.text)
        elif isinstance(event, ToolResult):
            turn_began = len(pieces)
        elif isinstance(event, StreamReset):
            del pieces[turn_began:]
    return "".join(pieces)


def missed(reading: Reading) -> int:
    """How many events the observer did not see before the end.

    A reader that is cancelled while one of its callbacks waits has got an event that later observers do not see.
    """
    end = end_of(reading.watched)
    return 0 if end is None else end.sequence - (len(reading.watched) - 1)


@dataclass
class Segment:
    """What a stream shows of one attempt: from its `StreamStarted` to the next one."""

    number: int
    target: Target
    cached: bool
    turn: int = 0
    pieces: list[str] = field(default_factory=list)
    is_taken_back: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def segments(events: Iterable[Event]) -> list[Segment]:
    """The parts of a stream, one for each attempt that was shown."""
    parts: list[Segment] = []
    turn, has_results = 0, False
    for event in events:
        match event:
            case StreamStarted():
                turn, has_results = turn + has_results, False
                parts.append(Segment(event.attempt, event.target, event.cached, turn))
            case ToolResult():
                has_results = True
            case TextDelta() if parts:
                parts[-1].pieces.append(event.text)
            case StreamReset():
                for part in parts:
                    part.is_taken_back = part.is_taken_back or part.turn == turn
            case _:
                pass
    return parts


def option(reading: Reading, name: str) -> Any:
    """An option of the reader's call; `None` if its policy decides."""
    return reading.plan.options.get(name)


def is_buffered(reading: Reading) -> bool:
    """Whether the reader's call joins pieces of text."""
    return option(reading, "buffer_size") is not None or option(reading, "min_chunk_size") is not None


def namespace(reading: Reading) -> str:
    """The namespace that the reader's request counts for."""
    return str(reading.plan.request.get("namespace") or reading.plan.request.get("metadata", {}).get("namespace") or "")


def policies_of(run: Run, reading: Reading) -> list[Policy]:
    """The policy that was in force when the reader began. Two, if a reload came at that very moment."""
    if reading.policy is not None:
        return [reading.policy]
    changes = run.processes[reading.process].policies
    before = [policy for at, policy in changes if at < reading.began_at][-1:]
    return [*before, *(policy for at, policy in changes if at == reading.began_at)] or [changes[0][1]]


def task_of(reading: Reading) -> TaskType:
    """The task type of the reader's request."""
    task: TaskType = reading.plan.request.get("task_type", "text_generation")
    return task


def resilience_of(policy: Policy, reading: Reading, target: Target | None) -> Resilience:
    """The resilience of a target for the reader's request, or that of the whole request."""
    return policy.resilience_of(task_of(reading), target)


def route_of_breakers(run: Run, reading: Reading) -> str:
    """The name of the reader's route, if that has breakers of its own; "" if it shares those of all routes."""
    policy, task = policies_of(run, reading)[-1], task_of(reading)
    if not has_own_breakers(policy, task):
        return ""
    return str(task) if task in policy.tasks else "default"


def has_own_breakers(policy: Policy, task: TaskType) -> bool:
    """Whether the route of a task has breakers of its own."""
    own = policy.route(task).resilience
    return own is not None and own.breaker is not UNSET


def may_share(reading: Reading) -> bool:
    """Whether the reader's call may share its stream with others, if its policy has a cache."""
    is_raw = option(reading, "raw") and not has_body(reading)  # a body does not pass it on
    return option(reading, "cache") is not False and not is_raw and reading.plan.tool is None


def asks_the_same(run: Run, donor: Reading, reading: Reading) -> bool:
    """Whether the requests of two readers differ in nothing but what the cache may ignore."""
    if donor is reading or namespace(donor) != namespace(reading):
        return False
    for name in ("task_type", "max_tokens", "temperature", "system"):
        if donor.plan.request.get(name) != reading.plan.request.get(name):
            return False
    if donor.plan.tool is not None or reading.plan.tool is not None:
        return False
    if (donor.plan.wants_tools, donor.plan.open_turn) != (reading.plan.wants_tools, reading.plan.open_turn):
        return False
    thresholds = [policy.cache.similarity_threshold for policy in policies_of(run, reading) if policy.cache is not None]
    likeness = alike(donor.question, reading.question)
    return donor.question == reading.question or (likeness.hit and likeness.score >= min(thresholds, default=1.0))


def over_at(served: Served) -> float:
    """When a vendor's stream was closed; for ever, if its process was killed before."""
    return inf if served.ended_at is None else served.ended_at
