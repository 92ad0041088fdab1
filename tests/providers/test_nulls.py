"""A field that a host sends as `null` is one that it does not send: on every wire, whichever field it is."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from llm_dispatcher.events import ProviderEvent, ToolCall, ToolCallDelta, UsageReport
from llm_dispatcher.exceptions import ProviderProtocolError
from llm_dispatcher.provider import Piece
from tests.providers.test_wires import chat, gemini, pieces

CALLED = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"x": 1}'}}
ITEM = {"type": "function_call", "id": "i", "call_id": "c", "name": "f", "arguments": '{"x": 1}'}
OWN = {"type": "web_search_call", "id": "w", "name": "n", "input": "x"}
COUNTED = {"input_tokens": 3, "output_tokens": 4, "prompt_tokens": 3, "completion_tokens": 4}
STREAMS: dict[str, list[dict[str, Any]]] = {
    "chat": [
        {**chat(role="assistant", content="", refusal="no"), "object": "chat.completion.chunk", "citations": ["a"]},
        chat(reasoning_content="hm", reasoning="hm"),
        chat(content="One"),
        chat(content=[{"type": "text", "text": "two"}, {"type": "thinking", "thinking": [{"text": "hm"}]}]),
        chat(tool_calls=[CALLED], annotations=[{"a": 1}], images=[{"a": 1}], audio={"a": 1}),
        chat(function_call={"name": "g", "arguments": "{}"}),
        {**chat("stop"), "usage": COUNTED, "x_groq": {"usage": COUNTED}},
        {"choices": [], "usage": COUNTED},
    ],
    "responses": [
        {"type": "response.created", "response": {"status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "m"}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "One"},
        {"type": "response.output_text.annotation.added", "output_index": 0, "annotation": {"a": 1}},
        {"type": "response.refusal.delta", "output_index": 0, "delta": "no"},
        {"type": "response.reasoning_text.delta", "output_index": 1, "delta": "hm"},
        {"type": "response.output_item.added", "output_index": 2, "item": {**ITEM, "arguments": ""}},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"x": 1}'},
        {"type": "response.output_item.done", "output_index": 2, "item": ITEM},
        {"type": "response.output_item.added", "output_index": 3, "item": OWN},
        {"type": "response.web_search_call.searching", "output_index": 3, "item_id": "w"},
        {"type": "response.output_item.done", "output_index": 3, "item": OWN},
        {"type": "response.output_item.done", "output_index": 4, "item": {**ITEM, "type": "custom_tool_call"}},
        {"type": "response.output_item.done", "item": {"type": "reasoning", "encrypted_content": "e", "id": "r"}},
        {"type": "response.completed", "response": {"status": "completed", "usage": COUNTED}},
    ],
    "anthropic": [
        {"type": "message_start", "message": {"id": "m", "usage": COUNTED}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "Well, "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "On"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "e"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {"a": 1}}},
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "c", "name": "f"}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 2},
        {"type": "content_block_start", "index": 3, "content_block": {"type": "mcp_tool_use", "name": "g"}},
        {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 3},
        {"type": "ping"},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": COUNTED},
        {"type": "message_stop"},
    ],
    "google": [
        gemini({"text": "hm", "thought": True, "thoughtSignature": "s"}),
        {**gemini({"text": "One"}), "usageMetadata": {"promptTokenCount": 3}},
        gemini({"text": "two"}),
        gemini({"functionCall": {"name": "f", "id": "c", "args": {}, "willContinue": False}}),
        {
            "candidates": [{"finishReason": "STOP", "groundingMetadata": {"a": 1}, "index": 0}],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4},
        },
        {"promptFeedback": {"blockReason": "SAFETY"}},
    ],
    "ollama": [
        {"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
        {"message": {"content": "One"}, "done": False},
        {"message": {"content": "", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {}}}]}},
        {"message": {"content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4},
    ],
}  # fmt: skip


def fields(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field, at any depth."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, inner in inside:
        if isinstance(name, str):
            yield (*path, name)
        yield from fields(inner, (*path, name))


def made_of(wire: str, events: list[dict[str, Any]]) -> list[Piece] | str:
    """The pieces, without what differs from run to run or is kept as it came; or what is wrong with the events."""
    try:
        return [alike(piece) for piece in pieces(wire, *events)]
    except ProviderProtocolError as error:
        return str(error)


def alike(piece: Piece) -> Piece:
    match piece:
        case ToolCall() | ToolCallDelta():
            return msgspec.structs.replace(piece, id="…")
        case UsageReport():
            return UsageReport(msgspec.structs.replace(piece.usage, raw=None))
        case ProviderEvent():
            return ProviderEvent(piece.kind, without_nulls(piece.data))
        case _:
            return piece


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def changed(event: dict[str, Any], path: tuple[Any, ...], *, gone: bool) -> dict[str, Any]:
    copied = copy.deepcopy(event)
    holder: Any = copied
    for step in path[:-1]:
        holder = holder[step]
    if gone:
        del holder[path[-1]]
    else:
        holder[path[-1]] = None
    return copied


@pytest.mark.parametrize("wire", STREAMS)
def test_null_counts_as_absent(wire: str) -> None:
    events: list[dict[str, Any]] = json.loads(json.dumps(STREAMS[wire]))
    for place, event in enumerate(events):
        for path in fields(event):
            before, after = events[:place], events[place + 1 :]
            with_null = made_of(wire, [*before, changed(event, path, gone=False), *after])
            assert with_null == made_of(wire, [*before, changed(event, path, gone=True), *after]), (place, path)
