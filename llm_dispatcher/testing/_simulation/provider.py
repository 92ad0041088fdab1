"""`SimulatedProvider`: a vendor at the level of `Provider`, without a socket, for the simulated event loop.

How it works
------------
A request is answered by the same scripts as a simulated vendor's. The answer is worked out before its first piece:
pieces, pauses and errors in one order (`answer`). `stream` then plays it, and awaits nothing but sleeps of the running
loop. So it works on every event loop, and in a simulated one it is as repeatable as the script.

- The vendor keeps its own time, as one behind a socket does: pauses add up from the moment in which the request came,
  and a reader who was slow finds the pieces that have arrived meanwhile.
- A vendor that keeps runs is read on by further connections (`kept_runs`). A vendor that gives token ids makes one of
  each piece of text.
- `requests`, `served`, `runs` and the place in the script are the only state. Only `stream` writes them, in the loop
  that reads it. One provider must not be read by two threads at a time.
- If a reader leaves or is cancelled, Python ends the generator where it waits. The `finally` of the generator then
  completes the `ReceivedRequest` and the `Served`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from math import inf
from typing import Final, Literal, TypeAlias
from urllib.parse import urljoin, urlsplit

from msgspec.structs import replace

from ..._log import write
from ..._vendors.table import vendor
from ...events import Rung
from ...notices import Notify
from ...provider import Ask, Opened, Piece, ProviderSettings, TokenTrail
from ...provider._errors import translated
from ...tasks import TaskRequest
from .._continuing import Continuing
from .._player import PREFILL_REFUSED
from .._received import ReceivedRequest, Turn
from .._runs import Background, Trouble
from .._script import Reply, Wire, numbered
from ..faults import HttpError, OfARun, Redirect, Refuse
from .answer import Answer, Asked, Pieces, answer, refusal
from .kept_runs import ScriptedRun
from .served import Served as Served
from .token_trail import Trail
from .turns import merged, orphan_in, turns_of

_Function: TypeAlias = Callable[[ReceivedRequest], Reply | Pieces]
ProviderPart: TypeAlias = str | Reply | Continuing | Pieces | _Function
ProviderScript: TypeAlias = ProviderPart | Sequence[ProviderPart]
"""A script of a `SimulatedVendor`. In place of a `Reply`, it may also have `Pieces`."""

HELLO: Final = Reply("Hello!")
_MOST_REDIRECTS: Final = 10
_NO_RUN: Final = (Refuse, HttpError, Redirect)
"""With these faults, no answer begins."""
_KEEPS_THE_PROMPT: Final = (307, 308)
_LIMITS: Final = {Wire.ANTHROPIC: 4096}
"""The real providers' limits of output tokens for a request without one. The admission control reads them."""


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
        background: How the vendor keeps the run of each answer; by default it keeps none. See `Background`.
        token_ids: The name of the vocabulary whose token ids it gives and takes; by default none. Targets with the same
            vocabulary and the same name of the model can continue each other's answers. Each piece of text is a token.

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
        background: Background | None = None,
        token_ids: str | None = None,
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
        self._background = background
        self._reads = [] if background is None else list(background.reads)
        self._token_ids = token_ids
        self.runs: Final[list[ScriptedRun]] = []
        self.script = script

    @property
    def script(self) -> ProviderScript:
        """The script. It may be replaced between requests; the new one starts at its beginning."""
        return self._script

    @script.setter
    def script(self, script: ProviderScript) -> None:
        self._parts = _parts(script, self.wire, keeps_runs=self._background is not None)
        self._script = script
        self._answer_count = 0

    # ── a provider ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def prepare(self) -> None:
        """There is nothing to load."""

    async def aclose(self) -> None:
        """There is nothing to close."""

    def release(self) -> None:
        """There is nothing to release."""

    def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        """Answer a request by the script."""
        return self._play(ask)

    def rung(self, model: str, request: TaskRequest) -> Rung | None:
        """How it continues a broken answer: it reads the run on, goes on from token ids, or neither."""
        return "reattached" if self._background is not None else "exact" if self._token_ids is not None else None

    def takes_tokens(self, model: str, trail: TokenTrail) -> bool:
        """Whether the trail is of this vocabulary and model."""
        return self._token_ids is not None and trail.family == f"{self._token_ids}/{model}"

    def read_on(self, run: ScriptedRun) -> AsyncGenerator[Piece, None]:
        """Read a run on. `ScriptedRun.read_on` calls this."""
        return self._play(run.ask, run)

    def trouble(self, what: Literal["read", "cancel"]) -> Trouble | None:
        """What happens to a request that reads a run on or cancels it."""
        if what == "read":
            return self._reads.pop(0) if self._reads else None
        return None if self._background is None else self._background.cancel

    async def _play(self, ask: Ask, run: ScriptedRun | None = None) -> AsyncGenerator[Piece, None]:
        """The pieces of one connection: of a new request, or of a run that is read on."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        served = Served(ask.target, ask.request, due)
        served.run, served.reads_on = run, run is not None
        self.served.append(served)
        request: ReceivedRequest | None = None
        trail = (
            None
            if run is not None or self._token_ids is None
            else Trail(f"{self._token_ids}/{ask.target.model}", ask.tokens)
        )
        try:
            with translated(ask) as context:
                request, played = self._answered(ask, served) if run is None else (None, run.again())
                run = served.run
                for place, moment in enumerate(played.moments):
                    if isinstance(moment, (int, float)):
                        due += moment
                        continue
                    due = await self._arrival(due, is_drawn=run is None or isinstance(moment, Opened))
                    if place == len(played.moments) - 1 and played.ending is not None and request is not None:
                        request.end(played.ending)
                    if run is not None:
                        run.hear(moment)
                    if isinstance(moment, BaseException):
                        raise moment
                    if isinstance(moment, Opened):
                        context.request_id = moment.request_id
                    if trail is not None and isinstance(moment, str) and trail.add(moment):
                        yield trail
                    served.take(moment, loop.time())
                    yield moment
                    served.wait(loop.time())
                if played.silence:
                    await _until(due + played.silence)
        finally:
            served.end(loop.time())
            if request is not None:
                request.end("left")

    async def _arrival(self, due: float, *, is_drawn: bool) -> float:
        """Wait for something that comes `due`, or later if there is a latency. Returns when it came."""
        if self.latency is not None and is_drawn:
            due += self.latency()
        await _until(due)
        return due

    # ── the vendor ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _answered(self, ask: Ask, served: Served) -> tuple[ReceivedRequest, Answer]:
        """The request as the vendor received it, and its answer. A redirect on the same host is followed."""
        for _ in range(_MOST_REDIRECTS):
            request = self._receive(ask)
            asked = Asked(self.wire, request.model, request.request_id, ask.raw)
            if (rejection := self._rejection(ask, request)) is not None:
                played = refusal(asked, rejection)
            else:
                try:
                    reply = self._scripted(request)
                    served.fault = _fault_of(reply)
                    served.run = self._kept(ask, asked, reply)
                    played = answer(asked, reply) if served.run is None else served.run.first()
                except Exception as error:  # noqa: BLE001 - a script is the user's code; its error is kept for the test
                    self.script_error = self.script_error or error
                    message = f"the script failed: {type(error).__name__}: {error}"
                    played = refusal(asked, HttpError(500, message=message))
            request.status = played.status
            if not self._follows(request.reply):
                return request, played
            request.end("refused")
        raise ConnectionError("too many redirects")

    def _kept(self, ask: Ask, asked: Asked, reply: Reply | Pieces) -> ScriptedRun | None:
        """The run of this answer, if the vendor keeps one."""
        if self._background is None or not isinstance(reply, Reply) or isinstance(reply.fault, _NO_RUN):
            return None
        run = ScriptedRun(f"run_sim_{len(self.runs) + 1}", self, ask, asked, reply, self._background, self.latency)
        self.runs.append(run)
        return run

    def _receive(self, ask: Ask) -> ReceivedRequest:
        body = {"max_tokens": ask.request.max_tokens, "has_token_ids": ask.tokens is not None}
        request = ReceivedRequest(self.wire, "POST", "", {}, body, f"req_sim_{len(self.requests) + 1}")
        request.model = self.settings.vendor_model(ask.target.model)
        turns = turns_of(ask.request.conversation, self.wire)
        if isinstance(ask.tokens, Trail):  # their text belongs to an open turn, if the request has one
            before = turns.pop().text if turns and turns[-1].role == "assistant" else ""
            turns.append(Turn("assistant", before + ask.tokens.text))
        system = [ask.request.system, *(turn.text for turn in turns if turn.role == "system")]
        request.system = "\n".join(text for text in system if text) or None
        request.turns = [turn for turn in turns if turn.role != "system"]
        if self.wire is Wire.ANTHROPIC:
            request.turns = merged(request.turns)
        self.requests.append(request)
        return request

    def _rejection(self, ask: Ask, request: ReceivedRequest) -> HttpError | None:
        """The error with which the real service would refuse this request, or `None`."""
        key = self.settings.api_key
        if self._api_key is not None and (key is None or key.reveal() != self._api_key):
            return HttpError(401, message="the API key is missing or wrong")
        if not request.turns:
            return HttpError(400, message="messages: at least one message is required")
        if self._models is not None and request.model not in self._models:
            return HttpError(404, message=f"the model {request.model} does not exist")
        if ask.tokens is None and request.turns[-1].role == "assistant" and self._refuses_open_turn(request.model):
            return HttpError(400, message=PREFILL_REFUSED)
        if (orphan := orphan_in(request.turns)) is not None:
            return HttpError(400, message=orphan)
        return None

    def _refuses_open_turn(self, model: str) -> bool:
        refuses = self._refuses_prefill
        return refuses if isinstance(refuses, bool) else model in refuses

    def _scripted(self, request: ReceivedRequest) -> Reply | Pieces:
        part = self._parts[min(self._answer_count, len(self._parts) - 1)]
        self._answer_count += 1
        reply = part if isinstance(part, (Reply, Pieces)) else part(request)
        if isinstance(reply, Reply):
            reply = request.reply = numbered(reply, [call.id for call in request.calls])
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


def _parts(script: ProviderScript, wire: Wire, *, keeps_runs: bool) -> list[Reply | Pieces | _Function]:
    """The parts of a script. Raises an error if it is impossible on this wire."""
    several = list(script) if isinstance(script, Sequence) and not isinstance(script, str) else [script]
    parts = [Reply(part) if isinstance(part, str) else part for part in several]
    if not parts:
        raise ValueError("a script that is a sequence has at least one part")
    for part in parts:
        if keeps_runs and isinstance(part, Reply) and isinstance(part.fault, OfARun):
            answer(Asked(wire, "m", "", raw=False), replace(part, fault=None))
        elif isinstance(part, (Reply, Pieces)):
            answer(Asked(wire, "m", "", raw=False), part)
        elif not callable(part):
            raise TypeError(
                "a script is a text, a Reply, Pieces, a function that makes one, or a sequence of these; "
                f"got {type(part).__name__}"
            )
    return parts


def _fault_of(reply: Reply | Pieces) -> str:
    fault = None if isinstance(reply, Pieces) else reply.fault
    return "" if fault is None else type(fault).__name__
