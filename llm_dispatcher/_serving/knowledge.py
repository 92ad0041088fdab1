"""Loading what a plan needs beside the policy: the price list, and the file of recorded spending.

Loading the price list takes a third of a second, and another process may hold the file's lock. So both are read in
threads while an event loop runs. Each stream awaits `learn`. Synchronous methods call `look`: it reads both if the
thread may block, and it raises in a running loop if the plan depends on one that is not loaded.

`load_in_background` sets `is_asked_for`, in any loop. If loading fails, the flag is reset.
Loading twice does no harm.
"""

from __future__ import annotations

import asyncio

from .. import _catalog as catalog
from .._local_trouble import trouble_of_this_machine
from .._log import write
from .._policy import Policy, Wishes
from .._routing import SharedState, needs_prices
from .._stream import may_block
from ..events import Failure
from ..exceptions import EventLoopRunningError
from ..notices import Notify, PricesNotLoaded
from ..tasks import TaskRequest


class Knowledge:
    """Loads prices and spending for one switch."""

    def __init__(self, traffic: SharedState, notify: Notify = write) -> None:
        self._traffic = traffic
        self._notify = notify
        self.is_asked_for = False

    async def learn(self, request: TaskRequest, policy: Policy, wishes: Wishes) -> None:
        """Load prices and recorded spending before a stream needs them."""
        await self._traffic.budgets.spending.ready()
        if self._needs_prices(request, policy, wishes):
            with trouble_of_this_machine():
                await asyncio.to_thread(catalog.load_prices)
        else:
            self.load_in_background()  # they are needed at the end

    async def look_in_a_thread(self) -> None:
        """Do the same as `look`, without blocking the loop."""
        spending = self._traffic.budgets.spending
        await asyncio.gather(asyncio.to_thread(spending.look), asyncio.to_thread(catalog.load_prices))

    def look(self, request: TaskRequest, policy: Policy, wishes: Wishes, instead: str) -> None:
        """Load what a plan depends on. Raise an `EventLoopRunningError` if that would block a running loop."""
        budgets = self._traffic.budgets
        if may_block():
            budgets.spending.look()
            catalog.load_prices()
        elif self._needs_prices(request, policy, wishes) or (budgets.are_set and not budgets.spending.is_known):
            raise _blocking("this plan depends on prices or on recorded spending", instead)
        else:
            self.load_in_background()

    def look_at_spending(self, instead: str) -> None:
        """Read the file of recorded spending, if it was not read yet. Raise if a loop runs in this thread."""
        spending = self._traffic.budgets.spending
        if spending.is_known:
            return
        if not may_block():
            raise _blocking("the file of recorded spending was not read yet", instead)
        spending.look()

    def load_in_background(self) -> None:
        """Begin to load the prices, in a thread of the running loop."""
        if catalog.are_prices_loaded() or self.is_asked_for:
            return
        self.is_asked_for = True
        loading = asyncio.get_running_loop().run_in_executor(None, catalog.load_prices)
        loading.add_done_callback(self._were_prices_loaded)

    def _were_prices_loaded(self, loading: asyncio.Future[None]) -> None:
        """If loading the prices failed, send a notice. The next stream tries again."""
        error = None if loading.cancelled() else loading.exception()
        self.is_asked_for = error is None
        if error is not None:
            self._notify(PricesNotLoaded(Failure.of(error)))

    def _needs_prices(self, request: TaskRequest, policy: Policy, wishes: Wishes) -> bool:
        if catalog.are_prices_loaded():
            return False
        return self._traffic.budgets.are_set or needs_prices(request, policy, wishes)


def _blocking(why: str, instead: str) -> EventLoopRunningError:
    return EventLoopRunningError(
        f"{why}, and loading that here would block the event loop of this thread; write: {instead}"
    )
