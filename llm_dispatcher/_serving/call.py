"""`Call`: one call, as it is when its stream begins. `Stage`: one thing to do with its events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from .._dispatch import Course, Ledger
from .._policy import Affinity, Wishes
from .._routing import affinity_after
from .._tools import ToolRun
from .._upstream import Deadline
from ..events import Event
from ..notices import Notify
from ..provider import Provider
from ..streaming._answer import Answer
from ..streaming._shape import Shape
from ..tasks import Message, TaskRequest, Tool
from .runtime import Runtime
from .settings import CallSettings


class Conversation(Protocol):
    """The conversation that a call belongs to, if it has one. A session is one.

    What is not stored before the next step would be lost with the process. So the stage that runs tools awaits
    `begin_runs` before the first tool of a turn runs, and `end_runs` before the model is asked again. An error of
    either ends the stream.
    """

    @property
    def session(self) -> object:
        """The session, for `RunContext.session`."""
        ...

    @property
    def affinity(self) -> Affinity | None:
        """Where the conversation has been."""
        ...

    async def begin_runs(self, messages: Sequence[Message], runs: Sequence[ToolRun]) -> None:
        """These tools are about to run. `messages` is all that the stream adds to the conversation so far, and ends
        with the turn that calls them.
        """
        ...

    async def end_runs(self, results: Message) -> None:
        """These are their results."""
        ...


class Call(Struct, frozen=True, kw_only=True):
    """One call. It is made once, when its stream is first read, and handed down from stage to stage.

    `shape` is the way in which it is read. `runtime` is the policy in force and the objects that were built from it; a
    reload does not change it. The stream writes its attempts to `ledger`. `body` makes the provider that runs the
    decorated function's own body, if it has one. `deadline` is set by a stage that shares the stream with other calls;
    without one, the loop makes its own from the settings. `course` is that of the turn, set by a stage that asks the
    model in several turns; without one, the loop makes its own. `conversation` is what the call belongs to. `answer` is
    the object in the answer, if the call is read as one.
    """

    request: TaskRequest
    settings: CallSettings
    shape: Shape
    runtime: Runtime
    ledger: Ledger
    body: Callable[[], Provider] | None = None
    deadline: Deadline | None = None
    course: Course | None = None
    conversation: Conversation | None = None
    answer: Answer | None = None

    @property
    def runs_tools(self) -> bool:
        """Whether the model may call functions that run in this stream."""
        tools = self.request.tools
        return self.settings.tool_policy != "report" and any(
            isinstance(each, Tool) and each.is_runnable for each in tools
        )

    @property
    def wishes(self) -> Wishes:
        """The wishes of the call for its routing. A call of a conversation, and a later turn of a stream, are to go on
        where they have been.
        """
        wishes = self.settings.wishes(self.runtime.policy, self.request.task_type)
        affinity = None if self.conversation is None else self.conversation.affinity
        if len(self.ledger):
            affinity = affinity_after(affinity, self.ledger)
        return wishes if affinity is None else replace(wishes, affinity=affinity)

    @property
    def notify(self) -> Notify:
        """Gives a notice to all observers of the switch."""
        return self.runtime.shared.notify


def following(request: TaskRequest, added: Sequence[Message]) -> TaskRequest:
    """The request of a later turn: the conversation, and what was added to it. The model may answer without a tool."""
    choice = request.tool_choice
    return replace(
        request,
        prompt=None,
        images=(),
        audio=(),
        messages=(*request.conversation, *added),
        tool_choice=choice if choice in (None, "auto", "none") else "auto",
    )


Onward: TypeAlias = Callable[[Call], Awaitable[AsyncGenerator[Event, None]]]
"""Opens the rest of the chain for a call: all stages further in, and the loop."""


class Stage(Protocol):
    """Does one thing to the events of a call.

    `open_events` leaves a stage out of the chain if `wanted` is false, so it costs such a call nothing. `open` is
    awaited before the first event is read. It may await `onward` itself, or leave that to the generator that it
    returns. That generator is read to its end or closed.
    """

    def wanted(self, call: Call) -> bool:
        """Whether this call needs the stage."""
        ...

    async def open(self, call: Call, onward: Onward) -> AsyncGenerator[Event, None]:
        """The events of the call, which come from `onward(call)` or from another source."""
        ...
