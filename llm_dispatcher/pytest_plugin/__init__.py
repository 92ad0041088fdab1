"""The pytest plugin: the fixtures `simulated_vendor` and `simulated_switch`, and the marker `simulated`.

pytest loads it by its entry point.
"""

from ._fixtures import SimulatedSwitch, SimulatedVendorFactory, simulated_switch, simulated_vendor
from ._simulated_tests import (
    pytest_addoption,
    pytest_configure,
    pytest_pyfunc_call,
    pytest_runtest_makereport,
    pytest_runtest_setup,
)

__all__ = [
    "SimulatedSwitch",
    "SimulatedVendorFactory",
    "pytest_addoption",
    "pytest_configure",
    "pytest_pyfunc_call",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "simulated_switch",
    "simulated_vendor",
]
