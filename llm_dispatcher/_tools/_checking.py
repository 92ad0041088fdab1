"""The calls of a turn, before any of them runs: which tool each one means, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any, Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from .._tool_values import name_of
from ..events import ToolCall, ToolCallDelta, ToolCallDropped
from ..tasks import Message, Tool, ToolCallPart

Fragment = TypeVar("Fragment", bound=ToolCallDelta | ToolCallDropped)

LONGEST_ARGUMENTS: Final = 200
"""So many characters of arguments that are no JSON are told to the model."""


class CheckedCall(Struct, frozen=True):
    """A call of the model. It may run if there is no `error`, which is what the model is told instead.

    `raised` is the exception behind the error, if the tool's own check raised another one than a `ValueError`.
    """

    call: ToolCall
    tool: Tool | None = None
    arguments: Mapping[str, Any] = {}
    error: str | None = None
    raised: Exception | None = None


class Tools:
    """The tools of a request by their names. Those without a function are only reported."""

    def __init__(self, tools: Iterable[object]) -> None:
        self.runnable: dict[str, Tool] = {}
        self.reported: set[str] = set()
        for tool in tools:
            if isinstance(tool, Tool) and tool.is_runnable:
                self.runnable[tool.name] = tool
            elif (name := name_of(tool)) is not None:
                self.reported.add(name)

    def check(self, call: ToolCall) -> CheckedCall:
        """Check a call. This runs no tool."""
        tool = self.runnable.get(call.name)
        if tool is None:
            known = ", ".join(sorted((*self.runnable, *self.reported)))
            return CheckedCall(call, error=f"there is no tool {call.name!r}; the tools are {known}")
        if call.arguments is None:
            raw = call.raw_arguments
            raw = raw if len(raw) <= LONGEST_ARGUMENTS else f"{raw[:LONGEST_ARGUMENTS]}…"
            error = f"the arguments are not a JSON object, so nothing was run: {raw}"
            return CheckedCall(call, tool, error=error)
        try:
            return CheckedCall(call, tool, _checked(tool, call.arguments))
        except ValueError as wrong:
            return CheckedCall(call, tool, error=f"the arguments are wrong, so nothing was run: {wrong}")
        except Exception as raised:  # noqa: BLE001 - a check is the application's code
            return CheckedCall(call, tool, error=f"{type(raised).__name__}: {raised}", raised=raised)


def _checked(tool: Tool, arguments: dict[str, Any]) -> Mapping[str, Any]:
    if tool.check is not None:
        return tool.check(arguments)
    from .._json.schema import problems  # most tools have a check of their own

    if wrong := problems(arguments, tool.parameters):
        raise ValueError("; ".join(wrong))
    return arguments


class CallIds:
    """The ids of the calls of a conversation, so that each call has one of its own.

    Some hosts give several calls one id, or start again in each turn, and vendors refuse a conversation with such ids.
    The same call said twice in a turn (id, name and arguments) is one call.
    """

    def __init__(self, conversation: Iterable[Message]) -> None:
        self._ids = {part.id for turn in conversation for part in turn.parts if isinstance(part, ToolCallPart)}
        self._earlier: frozenset[str] = frozenset(self._ids)
        self._renamed: dict[str, str] = {}
        self._said: set[tuple[str, str, str]] = set()

    def begin_turn(self) -> None:
        """The calls that follow belong to another turn."""
        self._earlier = frozenset(self._ids)
        self._renamed.clear()
        self._said.clear()

    def fragment(self, event: Fragment) -> Fragment:
        """A fragment with the id that its call will have, if an earlier turn has a call with this id."""
        name = self._of_this_turn(event.id)
        return event if name == event.id else replace(event, id=name)

    def take(self, call: ToolCall) -> ToolCall | None:
        """The call with an id of its own; `None` if this turn has it already."""
        same = (call.id, call.name, call.raw_arguments)
        if call.id and same in self._said:
            return None
        self._said.add(same)
        name = self._of_this_turn(call.id)
        if not name or name in self._ids:
            name = self._free(name)
        self._ids.add(name)
        return call if name == call.id else replace(call, id=name)

    def _of_this_turn(self, name: str) -> str:
        if name not in self._earlier:
            return name
        if name not in self._renamed:
            self._renamed[name] = self._free(name)
        return self._renamed[name]

    def _free(self, name: str) -> str:
        numbered = (f"{name or 'call'}_{number}" for number in count(2))
        return next(each for each in numbered if each not in self._ids)
