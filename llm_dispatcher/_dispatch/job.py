"""What the loop is given: a request, with all that it takes to serve it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct

from .._log import write
from .._policy import Continues, OnBreak, Resilience
from .._upstream import Deadline
from ..events import Attempt
from ..exceptions import LLMDispatcherError
from ..notices import Notify
from ..provider import Opened, Provider
from ..tasks import Target, TaskRequest
from .ledger import Ledger, Price, no_price
from .open_streams import UnderWay


class Admission(Protocol):
    """Says before each attempt whether it may be made, and is told of each when it begins and when it is over."""

    def enter(self, target: Target, left: float | None, /) -> Awaitable[LLMDispatcherError | None]:
        """`None`, or why the target is not to be asked now: the loop passes it over. It may wait before it says so,
        but for no longer than the clocks have `left` for that.
        """
        ...

    def hear(self, target: Target, head: Opened, /) -> None:
        """The vendor has begun to answer."""
        ...

    def note(self, attempt: Attempt, /) -> None:
        """An attempt that was let in is over, and this is its row. Called before `leave`, if there is a row."""
        ...

    def leave(self) -> None:
        """Give back what the attempt held. Called once after every successful `enter`, whatever went wrong."""
        ...


class EverybodyIsLetIn:
    """The admission that refuses nothing."""

    async def enter(self, target: Target, left: float | None) -> None:
        return None

    def hear(self, target: Target, head: Opened) -> None:
        return None

    def note(self, attempt: Attempt) -> None:
        return None

    def leave(self) -> None:
        return None


class Dispatch(Struct, frozen=True):
    """One request with all that the loop needs to serve it; the switch puts it together.

    `deadline` is when the stream has to be over; without one, the `total` clock runs from the loop's beginning.
    `style` says how a model continues a broken answer. `on_break` is `restart` only where the reader can take back
    what it has seen.
    """

    request: TaskRequest
    targets: tuple[Target, ...]
    provider: Callable[[Target], Provider]
    style: Callable[[Target], Continues]
    resilience: Resilience
    ledger: Ledger
    admission: Admission = EverybodyIsLetIn()
    on_break: OnBreak = "continue"
    raw: bool = False
    under_way: UnderWay | None = None
    deadline: Deadline | None = None
    price: Price = no_price
    notify: Notify = write
