"""The turns of a request as a vendor receives them, without the wire between."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from ...tasks import Message, ToolCallPart, ToolResultPart
from .._received import ReceivedCall, ReceivedResult, Turn
from .._script import Wire

_BY_THE_USER = (Wire.ANTHROPIC, Wire.GOOGLE)
"""The wires on which the results of tools are in the user's turn."""


def turns_of(messages: Iterable[Message], wire: Wire) -> list[Turn]:
    """The turns of a conversation on this wire, one for each message."""
    return [_turn(message, wire) for message in messages]


def _turn(message: Message, wire: Wire) -> Turn:
    calls = [
        ReceivedCall(part.id, part.name, part.arguments) for part in message.parts if isinstance(part, ToolCallPart)
    ]
    results = [
        ReceivedResult(part.id, part.name, part.result, part.error)
        for part in message.parts
        if isinstance(part, ToolResultPart)
    ]
    if wire in _BY_THE_USER:
        return Turn("user" if message.role == "tool" else message.role, message.text, calls, results)
    return Turn(message.role, message.text + "".join(result.result for result in results), calls, results)


def merged(turns: Iterable[Turn]) -> list[Turn]:
    """Adjacent turns of a role as one turn, as the real provider of Anthropic sends them."""
    all_turns = []
    for role, group in groupby(turns, key=lambda turn: turn.role):
        same = list(group)
        text = "".join(turn.text for turn in same)
        calls = [call for turn in same for call in turn.calls]
        all_turns.append(Turn(role, text, calls, [result for turn in same for result in turn.results]))
    return all_turns


def orphan_in(turns: Iterable[Turn]) -> str | None:
    """What is wrong with the calls and results of a conversation: a call without its result, or a result without its
    call. All vendors refuse it, each in its own words.
    """
    waiting: list[str] = []
    for turn in turns:
        for result in turn.results:
            if result.id not in waiting:
                return f"No tool call found for function call output with call_id {result.id}."
            waiting.remove(result.id)
        waiting += [call.id for call in turn.calls]
    return f"No tool output found for function call {waiting[0]}." if waiting else None
