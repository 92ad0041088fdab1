"""The fixtures: `simulated_vendor` starts vendors; `simulated_switch` replaces an application's vendors.

pytest imports this file in every project, so it imports nothing of the package before a test uses a fixture.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, overload

import pytest

from ._simulated_tests import is_simulated

if TYPE_CHECKING:
    from ..testing._player import Script
    from ..testing._simulation.provider import SimulatedProvider
    from ..testing._vendor import SimulatedVendor

SimulatedVendorFactory: TypeAlias = "Callable[..., SimulatedVendor]"
"""Has the parameters of `SimulatedVendor`, and returns a vendor that is listening."""


class SimulatedSwitch(Protocol):
    """Replaces the global switch by one with simulated vendors, and returns the vendors by name.

    With `simulated_switch(openai=Reply("…"), anthropic=Continuing("…"))`, the vendors are tried in this order, once
    each. With `simulated_switch("llm_dispatcher.yaml", openai=Reply("…"))`, the application's own policy is used: no
    API key is needed, and a provider without a script answers "Hello!".

    The vendors are `SimulatedVendor`s, which listen on sockets. In a test that is marked with `simulated`, and with
    `seed`, they are `SimulatedProvider`s, which answer in the simulated event loop.

    Args:
        config: A mapping, or the path of a YAML file; by default only the providers with scripts are configured.
        seed: The seed of the `Simulation` in which a plain test itself runs the application.
        scripts: The script of each provider, by the provider's name. See `llm_dispatcher.testing.Script`.

    Raises:
        ValueError: A script is for a provider that is not configured.
        TypeError: A policy and scripts are both missing.
        RuntimeError: Its vendors could not answer where it was called. The message says what to do.
    """

    @overload
    def __call__(
        self, config: Mapping[str, Any] | str | os.PathLike[str] | None = None, /, **scripts: Script
    ) -> dict[str, SimulatedVendor]: ...

    @overload
    def __call__(
        self,
        config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        /,
        *,
        seed: int,
        **scripts: Script,
    ) -> dict[str, SimulatedProvider]: ...


@pytest.fixture
def simulated_vendor(request: pytest.FixtureRequest) -> Iterator[SimulatedVendorFactory]:
    """A function that starts a simulated vendor in its own thread. The vendors stop at the end of the test."""
    from ..testing._vendor import SimulatedVendor

    with ExitStack() as vendors:

        def start(*args: Any, **kwargs: Any) -> SimulatedVendor:
            __tracebackhide__ = True
            if is_simulated(request.node):
                raise RuntimeError(
                    "simulated_vendor listens on a socket, which a simulated event loop cannot reach; "
                    "use simulated_switch in a simulated test"
                )
            return vendors.enter_context(SimulatedVendor(*args, **kwargs))

        yield start


@pytest.fixture
def simulated_switch(
    request: pytest.FixtureRequest, simulated_vendor: SimulatedVendorFactory
) -> Iterator[SimulatedSwitch]:
    """A function that replaces the global switch, until the end of the test. See `SimulatedSwitch`."""
    with ExitStack() as at_the_end:

        def replace_switch(
            config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
            /,
            *,
            seed: int | None = None,
            **scripts: Script,
        ) -> dict[str, Any]:
            __tracebackhide__ = True
            from .._serving.current import set_global_switch
            from ..testing._simulation.simulation import current

            if current() is not None or seed is not None or is_simulated(request.node):
                from ._simulated_providers import make_simulated_providers, undo_later

                undo = undo_later(at_the_end, seed, is_marked=is_simulated(request.node))
                switch, providers = make_simulated_providers(config, scripts)
                undo(partial(set_global_switch, set_global_switch(switch)))
                return providers
            from ._simulated_switch import make_simulated_switch

            switch, vendors = make_simulated_switch(simulated_vendor, config, scripts)
            at_the_end.callback(set_global_switch, set_global_switch(switch))
            return vendors

        yield cast(SimulatedSwitch, replace_switch)
