"""`SessionTurn`: one turn of a session; and the rules that make any list of messages a whole conversation.

A conversation is whole if each tool call has its result, directly after the turn that made the call. Vendors refuse any
other conversation. So a session never sends one: `repaired` adds a result, which says what happened, to each call that
has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from .._messages import misplaced_part
from .._tools import ToolRun
from ..events import Failure
from ..tasks import (
    Message,
    Part,
    ReasoningPart,
    Target,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

TurnState: TypeAlias = Literal["complete", "partial", "running", "added", "summary"]

NO_RESULT: Final = "No result was given for this call."
INTERRUPTED: Final = (
    "The run of this tool was interrupted before its result was known. It may have taken effect. It is not repeated."
)
NOT_RUN: Final = "This call was not run, because the answer ended before it."
BROKEN: Final = "(This answer was interrupted.)"
EMPTY: Final = "(This answer is empty.)"


class SessionTurn(Struct, frozen=True, kw_only=True):
    """What one `stream` or one `add` has put into a session.

    `state` is "complete" if the answer is, and "partial" if the stream broke, or its reader left it. It is "added" if
    `add` made the turn, and "summary" if it stands for turns that were trimmed. A turn is stored as "running" while its
    tools run. `target` is the model that answered, and `failure` the error that ended a broken answer. `runs` are the
    runs of tools that had no result when the turn was stored.
    """

    id: str
    messages: tuple[Message, ...]
    state: TurnState
    target: Target | None = None
    failure: Failure | None = None
    runs: tuple[ToolRun, ...] = ()

    @property
    def begins(self) -> bool:
        """Whether the turn begins with a message of the user, so that a conversation may be cut before it."""
        return self.state != "summary" and bool(self.messages) and is_asked(self.messages[0])


def is_asked(message: Message) -> bool:
    """Whether a message is the user's, and more than the results of tools."""
    return message.role == "user" and not any(isinstance(part, ToolResultPart) for part in message.parts)


def split(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """The messages in groups: each message of the user begins one, and so does what stands before the first of them."""
    groups: list[list[Message]] = []
    for message in messages:
        if not groups or is_asked(message) or (groups[-1][0].role == "system" and message.role != "system"):
            groups.append([])
        groups[-1].append(message)
    return [tuple(group) for group in groups]


# ── pairs of calls and results ─────────────────────────────────────────────────────────────────────────────────────


class _Waiting:
    """The calls of the last turn of the model that wait for their results, in order. Two calls may have the same id."""

    def __init__(self) -> None:
        self.calls: list[ToolCallPart] = []

    def take(self, message: Message) -> ToolResultPart | None:
        """Take the next message. Return its first result that belongs to no waiting call, if there is one."""
        results = [part for part in message.parts if isinstance(part, ToolResultPart)]
        if not results:
            self.calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
        for result in results:
            place = next((at for at, call in enumerate(self.calls) if call.id == result.id), None)
            if place is None:
                return result
            del self.calls[place]
        return None


def repaired(
    messages: Iterable[Message], reason: Callable[[ToolCallPart], str] = lambda call: NO_RESULT
) -> tuple[Message, ...]:
    """The messages, with an error result for each call that has none. Whole conversations are returned unchanged."""
    whole: list[Message] = []
    waiting = _Waiting()
    for message in messages:
        if not any(isinstance(part, ToolResultPart) for part in message.parts):
            _close(whole, waiting, reason)
        waiting.take(message)
        whole.append(message)
    _close(whole, waiting, reason)
    return tuple(whole)


def _close(whole: list[Message], waiting: _Waiting, reason: Callable[[ToolCallPart], str]) -> None:
    """Give each waiting call an error result. All results of a turn stand in one message."""
    missing = [ToolResultPart(call.id, call.name, reason(call), error=True) for call in waiting.calls]
    if not missing:
        return
    if whole[-1].role == "tool":
        whole[-1] = replace(whole[-1], parts=(*whole[-1].parts, *missing))
    else:
        whole.append(Message("tool", missing))


def check_parts(messages: Iterable[Message]) -> None:
    """Refuse a part that no vendor takes from this role, before it spoils every later request of a session.

    Raises:
        ValueError: There is one.
    """
    for message in messages:
        if (problem := misplaced_part(message)) is not None:
            raise ValueError(problem)


def check_results(messages: Iterable[Message]) -> None:
    """Refuse a result whose call does not stand before it.

    Raises:
        ValueError: There is one; the error names it.
    """
    waiting = _Waiting()
    for message in messages:
        if (orphan := waiting.take(message)) is not None:
            raise ValueError(
                f"the result of the tool {orphan.name!r} belongs to no open call (id {orphan.id!r}): add it once, "
                "directly after the turn that has the call"
            )


# ── what a stream has added ────────────────────────────────────────────────────────────────────────────────────────


def ended(added: Iterable[Message], *, complete: bool, runs: Iterable[ToolRun] = ()) -> tuple[Message, ...]:
    """What a stream adds to a conversation, in a form that every vendor takes; empty if nothing of it can be kept.

    The last message is always one of the model, because some hosts want the user and the model to take turns.

    Args:
        added: The messages of the stream.
        complete: Whether the stream is. Then calls without results keep waiting for those that the application adds.
            Otherwise they get a result that says what happened.
        runs: The runs that had begun and have no result yet. A call without a run has not run.
    """
    begun = {run.call_id for run in runs}

    kept = [message for each in added if (message := _with_content(each)) is not None]
    if not complete:
        kept = list(repaired(kept, lambda call: INTERRUPTED if call.id in begun else NOT_RUN))
    if not kept:
        return (Message("assistant", EMPTY),) if complete else ()
    if kept[-1].role != "assistant":
        kept.append(Message("assistant", EMPTY if complete else BROKEN))
    return tuple(kept)


def interrupted(turn: SessionTurn) -> SessionTurn:
    """A turn whose tools were running when its process ended. It has no messages if nothing of it can be kept."""
    asked = turn.messages[:1] if turn.begins else ()
    answer = ended(turn.messages[len(asked) :], complete=False, runs=turn.runs)
    failure = Failure("Interrupted", "the process ended while tools were running")
    return replace(turn, messages=(*asked, *answer) if answer else (), state="partial", failure=failure)


def _with_content(message: Message) -> Message | None:
    """The message without blank text; `None` if only reasoning is left, which vendors refuse by itself."""
    if message.role != "assistant":
        return message
    parts = tuple(_sendable(part) for part in message.parts if not _is_blank(part))
    if all(isinstance(part, ReasoningPart) for part in parts):
        return None
    return message if parts == message.parts else replace(message, parts=parts)


def _is_blank(part: Part) -> bool:
    return isinstance(part, TextPart) and not part.text.strip()


def _sendable(part: Part) -> Part:
    """A call with arguments that are no JSON object, in a form that every wire can send: some refuse other JSON."""
    if not isinstance(part, ToolCallPart) or not part.arguments.strip():
        return part
    try:
        arguments = msgspec.json.decode(part.arguments)
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    return part if isinstance(arguments, dict) else replace(part, arguments=_invalid(part.arguments))


def _invalid(arguments: str) -> str:
    return msgspec.json.encode({"invalid_json": arguments}).decode()
