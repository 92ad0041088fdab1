"""For pytest: `simulated_vendor` starts vendors, `simulated_switch` puts them in the place of an application's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pytest

if TYPE_CHECKING:
    from ..testing._player import Script
    from ..testing._vendor import SimulatedVendor

SimulatedVendorFactory: TypeAlias = "Callable[..., SimulatedVendor]"
"""Takes what `SimulatedVendor` takes; the vendor is listening when it returns."""


class SimulatedSwitch(Protocol):
    """Makes the global switch one over simulated vendors, and returns these by name.

    `simulated_switch(openai=Reply("…"), anthropic=Continuing("…"))` has them asked in this order.
    `simulated_switch("llm_dispatcher.yaml", openai=Reply("…"))` keeps an application's own policy: no key that it
    names has to be there, and a provider without a script says "Hello!".
    """

    def __call__(
        self, config: Mapping[str, Any] | str | os.PathLike[str] | None = None, /, **scripts: Script
    ) -> dict[str, SimulatedVendor]: ...


@pytest.fixture
def simulated_vendor() -> Iterator[SimulatedVendorFactory]:
    """Start simulated vendors, each in a thread of its own; they stop with the test."""
    from ..testing._vendor import SimulatedVendor

    with ExitStack() as started:

        def start(*args: Any, **kwargs: Any) -> SimulatedVendor:
            return started.enter_context(SimulatedVendor(*args, **kwargs))

        yield start


@pytest.fixture
def simulated_switch(simulated_vendor: SimulatedVendorFactory) -> Iterator[SimulatedSwitch]:
    """Point the global switch at simulated vendors; after the test it is what it was."""
    from ._stand_in import stand_in

    with ExitStack() as undo:

        def put(
            config: Mapping[str, Any] | str | os.PathLike[str] | None = None, /, **scripts: Script
        ) -> dict[str, SimulatedVendor]:
            from .._serving.current import set_global_switch

            switch, vendors = stand_in(simulated_vendor, config, scripts)
            undo.callback(set_global_switch, set_global_switch(switch))
            return vendors

        yield put
