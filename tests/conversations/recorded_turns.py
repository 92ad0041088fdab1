"""The turns of recorded answers that call tools, as the official SDKs write them back into the next request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from llm_dispatcher._providers.base.call_ids import ANTHROPIC_ID, CHAT_ID, NINE_CHARACTERS, RESPONSES_ID
from llm_dispatcher._wire import SSEDataDecoder
from llm_dispatcher.testing import Wire

Turn = list[dict[str, Any]]


def events_of(case: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of a recorded answer, as JSON."""
    body: str = case["response"]["body_text"]
    if body.lstrip().startswith("["):  # Google without `alt=sse`
        yield from json.loads(body)
        return
    decoder = SSEDataDecoder()
    for data in (*decoder.feed(body.encode()), *decoder.close()):
        if data and data != b"[DONE]":
            yield json.loads(data)


def chat_turn(case: dict[str, Any]) -> Turn:
    """The message of a chat, of what the SDK has made of the answer."""
    expected, form = case["expected"], NINE_CHARACTERS if case["provider"] == "mistral" else CHAT_ID
    calls = [
        {"id": form.of(call["id"]), "type": "function", "function": {"name": call["name"], "arguments": _json(call)}}
        for call in expected["tool_calls"]
    ]
    return [{"role": "assistant", "content": expected["text"] or None, "tool_calls": calls}]


def _json(call: dict[str, Any]) -> str:
    """Arguments as they are sent: no arguments are an empty object."""
    arguments: str = call["arguments"]
    return arguments if arguments.strip() else "{}"


def responses_turn(case: dict[str, Any]) -> Turn:
    """The items of the answer, which the SDK's users append to the next input. Only what the vendor needs.

    The last event has them again, with the reasoning encrypted anew.
    """
    items: Turn = []
    for item in (event["item"] for event in events_of(case) if event.get("type") == "response.output_item.done"):
        match item["type"]:
            case "message":
                text = "".join(part.get("text", "") for part in item["content"])
                if items and items[-1].get("role") == "assistant":
                    items[-1]["content"] += text
                elif text:
                    items.append({"type": "message", "role": "assistant", "content": text})
            case "function_call":
                call = {"call_id": RESPONSES_ID.of(item["call_id"]), "name": item["name"]}
                items.append({"type": "function_call", **call, "arguments": item["arguments"]})
            case "reasoning" if item.get("encrypted_content"):
                kept = {name: item[name] for name in ("type", "id", "encrypted_content")}
                items.append({**kept, "summary": [part["text"] for part in item["summary"]]})
            case _:
                continue
    return items


def anthropic_turn(case: dict[str, Any]) -> Turn:
    """The blocks of the message that the SDK accumulates."""
    from anthropic.lib.streaming._messages import accumulate_event
    from anthropic.types import RawMessageStreamEvent
    from pydantic import TypeAdapter

    read: Any = TypeAdapter(RawMessageStreamEvent).validate_python
    snapshot: Any = None
    buffers: Any = {}
    for event in events_of(case):
        if event["type"] not in ("ping", "error"):
            snapshot = accumulate_event(event=read(event), current_snapshot=snapshot, json_bufs=buffers)
    blocks: Turn = []
    for block in snapshot.content:
        match block.type:
            case "text" if blocks and blocks[-1]["type"] == "text":
                blocks[-1]["text"] += block.text
            case "text" if block.text.strip():
                blocks.append({"type": "text", "text": block.text})
            case "thinking":
                blocks.append({"type": "thinking", "thinking": block.thinking, "signature": block.signature})
            case "redacted_thinking":
                blocks.append({"type": "redacted_thinking", "data": block.data})
            case "tool_use":
                blocks.append(
                    {"type": "tool_use", "id": ANTHROPIC_ID.of(block.id), "name": block.name, "input": block.input}
                )
            case _:
                continue
    return [{"role": "assistant", "content": blocks}]


def google_turn(case: dict[str, Any]) -> Turn:
    """The parts of the SDK's chat history. Adjacent texts are one part; no ids: Vertex refuses them."""
    parts: Turn = []
    for event in events_of(case):
        for candidate in event.get("candidates") or ():
            for part in (candidate.get("content") or {}).get("parts") or ():
                _add_google_part(parts, part)
    return [{"role": "model", "parts": parts}]


def _add_google_part(parts: Turn, part: dict[str, Any]) -> None:
    signed = {"thoughtSignature": part["thoughtSignature"]} if "thoughtSignature" in part else {}
    last = parts[-1] if parts else {}
    if "functionCall" in part:
        call = {"name": part["functionCall"]["name"], "args": part["functionCall"].get("args") or {}}
        parts.append({"functionCall": call, **signed})
    elif "text" in part:
        thought = {"thought": True} if part.get("thought") else {}
        is_more = "text" in last and last.get("thought") == part.get("thought") and "thoughtSignature" not in last
        if is_more and not signed:
            last["text"] += part["text"]
        elif part["text"] or signed:
            parts.append({"text": part["text"], **thought, **signed})


SDK_TURNS: Final[dict[Wire, Callable[[dict[str, Any]], Turn]]] = {
    Wire.OPENAI_CHAT: chat_turn,
    Wire.OPENAI_RESPONSES: responses_turn,
    Wire.ANTHROPIC: anthropic_turn,
    Wire.GOOGLE: google_turn,
}


def sent_turn(wire: Wire, body: dict[str, Any]) -> Turn:
    """The assistant's turn in what we send, in the same form."""
    match wire:
        case Wire.OPENAI_CHAT:
            turns = [_without(message, "reasoning_content") for message in body["messages"]]
            return [turn for turn in turns if turn["role"] == "assistant" and turn["content"] != "OK."]
        case Wire.OPENAI_RESPONSES:
            return [_plain(item) for item in body["input"] if _is_the_assistants(item)]
        case Wire.ANTHROPIC:
            return [turn for turn in body["messages"] if turn["role"] == "assistant"]
        case _:
            return [content for content in body["contents"] if content["role"] == "model"]


def _is_the_assistants(item: dict[str, Any]) -> bool:
    return item.get("role") == "assistant" or item.get("type") in ("function_call", "reasoning")


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    if item.get("type") != "reasoning":
        return item
    return {**item, "summary": [part["text"] for part in item["summary"]]}


def _without(item: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in names}


def with_calls(cases: Iterable[tuple[str, str, dict[str, Any]]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The recorded answers that call tools and are complete."""
    for name, kind, case in cases:
        expected = case["expected"]
        if case["response"]["status"] == 200 and expected.get("tool_calls") and expected["outcome"] == "ok":
            yield name, kind, case
