"""Vendors that can fail on command: real servers on loopback sockets, for testing what must survive them.

from llm_dispatcher.testing import Cut, Reply, SimulatedVendor

with SimulatedVendor("openai-chat", Reply("Once upon a time", fault=Cut(after=2))) as vendor:
    ...  # vendor.base_url is for the official client; vendor.requests holds what came
"""

from .answering import Script
from .continuing import Continuing, Kind
from .faults import (
    CleanEnd,
    Cut,
    ErrorFrame,
    Garbage,
    HttpError,
    KeepAlives,
    MalformedJson,
    Refuse,
    Resplit,
    SlowHeaders,
    Stall,
)
from .received import ReceivedRequest, Turn
from .script import Reply, SaidToolCall, SaidUsage, Wire
from .script_json import WrittenScript, script_from_json, script_to_json
from .spawned import SpawnedVendor
from .vendor import SimulatedVendor

__all__ = [
    "CleanEnd",
    "Continuing",
    "Cut",
    "ErrorFrame",
    "Garbage",
    "HttpError",
    "KeepAlives",
    "Kind",
    "MalformedJson",
    "ReceivedRequest",
    "Refuse",
    "Reply",
    "Resplit",
    "SaidToolCall",
    "SaidUsage",
    "Script",
    "SimulatedVendor",
    "SlowHeaders",
    "SpawnedVendor",
    "Stall",
    "Turn",
    "Wire",
    "WrittenScript",
    "script_from_json",
    "script_to_json",
]
