"""The stage that runs the model's tool calls, and asks the model again with their results.

How it works. A stream that runs tools has several turns. In each turn the stage reads the events of the stages further
in, which are one request to a model over however many attempts, and passes them on. If the turn has called tools, the
stage keeps back its `StreamCompleted`, decides all calls, runs them side by side, shows each result as it comes, and
asks for the next turn. All turns have one ledger, one deadline and one transcript.

- **Invariant.** A call runs at most once. It is run only after its turn is complete, with whole arguments that were
  checked, and after the run was noted. A turn that was cut off (`length`, a filter) runs nothing.
- **All or none.** If one call of a turn is only reported, or the policy says `stop`, none runs, and the stream ends
  with the calls. The limits are looked at before anything runs.
- **The request of a later turn** is the conversation with everything this stream has added. It has no body, and no
  `tool_choice` that would have the model call tools for ever.
- **Waiting.** While tools run, or the policy waits for a person, no vendor's clock runs; `total` does, and closing the
  switch ends the wait. The stage has a watchdog of its own for that, which keeps the runtime in use.
- **Cancellation.** A reader who leaves or is cancelled, a clock or the closed switch cancels the tools, and the stage
  waits for them (`SideBySide.aclose`). What has run has run: its result is in the conversation if it was shown.

Only the task that reads the stream runs the stage. Between two turns it alone writes to the course.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, contextmanager
from typing import Final

from msgspec.structs import replace

from ... import _clock
from ..._background import for_tools
from ..._dispatch import Course
from ..._dispatch.watchdog import Cause, SwitchClosedError, Watchdog, switch_closed
from ..._durations import in_seconds
from ..._resilience import Timeouts
from ..._tools import Deny, RunContext, ToolRun
from ..._tools._checking import CallIds, CheckedCall, Tools
from ..._tools._deciding import decide
from ..._tools._results import sendable
from ..._tools._running import Running, SideBySide
from ..._upstream import Deadline
from ...events import (
    Event,
    StreamCompleted,
    StreamReset,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
    ToolResult,
)
from ...exceptions import (
    BudgetExceededError,
    LLMDispatcherError,
    RequestTimeoutError,
    StreamBudgetExceededError,
    StreamingError,
    StreamTimeoutError,
    ToolLimitError,
)
from ...notices import ToolRunBegan, ToolRunFailed
from ...streaming._transcript import Transcript
from ...streaming._turns import BREAK, turns_of
from ...tasks import ToolCallPart
from ..call import Call, Onward, following

TIMEOUT: Final = 60.0
MAX_TURNS: Final = 8
MAX_CALLS: Final = 64
"""The defaults of `tool_timeout`, `max_turns` and `max_tool_calls`."""

_NO_CLOCKS: Final = Timeouts(connect=None, first_token=None, idle=None, total=None)

_WHOLE: Final = frozenset(("tool_calls", "stop"))
"""How a turn ends whose calls may run."""


class Acting:
    """Runs the tools that are functions, unless they are only to be reported."""

    def wanted(self, call: Call) -> bool:
        return call.runs_tools

    async def open(self, call: Call, onward: Onward) -> AsyncGenerator[Event, None]:
        turns = _ToolTurns(call)
        return turns.events(onward, await turns.next_turn(onward))


class _ToolTurns:
    """One stream that runs tools, from its first turn to its end."""

    def __init__(self, call: Call) -> None:
        self._call: Final = call
        self._tools: Final = Tools(call.request.tools)
        self._ids: Final = CallIds(call.request.conversation)
        self._deadline: Final = call.deadline or Deadline(
            call.settings.total(call.runtime.policy, call.request.task_type)
        )
        self._watchdog: Final = Watchdog(
            Timeouts(connect=None, first_token=None, idle=None, total=None), self._deadline
        )
        self._course = call.course
        earlier = () if call.course is None else turns_of(call.course.transcript)
        self._messages_before: Final = len(earlier)
        """The request has these messages of the stream already: it asks for an answer once more."""
        self._turns_before: Final = sum(each.role == "assistant" for each in earlier)
        self._turns = self._turns_before
        self._calls = sum(isinstance(part, ToolCallPart) for each in earlier for part in each.parts)

    # ── turns ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def next_turn(self, onward: Onward) -> AsyncGenerator[Event, None]:
        """Open the next turn of the model."""
        self._turns += 1
        if self._turns == self._turns_before + 1:
            self._course = Course() if self._course is None else self._course
            return await onward(replace(self._call, course=self._course, deadline=self._deadline))
        self._course = Course(self._course)
        added = turns_of(self._course.transcript)[self._messages_before :]
        request = following(self._call.request, added)
        turn = replace(self._call, request=request, course=self._course, deadline=self._deadline, body=None)
        try:
            return await onward(turn)
        except LLMDispatcherError as error:  # no target may be asked, in the middle of the stream
            raise self._failed(error) from error

    async def events(self, onward: Onward, turn: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """The events of all turns, with the results between them."""
        streams = self._call.runtime.open_streams
        streams.add(self._watchdog)
        try:
            while True:
                self._ids.begin_turn()
                calls: list[ToolCall] = []
                completed: StreamCompleted | None = None
                async with aclosing(turn) as events:
                    async for event in events:
                        if type(event) is TextDelta:
                            yield event
                        elif isinstance(event, ToolCall):
                            if (named := self._named(event)) is not None:
                                calls.append(named)
                                yield named
                        elif isinstance(event, (ToolCallDelta, ToolCallDropped)):
                            yield self._ids.fragment(event)
                        elif isinstance(event, StreamCompleted):
                            completed = event
                        else:
                            if isinstance(event, StreamReset):
                                calls.clear()
                            yield event
                if completed is None:
                    return  # it failed, and has said so
                decided = await self._decided(calls) if self._may_run(completed, calls) else None
                if decided is None:
                    yield completed
                    return
                async with aclosing(self._acted(decided)) as results:
                    async for result in results:
                        yield result
                turn = await self.next_turn(onward)
        finally:
            self._watchdog.close()
            streams.remove(self._watchdog)

    def _named(self, call: ToolCall) -> ToolCall | None:
        """The call with an id of its own, in the transcript too; `None` if the turn has it already."""
        named = self._ids.take(call)
        if named is not call:
            marks = self._transcript.marks
            place = next(at for at in range(len(marks) - 1, -1, -1) if marks[at][1] is call)
            marks[place : place + 1] = [] if named is None else [(marks[place][0], named)]
        return named

    def _may_run(self, completed: StreamCompleted, calls: Sequence[ToolCall]) -> bool:
        """Whether the calls of a turn that is complete may run."""
        is_reported = any(call.name in self._tools.reported for call in calls)
        return bool(calls) and completed.finish_reason in _WHOLE and not is_reported

    # ── decisions ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _decided(self, calls: Sequence[ToolCall]) -> list[tuple[CheckedCall, RunContext]] | None:
        """Check the limits and the calls, and ask the policy about those that could run. `None` if the stream ends with
        the calls.
        """
        self._check_limits(len(calls))
        decided: list[tuple[CheckedCall, RunContext]] = []
        policy = self._call.settings.tool_policy
        stops = False
        for call in calls:
            checked, context = self._tools.check(call), self._context(call)
            if checked.raised is not None:
                self._call.notify(ToolRunFailed(call.name, call.id, context.run_id, checked.raised))
            if checked.error is None:
                with self._waiting():
                    decision = await decide(policy, call, context)
                if isinstance(decision, Deny):
                    checked = CheckedCall(call, error=decision.reason)
                stops = stops or decision == "stop"
            decided.append((checked, context))
        return None if stops else decided

    def _check_limits(self, calls: int) -> None:
        settings = self._call.settings
        max_turns = MAX_TURNS if settings.max_turns is None else settings.max_turns
        max_calls = MAX_CALLS if settings.max_tool_calls is None else settings.max_tool_calls
        self._calls += calls
        if self._turns >= max_turns:
            raise self._error(
                ToolLimitError,
                f"the model still calls tools after {max_turns} turns, so these calls were not run: raise max_turns, "
                "or tell the model when to stop",
            )
        if self._calls > max_calls:
            raise self._error(
                ToolLimitError,
                f"the model has made {self._calls} tool calls, and max_tool_calls is {max_calls}, so those of "
                "its last turn were not run: raise max_tool_calls, or tell the model when to stop",
            )

    def _context(self, call: ToolCall) -> RunContext:
        conversation = self._call.conversation
        return RunContext(
            run_id=f"run_{_clock.hex_id(16)}",
            call=call,
            request=self._call.request,
            turn=self._turns,
            session=None if conversation is None else conversation.session,
            context=self._call.settings.tool_context,
        )

    # ── running ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _acted(self, decided: Sequence[tuple[CheckedCall, RunContext]]) -> AsyncGenerator[Event, None]:
        """Run the calls that may run. The results as they come, the errors of all others first."""
        runs = [each for each in decided if each[0].error is None]
        await self._note(runs)
        text = self._course_now.text
        if text and not text[-1].isspace():
            yield self._break()
        for checked, _ in decided:
            if checked.error is not None:
                yield self._shown(ToolResult(checked.call.id, checked.call.name, error=sendable(checked.error)))
        side_by_side = SideBySide(runs, self._running())
        try:
            while not side_by_side.is_over:
                with self._waiting():
                    results = await side_by_side.next_results()
                for result in results:
                    yield self._shown(result)
        finally:
            await side_by_side.aclose()
        if self._call.conversation is not None:
            await self._call.conversation.end_runs(turns_of(self._transcript)[-1])

    async def _note(self, runs: Sequence[tuple[CheckedCall, RunContext]]) -> None:
        """Note the runs before the first of them begins."""
        began, conversation = _clock.now(), self._call.conversation
        if conversation is None:
            for checked, context in runs:
                self._call.notify(ToolRunBegan(checked.call.name, checked.call.id, context.run_id))
            return
        noted = [
            ToolRun(context.run_id, checked.call.id, checked.call.name, checked.call.raw_arguments, began)
            for checked, context in runs
        ]
        await conversation.begin_runs(turns_of(self._transcript), noted)

    def _running(self) -> Running:
        seconds = self._call.settings.tool_timeout
        return Running(for_tools(), TIMEOUT if seconds is None else seconds, self._call.notify)

    def _break(self) -> TextDelta:
        """What parts the text of two turns for readers of text. It is no part of the conversation."""
        transcript = self._transcript
        delta = TextDelta(BREAK, transcript.chunks)
        transcript.add(BREAK)
        return delta

    def _shown(self, result: ToolResult) -> ToolResult:
        self._transcript.take(result)
        return result

    # ── waiting and failing ────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _waiting(self) -> Generator[None, None, None]:
        """Wait for something that is no vendor: `total` and closing the switch end the wait."""
        watchdog = self._watchdog
        try:
            watchdog.arm("idle")
            yield
        except SwitchClosedError:
            raise self._stopped("closed") from None
        except (asyncio.CancelledError, Exception):
            if (cause := watchdog.fired()) is None:
                raise
            raise self._stopped(cause) from None
        else:
            if (cause := watchdog.fired()) is not None:  # the policy took the cancellation for its own
                raise self._stopped(cause)
        finally:
            watchdog.disarm()

    @property
    def _course_now(self) -> Course:
        assert self._course is not None  # `next_turn` has set it
        return self._course

    @property
    def _transcript(self) -> Transcript:
        return self._course_now.transcript

    def _stopped(self, cause: Cause) -> LLMDispatcherError:
        """The error for a wait that ended too early."""
        if cause == "closed":
            return self._error(StreamingError, switch_closed().message)
        seconds = in_seconds(self._deadline.seconds)
        return self._error(StreamTimeoutError, f"not complete within {seconds} (the total clock), while tools ran")

    def _failed(self, error: LLMDispatcherError) -> LLMDispatcherError:
        """An error before a later turn, as the error of a stream that has delivered something."""
        if isinstance(error, StreamingError):
            return error
        kind = StreamingError
        if isinstance(error, BudgetExceededError):
            kind = StreamBudgetExceededError
        elif isinstance(error, RequestTimeoutError):
            kind = StreamTimeoutError
        return self._error(kind, str(error), [error])

    def _error(
        self, kind: type[StreamingError], message: str, more: Sequence[LLMDispatcherError] = ()
    ) -> StreamingError:
        failures = [*self._course_now.failures, *more]
        return kind(message, partial=self._transcript.text, usage=self._call.ledger.usage, failures=failures)
