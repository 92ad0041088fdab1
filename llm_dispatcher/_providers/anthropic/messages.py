"""Anthropic's messages wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..._usage import Usage
from ...events import FinishReason, ProviderEvent, ReasoningDelta, ToolCall, UsageReport
from ...provider import Finished, Piece
from ...provider._decoding import ToolCalls, tokens
from ...provider._errors import error_for, read_error
from ...tasks import Target
from .fallbacks import Fallbacks
from .messages_request import REDACTED


class _Delta(Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: dict[str, Any] | None = None
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None


class _Block(Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None
    data: str | None = None
    to: Any = None
    trigger: Any = None


class _Message(Struct):
    usage: dict[str, Any] | None = None


class _Event(Struct):
    type: str | None = None
    index: int | None = 0
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | str | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | str | None = None
    request_id: str | None = None


class _TextDelta(Struct, gc=False):
    type: Literal["text_delta"]
    text: str


class _Text(Struct, gc=False):
    """The form of nearly every event: a delta of text."""

    type: Literal["content_block_delta"]
    delta: _TextDelta


_decode: Final = msgspec.json.Decoder(_Event).decode
_decode_text: Final = msgspec.json.Decoder(_Text).decode

_FINISH: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
}


class Decoder:
    """Decodes one answer.

    Args:
        target: The target that was asked.
        model_name: The name that the configuration has for a model of the vendor.
        may_hand_over: Whether the vendor may continue the answer with another model. Then a tool call is whole at the
            end of the answer only, because a model that declines takes back its calls; and the first report of usage
            waits until it is known whose it is.
    """

    def __init__(self, target: Target, model_name: Callable[[str], str] = str, *, may_hand_over: bool = False) -> None:
        self._target = target
        self._may_hand_over = may_hand_over
        self._fallbacks = Fallbacks(model_name)
        self._tools = ToolCalls()
        self._held_calls: list[ToolCall] = []
        self._held_usage: UsageReport | None = None
        self._vendors_own: dict[int, tuple[dict[str, Any], list[str]]] = {}  # blocks whose input is still arriving
        self._usage: dict[str, Any] = {}
        self._stop_reason: str | None = None
        self.ended = False

    def pieces(self, data: bytes) -> Iterable[Piece]:
        if not data:
            return ()
        try:
            return (_decode_text(data).delta.text,)
        except msgspec.ValidationError:
            pass
        return self._others(_decode(data), data)

    def _others(self, event: _Event, data: bytes) -> Iterable[Piece]:
        index = event.index or 0
        match event.type:
            case "content_block_delta" if event.delta is not None:
                yield from self._delta(event.delta, index, data)
            case "content_block_start" if event.content_block is not None:
                yield from self._start(event.content_block, index, data)
            case "content_block_stop":
                yield from self._stop(index)
            case "message_start" if isinstance(event.message, _Message):
                yield from self._message_start(event.message)
            case "message_delta":
                yield from self._message_delta(event)
            case "message_stop":
                self.ended = True
                reason = self._stop_reason
                yield Finished(_FINISH.get(reason or "", "stop"), reason)
            case "error":
                answer = replace(read_error(event.error or {"message": event.message}), request_id=event.request_id)
                raise error_for(answer, self._target)
            case _:
                return

    def _message_start(self, message: _Message) -> Iterable[Piece]:
        report = self._count(message.usage)
        if self._may_hand_over:
            self._held_usage = report
        elif report is not None:
            yield report

    def _message_delta(self, event: _Event) -> Iterable[Piece]:
        yield from self._held_calls
        self._held_calls.clear()
        self._held_usage = None
        if (served := self._fallbacks.served_by(event.usage, _usage)) is not None:
            yield served
        if (report := self._count(event.usage)) is not None:
            is_free = served is not None and not report.usage.output_tokens
            yield UsageReport(Usage(source="reported", raw=report.usage.raw)) if is_free else report
        if event.delta is not None:
            self._stop_reason = event.delta.stop_reason or self._stop_reason
            if event.delta.stop_details:
                yield _stop_details(event.delta.stop_details)

    def _hand_over(self, block: _Block, data: bytes) -> Iterable[Piece]:
        """The model has declined. Its calls are taken back; the counts of the next model begin anew."""
        handover = self._fallbacks.handover(block.to, block.trigger)
        if handover is None:
            yield ProviderEvent("fallback", msgspec.json.decode(data)["content_block"])
            return
        self._tools.all()
        self._held_calls.clear()
        self._vendors_own.clear()
        if self._held_usage is None:  # else it is of the model that has begun to write: the others have written nothing
            self._usage.clear()
        yield handover

    def _start(self, block: _Block, index: int, data: bytes) -> Iterable[Piece]:
        if block.type != "fallback" and self._held_usage is not None:
            yield self._held_usage
            self._held_usage = None
        match block.type:
            case "fallback":
                yield from self._hand_over(block, data)
            case "text":
                if block.text:
                    yield block.text
            case "thinking":
                if block.thinking:
                    yield ReasoningDelta(block.thinking)
            case "tool_use":
                whole = msgspec.json.encode(block.input).decode() if block.input else ""
                yield self._tools.fragment(index, block.id or "", block.name or "", whole)
            case "redacted_thinking":
                yield ReasoningDelta("", signature=REDACTED + (block.data or ""))
            case "server_tool_use" | "mcp_tool_use":
                self._vendors_own[index] = (msgspec.json.decode(data)["content_block"], [])
            case kind:
                yield ProviderEvent(kind or "content_block", msgspec.json.decode(data)["content_block"])

    def _stop(self, index: int) -> Iterable[Piece]:
        if (call := self._tools.whole(index)) is not None:
            if self._may_hand_over:
                self._held_calls.append(call)
            else:
                yield call
        if index in self._vendors_own:
            yield self._whole_block(index)

    def _whole_block(self, index: int) -> ProviderEvent:
        """A call of the vendor's own tool, with the input that arrived in fragments."""
        block, fragments = self._vendors_own.pop(index)
        if arguments := "".join(fragments):
            block["input"] = msgspec.json.decode(arguments)
        return ProviderEvent(block["type"], block)

    def _delta(self, delta: _Delta, index: int, data: bytes) -> Iterable[Piece]:
        match delta.type:
            case "text_delta":
                if delta.text:
                    yield delta.text
            case "thinking_delta":
                yield ReasoningDelta(delta.thinking or "")
            case "signature_delta":
                yield ReasoningDelta("", signature=delta.signature or None)
            case "input_json_delta" if index in self._tools:
                yield self._tools.fragment(index, "", "", delta.partial_json or "")
            case "input_json_delta" if index in self._vendors_own:
                self._vendors_own[index][1].append(delta.partial_json or "")
            case "citations_delta":
                yield ProviderEvent("citation", delta.citation or {})
            case kind:
                yield ProviderEvent(kind or "content_block_delta", msgspec.json.decode(data)["delta"])

    def _count(self, counts: dict[str, Any] | None) -> UsageReport | None:
        """Counts are cumulative. A later count replaces an earlier one, and a count that is not repeated stays."""
        if counts is None:
            return None
        self._usage.update({name: value for name, value in counts.items() if value is not None})
        return UsageReport(_usage(dict(self._usage)))


def _stop_details(details: dict[str, Any]) -> ProviderEvent:
    """What the vendor says of the end. OpenAI's refusals are events of the same kind, with their `text`."""
    kind, explanation = details.get("type"), details.get("explanation")
    text = explanation if isinstance(explanation, str) else ""
    return ProviderEvent(kind if isinstance(kind, str) else "stop_details", {"text": text, **details})


def _usage(counts: dict[str, Any]) -> Usage:
    """Anthropic's input count leaves out what was read from or written to its cache. `Usage` includes both."""
    cache_read = tokens(counts, "cache_read_input_tokens")
    cache_write = tokens(counts, "cache_creation_input_tokens")
    return Usage(
        input_tokens=tokens(counts, "input_tokens") + cache_read + cache_write,
        output_tokens=tokens(counts, "output_tokens"),
        reasoning_tokens=tokens(counts, "output_tokens_details", "thinking_tokens")
        or tokens(counts, "output_tokens_details", "reasoning_tokens"),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        cache_write_1h_tokens=tokens(counts, "cache_creation", "ephemeral_1h_input_tokens"),
        source="reported" if "input_tokens" in counts else "unknown",  # llama.cpp may leave out message_start
        raw=counts,
    )
