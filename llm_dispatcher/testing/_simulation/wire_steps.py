"""The pieces that the real providers make of each event of a simulated vendor, one function for each wire.

The steps of a reply correspond to the frames that `testing._wires` writes for it, one to one. A test compares them with
what the real providers read from a simulated vendor's socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..._usage import Usage
from ...events import FinishReason, ProviderEvent, ReasoningDelta, ToolCall, ToolCallDelta, UsageReport
from ...provider import Finished, Piece
from ...provider._decoding import new_id, whole_call
from .._script import Reply, SaidToolCall, SaidUsage, Wire
from .._wires import anthropic_frames, google, ollama, openai_chat, openai_responses
from .._wires.frames import arguments_of
from .._wires.signatures import SIGNATURES


class Step(Struct, frozen=True):
    """The pieces of one event of a vendor. With `ends`, the event says that the answer is complete."""

    pieces: tuple[Piece, ...] = ()
    content: bool = False
    ends: bool = False


def _content(pieces: Iterable[Piece]) -> list[Step]:
    """A step for each piece of content."""
    return [Step((piece,), content=True) for piece in pieces]


def _text(reply: Reply) -> list[Step]:
    return _content(reply.pieces)


def _refusal(reply: Reply) -> list[Step]:
    return _content(ProviderEvent("refusal", {"text": piece}) for piece in reply.pieces)


def _reasoning(reply: Reply) -> list[Step]:
    return _content(ReasoningDelta(thought) for thought in reply.reasoning)


def _fragments(call: SaidToolCall) -> list[Step]:
    return _content(ToolCallDelta(call.id, call.name, fragment) for fragment in call.fragments)


def _whole(call: SaidToolCall) -> ToolCall:
    return whole_call(call.id, call.name, call.arguments)


def _whole_at_once(call: SaidToolCall, id: str) -> Step:  # noqa: A002 - the event's own word
    """A call on a wire that sends its arguments as an object, in one event."""
    arguments = msgspec.json.encode(arguments_of(call)).decode()
    return Step(
        (ToolCallDelta(id, call.name, arguments), whole_call(id, call.name, arguments)),
        content=True,
    )


def _finished(reply: Reply, words: Mapping[str, FinishReason], word: str) -> Finished:
    """The end of an answer. A vendor that has called a tool may call that a normal end."""
    reason = words.get(word, "stop")
    return Finished("tool_calls" if reply.tool_calls and reason == "stop" else reason, word)


def _usage(usage: SaidUsage, raw: dict[str, Any]) -> UsageReport:
    return UsageReport(
        Usage(
            usage.input,
            usage.output,
            usage.reasoning,
            cache_read_tokens=usage.cached,
            cache_write_tokens=usage.written,
            source="reported",
            raw=raw,
        )
    )


# ── the wires ──────────────────────────────────────────────────────────────────────────────────────────────────────

_CHAT_WORDS: Final[dict[str, FinishReason]] = {
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "model_length": "length",
}
_ANTHROPIC_SENDS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_ANTHROPIC_WORDS: Final[dict[str, FinishReason]] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
}
_GOOGLE_SENDS: Final = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
}
_GOOGLE_FILTERS: Final = (
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "LANGUAGE",
    "IMAGE_SAFETY",
)
_GOOGLE_WORDS: Final[dict[str, FinishReason]] = {
    "MAX_TOKENS": "length",
    **dict.fromkeys(_GOOGLE_FILTERS, "content_filter"),
}
_OLLAMA_WORDS: Final[dict[str, FinishReason]] = {"length": "length"}


def _openai_chat(reply: Reply) -> list[Step]:
    steps = [Step(), *_reasoning(reply), *(_refusal(reply) if reply.finish == "refusal" else _text(reply))]
    for call in reply.tool_calls:
        steps += _fragments(call)
    word = reply.raw_finish_reason or ("stop" if reply.finish == "refusal" else reply.finish)
    finished = _finished(reply, _CHAT_WORDS, word)
    if finished.finish_reason == "stop" and reply.finish == "refusal" and reply.pieces:
        finished = Finished("refusal", word)
    steps.append(Step((*map(_whole, reply.tool_calls), finished)))
    if reply.usage is not None:
        steps.append(Step((_usage(reply.usage, openai_chat.usage_counts(reply.usage)),)))
    return [*steps, Step(ends=True)]


def _openai_responses(reply: Reply) -> list[Step]:
    steps = [Step()] * 2
    if reply.reasoning:
        signature = ReasoningDelta("", signature=f"rs_sim:{SIGNATURES[Wire.OPENAI_RESPONSES]}")
        done = Step((signature,) if reply.is_signed else ())
        steps += [*[Step()] * 2, *_reasoning(reply), *[Step()] * 2, done]
    refuses = reply.finish == "refusal"
    if reply.pieces or not reply.tool_calls:
        steps += [*[Step()] * 2, *(_refusal(reply) if refuses else _text(reply)), *[Step()] * 3]
    for call in reply.tool_calls:
        steps += [Step(), *_fragments(call), Step(), Step((_whole(call),))]
    counts = openai_responses.usage_counts(reply.usage)
    report = () if reply.usage is None or counts is None else (_usage(reply.usage, counts),)
    return [*steps, Step((*report, _end_of_response(reply)), ends=True)]


def _end_of_response(reply: Reply) -> Finished:
    if reply.raw_finish_reason or reply.finish in ("length", "content_filter"):
        is_filtered = (reply.raw_finish_reason or reply.finish) == "content_filter"
        return Finished("content_filter" if is_filtered else "length", "incomplete")
    refuses = reply.finish == "refusal" and reply.pieces
    return Finished("tool_calls" if reply.tool_calls else "refusal" if refuses else "stop", "completed")


def _anthropic(reply: Reply) -> list[Step]:
    usage = reply.usage
    steps = [Step((_anthropic_usage(usage, 1),)), Step()]
    if reply.reasoning:
        steps += [Step(), *_reasoning(reply), Step((ReasoningDelta("", signature=SIGNATURES[Wire.ANTHROPIC]),)), Step()]
    if reply.pieces or not reply.tool_calls:
        steps += [Step(), *_text(reply), Step()]
    for call in reply.tool_calls:
        steps += [Step((ToolCallDelta(call.id, call.name, ""),)), *_fragments(call), Step((_whole(call),))]
    word = reply.raw_finish_reason or _ANTHROPIC_SENDS.get(reply.finish, reply.finish)
    finished = Finished(_ANTHROPIC_WORDS.get(word, "stop"), word)
    return [*steps, Step((_anthropic_usage(usage, usage.output if usage else 0),)), Step((finished,), ends=True)]


def _anthropic_usage(usage: SaidUsage | None, output: int) -> UsageReport:
    """This vendor reports the input before its answer, and repeats it at the end."""
    raw, usage = anthropic_frames.usage_counts(usage, output), usage or SaidUsage(0, 0)
    return UsageReport(
        Usage(
            usage.input,
            output,
            cache_read_tokens=usage.cached,
            cache_write_tokens=usage.written,
            cache_write_1h_tokens=usage.written_1h,
            source="reported",
            raw=raw,
        )
    )


def _google(reply: Reply) -> list[Step]:
    calls = [_whole_at_once(call, call.id) for call in reply.tool_calls]
    if calls and reply.is_signed:
        signature = ReasoningDelta("", SIGNATURES[Wire.GOOGLE])
        calls[0] = Step((signature, *calls[0].pieces), content=True)
    steps = [*_reasoning(reply), *_text(reply), *calls]
    word = reply.raw_finish_reason or _GOOGLE_SENDS[reply.finish]
    finished = _finished(reply, _GOOGLE_WORDS, word)
    if reply.usage is None:
        return [*steps, Step((finished,), ends=True)]
    usage = replace(reply.usage, written=0, written_1h=0)  # this vendor does not report it
    if steps:
        raw = {"promptTokenCount": usage.input}
        first = UsageReport(Usage(usage.input, source="reported", raw=raw))
        steps[0] = Step((*steps[0].pieces, first), content=True)
    return [*steps, Step((finished, _usage(usage, google.usage_counts(usage))), ends=True)]


def _ollama(reply: Reply) -> list[Step]:
    steps = [*_reasoning(reply), *_text(reply), *(_whole_at_once(call, new_id()) for call in reply.tool_calls)]
    word = reply.raw_finish_reason or ("length" if reply.finish == "length" else "stop")
    finished = _finished(reply, _OLLAMA_WORDS, word)
    if (usage := reply.usage) is None:
        return [*steps, Step((finished,), ends=True)]
    report = UsageReport(Usage(usage.input, usage.output, source="reported", raw=ollama.usage_counts(usage)))
    return [*steps, Step((finished, report), ends=True)]


STEPS: Final[dict[Wire, Callable[[Reply], list[Step]]]] = {
    Wire.OPENAI_CHAT: _openai_chat,
    Wire.OPENAI_RESPONSES: _openai_responses,
    Wire.ANTHROPIC: _anthropic,
    Wire.GOOGLE: _google,
    Wire.OLLAMA: _ollama,
}
