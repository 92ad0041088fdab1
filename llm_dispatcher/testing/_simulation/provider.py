"""`SimulatedProvider`: a vendor at the level of `Provider`, without a socket, for the simulated event loop.

How it works
------------
A request is answered by the same scripts as a simulated vendor's. The answer is worked out before its first piece:
pieces, pauses and errors in one order (`answer`). `stream` then plays it, and awaits nothing but sleeps of the running
loop. So it works on every event loop, and in a simulated one it is as repeatable as the script.

- The vendor keeps its own time, as one behind a socket does: pauses add up from the moment in which the request came,
  and a reader who was slow finds the pieces that have arrived meanwhile.
- `requests`, `served` and the place in the script are the only state. Only `stream` writes them, in the loop that reads
  it. One provider must not be read by two threads at a time.
- If a reader leaves or is cancelled, Python ends the generator where it waits. The `finally` of the generator then
  completes the `ReceivedRequest` and the `Served`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from itertools import groupby
from math import inf
from typing import Final, TypeAlias
from urllib.parse import urljoin, urlsplit

from ..._log import write
from ..._vendors.table import vendor
from ...events import UsageReport
from ...notices import Notify
from ...provider import Ask, Finished, Opened, Piece, ProviderSettings, RawEvent
from ...provider._errors import translated
from ...tasks import Message, Target, TaskRequest, ToolResultPart
from .._continuing import Continuing
from .._player import PREFILL_REFUSED
from .._received import ReceivedRequest, Turn
from .._script import Reply, Wire
from ..faults import HttpError, Redirect
from .answer import Answer, Asked, Pieces, answer, refusal

_Function: TypeAlias = Callable[[ReceivedRequest], Reply | Pieces]
ProviderPart: TypeAlias = str | Reply | Continuing | Pieces | _Function
ProviderScript: TypeAlias = ProviderPart | Sequence[ProviderPart]
"""A script of a `SimulatedVendor`. In place of a `Reply`, it may also have `Pieces`."""

HELLO: Final = Reply("Hello!")
_MOST_REDIRECTS: Final = 10
_NO_CONTENT: Final = (Opened, RawEvent, UsageReport, Finished)
_KEEPS_THE_PROMPT: Final = (307, 308)
_LIMITS: Final = {Wire.ANTHROPIC: 4096}
"""The real providers' limits of output tokens for a request without one. The admission control reads them."""


class Served:
    """What one attempt got from a vendor. Times are those of the event loop.

    `pieces` are the pieces that were yielded, and `finished` says whether a `Finished` was among them. `silence` is the
    longest time for which the reader had to wait for content, also for content that never came. As for the clocks of a
    stream, a report of usage, a `RawEvent` or an empty text does not end a silence. `fault` is the class name of the
    fault of the script, or "". `ended_at` is `None` while the stream is open.

    Args:
        target: The target that was asked.
        request: The request that was sent.
        asked_at: When it was sent.
    """

    __slots__ = (
        "_waited", "_waits_since", "asked_at", "ended_at", "fault", "finished", "pieces", "request", "silence",
        "target",
    )  # fmt: skip

    def __init__(self, target: Target, request: TaskRequest, asked_at: float) -> None:
        self.target: Target = target
        self.request: TaskRequest = request
        self.asked_at: float = asked_at
        self.ended_at: float | None = None
        self.pieces: list[Piece] = []
        self.finished: bool = False
        self.silence: float = 0.0
        self.fault: str = ""
        self._waited = 0.0  # since the last content
        self._waits_since: float | None = asked_at

    def take(self, piece: Piece, now: float) -> None:
        """The reader gets a piece."""
        self._end_wait(now)
        if piece and not isinstance(piece, _NO_CONTENT):
            self._waited = 0.0
        self.pieces.append(piece)
        self.finished = self.finished or isinstance(piece, Finished)

    def wait(self, now: float) -> None:
        """The reader begins to wait for the next piece."""
        self._waits_since = now

    def end(self, now: float) -> None:
        """The stream is closed."""
        self._end_wait(now)
        self.ended_at = now

    def _end_wait(self, now: float) -> None:
        if self._waits_since is not None:
            self._waited += now - self._waits_since
            self._waits_since = None
            self.silence = max(self.silence, self._waited)

    def __repr__(self) -> str:
        state = "open" if self.ended_at is None else f"ended at {self.ended_at:g}"
        return f"<{self.target} asked at {self.asked_at:g}: {len(self.pieces)} pieces, {state}>"


class SimulatedProvider:
    """A provider whose vendor answers and fails by a script, without a socket.

    It yields what the real provider of its wire reads from a `SimulatedVendor` with the same script. It waits with the
    running event loop only, so that it works in simulated time.

    If a function in the script raises an error, the answer is an HTTP 500, and `script_error` has the first one.

    Args:
        settings: Its entry in the configuration.
        script: Its answers. See `ProviderScript`.
        latency: Returns the seconds before the head of an answer and before each piece. They are added to `Reply.pace`.
        wire: The API; by default the one that the settings lead to.
        models: The models that it has; by default it accepts any name.
        refuses_prefill: Whether it refuses requests that end with an open assistant turn, or which models do.
        api_key: The key that the settings must have; by default any or none.

    Raises:
        ValueError: An argument is impossible, such as a fault past the end of a reply.
        TypeError: The script is of the wrong type.
    """

    def __init__(
        self,
        settings: ProviderSettings,
        script: ProviderScript = HELLO,
        *,
        latency: Callable[[], float] | None = None,
        wire: Wire | str | None = None,
        models: Collection[str] | None = None,
        refuses_prefill: bool | Collection[str] = False,
        api_key: str | None = None,
    ) -> None:
        self.settings: Final = settings
        self.wire: Final = wire_of(settings) if wire is None else Wire(wire)
        self.latency = latency
        self.requests: Final[list[ReceivedRequest]] = []
        self.served: Final[list[Served]] = []
        self.script_error: Exception | None = None
        self.notify: Notify = write
        self.max_tokens: Final = settings.options.get("max_tokens", _LIMITS.get(self.wire))
        self._models = None if models is None else frozenset(models)
        self._refuses_prefill = refuses_prefill if isinstance(refuses_prefill, bool) else frozenset(refuses_prefill)
        self._api_key = api_key
        self.script = script

    @property
    def script(self) -> ProviderScript:
        """The script. It may be replaced between requests; the new one starts at its beginning."""
        return self._script

    @script.setter
    def script(self, script: ProviderScript) -> None:
        self._parts = _parts(script, self.wire)
        self._script = script
        self._answer_count = 0

    # ── a provider ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def prepare(self) -> None:
        """There is nothing to load."""

    async def aclose(self) -> None:
        """There is nothing to close."""

    def release(self) -> None:
        """There is nothing to release."""

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        """Answer a request by the script."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        served = Served(ask.target, ask.request, due)
        self.served.append(served)
        request: ReceivedRequest | None = None
        try:
            with translated(ask) as context:
                request, played = self._answered(ask, served)
                last = len(played.moments) - 1
                for place, moment in enumerate(played.moments):
                    if isinstance(moment, (int, float)):
                        due += moment
                        continue
                    due = await self._arrival(due)
                    if place == last and played.ending is not None:
                        request.end(played.ending)
                    if isinstance(moment, BaseException):
                        raise moment
                    if isinstance(moment, Opened):
                        context.request_id = moment.request_id
                    served.take(moment, loop.time())
                    yield moment
                    served.wait(loop.time())
                if played.silence:
                    await _until(due + played.silence)
        finally:
            served.end(loop.time())
            if request is not None:
                request.end("left")

    async def _arrival(self, due: float) -> float:
        """Wait for something that comes `due`, or later if there is a latency. Returns when it came."""
        if self.latency is not None:
            due += self.latency()
        await _until(due)
        return due

    # ── the vendor ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _answered(self, ask: Ask, served: Served) -> tuple[ReceivedRequest, Answer]:
        """The request as the vendor received it, and its answer. A redirect on the same host is followed."""
        for _ in range(_MOST_REDIRECTS):
            request = self._receive(ask)
            asked = Asked(self.wire, request.model, request.request_id, ask.raw)
            if (rejection := self._rejection(request)) is not None:
                played = refusal(asked, rejection)
            else:
                try:
                    reply = self._scripted(request)
                    served.fault = _fault_of(reply)
                    played = answer(asked, reply)
                except Exception as error:  # noqa: BLE001 - a script is the user's code; its error is kept for the test
                    self.script_error = self.script_error or error
                    message = f"the script failed: {type(error).__name__}: {error}"
                    played = refusal(asked, HttpError(500, message=message))
            request.status = played.status
            if not self._follows(request.reply):
                return request, played
            request.end("refused")
        raise ConnectionError("too many redirects")

    def _receive(self, ask: Ask) -> ReceivedRequest:
        request = ReceivedRequest(self.wire, "POST", "", {}, {}, f"req_sim_{len(self.requests) + 1}")
        request.model = self.settings.vendor_model(ask.target.model)
        turns = [Turn(message.role, _text_of(message)) for message in ask.request.conversation]
        system = [ask.request.system, *(turn.text for turn in turns if turn.role == "system")]
        request.system = "\n".join(text for text in system if text) or None
        request.turns = [turn for turn in turns if turn.role != "system"]
        if self.wire is Wire.ANTHROPIC:
            request.turns = _merged(request.turns)
        self.requests.append(request)
        return request

    def _rejection(self, request: ReceivedRequest) -> HttpError | None:
        """The error with which the real service would refuse this request, or `None`."""
        key = self.settings.api_key
        if self._api_key is not None and (key is None or key.reveal() != self._api_key):
            return HttpError(401, message="the API key is missing or wrong")
        if not request.turns:
            return HttpError(400, message="messages: at least one message is required")
        if self._models is not None and request.model not in self._models:
            return HttpError(404, message=f"the model {request.model} does not exist")
        if request.turns[-1].role == "assistant" and self._refuses_open_turn(request.model):
            return HttpError(400, message=PREFILL_REFUSED)
        return None

    def _refuses_open_turn(self, model: str) -> bool:
        refuses = self._refuses_prefill
        return refuses if isinstance(refuses, bool) else model in refuses

    def _scripted(self, request: ReceivedRequest) -> Reply | Pieces:
        part = self._parts[min(self._answer_count, len(self._parts) - 1)]
        self._answer_count += 1
        reply = part if isinstance(part, (Reply, Pieces)) else part(request)
        if isinstance(reply, Reply):
            request.reply = reply
        return reply

    def _follows(self, reply: Reply | None) -> bool:
        """Whether a reply is a redirect that the real provider follows: on the same host, with the prompt."""
        redirect = None if reply is None else reply.fault
        if not isinstance(redirect, Redirect) or redirect.status not in _KEEPS_THE_PROMPT:
            return False
        here = self.settings.base_url or vendor(self.settings.kind).base_url or ""
        return urlsplit(urljoin(here, redirect.location))[:2] == urlsplit(here)[:2]


def wire_of(settings: ProviderSettings) -> Wire:
    """The wire that the real provider would use. A third party's kind counts as OpenAI's chat."""
    row = vendor(settings.kind)
    return Wire(row.wire(settings.api or row.interface_at(settings.base_url)) or Wire.OPENAI_CHAT)


async def _until(due: float) -> None:
    """Wait for a time of the running loop, or for ever. Other tasks get a turn in any case."""
    loop = asyncio.get_running_loop()
    if due == inf:
        await loop.create_future()
    await asyncio.sleep(max(0.0, due - loop.time()))


def _parts(script: ProviderScript, wire: Wire) -> list[Reply | Pieces | _Function]:
    """The parts of a script. Raises an error if it is impossible on this wire."""
    several = list(script) if isinstance(script, Sequence) and not isinstance(script, str) else [script]
    parts = [Reply(part) if isinstance(part, str) else part for part in several]
    if not parts:
        raise ValueError("a script that is a sequence has at least one part")
    for part in parts:
        if isinstance(part, (Reply, Pieces)):
            answer(Asked(wire, "m", "", raw=False), part)
        elif not callable(part):
            raise TypeError(
                "a script is a text, a Reply, Pieces, a function that makes one, or a sequence of these; "
                f"got {type(part).__name__}"
            )
    return parts


def _merged(turns: Iterable[Turn]) -> list[Turn]:
    """Adjacent turns of a role as one turn, as the real provider of Anthropic sends them."""
    return [
        Turn(role, "".join(turn.text for turn in same)) for role, same in groupby(turns, key=lambda turn: turn.role)
    ]


def _text_of(message: Message) -> str:
    """The text of a turn: of a tool's turn, the results."""
    return message.text + "".join(part.result for part in message.parts if isinstance(part, ToolResultPart))


def _fault_of(reply: Reply | Pieces) -> str:
    fault = None if isinstance(reply, Pieces) else reply.fault
    return "" if fault is None else type(fault).__name__
