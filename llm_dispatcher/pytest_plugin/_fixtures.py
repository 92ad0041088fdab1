"""The fixtures: `simulated_vendor` starts vendors; `simulated_switch` replaces an application's vendors.

pytest imports this file in every project, so it imports nothing of the package before a test uses a fixture.
"""

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
"""Has the parameters of `SimulatedVendor`, and returns a vendor that is listening."""


class SimulatedSwitch(Protocol):
    """Replaces the global switch by one with simulated vendors, and returns the vendors by name.

    With `simulated_switch(openai=Reply("…"), anthropic=Continuing("…"))`, the vendors are tried in this order, once
    each. With `simulated_switch("llm_dispatcher.yaml", openai=Reply("…"))`, the application's own policy is used: no
    API key is needed, and a provider without a script answers "Hello!".

    Args:
        config: A mapping, or the path of a YAML file; by default only the providers with scripts are configured.
        scripts: The script of each provider, by the provider's name. See `llm_dispatcher.testing.Script`.

    Raises:
        ValueError: A script is for a provider that is not configured.
        TypeError: A policy and scripts are both missing.
    """

    def __call__(
        self, config: Mapping[str, Any] | str | os.PathLike[str] | None = None, /, **scripts: Script
    ) -> dict[str, SimulatedVendor]: ...


@pytest.fixture
def simulated_vendor() -> Iterator[SimulatedVendorFactory]:
    """A function that starts a simulated vendor in its own thread. The vendors stop at the end of the test."""
    from ..testing._vendor import SimulatedVendor

    with ExitStack() as vendors:

        def start(*args: Any, **kwargs: Any) -> SimulatedVendor:
            return vendors.enter_context(SimulatedVendor(*args, **kwargs))

        yield start


@pytest.fixture
def simulated_switch(simulated_vendor: SimulatedVendorFactory) -> Iterator[SimulatedSwitch]:
    """A function that replaces the global switch, until the end of the test. See `SimulatedSwitch`."""
    from ._simulated_switch import make_simulated_switch

    with ExitStack() as undo:

        def replace_switch(
            config: Mapping[str, Any] | str | os.PathLike[str] | None = None, /, **scripts: Script
        ) -> dict[str, SimulatedVendor]:
            from .._serving.current import set_global_switch

            switch, vendors = make_simulated_switch(simulated_vendor, config, scripts)
            undo.callback(set_global_switch, set_global_switch(switch))
            return vendors

        yield replace_switch
