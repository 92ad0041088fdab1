"""What the vendors of a scenario do: a script for each, which draws a reply for each request.

A script looks up the phase of its vendor at the present virtual second. After the end of the scenario every vendor is
healthy. Honest vendors give the whole answer to a question, and the rest of it to a request that continues it.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterable
from typing import Final, Literal

from msgspec.structs import replace

from llm_dispatcher._dispatch.continuation import CONTINUE_PROMPT
from llm_dispatcher.events import FinishReason, ReasoningDelta, ToolCall, ToolCallDelta, Usage, UsageReport
from llm_dispatcher.provider import Finished, Handover, Opened, Piece, ServedBy
from llm_dispatcher.testing import (
    CleanEnd,
    Continuing,
    Cut,
    CutEach,
    ErrorFrame,
    Garbage,
    HangUp,
    HttpError,
    KeepAlives,
    Kind,
    Linger,
    MalformedJson,
    ReceivedRequest,
    Refuse,
    Reply,
    RunFails,
    RunIsLost,
    RunStalls,
    SaidToolCall,
    SaidUsage,
    SlowHeaders,
    Stall,
    Wire,
)
from llm_dispatcher.testing._continuing import delivered_in
from llm_dispatcher.testing._runs import Trouble
from llm_dispatcher.testing._simulation.answer import Moment, Pieces
from llm_dispatcher.testing._simulation.choices import Choices
from llm_dispatcher.testing.faults import Fault
from tests.simulation.answers import last_question, looked_up, part_of_answer
from tests.simulation.scenario import Phase, State, VendorPlan

FAULTS: Final[dict[str, Callable[[int, Choices, str], Fault]]] = {
    "503": lambda at, choices, stream: HttpError(503),
    "500": lambda at, choices, stream: HttpError(500),
    "overloaded": lambda at, choices, stream: HttpError(503, retry_after=choices.pick((1.0, 0.0, 5.0, 90.0), stream)),
    "cut each": lambda at, choices, stream: CutEach(1 + choices.below(6, stream), choices.pick((2, None, 5), stream)),
    "run fails": lambda at, choices, stream: RunFails(at),
    "run stalls": lambda at, choices, stream: RunStalls(at),
    "run is lost": lambda at, choices, stream: RunIsLost(at),
    "429": lambda at, choices, stream: HttpError(429, retry_after=choices.pick((None, 1.0, 5.0, 30.0), stream)),
    "401": lambda at, choices, stream: HttpError(401),
    "404": lambda at, choices, stream: HttpError(404),
    "quota": lambda at, choices, stream: HttpError(402),
    "context": lambda at, choices, stream: HttpError(413),
    "unsupported": lambda at, choices, stream: HttpError(415),
    "invalid": lambda at, choices, stream: HttpError(400),
    "filter": lambda at, choices, stream: HttpError(400, code="content_filter"),
    "refuse": lambda at, choices, stream: Refuse(),
    "cut": lambda at, choices, stream: Cut(at),
    "truncated": lambda at, choices, stream: CleanEnd(at),
    "stall": lambda at, choices, stream: Stall(at),
    "error frame": lambda at, choices, stream: ErrorFrame(at),
    "malformed": lambda at, choices, stream: MalformedJson(at),
    "garbage": lambda at, choices, stream: Garbage(at),
    "keep-alives": lambda at, choices, stream: KeepAlives(at, every=2.0),
}
"""How a vendor fails, by the names of `Phase.fault`. The number is how many pieces of content come before."""

NOT_REFUSED: Final = ("cut", "truncated", "stall", "error frame", "malformed", "garbage", "keep-alives")
"""The faults that can come in the middle of an answer."""
OF_RUNS: Final = ("cut each", "cut each", "run fails", "run stalls", "run is lost")
"""The faults that a run may have as well, if the vendor keeps it."""

LIES: Final = (
    "usage", "no usage", "small usage", "negative usage", "usage twice", "error after the end", "empty pieces",
    "retry after", "headers", "restart", "remark", "quoted", "hang up", "linger",
)  # fmt: skip
ANOTHER: Final = "Sure, here is a new description of that bird: it is small, brown and rather shy."
"""What a model writes that takes a request for the rest of an answer for a new one."""
_WITHOUT_CALLS: Final = ("negative usage", "usage twice", "error after the end", "empty pieces")
"""Lies that would leave out the calls of the answer."""
INSTEAD: Final = ("another answer", "nothing new", "our words")
"""What comes in the place of a continuation, among the values of `VendorPlan.instead`."""
OUR_LAST_WORDS: Final = CONTINUE_PROMPT.rpartition(". ")[2]
HUGE: Final = 10**15
NEED_PROOF: Final = (Kind.REMARK, Kind.QUOTED, Kind.BOLD)
"""How a vendor continues only what is long enough to be recognised."""


class VendorScript:
    """The script of one vendor. `has_ended` says whether the scenario is over, `idle` is its idle clock in seconds."""

    def __init__(
        self, plan: VendorPlan, choices: Choices, now: Callable[[], float], ends_at: float, idle: float | None
    ) -> None:
        self.plan = plan
        self.stream = f"vendor {plan.name}"
        self.strange: list[str] = []
        """Requests that no honest dispatcher sends: they continue a text that no vendor has written."""
        self._choices = choices
        self._now = now
        self._ends_at = ends_at
        self._idle = idle or 10.0
        self._keeps_run = False
        self._wire = Wire.OLLAMA

    def latency(self) -> float:
        """Seconds before the head of an answer, and before each piece of it."""
        if self._now() >= self._ends_at:
            return 0.001
        return self._choices.number(0.0, self.plan.head, self.stream)

    def trouble(self, what: Literal["read", "cancel"]) -> Trouble | None:
        """What happens to a request that reads a run on (`read`) or cancels one (`cancel`)."""
        choices, stream = self._choices, f"requests about runs of {self.stream}"
        if self._now() >= self._ends_at or not choices.chance(self.plan.unreachable, stream):
            return None
        wait = choices.pick((1.0, 3.0, 9.0), stream)
        troubles: tuple[Trouble, ...] = (Refuse(), HttpError(503), HttpError(500), SlowHeaders(wait))
        return choices.pick(troubles, stream)

    def __call__(self, request: ReceivedRequest, *, keeps_run: bool = False) -> Reply | Pieces:
        """The reply to a request. `keeps_run` says that its entry asks for the run to be kept, and that it is."""
        self._keeps_run, self._wire = keeps_run, request.wire
        phase = self._phase()
        plain = self._honest(request, Kind(self.plan.continuing))
        if self._now() >= self._ends_at:
            return plain
        is_hit = self._choices.chance(phase.share, self.stream)
        if phase.state == "down":
            return self._failing(plain, phase.fault)
        if self._hands_over(request):
            return self._handing_over(plain, request)
        if not is_hit:
            return plain
        return self._troubled(phase.state, phase.fault, plain, request)

    def _phase(self) -> Phase:
        now = self._now()
        return next(phase for phase in reversed(self.plan.phases) if phase.begins <= now or phase.begins == 0.0)

    def _honest(self, request: ReceivedRequest, kind: Kind) -> Reply:
        place = max(at for at, each in enumerate(request.turns) if each.role == "user" and last_question(each.text))
        asked = last_question(request.turns[place].text)  # those before it are of a session
        turn = sum(bool(each.calls) for each in request.turns[place:])
        whole = part_of_answer(asked, turn)
        pace = self.plan.pace if self._now() < self._ends_at else 0.001
        cached = 10 * turn  # the turns before
        base = Reply(pace=pace, usage=SaidUsage(20 + cached + len(asked) // 4, 1 + len(whole) // 4, cached=cached))
        delivered = delivered_in(request)
        if delivered is not None and kind in NEED_PROOF and len(delivered[0].split()) < 4:
            kind = Kind.ANCHOR  # nobody could tell a remark from an answer after so few words
        if kind is Kind.EXACT and delivered is not None and delivered[1] is not None:
            kind = Kind.ANCHOR  # what repeats nothing is refused
        if kind is Kind.LAST_WORDS and delivered is not None and len(whole) - len(delivered[0]) <= 2:
            kind = Kind.ANCHOR  # a full stop after other words than those that were asked for proves nothing
        if kind is Kind.REMARK and self._is_slow():
            kind = Kind.ANCHOR  # readers do not wait for ever to see whether it is a remark
        instead = self._instead(request, delivered)
        if instead is not None:
            return replace(base, text=instead)
        try:
            reply = Continuing(whole, kind, base)(request)
        except ValueError as error:
            self.strange.append(str(error))
            reply = replace(base, text=whole)
        text, anchor = ("", None) if delivered is None else delivered
        if anchor is not None and reply.text.startswith(anchor):
            reply = replace(reply, text=self._with_marks(text, anchor, reply.text))
        calls = tuple(SaidToolCall("look_up", json.dumps({"name": name})) for name in looked_up(asked, turn))
        if "call the tool" in asked:
            calls = (SaidToolCall("look_up", '{"name": "wing"}'),)
        limit = request.body.get("max_tokens")
        if self.plan.honours_limits and limit is not None and len(reply.text) > 4 * limit:
            reply, calls = replace(reply, text=reply.text[: 4 * limit], finish_reason="length"), ()
        has_size = reply.text and self._now() < self._ends_at
        return replace(reply, chunk_size=self.plan.chunk_size if has_size else None, tool_calls=calls)

    def _instead(self, request: ReceivedRequest, delivered: tuple[str, str | None] | None) -> str | None:
        """What the model writes instead of the rest of an answer; `None` if it continues.

        An open turn that ends with a whole word, or a text that may be complete, can be continued by another answer
        that nobody could tell from the rest.
        """
        plan, choices, stream = self.plan, self._choices, f"continuations of {self.stream}"
        if delivered is None or self._now() >= self._ends_at or request.body["has_token_ids"]:
            return None
        text, anchor = delivered
        if anchor is None:
            is_uncertain = request.wire is Wire.OPENAI_CHAT  # the other entries say whether they take open turns
            is_glued = is_uncertain and plan.begins_anew and re.search(r"(?:^|\s)[a-z]{3,}$", text) is not None
            return ANOTHER if is_glued and choices.chance(plan.strange, stream) else None
        if plan.instead not in INSTEAD or not choices.chance(plan.strange, stream):
            return None
        match plan.instead:
            case "another answer":
                return ANOTHER
            case "nothing new":
                return anchor if text[-1].isalnum() else None
            case _:
                return CONTINUE_PROMPT.replace("{anchor}", anchor)

    def _with_marks(self, delivered: str, anchor: str, text: str) -> str:
        """A continuation that begins with the anchor, perhaps with the marks or the words of our request in it."""
        choices, stream, rest = self._choices, f"continuations of {self.stream}", text.removeprefix(anchor)
        if self.plan.instead in INSTEAD or not self.plan.instead or not choices.chance(self.plan.strange, stream):
            return text
        if self._now() >= self._ends_at or not delivered[-1].isalnum():
            return text
        if self.plan.instead == "our words later":
            return f"{text}\n\n{OUR_LAST_WORDS}"
        core = rest.rstrip()
        closed = f"{core}>>>{rest[len(core) :]}"  # what is in marks ends in white space if a call comes after it
        marked = (f"<<<{anchor}>>>{rest}", f"<<<{anchor}{closed}", f"<<<{anchor}{rest}", f"<<<\n{anchor}{closed}")
        return choices.pick(marked, stream)

    def _is_slow(self) -> bool:
        """Whether a remark and the repeated words take so long that the `idle` clock may run out before their end."""
        pieces = 16 if self.plan.chunk_size is None else 160 // self.plan.chunk_size
        is_in_trouble = self._phase().state in ("slow", "dripping")
        return is_in_trouble or pieces * (self.plan.pace + self.plan.head) > 0.9

    def _troubled(self, state: State, fault: str, plain: Reply, request: ReceivedRequest) -> Reply | Pieces:
        choices, stream = self._choices, self.stream
        match state:
            case "flaky":
                return self._failing(plain, fault)
            case "slow":
                pace = choices.pick((0.3, 1.0, 2.5), stream)
                head = choices.pick((1.0, 2.0, 5.0, 29.0), stream)
                return replace(plain, pace=pace, fault=SlowHeaders(head))
            case "dripping":
                return replace(plain, pace=self._idle * choices.pick((0.5, 0.9, 0.999, 1.0, 1.001, 1.1), stream))
            case "stalling":
                return self._failing(plain, choices.pick(("stall", "keep-alives"), stream))
            case "lying":
                return self._lying(plain, request, choices.pick(LIES, stream))
            case "limited":
                return self._limited(plain)
            case "half":
                words = plain.text.split(" ")
                half = " ".join(words[: 1 + choices.below(len(words), stream)])
                return replace(plain, text=half, finish_reason="length", tool_calls=())
            case "declining":
                pieces = plain.pieces[: choices.below(len(plain.pieces) + 1, stream)]
                reason: FinishReason = choices.pick(("content_filter", "refusal"), stream)
                return Pieces(Opened("declined"), *pieces, Finished(reason, None))
            case "reasoning":
                thoughts = tuple(f"thought {number} " for number in range(1 + choices.below(6, stream)))
                reply = replace(plain, reasoning=thoughts)
                return self._failing(reply, "cut") if choices.chance(0.3, stream) else reply
            case _:
                return plain

    def _hands_over(self, request: ReceivedRequest) -> bool:
        is_possible = request.wire is Wire.ANTHROPIC and set(self.plan.fallbacks) - {request.model}
        return bool(is_possible) and self._choices.chance(self.plan.hands_over, f"handovers of {self.stream}")

    def _handing_over(self, plain: Reply, request: ReceivedRequest) -> Pieces:
        """The model declines, and others of the same vendor go on in the same stream, as Anthropic's do.

        The text of one that declines stays, but its thoughts and its calls do not. A model that has written nothing is
        not billed. The usage of each is reported at the end. The last one may decline as well, or its stream breaks.
        """
        choices, stream = self._choices, f"handovers of {self.stream}"
        models = [each for each in self.plan.fallbacks if each != request.model]
        moments: list[Moment] = [Opened("handed over")]
        used: list[Usage | None] = []
        texts = list(plain.pieces)
        model, stays = models[0], choices.chance(0.1, stream)  # an earlier answer of the conversation was handed over
        for model in models[: 1 + choices.below(len(models), stream)]:
            if stays:
                break
            count = choices.below(len(texts) + 1, stream) if choices.chance(0.8, stream) else 0
            wrote: list[Piece] = [*texts[:count]]
            if choices.chance(0.2, stream):
                wrote.insert(0, ReasoningDelta("May I?"))
            if plain.tool_calls and choices.chance(0.5, stream):
                wrote.append(ToolCallDelta("declined", plain.tool_calls[0].name, "{"))
            moments += [*([_usage(30, 1)] if wrote else []), *self._paced(wrote), Handover(model, "refusal")]
            used.append(_usage(30 + len(used), len(wrote) + 1).usage if wrote else Usage(source="reported"))
            del texts[:count]
        rest: list[Piece] = [_usage(40, 1), *texts]
        fragments: list[Piece] = [ToolCallDelta(call.id, call.name, call.arguments) for call in plain.tool_calls]
        calls = [ToolCall(call.id, call.name, json.loads(call.arguments), call.arguments) for call in plain.tool_calls]
        told: list[Piece] = [ServedBy(model, tuple(used)), _usage(40, 3 + len(texts))]
        at = 1 + choices.below(len(texts) + 1, stream)
        match choices.pick(("whole", "whole", "whole", "declines", "breaks", "just ends"), stream):
            case "declines" if not stays:
                moments += [*self._paced(rest[:at]), *told, Finished("refusal", "refusal")]
            case "breaks":
                moments += [*self._paced(rest[:at]), ConnectionResetError("in another model's text")]
            case "just ends":
                moments += self._paced([*rest, *fragments])
            case _:
                reason: FinishReason = "tool_calls" if calls else "length" if plain.finish == "length" else "stop"
                moments += [*self._paced([*rest, *fragments]), *calls, *told, Finished(reason, None)]
        return Pieces(*moments)

    def _paced(self, pieces: Iterable[Piece]) -> list[Moment]:
        """The pieces, each followed by the pause that this vendor makes."""
        return [moment for piece in pieces for moment in (piece, self.plan.pace)]

    def _failing(self, plain: Reply, fault: str) -> Reply | Pieces:
        """The reply with a fault, which comes before the content or anywhere in it."""
        if fault == "descriptors":  # this process has none left, so the request is not sent
            return Pieces(OSError(errno.EMFILE, "Too many open files"))
        if fault == "unfinished":  # it reports its usage, and then its answer just ends
            pieces = plain.pieces[: self._choices.below(len(plain.pieces) + 1, self.stream)]
            return Pieces(Opened("cut off"), *pieces, UsageReport(Usage(9, 9, source="reported")))
        if self._keeps_run and fault in NOT_REFUSED and self._choices.chance(0.5, f"runs of {self.stream}"):
            fault = self._choices.pick(OF_RUNS, f"runs of {self.stream}")
        length = plain.length
        if self._wire is Wire.OLLAMA:  # which sends a call at once
            length -= sum(len(call.fragments) - 1 for call in plain.tool_calls)
        at = self._choices.below(length + 1, self.stream) if fault in (*NOT_REFUSED, *OF_RUNS) else 0
        if fault in NOT_REFUSED and plain.tool_calls and self.plan.breaks_in_calls:
            at = len(plain.pieces) + self._choices.below(length - len(plain.pieces), f"calls of {self.stream}")
        return replace(plain, fault=FAULTS[fault](at, self._choices, self.stream))

    def _limited(self, plain: Reply) -> Reply:
        choices, stream = self._choices, self.stream
        left = choices.pick((100, 3, 1, 0), stream)
        reset = choices.pick(("1s", "20s", "6m0s", "120ms"), stream)
        headers = {
            "x-ratelimit-limit-requests": "100",
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": reset,
        }
        if choices.chance(0.5, stream):
            return replace(plain, headers=headers)
        return replace(plain, headers=headers, fault=FAULTS["429"](0, choices, stream))

    def _lying(self, plain: Reply, request: ReceivedRequest, lie: str) -> Reply | Pieces:
        choices, stream = self._choices, self.stream
        if plain.tool_calls and lie in _WITHOUT_CALLS:
            return plain  # the answer would be a half one
        ending = Finished("length" if plain.finish == "length" else "stop", None)
        match lie:
            case "usage":
                return replace(plain, usage=SaidUsage(HUGE, choices.pick((HUGE, 0), stream)))
            case "no usage":
                return replace(plain, usage=None)
            case "small usage":
                return replace(plain, usage=SaidUsage(0, 0))
            case "retry after":
                seconds = choices.pick((86_000.0, 1e9, 0.0), stream)
                return replace(plain, fault=HttpError(choices.pick((429, 503), stream), retry_after=seconds))
            case "headers":
                left = choices.pick(("0", "-5", "999999999999", "many"), stream)
                reset = choices.pick(("86000s", "-1s", "99999999", "soon", "1764547200"), stream)
                what = choices.pick(("tokens", "requests"), f"{stream}, headers")
                names = (f"x-ratelimit-limit-{what}", f"x-ratelimit-remaining-{what}", f"x-ratelimit-reset-{what}")
                limit = choices.pick(("1000", "0", "999999999999"), stream)
                return replace(plain, headers=dict(zip(names, (limit, left, reset), strict=True)))
            case "negative usage":
                usage = UsageReport(Usage(-5, choices.pick((-1, 7), stream), source="reported"))
                return Pieces(Opened("lie"), plain.text, usage, ending)
            case "usage twice":
                early, late = (UsageReport(Usage(9, output, source="reported")) for output in (1, 12))
                return Pieces(Opened("twice"), early, *plain.pieces, late, ending)
            case "error after the end":
                end = (UsageReport(Usage(9, 9, source="reported")), ending)
                return Pieces(Opened("lie"), plain.text, *end, ConnectionResetError("after the end"))
            case "empty pieces":
                return Pieces(Opened("lie"), *plain.pieces[:1], "", *plain.pieces[1:], "", ending)
            case "hang up":
                return replace(plain, fault=HangUp())
            case "linger":
                return replace(plain, fault=Linger())
            case _:
                kind = {"restart": Kind.RESTART, "remark": Kind.REMARK}.get(lie, Kind.QUOTED)
                return replace(self._honest(request, kind))


def _usage(input_tokens: int, output_tokens: int) -> UsageReport:
    return UsageReport(Usage(input_tokens, output_tokens, source="reported"))
