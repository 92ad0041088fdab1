"""What the loop needs to serve one request, and what it asks before and after each attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct

from .._log import write
from .._policy import Continues, OnRefusal
from .._resilience import OnBreak, Resilience
from .._upstream import Deadline
from ..events import Attempt
from ..exceptions import LLMDispatcherError
from ..notices import Notify
from ..provider import Opened, Provider
from ..tasks import Target, TaskRequest
from .ledger import Ledger, Price, no_price
from .open_streams import OpenStreams
from .retrying import RetryStop, RetryWait


class Pass(Protocol):
    """The permission for one attempt. Every pass goes back by `leave`, once, whatever went wrong.

    One request can have two attempts under way, so what an attempt holds belongs to its pass.
    """

    def hear(self, opened: Opened, /) -> None:
        """The vendor has accepted the request."""
        ...

    def note(self, attempt: Attempt, /) -> None:
        """The attempt is over, and this is its row. Called before `leave`, if there is a row."""
        ...

    def take_back(self, dollars: float, /) -> None:
        """So many US dollars of the rows that were noted before were not spent: the vendor has reported less."""
        ...

    def leave(self) -> None:
        """Give back what the attempt held."""
        ...


class AdmissionControl(Protocol):
    """Asked before each attempt whether it may be made."""

    def enter(self, target: Target, left: float | None, /) -> Awaitable[Pass | LLMDispatcherError]:
        """A pass for one attempt at the target, or the error that says why it is not asked now. This may wait, but no
        longer than the `left` seconds.
        """
        ...

    def enter_again(self, target: Target, /) -> Pass | LLMDispatcherError:
        """A pass for reading on a run that the target's vendor keeps. The run is not asked for again, so this takes
        nothing of a rate limit, of a retry budget or of a breaker's probes.
        """
        ...


class NoAdmission:
    """The admission control that refuses nothing. It is its own pass, because its passes hold nothing."""

    async def enter(self, target: Target, left: float | None) -> Pass | LLMDispatcherError:
        return self

    def enter_again(self, target: Target) -> Pass | LLMDispatcherError:
        return self

    def hear(self, opened: Opened) -> None:
        return None

    def note(self, attempt: Attempt) -> None:
        return None

    def take_back(self, dollars: float) -> None:
        return None

    def leave(self) -> None:
        return None


class Job(Struct, frozen=True):
    """One request with all that the loop needs to serve it.

    `resilience` is for the whole request; the clocks and retries of one target are those of `resilience_of`. `style`
    says how a model continues a broken answer, and `is_certain` whether its host is known to do it like this. If it is
    found not to, `takes_no_prefill` is told. `chunk_is_token` says that each chunk of a target is one token. `figures`
    are the numbers by which the plan has ordered the targets; there are none if the route lists them in order.
    `on_break` is `restart` only if the reader can take back what it has seen. `reader_has_nothing` says that the reader
    gets the answer when it is whole. `on_refusal` says whether another target is asked if a model refuses to answer or
    a filter stops it.

    The loop is in `open_streams` while it runs: closing the switch ends it. `deadline` is when the stream has to be
    over; without one, the `total` clock runs from the loop's beginning. `price` is asked for the cost of each attempt,
    and `notify` gets the loop's notices. `retry_wait` and `retry_stop` are used instead of the strategies that the
    policy makes of its settings.
    """

    request: TaskRequest
    targets: tuple[Target, ...]
    provider: Callable[[Target], Provider]
    style: Callable[[Target], Continues]
    resilience: Resilience
    ledger: Ledger
    admission: AdmissionControl = NoAdmission()
    is_certain: Callable[[Target], bool] = lambda target: True
    takes_no_prefill: Callable[[Target], None] = lambda target: None
    chunk_is_token: Callable[[Target], bool] = lambda target: False
    figures: tuple[float, ...] = ()
    on_break: OnBreak = "continue"
    reader_has_nothing: bool = False
    on_refusal: OnRefusal = "stop"
    raw: bool = False
    open_streams: OpenStreams | None = None
    deadline: Deadline | None = None
    price: Price = no_price
    notify: Notify = write
    retry_wait: RetryWait | None = None
    retry_stop: RetryStop | None = None
    overrides: Callable[[Target], Resilience] | None = None

    @property
    def may_begin_again(self) -> bool:
        """Whether a turn that broke may begin again. What the reader has of the turns before it stays."""
        return self.on_break == "restart" or self.reader_has_nothing

    def resilience_of(self, target: Target) -> Resilience:
        """The clocks and retries of a target."""
        return self.resilience if self.overrides is None else self.overrides(target)
