"""Runs in the background, as OpenAI keeps them.

How it works: a run is never executed. Each of its events has a time at which it is written, which follows from the pace
of the reply and from the time at which the run began. So a run goes on while nobody reads it, and needs no task. A
connection sends what is written at once, and the rest as it comes.

A `RunStore` is used in the loop of its vendor only. Other threads may read the attributes of a run.
"""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qs

from msgspec.structs import replace

from .. import _clock
from . import _answers as answers
from ._answers import Answer, Ready
from ._latch import Latch
from ._received import ReceivedRequest
from ._script import Reply, Wire
from ._wires import Frame, Rejection, openai_responses
from .faults import (
    Cut,
    CutEach,
    Fault,
    HttpError,
    Refuse,
    RunFails,
    RunIsLost,
    RunStalls,
    ScriptPart,
    SlowHeaders,
    Stall,
    not_negative,
)

RunStatus: TypeAlias = Literal["in_progress", "completed", "incomplete", "failed", "cancelled"]
Trouble: TypeAlias = HttpError | Refuse | SlowHeaders
"""What may happen to a request that reads a run on or cancels it."""

_PATH: Final = re.compile(r"/v1/responses/([^/]+)(/cancel)?")
_TOO_OLD: Final = "This response can no longer be streamed because it is more than 5 minutes old"
"""OpenAI's own words, whatever the clock of the simulation says."""


class Background(ScriptPart, frozen=True):
    """How a simulated OpenAI keeps the runs of requests with `background: true`.

    Args:
        stream_for: The seconds for which a run can be read on, counted from its beginning.
        keep_for: The seconds after which it is forgotten.
        reads: What happens to the requests that read a run on, in their order; `None` serves one.
        cancel: What happens to a cancellation instead.
    """

    stream_for: float = 300.0
    keep_for: float = 600.0
    reads: tuple[Trouble | None, ...] = ()
    cancel: Trouble | None = None

    def __post_init__(self) -> None:
        not_negative("Background(stream_for)", self.stream_for)
        not_negative("Background(keep_for)", self.keep_for)


OPENAIS: Final = Background()
"""As OpenAI itself keeps them."""


class SimulatedRun:
    """One run of a simulated OpenAI. `connections` counts the times that its events were sent.

    Args:
        id: The vendor's name for it.
        reply: The answer.
        model: The name of the model in the request.
    """

    def __init__(self, id: str, reply: Reply, model: str) -> None:  # noqa: A002 - the vendor's own word
        self.id = id
        self.model = model
        self.reply = reply
        self.began_at: float = _clock.monotonic()
        self.cancelled_at: float | None = None
        self.connections = 0
        self._cancelled = Latch()
        self.frames: list[Frame] = _frames(id, reply, model)

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return _clock.monotonic() - self.began_at

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled before it had ended."""
        return self.cancelled_at is not None

    @property
    def status(self) -> RunStatus:
        """What the vendor says of it. It does not depend on whether somebody reads it."""
        if self.is_cancelled:
            return "cancelled"
        if isinstance(self.reply.fault, RunStalls) or self.written < len(self.frames):
            return "in_progress"
        if isinstance(self.reply.fault, RunFails):
            return "failed"
        return "incomplete" if b"response.incomplete" in self.frames[-1].data else "completed"

    @property
    def written(self) -> int:
        """How many of its events are written."""
        age = self.age if self.cancelled_at is None else self.cancelled_at
        return next((place for place in range(len(self.frames)) if self.due(place) > age), len(self.frames))

    async def until_cancelled(self, timeout: float = 30.0) -> bool:
        """Wait until it is cancelled, and return whether it was."""
        await self._cancelled.wait_async(timeout)
        return self.is_cancelled

    def cancel(self) -> None:
        """Write nothing more. Later calls change nothing."""
        if self.cancelled_at is None:
            self.cancelled_at = self.age
            self._cancelled.open()

    def due(self, place: int) -> float:
        """The age at which an event is written."""
        return self.reply.pace * sum(frame.content for frame in self.frames[:place])


class RunStore:
    """The runs of one vendor, and its answers to requests about them."""

    def __init__(self, background: Background) -> None:
        self.all: list[SimulatedRun] = []
        self._background = background
        self._reads = list(background.reads)

    def begin(self, request: ReceivedRequest, reply: Reply) -> Answer:
        """Begin a run, and send its events."""
        run = SimulatedRun(f"resp_sim_{len(self.all) + 1}", reply, request.model)
        self.all.append(run)
        return self._events(run, 0)

    def is_asked_by(self, request: ReceivedRequest) -> bool:
        """Whether a request is about a run: it reads or cancels one."""
        found = _PATH.fullmatch(request.path.partition("?")[0])
        return found is not None and request.method == ("GET" if found[2] is None else "POST")

    def answer(self, request: ReceivedRequest) -> Answer:
        """The answer to a request about a run."""
        path, _, query = request.path.partition("?")
        found = _PATH.fullmatch(path)
        assert found is not None
        cancels = found[2] is not None
        fault = self._background.cancel if cancels else self._reads.pop(0) if self._reads else None
        answer = _failed(fault, request) or self._found(found[1], cancels, query, request)
        return replace(answer, fault=fault) if isinstance(fault, SlowHeaders) else answer

    def _found(self, id: str, cancels: bool, query: str, request: ReceivedRequest) -> Answer:  # noqa: A002
        run = next((each for each in self.all if each.id == id), None)
        if run is None or run.age >= self._background.keep_for or isinstance(run.reply.fault, RunIsLost):
            return _refused(404, f"Response with id '{id}' not found.", request)
        if cancels:
            return self._cancelled(run, request)
        options = parse_qs(query)
        if options.get("stream") != ["true"]:
            return answers.json_answer(openai_responses.run_object(run.model, run.id, run.status))
        if run.age >= self._background.stream_for:
            return _refused(400, _TOO_OLD, request)
        after = options.get("starting_after", ["-1"])[0]
        if not after.removeprefix("-").isdecimal():
            return _refused(400, "Invalid value for 'starting_after': expected an integer.", request)
        return self._events(run, int(after) + 1)

    def _cancelled(self, run: SimulatedRun, request: ReceivedRequest) -> Answer:
        if run.status not in ("in_progress", "cancelled"):
            return _refused(400, f"Cannot cancel a {run.status} response.", request)
        run.cancel()
        return answers.json_answer(openai_responses.run_object(run.model, run.id, "cancelled"))

    def _events(self, run: SimulatedRun, start: int) -> Answer:
        """The events of a run from one on."""
        run.connections += 1
        written, wait = run.written, 0.0
        frames = run.frames[start:written] if run.is_cancelled else run.frames[start:]
        if start + len(frames) > written:
            wait = max(0.0, run.due(max(start, written)) - run.age)
        answer = answers.answer_with(
            Wire.OPENAI_RESPONSES,
            frames,
            replace(run.reply, fault=_of_connection(run)),
            run.model,
            Ready(max(0, written - start), wait),
        )
        return replace(answer, is_stopped=lambda: run.is_cancelled)


def _frames(id: str, reply: Reply, model: str) -> list[Frame]:  # noqa: A002
    frames = openai_responses.frames(reply, model, id)
    if isinstance(reply.fault, (RunFails, RunStalls, RunIsLost)):
        frames = list(answers.before(frames, reply.fault.after))
    if isinstance(reply.fault, RunFails):
        frames.append(openai_responses.failed(model, id, len(frames), reply.fault.message))
    return frames


def _of_connection(run: SimulatedRun) -> Fault | None:
    """What happens to a connection. A fault that is not one of the run happens to the first connection only."""
    match fault := run.reply.fault:
        case CutEach(times=times):
            return fault if times is None or run.connections <= times else None
        case RunIsLost(after=after, moment=moment):
            return Cut(after, moment=moment)
        case RunStalls(after=after):
            return Stall(after)
        case RunFails():
            return None
        case _:
            return fault if run.connections == 1 else None


def _failed(fault: Trouble | None, request: ReceivedRequest) -> Answer | None:
    if isinstance(fault, Refuse):
        return answers.no_answer()
    if isinstance(fault, HttpError):
        return answers.error_answer(Wire.OPENAI_RESPONSES, fault, request.request_id)
    return None


def _refused(status: int, message: str, request: ReceivedRequest) -> Answer:
    return answers.error_answer(Wire.OPENAI_RESPONSES, Rejection(status, message), request.request_id)
