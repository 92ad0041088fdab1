"""The `Provider` protocol, its settings, and the pieces that a provider streams.

Authors of providers find base classes and helpers in `llm_dispatcher.provider.kit`. This module imports neither the
kit nor any SDK.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from .._policy import BODY, Api, Limits, ModelSettings, OnLimit, ProviderSettings
from .._redaction import Secret
from .._usage import Usage
from ..events import FinishReason, ProviderEvent, ReasoningDelta, Rung, ToolCall, ToolCallDelta, UsageReport
from ..tasks import Target, TaskRequest

__all__ = [
    "BODY",
    "LONGEST_WAIT",
    "Allowance",
    "Api",
    "Ask",
    "CheckResult",
    "Finished",
    "Handover",
    "KeptRun",
    "Limits",
    "ModelSettings",
    "OnLimit",
    "Opened",
    "Piece",
    "Provider",
    "ProviderSettings",
    "RawEvent",
    "Remaining",
    "Run",
    "Rung",
    "Secret",
    "ServedBy",
    "SupportsCheck",
    "SupportsModels",
    "SupportsRelease",
    "SupportsRung",
    "SupportsTokens",
    "TokenTrail",
]


class TokenTrail:
    """The token ids of an answer, while its stream is read. A provider that gets ids from its vendor yields one trail
    before the first text, and appends to it.

    A provider that takes ids of this `family` can continue the answer from exactly these tokens.

    Args:
        family: The vocabulary of the ids, such as the kind of host with the name of the model.
        prompt: The ids of the request as the vendor's template rendered it; `None` if the vendor did not give them.
        output: The ids of exactly the text that was yielded so far.
    """

    __slots__ = ("family", "output", "prompt")

    def __init__(self, family: str, prompt: list[int] | None = None, output: list[int] | None = None) -> None:
        self.family: Final = family
        self.prompt: list[int] | None = prompt
        self.output: Final[list[int]] = [] if output is None else output


class Ask(Struct, frozen=True):
    """One attempt: this request, to this target.

    If the last message of the request is an assistant's, the vendor shall continue that turn. `connect_timeout` is for
    the transport; the loop keeps all other clocks. With `raw`, each event of the vendor is yielded as a `RawEvent`
    before the pieces that were made of it.

    With `tokens`, the answer shall go on from exactly these tokens. The request is then the one that began the answer,
    with what is left of `max_tokens`. Only a provider that `takes_tokens` gets such an ask. It does not change the
    trail: it yields one of its own, which begins with these tokens.
    """

    request: TaskRequest
    target: Target
    connect_timeout: float | None = None
    raw: bool = False
    tokens: TokenTrail | None = None


LONGEST_WAIT: Final = 86_400.0
"""Seconds. If a vendor says that a limit lasts longer than a day, this is taken for a mistake and ignored."""


class Remaining(Struct, frozen=True):
    """What is `left` of a vendor's rate limit, out of `limit`, and the seconds until all of it is available again."""

    left: float
    limit: float
    full_in: float


class Allowance(Struct, frozen=True):
    """The rate limits that a vendor reported with an answer; `None` for a limit that it did not report."""

    requests: Remaining | None = None
    tokens: Remaining | None = None


class Opened(Struct, frozen=True):
    """The vendor accepted the request. The id and the rate limits come from the head of its answer."""

    request_id: str | None = None
    allowance: Allowance | None = None


class RawEvent(Struct, frozen=True):
    """An event of the vendor, as it was on the wire."""

    data: dict[str, Any]


class Finished(Struct, frozen=True):
    """Terminal evidence: the vendor has said that the answer is complete, and why it ended."""

    finish_reason: FinishReason
    raw_finish_reason: str | None


class Run(Protocol):
    """A run that its vendor keeps: if the stream breaks, it can be read on where it broke.

    The loop reads a run from one task at a time. `cancel` may be called from another task of the same loop.
    """

    @property
    def id(self) -> str:
        """The vendor's name for the run."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to read or to cancel: the vendor has ended the run, or does not have it any more."""
        ...

    @property
    def position(self) -> str:
        """Where reading goes on, in a few words for the ledger, such as `event 41`."""
        ...

    def read_on(self) -> AsyncGenerator[Piece, None]:
        """The pieces after the last one that was yielded. What was decoded of an unfinished tool call is kept."""
        ...

    async def cancel(self) -> None:
        """Have the vendor stop. Raises a `ProviderError` if the vendor could not be told."""
        ...


class KeptRun(Struct, frozen=True):
    """The vendor keeps this answer as a run. Yielded once, as soon as the run can be named."""

    run: Run


class Handover(Struct, frozen=True):
    """The vendor itself continues the answer with another model, in the same stream.

    `to_model` is the name that the provider's entry has for that model, or else the vendor's own. `reason` is one word
    for why, such as `refusal`, and `category` is the vendor's own word for the kind of it. What the model before this
    has called or thought is no part of the answer that the next model continues; its text is.
    """

    to_model: str
    reason: str
    category: str | None = None


class ServedBy(Struct, frozen=True):
    """Which model wrote the end of the answer, if it is another one than the request asked for.

    Yielded once, before the `Finished` of an answer with handovers. `earlier` is what the model before each `Handover`
    has used, in their order; `None` if the vendor did not say. The usage of the last model is in a `UsageReport`.
    """

    model: str
    earlier: tuple[Usage | None, ...] = ()


Piece: TypeAlias = (
    str
    | Opened
    | RawEvent
    | KeptRun
    | TokenTrail
    | Handover
    | ServedBy
    | ReasoningDelta
    | ToolCallDelta
    | ToolCall
    | UsageReport
    | ProviderEvent
    | Finished
)
"""What a provider yields. Text of the answer is a plain `str`, because it is the most frequent piece."""


class Provider(Protocol):
    """One vendor, as the loop sees it.

    `prepare` does what must be done once before requests, such as importing an SDK and making a client. It is awaited
    before each attempt, so it must be quick if nothing is left to do, and its time counts towards no timeout.

    `stream` sends the request when it is first iterated, and raises `ProviderError`, `InvalidRequestError` or
    `ContentFilterError` only. A stream that ends without a `Finished` counts as cut off. Usage is cumulative: each
    `UsageReport` replaces the one before. Closing the generator closes the vendor's connection.

    `aclose` closes what was opened in the running loop. All methods are called from the loops of the switch's callers.

    A provider may also have the methods of `SupportsCheck` and `SupportsModels`, which the command uses, of
    `SupportsRelease`, and of `SupportsRung` and `SupportsTokens`, which say how it continues a broken answer. If its
    vendor keeps runs, it yields a `KeptRun`.
    """

    @property
    def settings(self) -> ProviderSettings:
        """The provider's entry in the configuration."""
        ...

    async def prepare(self) -> None:
        """Load and make what requests need."""
        ...

    def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        """Send a request and yield the pieces of its answer."""
        ...

    async def aclose(self) -> None:
        """Close what was opened in the running loop."""
        ...


class CheckResult(Struct, frozen=True, kw_only=True):
    """The result of a check: `ok` is `None` if the vendor was not asked. `message` is one line for a person."""

    ok: bool | None
    message: str
    status: int | None = None
    milliseconds: int | None = None


@runtime_checkable
class SupportsCheck(Protocol):
    """A provider that can tell whether its vendor is reachable and accepts the key, without spending tokens."""

    async def check(self) -> CheckResult:
        """Ask the vendor, and return what came of it. It does not raise."""
        ...


@runtime_checkable
class SupportsModels(Protocol):
    """A provider that can list the models its vendor offers; `None` if the vendor has no such list."""

    async def models(self) -> Sequence[str] | None:
        """The names of the models, or `None` if the vendor has no list of them."""
        ...


@runtime_checkable
class SupportsRelease(Protocol):
    """A provider that can close its clients in every loop, not only in the running one."""

    def release(self) -> None:
        """Have every client closed in its own loop, soon.

        Called when a reload has dropped the provider and no stream uses it any more, from any thread, and possibly more
        than once. A stream that begins later makes a new client.
        """
        ...


@runtime_checkable
class SupportsRung(Protocol):
    """A provider that can continue a broken answer better than by a new request with the delivered text."""

    def rung(self, model: str, request: TaskRequest) -> Rung | None:
        """`reattached` if its vendor will keep the run of this request, `exact` if it will give and take token ids,
        `None` if neither. Nobody is asked. The model is the one in the target.
        """
        ...


@runtime_checkable
class SupportsTokens(Protocol):
    """A provider that can continue an answer from token ids."""

    def takes_tokens(self, model: str, trail: TokenTrail) -> bool:
        """Whether this model can continue from these tokens: they have to be those of its own vocabulary."""
        ...
