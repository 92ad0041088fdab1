"""What an author of a provider needs: the `Provider` protocol, its settings, and the pieces that it streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final, Protocol, TypeAlias

from msgspec import Struct

from ._policy import BODY, Api, Limits, ModelSettings, OnLimit, ProviderSettings
from ._redaction import Secret
from .events import FinishReason, ProviderEvent, ReasoningDelta, ToolCall, ToolCallDelta, UsageReport
from .tasks import Target, TaskRequest

__all__ = [
    "BODY",
    "LONGEST_WAIT",
    "Allowance",
    "Api",
    "Ask",
    "Finished",
    "Limits",
    "ModelSettings",
    "OnLimit",
    "Opened",
    "Piece",
    "Provider",
    "ProviderSettings",
    "RawEvent",
    "Remaining",
    "Secret",
]


class Ask(Struct, frozen=True):
    """One attempt: this request, to this target.

    The request's last message may be an assistant's: the vendor is then to go on writing that turn.
    `connect_timeout` is for the transport; all other clocks are the loop's. With `raw`, a `RawEvent` goes before
    the pieces that were made of it.
    """

    request: TaskRequest
    target: Target
    connect_timeout: float | None = None
    raw: bool = False


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
    """The vendor's own event, as it was on the wire."""

    data: dict[str, Any]


class Finished(Struct, frozen=True):
    """Terminal evidence: the vendor's word that the answer is complete, and why it ended."""

    finish_reason: FinishReason
    raw_finish_reason: str | None


Piece: TypeAlias = (
    str | Opened | RawEvent | ReasoningDelta | ToolCallDelta | ToolCall | UsageReport | ProviderEvent | Finished
)
"""A `str` is text of the answer: the one piece that comes by the thousand is the one that costs nothing to make."""


class Provider(Protocol):
    """One vendor, as the loop sees it.

    `prepare` makes what a request needs (an SDK loaded, a client made); it is awaited before each attempt, takes time
    once per loop only, and counts towards no vendor's clock. `stream` sends the request when it is first iterated and
    raises `ProviderError`s, `InvalidRequestError` or `ContentFilterError` only. A stream that ends without a `Finished`
    was cut short. Usage is cumulative: each `UsageReport` replaces the one before. Closing the generator closes the
    vendor's connection.
    """

    @property
    def settings(self) -> ProviderSettings: ...

    async def prepare(self) -> None: ...

    def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]: ...

    async def aclose(self) -> None: ...
