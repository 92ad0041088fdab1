"""Simulated vendors: real servers on loopback sockets that answer and fail as a test tells them. And the simulation: an
event loop in virtual time, in which every scheduling decision comes from a seed.

from llm_dispatcher.testing import Cut, Reply, SimulatedVendor

with SimulatedVendor("openai-chat", Reply("Once upon a time", fault=Cut(after=2))) as vendor:
    ...  # point a client at vendor.base_url, then look at vendor.requests
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._continuing import Continuing as Continuing
    from ._continuing import Kind as Kind
    from ._player import Script as Script
    from ._received import ReceivedCall as ReceivedCall
    from ._received import ReceivedRequest as ReceivedRequest
    from ._received import ReceivedResult as ReceivedResult
    from ._received import Turn as Turn
    from ._runs import Background as Background
    from ._runs import SimulatedRun as SimulatedRun
    from ._script import Decline as Decline
    from ._script import Reply as Reply
    from ._script import SaidToolCall as SaidToolCall
    from ._script import SaidUsage as SaidUsage
    from ._script import Wire as Wire
    from ._script_json import WrittenScript as WrittenScript
    from ._script_json import script_from_json as script_from_json
    from ._script_json import script_to_json as script_to_json
    from ._simulation.answer import Pieces as Pieces
    from ._simulation.choices import Choices as Choices
    from ._simulation.provider import ProviderScript as ProviderScript
    from ._simulation.provider import Served as Served
    from ._simulation.provider import SimulatedProvider as SimulatedProvider
    from ._simulation.real_world import RealWorldError as RealWorldError
    from ._simulation.seeds import Seed as Seed
    from ._simulation.simulate import simulate as simulate
    from ._simulation.simulation import Simulation as Simulation
    from ._simulation.steps import SimulationStuckError as SimulationStuckError
    from ._spawned import SpawnedVendor as SpawnedVendor
    from ._vendor import SimulatedVendor as SimulatedVendor
    from .faults import CleanEnd as CleanEnd
    from .faults import Cut as Cut
    from .faults import CutEach as CutEach
    from .faults import ErrorFrame as ErrorFrame
    from .faults import Garbage as Garbage
    from .faults import HangUp as HangUp
    from .faults import HttpError as HttpError
    from .faults import KeepAlives as KeepAlives
    from .faults import Linger as Linger
    from .faults import MalformedJson as MalformedJson
    from .faults import Redirect as Redirect
    from .faults import Refuse as Refuse
    from .faults import Resplit as Resplit
    from .faults import RunFails as RunFails
    from .faults import RunIsLost as RunIsLost
    from .faults import RunStalls as RunStalls
    from .faults import SlowHeaders as SlowHeaders
    from .faults import Stall as Stall
    from .faults import UnaskedAnswer as UnaskedAnswer

_MODULES = {
    "Choices": "_simulation.choices",
    "Seed": "_simulation.seeds",
    "simulate": "_simulation.simulate",
    "Simulation": "_simulation.simulation",
    "SimulationStuckError": "_simulation.steps",
    "RealWorldError": "_simulation.real_world",
    "Background": "_runs",
    "CleanEnd": "faults",
    "Continuing": "_continuing",
    "Cut": "faults",
    "CutEach": "faults",
    "Decline": "_script",
    "ErrorFrame": "faults",
    "Garbage": "faults",
    "HangUp": "faults",
    "HttpError": "faults",
    "KeepAlives": "faults",
    "Kind": "_continuing",
    "Linger": "faults",
    "MalformedJson": "faults",
    "Pieces": "_simulation.answer",
    "ProviderScript": "_simulation.provider",
    "ReceivedCall": "_received",
    "ReceivedRequest": "_received",
    "ReceivedResult": "_received",
    "Redirect": "faults",
    "Refuse": "faults",
    "Reply": "_script",
    "Resplit": "faults",
    "RunFails": "faults",
    "RunIsLost": "faults",
    "RunStalls": "faults",
    "SaidToolCall": "_script",
    "SaidUsage": "_script",
    "Script": "_player",
    "Served": "_simulation.provider",
    "SimulatedProvider": "_simulation.provider",
    "SimulatedRun": "_runs",
    "SimulatedVendor": "_vendor",
    "SlowHeaders": "faults",
    "SpawnedVendor": "_spawned",
    "Stall": "faults",
    "Turn": "_received",
    "UnaskedAnswer": "faults",
    "Wire": "_script",
    "WrittenScript": "_script_json",
    "script_from_json": "_script_json",
    "script_to_json": "_script_json",
}
"""Each public name and its module, which is imported when the name is first used. pytest imports this package in every
project, for its plugin, and most projects never start a vendor."""

__all__ = [*_MODULES]  # noqa: PLE0604 - one list of names, not two  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_MODULES)
