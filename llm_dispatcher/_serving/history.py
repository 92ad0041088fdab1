"""The check of a conversation: every tool call in it has one result, and that comes after it.

Vendors refuse any other history, each in its own words and some only after they have read it. A call in a broken
history would fail at one target after the other, so it is refused before anything is planned.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..exceptions import InvalidRequestError
from ..tasks import Message, ToolCallPart, ToolResultPart


def check_pairs(messages: Sequence[Message]) -> None:
    """Raise an `InvalidRequestError` that names the first call without its one result, or result without its call.

    The ids of calls have to differ only while they wait for a result: some hosts begin to count anew in each turn.
    """
    waiting: dict[str, list[str]] = {}
    answered: set[str] = set()
    for number, message in enumerate(messages):
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                waiting.setdefault(part.id, []).append(_without_result(part, number))
            elif isinstance(part, ToolResultPart):
                if not waiting.get(part.id):
                    raise InvalidRequestError(_without_call(part, number, is_second=part.id in answered))
                waiting[part.id].pop()
                answered.add(part.id)
    for problems in waiting.values():
        if problems:
            raise InvalidRequestError(problems[0])


def _without_result(call: ToolCallPart, number: int) -> str:
    identity, name = _short(call.id), _short(call.name)
    return (
        f"messages[{number}]: the call {identity} of the tool {name} has no result: add "
        f'Message("tool", ToolResultPart({identity}, {name}, …)) after it, or leave the call out'
    )


def _without_call(result: ToolResultPart, number: int, *, is_second: bool) -> str:
    identity, name = _short(result.id), _short(result.name)
    if is_second:
        return (
            f"messages[{number}]: the call {identity} of the tool {name} has two results: leave one of them out, or "
            "merge them"
        )
    return (
        f"messages[{number}]: the result {identity} of the tool {name} has no call before it: add the turn of the "
        "assistant with its ToolCallPart, or leave the result out"
    )


def _short(value: str) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
