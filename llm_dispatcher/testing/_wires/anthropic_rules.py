"""The reasons why Anthropic refuses a conversation, in its own words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from .._script import Wire
from .frames import Rejection
from .signatures import is_foreign
from .turns import inside, objects

_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_MOST_MARKS: Final = 4
_UNMARKED: Final = ("thinking", "redacted_thinking")

Block = dict[str, Any]


def objection(body: dict[str, Any]) -> Rejection | None:
    """The reason why the service refuses the tools, the messages or the marks for its cache, or `None`."""
    tools, messages = list(objects(body.get("tools"))), list(objects(body.get("messages")))
    reasons = (
        *_of_tools(tools),
        *_of_contents(messages),
        *_of_pairs(messages),
        *_of_marks(body, tools, messages),
        *_of_thinking(body, messages),
    )
    return next((Rejection(400, reason) for reason in reasons), None)


def _of_tools(tools: list[Block]) -> Iterator[str]:
    names = [tool.get("name") for tool in tools]
    if len(set(map(str, names))) < len(names):
        yield "tools: Tool names must be unique."
    for place, tool in enumerate(tools):
        if tool.get("type", "custom") == "custom" and not _NAME.fullmatch(str(tool.get("name"))):
            yield f"tools.{place}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"


def _of_contents(messages: list[Block]) -> Iterator[str]:
    for number, message in enumerate(messages):
        content = message.get("content")
        if not content and number < len(messages) - 1:
            yield (
                f"messages.{number}: all messages must have non-empty content except for the optional final assistant "
                "message"
            )
        for place, block in enumerate(objects(content)):
            yield from _of_block(block, f"messages.{number}.content.{place}")


def _of_block(block: Block, where: str) -> Iterator[str]:
    match block.get("type"):
        case "text" if not block.get("text"):
            if "cache_control" in block:
                yield f"{where}.text: cache_control cannot be set for empty text blocks"
            yield "messages: text content blocks must be non-empty"
        case "text" if not str(block["text"]).strip():
            yield "messages: text content blocks must contain non-whitespace text"
        case "tool_use":
            if not _ID.fullmatch(str(block.get("id"))):
                yield f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
            if not _NAME.fullmatch(str(block.get("name"))):
                yield f"{where}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
            if not isinstance(block.get("input"), dict):
                yield f"{where}.tool_use.input: Input should be a valid dictionary"
        case "tool_result" if not _ID.fullmatch(str(block.get("tool_use_id"))):
            yield f"{where}.tool_result.tool_use_id: String should match pattern '^[a-zA-Z0-9_-]+$'"
        case "thinking":
            if not block.get("signature"):
                yield f"{where}.thinking.signature: Field required"
            elif is_foreign(Wire.ANTHROPIC, block["signature"]):
                yield f"{where}: Invalid `signature` in `thinking` block"
        case _:
            return


def _of_pairs(messages: list[Block]) -> Iterator[str]:
    """Each call has one result, at the beginning of the next message, and each result has its call before it."""
    used: set[str] = set()
    calls: list[str] = []
    for number, message in enumerate(messages):
        blocks = list(objects(message.get("content")))
        results = [str(block.get("tool_use_id")) for block in blocks if block.get("type") == "tool_result"]
        first = [str(block.get("tool_use_id")) for block in _leading(blocks)]
        if missing := [call for call in calls if call not in first]:
            yield _without_result(number - 1, missing)
        for place, block in enumerate(blocks):
            if block.get("type") != "tool_result":
                continue
            id = str(block.get("tool_use_id"))  # noqa: A001 - the wire's word
            if id not in calls:
                yield (
                    f"messages.{number}.content.{place}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. "
                    "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
                )
            elif results.count(id) > 1:
                yield (
                    f"messages.{number}.content.{place}: each tool_use must have a single result. Found multiple "
                    f"`tool_result` blocks with id: {id}"
                )
        calls = []
        for place, block in enumerate(blocks):
            if block.get("type") == "tool_use":
                if str(block.get("id")) in used:
                    yield f"messages.{number}.content.{place}: `tool_use` ids must be unique"
                calls.append(str(block.get("id")))
                used.add(calls[-1])
    if calls:
        yield _without_result(len(messages) - 1, calls)


def _leading(blocks: Iterable[Block]) -> Iterator[Block]:
    """The results before the first block of another kind."""
    for block in blocks:
        if block.get("type") != "tool_result":
            return
        yield block


def _without_result(number: int, ids: list[str]) -> str:
    return (
        f"messages.{number}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(ids)}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )


def _of_thinking(body: dict[str, Any], messages: list[Block]) -> Iterator[str]:
    """With a budget for thoughts, a turn whose results are sent begins with a thought."""
    if inside(body, "thinking").get("type") != "enabled" or len(messages) < 2:
        return
    last, turn = (list(objects(message.get("content"))) for message in (messages[-1], messages[-2]))
    if any(True for _ in _leading(last)) and turn and turn[0].get("type") not in _UNMARKED:
        yield (
            f"messages.{len(messages) - 2}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
            f"`{turn[0].get('type')}`. When `thinking` is enabled, a final `assistant` message must start with a "
            "thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks). We recommend you "
            "include thinking blocks from previous turns. To avoid this requirement, disable `thinking`. Please "
            "consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
        )


def _of_marks(body: dict[str, Any], tools: list[Block], messages: list[Block]) -> Iterator[str]:
    """The marks of the prompt cache, in the order in which the service reads them."""
    places = [(f"tools.{place}", tool) for place, tool in enumerate(tools)]
    places += [(f"system.{place}", block) for place, block in enumerate(objects(body.get("system")))]
    for number, message in enumerate(messages):
        blocks = objects(message.get("content"))
        places += [(f"messages.{number}.content.{place}", block) for place, block in enumerate(blocks)]
    marked = [(where, block) for where, block in places if "cache_control" in block]
    if len(marked) > _MOST_MARKS:
        yield f"A maximum of {_MOST_MARKS} blocks with cache_control may be provided. Found {len(marked)}."
    is_short = False
    for where, block in marked:
        if block.get("type") in _UNMARKED:
            yield f"{where}.{block['type']}.cache_control: Extra inputs are not permitted"
        mark = inside(block, "cache_control")
        if mark.get("type") != "ephemeral":
            yield f"{where}.cache_control.type: Input should be 'ephemeral'"
        ttl = mark.get("ttl", "5m")
        if ttl not in ("5m", "1h"):
            yield f"{where}.cache_control.ttl: Input should be '5m' or '1h'"
        if ttl == "1h" and is_short:
            yield (
                f"{where}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' "
                "cache_control block. Note that blocks are processed in the following order: `tools`, `system`, "
                "`messages`."
            )
        is_short = is_short or ttl == "5m"
