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
from ..events import FinishReason, ProviderEvent, ReasoningDelta, ToolCall, ToolCallDelta, UsageReport
from ..tasks import Target, TaskRequest

__all__ = [
    "BODY",
    "LONGEST_WAIT",
    "Allowance",
    "Api",
    "Ask",
    "CheckResult",
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
    "SupportsCheck",
    "SupportsModels",
    "SupportsRelease",
]


class Ask(Struct, frozen=True):
    """One attempt: this request, to this target.

    If the last message of the request is an assistant's, the vendor shall continue that turn. `connect_timeout` is for
    the transport; the loop keeps all other clocks. With `raw`, each event of the vendor is yielded as a `RawEvent`
    before the pieces that were made of it.
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
    """An event of the vendor, as it was on the wire."""

    data: dict[str, Any]


class Finished(Struct, frozen=True):
    """Terminal evidence: the vendor has said that the answer is complete, and why it ended."""

    finish_reason: FinishReason
    raw_finish_reason: str | None


Piece: TypeAlias = (
    str | Opened | RawEvent | ReasoningDelta | ToolCallDelta | ToolCall | UsageReport | ProviderEvent | Finished
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

    A provider may also have the methods of `SupportsCheck` and `SupportsModels`, which the command uses, and of
    `SupportsRelease`.
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
