"""For pytest: `simulated_vendor`, a factory of vendors that are stopped when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from .vendor import SimulatedVendor

SimulatedVendorFactory: TypeAlias = "Callable[..., SimulatedVendor]"
"""Takes what `SimulatedVendor` takes; the vendor is listening when it returns."""


@pytest.fixture
def simulated_vendor() -> Iterator[SimulatedVendorFactory]:
    """Start simulated vendors, each in a thread of its own; they stop with the test."""
    from .vendor import SimulatedVendor

    with ExitStack() as started:

        def start(*args: Any, **kwargs: Any) -> SimulatedVendor:
            return started.enter_context(SimulatedVendor(*args, **kwargs))

        yield start
