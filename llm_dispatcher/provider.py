"""What the loop needs of a vendor: the `Provider` protocol, its settings, and the pieces that it streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias

from msgspec import Struct

from ._redaction import conceal, conceal_credentials, conceal_header, conceal_options
from .events import FinishReason, ProviderEvent, ReasoningDelta, ToolCall, ToolCallDelta, UsageReport
from .tasks import Target, TaskRequest

Api: TypeAlias = Literal["responses", "chat"]
OnLimit: TypeAlias = Literal["switch", "wait"]


class Secret:
    """A key that shows itself only to who asks for it by name, and is taken out of what others say."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        conceal(value)

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class Limits(Struct, frozen=True):
    """How much may be asked; `None` sets no bound. Where a limit is spent, `on_limit` says what a request does."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_streams: int | None = None
    on_limit: OnLimit = "switch"


class ModelSettings(Struct, frozen=True):
    """What the configuration says of one model; `alias` is the name that the vendor knows it by."""

    alias: str | None = None
    enabled: bool = True
    limits: Limits | None = None


class ProviderSettings(Struct, frozen=True, kw_only=True):
    """One entry under `providers:`: `name` is its key there, `kind` says whose wire it speaks."""

    name: str
    kind: str
    api_key: Secret | None = None
    base_url: str | None = None
    headers: Mapping[str, str] = {}
    models: Mapping[str, ModelSettings] = {}
    api: Api | None = None
    options: Mapping[str, Any] = {}
    enabled: bool = True
    limits: Limits | None = None

    def __post_init__(self) -> None:
        """What is secret beside the key is taken out of messages as well."""
        for name, value in self.headers.items():
            conceal_header(name, value)
        conceal_options(self.options)
        if self.base_url is not None:
            conceal_credentials(self.base_url)

    def is_enabled(self, model: str) -> bool:
        """Whether requests may go to a model."""
        settings = self.models.get(model)
        return self.enabled and (settings is None or settings.enabled)

    def vendor_model(self, model: str) -> str:
        """The vendor's own name for a model, aliases resolved."""
        settings = self.models.get(model)
        return (settings and settings.alias) or model


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


BODY: Final = "body"
"""The provider's name that stands for the decorated function's own body."""
