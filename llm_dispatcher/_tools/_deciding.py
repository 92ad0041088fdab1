"""The decision of the application's `tool_policy` about a call."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from .._cancellation import cancellations, was_cancelled
from ..events import ToolCall
from ._context import Deny, RunContext

Decision: TypeAlias = Literal["run", "stop"] | Deny


async def decide(policy: str | Callable[..., Any] | None, call: ToolCall, context: RunContext) -> Decision:
    """Ask the policy about a call. A coroutine function may wait for a person.

    Raises:
        TypeError: It returned something else than a decision.
        RuntimeError: What it waited for was cancelled.
        Exception: Whatever the policy raises.
    """
    if policy is None or isinstance(policy, str):
        return "run"
    name = f"{getattr(policy, '__qualname__', policy)!s:.60}"
    before = cancellations()
    try:
        decision = policy(call, context)
        if inspect.isawaitable(decision):
            decision = await decision
    except asyncio.CancelledError as error:
        if was_cancelled(before):
            raise
        raise RuntimeError(
            f"the tool_policy {name}() waited for something that was cancelled, so {call.name!r} was not run: catch "
            'the CancelledError there, and return Deny("reason")'
        ) from error
    if isinstance(decision, Deny):
        return decision
    if isinstance(decision, str) and decision in ("run", "stop"):
        return "run" if decision == "run" else "stop"
    raise TypeError(
        f'the tool_policy {name}() returns "run", "stop" or Deny("reason"); '
        f"for the call of {call.name!r} it returned {decision!r:.60}"
    )
