"""Reading the conversation of a request, with its tool calls and their results, in the form of each wire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from .._received import ReceivedCall, ReceivedResult, Turn


def text_of(content: Any) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in objects(content))


def objects(values: Any) -> Iterator[dict[str, Any]]:
    """The JSON objects in a list. A value of another type has none."""
    return (value for value in values if isinstance(value, dict)) if isinstance(values, list) else iter(())


def inside(value: Any, name: str) -> dict[str, Any]:
    """An object in an object; empty if there is none."""
    inner = value.get(name) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, dict) else {}


def chat_turns(messages: Any) -> list[Turn]:
    """The turns of messages in OpenAI's form or Ollama's."""
    return [_chat_turn(message) for message in objects(messages)]


def anthropic_turns(messages: Any) -> list[Turn]:
    """The turns of messages in Anthropic's form."""
    turns = []
    names: dict[str, str] = {}
    for message in objects(messages):
        blocks = list(objects(message.get("content")))
        calls = [
            ReceivedCall(str(block.get("id", "")), str(block.get("name", "")), written(block.get("input")))
            for block in blocks
            if block.get("type") == "tool_use"
        ]
        names |= {call.id: call.name for call in calls}
        results = [_anthropic_result(block, names) for block in blocks if block.get("type") == "tool_result"]
        turns.append(Turn(str(message.get("role")), text_of(message.get("content")), calls, results))
    return turns


def responses_turns(items: Iterable[dict[str, Any]]) -> list[Turn]:
    """The turns of items of OpenAI's responses interface. What the assistant wrote in a row is one turn."""
    turns: list[Turn] = []
    names: dict[str, str] = {}
    for item in items:
        id, name = str(item.get("call_id", "")), str(item.get("name", ""))  # noqa: A001 - the wire's word
        if item.get("type") == "function_call":
            names[id] = name
            turn = Turn("assistant", "", [ReceivedCall(id, name, str(item.get("arguments", "")))])
        elif item.get("type") == "function_call_output":
            result = text_of(item.get("output"))
            turn = Turn("tool", result, (), [ReceivedResult(id, names.get(id, ""), result)])
        elif "role" in item:
            turn = Turn(str(item["role"]), text_of(item.get("content")))
        else:
            continue
        if turns and turn.calls and turns[-1].role == "assistant":
            turns[-1] = Turn("assistant", turns[-1].text, (*turns[-1].calls, *turn.calls))
        else:
            turns.append(turn)
    return turns


def google_turn(role: str, parts: Any) -> Turn:
    """The turn of a content of Google's, without its thoughts."""
    said = [part for part in objects(parts) if part.get("thought") is not True]
    calls = [part["functionCall"] for part in said if inside(part, "functionCall")]
    results = [part["functionResponse"] for part in said if inside(part, "functionResponse")]
    return Turn(
        role,
        text_of(said),
        [ReceivedCall(str(call.get("id", "")), str(call.get("name", "")), written(call.get("args"))) for call in calls],
        [_google_result(result) for result in results],
    )


def written(value: Any) -> str:
    """Arguments as JSON text. No arguments are an empty object."""
    return msgspec.json.encode({} if value is None else value).decode()


def _chat_turn(message: dict[str, Any]) -> Turn:
    role, text = str(message.get("role")), text_of(message.get("content"))
    calls = []
    for call in objects(message.get("tool_calls")):
        function = inside(call, "function")
        arguments = function.get("arguments")
        calls.append(
            ReceivedCall(
                str(call.get("id", "")),
                str(function.get("name", "")),
                arguments if isinstance(arguments, str) else written(arguments),
            )
        )
    if role != "tool":
        return Turn(role, text, calls)
    name = message.get("tool_name") or message.get("name") or ""
    return Turn(role, text, calls, [ReceivedResult(str(message.get("tool_call_id", "")), str(name), text)])


def _anthropic_result(block: dict[str, Any], names: Mapping[str, str]) -> ReceivedResult:
    id = str(block.get("tool_use_id", ""))  # noqa: A001 - the wire's word
    return ReceivedResult(id, names.get(id, ""), text_of(block.get("content")), block.get("is_error") is True)


def _google_result(result: dict[str, Any]) -> ReceivedResult:
    response = inside(result, "response")
    name = "error" if "error" in response else "output" if "output" in response else "result"
    value = response.get(name)
    return ReceivedResult(
        str(result.get("id", "")),
        str(result.get("name", "")),
        value if isinstance(value, str) else written(value),
        name == "error",
    )
