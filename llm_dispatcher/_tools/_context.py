"""The values of a tool's run: its record, what the tool may ask about it, and the refusal of a call."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from ..events import ToolCall
from ..tasks import TaskRequest


class ToolRun(Struct, frozen=True):
    """The record of one run of a tool. It is made before the tool runs, so that no break can make it run twice."""

    id: str
    call_id: str
    name: str
    arguments: str
    began: datetime


class RunContext(Struct, frozen=True, kw_only=True):
    """What a tool, or a `tool_policy`, may know of the run. A parameter with this annotation gets it.

    `run_id` is the id of this one run. `call` is the model's call, and `turn` the number of the turn it came in, from
    1 on. `session` is `None` outside a session. `context` is the object that was passed as `tool_context`.
    """

    run_id: str
    call: ToolCall
    request: TaskRequest
    turn: int
    session: Any = None
    context: Any = None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata of the request."""
        return self.request.metadata


class Deny(Struct, frozen=True):
    """The answer of a `tool_policy` to a call that must not run. The model reads the reason."""

    reason: str

    def __post_init__(self) -> None:
        reason: object = self.reason
        if not isinstance(reason, str) or not reason.strip():
            raise TypeError(f'the reason of a Deny is text that the model reads, got {reason!r:.60}: Deny("…")')
