"""The pytest plugin: the fixtures `simulated_vendor` and `simulated_switch`. pytest loads it by its entry point."""

from ._fixtures import SimulatedSwitch, SimulatedVendorFactory, simulated_switch, simulated_vendor

__all__ = ["SimulatedSwitch", "SimulatedVendorFactory", "simulated_switch", "simulated_vendor"]
