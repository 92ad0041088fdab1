"""Ollama's native chat: decoding its lines of JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..._usage import Usage, UsageSource
from ...events import FinishReason, ReasoningDelta, ToolCallDelta, UsageReport
from ...provider import Finished, Piece
from ...provider._decoding import new_id, tokens, whole_call
from ...provider._errors import error_for, read_error
from ...tasks import Target


class _Function(Struct):
    name: str | None = None
    arguments: Any = None


class _ToolCall(Struct):
    function: _Function | None = None
    id: str | None = None


class _Message(Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Line(Struct):
    message: _Message | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Line).decode

_FINISH: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length"}


class Decoder:
    """Decodes one answer."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._has_calls = False
        self.ended = False

    def pieces(self, data: bytes) -> Iterable[Piece]:
        line = _decode(data)
        if line.error:
            raise error_for(read_error(line.error), self._target)
        if (message := line.message) is not None:
            if message.thinking:
                yield ReasoningDelta(message.thinking)
            if message.content:
                yield message.content
            for call in message.tool_calls or ():
                self._has_calls = True
                function = call.function or _Function()
                arguments = msgspec.json.encode(function.arguments or {}).decode()
                id, name = call.id or new_id(), function.name or ""  # noqa: A001 - the event's own word
                yield ToolCallDelta(id, name, arguments)
                yield whole_call(id, name, arguments)
        if line.done:
            self.ended = True
            reason = _FINISH.get(line.done_reason or "stop", "stop")
            yield Finished("tool_calls" if self._has_calls and reason == "stop" else reason, line.done_reason)
            if line.prompt_eval_count is not None or line.eval_count is not None:
                counts = {"prompt_eval_count": line.prompt_eval_count, "eval_count": line.eval_count}
                prompt, answer = tokens(counts, "prompt_eval_count"), tokens(counts, "eval_count")
                source: UsageSource = "unknown" if line.prompt_eval_count is None else "reported"
                yield UsageReport(Usage(prompt, answer, source=source, raw=counts))
