"""OpenAI's responses wire."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from ..._usage import Usage
from ...events import FinishReason, ProviderEvent, ReasoningDelta, ToolCall, UsageReport
from ...provider import Finished, Piece
from ...provider._decoding import DONE, ToolCalls, as_text, new_id, tokens, whole_call
from ...provider._errors import ErrorReply, error_for, error_message, read_error
from ...tasks import Target


class _Item(Struct):
    type: str | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Any = None
    input: Any = None
    encrypted_content: str | None = None


class _Response(Struct):
    status: str | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = None


class _Event(Struct):
    type: str | None = None
    delta: Any = None
    output_index: int | None = 0
    item: _Item | None = None
    annotation: dict[str, Any] | None = None
    response: _Response | None = None
    message: Any = None
    code: Any = None
    error: Any = None


class _Text(Struct, gc=False):
    """The form of nearly every event: a delta of text."""

    type: Literal["response.output_text.delta"]
    delta: str


_decode: Final = msgspec.json.Decoder(_Event).decode
_decode_text: Final = msgspec.json.Decoder(_Text).decode

_INCOMPLETE: Final[dict[str, FinishReason]] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_REASONING: Final = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
_SAID_ELSEWHERE: Final = re.compile(
    r"response\.(created|queued|in_progress|content_part\..*|.*\.done|output_item\.added|reasoning_summary_part\..*)|keepalive"
)
"""Events that frame or repeat other events. `*.done` events repeat deltas, except `output_item.done`."""


_OWN_ITEMS: Final = frozenset({"", "message", "reasoning", "function_call", "custom_tool_call"})
"""Items that have pieces of their own. Any other item, e.g. of a vendor's tool, becomes a `ProviderEvent`."""


class Decoder:
    """Decodes one answer."""

    def __init__(self, target: Target, silent_limit: int | None = None) -> None:
        self._target = target
        self._silent_limit = silent_limit  # a host may report `completed` at this limit
        self._tools = ToolCalls()
        self._items: dict[int, _Item] = {}
        self._has_calls = self._has_refusal = False
        self.ended = False

    def pieces(self, data: bytes) -> Iterable[Piece]:
        if data == DONE or not data:
            return ()
        try:
            return (_decode_text(data).delta,)
        except msgspec.ValidationError:
            pass
        return self._others(_decode(data), data)

    def _others(self, event: _Event, data: bytes) -> Iterable[Piece]:
        index = event.output_index or 0
        match event.type:
            case "response.output_text.delta" if event.delta is None or isinstance(event.delta, str):
                if event.delta:
                    yield event.delta
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                item = self._items.get(index, _Item())
                yield self._tools.fragment(index, item.call_id or "", item.name or "", as_text(event.delta))
            case kind if kind in _REASONING:
                yield ReasoningDelta(as_text(event.delta))
            case "response.refusal.delta":
                self._has_refusal = True
                yield ProviderEvent("refusal", {"text": event.delta})
            case "response.output_item.added" if event.item is not None:
                # An item's id may change until it is done; its place in the output does not.
                self._items[index] = event.item
                if (kind := event.item.type) is not None and kind not in _OWN_ITEMS:
                    yield ProviderEvent(kind, msgspec.json.decode(data)["item"])
            case "response.output_item.done" if event.item is not None:
                yield from self._done(event.item, index, data)
            case "response.output_text.annotation.added" if event.annotation is not None:
                yield ProviderEvent("citation", event.annotation)
            case "response.completed" | "response.incomplete" | "response.failed" if event.response is not None:
                yield from self._end(event.response)
            case "error" | "response.error":
                raise error_for(self._answer(event), self._target)
            case kind if kind and not _SAID_ELSEWHERE.fullmatch(kind):
                yield ProviderEvent(kind.removeprefix("response."), msgspec.json.decode(data))
            case _:
                return

    def _done(self, item: _Item, index: int, data: bytes) -> Iterable[Piece]:
        match item.type:
            case "function_call" | "custom_tool_call":
                self._has_calls = True
                # The fragments are for display. The vendor repeats the whole input at the end, and that counts.
                call = self._tools.whole(index)
                id, name = item.call_id or item.id or (call.id if call else new_id()), item.name or ""  # noqa: A001
                if item.type == "function_call":
                    yield whole_call(id, name, as_text(item.arguments))
                else:
                    yield ToolCall(id, name, None, as_text(item.input))  # free text
            case "reasoning" if item.encrypted_content:
                # A later request refers to the item by its id; `responses_request` splits this string again.
                yield ReasoningDelta("", signature=f"{item.id or ''}:{item.encrypted_content}")
            case kind if kind is not None and kind not in _OWN_ITEMS:
                yield ProviderEvent(kind, msgspec.json.decode(data)["item"])
            case _:
                return

    def _end(self, response: _Response) -> Iterable[Piece]:
        self.ended = True
        if response.usage is not None:
            yield UsageReport(_usage(response.usage))
        if response.error or response.status == "failed":
            raise error_for(read_error(response.error or {"message": "the response failed"}), self._target)
        if response.status == "incomplete":
            reason = str((response.incomplete_details or {}).get("reason"))
            yield Finished(_INCOMPLETE.get(reason, "length"), "incomplete")
            return
        finish: FinishReason = "tool_calls" if self._has_calls else "refusal" if self._has_refusal else "stop"
        if finish == "stop" and self._silent_limit and tokens(response.usage, "output_tokens") >= self._silent_limit:
            finish = "length"
        yield Finished(finish, response.status)

    def _answer(self, event: _Event) -> ErrorReply:
        error = event.error if isinstance(event.error, dict) else {}
        message = error_message(event.message) or error_message(event.error)
        return read_error({**error, "code": event.code or error.get("code"), "message": message})


def _usage(counts: dict[str, Any]) -> Usage:
    return Usage(
        input_tokens=tokens(counts, "input_tokens"),
        output_tokens=tokens(counts, "output_tokens"),
        reasoning_tokens=tokens(counts, "output_tokens_details", "reasoning_tokens"),
        cache_read_tokens=tokens(counts, "input_tokens_details", "cached_tokens"),
        cache_write_tokens=tokens(counts, "input_tokens_details", "cache_write_tokens"),
        source="reported",
        raw=counts,
    )
