"""The reasons why OpenAI and the hosts that speak its wires refuse a conversation, in their own words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from ..._vendors.table import vendor
from .._received import ReceivedRequest
from .._script import Wire
from .frames import Rejection
from .signatures import is_foreign
from .turns import inside, objects

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]+")
_NINE: Final = re.compile(r"[a-zA-Z0-9]{9}")
_WITH_BREAKPOINTS: Final = re.compile(r"gpt-(5\.([6-9]|\d\d)|[6-9]|\d\d)")
_LONGEST_NAME: Final = 64

Item = dict[str, Any]


def chat_objection(request: ReceivedRequest) -> Rejection | None:
    """The reason why a host refuses the tools or the messages of a chat, or `None`."""
    body, host = request.body, request.host
    messages = list(objects(body.get("messages")))
    functions = [inside(tool, "function") for tool in objects(body.get("tools"))]
    reasons = [*_of_names(functions, "tools[{}].function.name"), *_of_chat_calls(messages, host)]
    reasons += _of_chat_pairs(messages, host)
    reasons += _of_the_host(messages, functions, host)
    reasons += _of_marks(request, [(f"messages[{n}].content", each.get("content")) for n, each in enumerate(messages)])
    return next(iter(reasons), None)


def responses_objection(request: ReceivedRequest) -> Rejection | None:
    """The reason why OpenAI refuses the tools or the items of a request, or `None`."""
    items = list(objects(request.body.get("input")))
    functions = [tool for tool in objects(request.body.get("tools")) if tool.get("type") == "function"]
    reasons = [*_of_names(functions, "tools[{}].name"), *_of_items(items), *_of_item_pairs(items)]
    reasons += _of_marks(
        request, [(f"input[{number}].content", each.get("content")) for number, each in enumerate(items)]
    )
    return next(iter(reasons), None)


def _of_names(functions: list[Item], where: str) -> Iterator[Rejection]:
    for place, function in enumerate(functions):
        yield from _of_name(function.get("name"), where.format(place))


def _of_name(name: object, param: str) -> Iterator[Rejection]:
    if isinstance(name, str) and len(name) > _LONGEST_NAME:
        yield _too_long(param, _LONGEST_NAME, len(name))
    elif not isinstance(name, str) or not _NAME.fullmatch(name):
        message = "string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
        yield Rejection(400, f"Invalid '{param}': {message}", "invalid_value", param)


def _too_long(param: str, most: int, length: int) -> Rejection:
    message = f"Expected a string with maximum length {most}, but got a string with length {length} instead."
    return Rejection(400, f"Invalid '{param}': string too long. {message}", "string_above_max_length", param)


# ── chat ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_chat_calls(messages: list[Item], host: str) -> Iterator[Rejection]:
    has_limits = "short_ids" in vendor(host).quirks
    for number, message in enumerate(messages):
        calls = message.get("tool_calls")
        if calls == []:
            where = f"messages[{number}].tool_calls"
            what = "Expected an array with minimum length 1, but got an empty array instead."
            yield Rejection(400, f"Invalid '{where}': empty array. {what}", "empty_array", where)
        if message.get("role") == "assistant" and not message.get("content") and not calls:
            param = f"messages.[{number}].content"
            yield Rejection(400, "Invalid value for 'content': expected a string, got null.", None, param)
        for place, call in enumerate(objects(calls)):
            where = f"messages[{number}].tool_calls[{place}]"
            id = str(call.get("id", ""))  # noqa: A001 - the wire's word
            if has_limits and len(id) > 40:
                yield _too_long(f"{where}.id", 40, len(id))
            yield from _of_name(inside(call, "function").get("name"), f"{where}.function.name")
            if not isinstance(inside(call, "function").get("arguments"), str):
                param = f"{where}.function.arguments"
                what = f"Invalid type for '{param}': expected a string, but got an object instead."
                yield Rejection(400, what, "invalid_type", param)


def _of_chat_pairs(messages: list[Item], host: str) -> Iterator[Rejection]:
    """The results of a turn's calls follow it, and no other message comes between."""
    open_calls: list[str] = []
    was_called = False
    for number, message in enumerate([*messages, {}]):
        if message.get("role") == "tool":
            if not was_called or str(message.get("tool_call_id")) not in open_calls:
                what = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
                yield Rejection(400, f"Invalid parameter: {what}", None, f"messages.[{number}].role")
            else:
                open_calls.remove(str(message.get("tool_call_id")))
            continue
        if open_calls:
            yield _without_results(open_calls, number, host)
        open_calls = [str(call.get("id", "")) for call in objects(message.get("tool_calls"))]
        was_called = bool(open_calls)


def _without_results(ids: list[str], number: int, host: str) -> Rejection:
    if host == "mistral":
        return Rejection(400, "Not the same number of function calls and responses", "3230")
    begin = (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'."
    )
    if host == "deepseek":
        return Rejection(400, f"{begin} (insufficient tool messages following tool_calls message)")
    missing = f"The following tool_call_ids did not have response messages: {', '.join(ids)}"
    return Rejection(400, f"{begin} {missing}", None, f"messages.[{number}].role")


def _of_the_host(messages: list[Item], functions: list[Item], host: str) -> Iterator[Rejection]:
    """What only some hosts refuse."""
    quirks = vendor(host).quirks
    if host == "deepseek" and len({str(each.get("name")) for each in functions}) < len(functions):
        yield Rejection(400, "Tool names must be unique.")
    for number, message in enumerate(messages):
        if "nine_character_ids" in quirks:
            for call in objects(message.get("tool_calls")):
                if not _NINE.fullmatch(id := str(call.get("id"))):  # noqa: A001 - the wire's word
                    what = f"Tool call id was {id} but must be a-z, A-Z, 0-9, with a length of 9."
                    yield Rejection(400, what, "3280")
        before = messages[number - 1].get("role") if number else None
        if "assistant_after_tools" in quirks and message.get("role") == "user" and before == "tool":
            yield Rejection(400, "Unexpected role 'user' after role 'tool'", "3230")
        if "reasoning_content" in quirks and message.get("tool_calls") and not message.get("reasoning_content"):
            what = f"Missing `reasoning_content` field in the assistant message at message index {number}."
            link = "https://api-docs.deepseek.com/guides/thinking_mode#tool-calls"
            yield Rejection(400, f"{what} For more information, please refer to {link}")


def _of_marks(request: ReceivedRequest, contents: list[tuple[str, Any]]) -> Iterator[Rejection]:
    """Marks of the prompt cache, which only newer models of OpenAI take."""
    takes = "prompt_cache" in vendor(request.host).quirks and _WITH_BREAKPOINTS.match(request.model)
    for where, content in contents:
        for place, part in enumerate(objects(content)):
            if "prompt_cache_breakpoint" not in part:
                continue
            param = f"{where}[{place}].prompt_cache_breakpoint"
            if not takes:
                what = f"Unsupported parameter: '{param}' is not supported with this model."
                yield Rejection(400, what, "unsupported_parameter", param)
            elif inside(part, "prompt_cache_breakpoint").get("mode") != "explicit":
                what = f"Invalid value for '{param}.mode': expected 'explicit'."
                yield Rejection(400, what, "invalid_value", f"{param}.mode")


# ── responses ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_items(items: list[Item]) -> Iterator[Rejection]:
    for number, item in enumerate(items):
        where = f"input[{number}]"
        if item.get("type") in ("function_call", "function_call_output"):
            id = str(item.get("call_id", ""))  # noqa: A001 - the wire's word
            if len(id) > 64:
                yield _too_long(f"{where}.call_id", 64, len(id))
            if not id:
                what = "Expected a string with minimum length 1, but got an empty string instead."
                message = f"Invalid '{where}.call_id': empty string. {what}"
                yield Rejection(400, message, "empty_string", f"{where}.call_id")
        if item.get("type") == "function_call":
            yield from _of_name(item.get("name"), f"{where}.name")
        if item.get("type") == "reasoning":
            yield from _of_reasoning(item, items[number + 1] if number + 1 < len(items) else {})


def _of_reasoning(item: Item, following: Item) -> Iterator[Rejection]:
    encrypted = item.get("encrypted_content")
    if encrypted is not None and is_foreign(Wire.OPENAI_RESPONSES, encrypted):
        seen = f"{str(encrypted)[:4]}...{str(encrypted)[-4:]}"
        yield Rejection(400, f"The encrypted content {seen} could not be verified.", "invalid_encrypted_content")
    if following.get("role") != "assistant" and following.get("type") not in ("reasoning", "function_call"):
        what = f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item."
        yield Rejection(400, what, None, "input")


def _of_item_pairs(items: list[Item]) -> Iterator[Rejection]:
    outputs = [str(item.get("call_id")) for item in items if item.get("type") == "function_call_output"]
    called: set[str] = set()
    for item in items:
        id = str(item.get("call_id"))  # noqa: A001 - the wire's word
        if item.get("type") == "function_call":
            called.add(id)
            if id not in outputs:
                yield Rejection(400, f"No tool output found for function call {id}.", None, "input")
        if item.get("type") == "function_call_output" and id not in called:
            yield Rejection(400, f"No tool call found for function call output with call_id {id}.", None, "input")
