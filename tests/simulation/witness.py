"""A simulated provider that also writes down whose request each one is, and when it was released.

A request runs in the task of its reader, or in a task that was started from there, so a context variable tells the
reader. `asked_by` and `asked_in_order` have an entry for each `Served`, in the same order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from itertools import count
from typing import Any, Final, Literal

from llm_dispatcher.exceptions import UnprovenContinuationError
from llm_dispatcher.provider import Ask
from llm_dispatcher.testing import HttpError, ReceivedRequest
from llm_dispatcher.testing._runs import Trouble
from llm_dispatcher.testing._simulation.provider import Served, SimulatedProvider
from tests.simulation.record import Reading
from tests.simulation.scenario import Refusal

TOKENS_REFUSED: Final = "the token ids are not taken"
reading_now: Final[ContextVar[Reading | None]] = ContextVar("the reading of this task", default=None)
"""The reading of the task that runs. A reader sets it when it begins."""


class WitnessedProvider(SimulatedProvider):
    """See the module."""

    def __init__(
        self,
        *args: Any,
        trouble: Callable[[Literal["read", "cancel"]], Trouble | None],
        refuses_tokens: Refusal = "",
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._trouble = trouble
        self._refuses_tokens = refuses_tokens
        self.asked_by: list[Reading | None] = []
        self.released_at: list[float] = []
        self.asked_in_order: list[int] = []
        self.served = _Witnessed(self)  # type: ignore[misc]
        self.with_tokens: set[int] = set()

    def trouble(self, what: Literal["read", "cancel"]) -> Trouble | None:
        """What happens to a request that reads a run on or cancels one: by the vendor's script."""
        return self._trouble(what)

    def _receive(self, ask: Ask) -> ReceivedRequest:
        if ask.tokens is not None:
            self.with_tokens.add(id(self.served[-1]))
        return super()._receive(ask)

    def _rejection(self, ask: Ask, request: ReceivedRequest) -> HttpError | None:
        """A host may refuse the token ids that it gave. Then it has no interface for them, or refuses their number, or
        its provider has found out that they do not make the delivered text there.
        """
        if ask.tokens is None or not self._refuses_tokens:
            return super()._rejection(ask, request)
        if self._refuses_tokens == "other text":
            target = ask.target
            raise UnprovenContinuationError(TOKENS_REFUSED, provider=target.provider, model=target.model)
        return HttpError(int(self._refuses_tokens), message=TOKENS_REFUSED)

    def release(self) -> None:
        """Note when nobody needs this provider any more."""
        self.released_at.append(asyncio.get_running_loop().time())
        super().release()


class _Witnessed(list[Served]):
    """Every `Served` in order. Beside each one it notes whose it is, and its place among those of all vendors."""

    def __init__(self, provider: WitnessedProvider) -> None:
        super().__init__()
        self._provider = provider

    def append(self, served: Served, /) -> None:
        self._provider.asked_by.append(reading_now.get())
        self._provider.asked_in_order.append(next(_places))
        super().append(served)


_places: Final = count()
