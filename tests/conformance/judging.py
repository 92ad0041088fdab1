"""What we made of a recording, beside what its vendor's official SDK makes of it."""

from __future__ import annotations

from typing import Any, Final

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher.events import Event, ReasoningDelta, StreamCompleted, ToolCall, Usage
from llm_dispatcher.exceptions import (
    ContentFilterError,
    ContextLengthExceededError,
    InvalidRequestError,
    LLMDispatcherError,
    ModelNotFoundError,
    ModelUnsupportedError,
    ProviderAuthenticationError,
    ProviderError,
    ProviderRateLimitError,
    ProviderServiceUnavailableError,
    StreamingError,
)

RIGHT: Final[dict[int, tuple[type[LLMDispatcherError], ...]]] = {
    400: (InvalidRequestError, ModelNotFoundError, ModelUnsupportedError, ContextLengthExceededError),
    401: (ProviderAuthenticationError,),
    403: (ProviderAuthenticationError,),
    404: (ModelNotFoundError,),
    429: (ProviderRateLimitError,),
    500: (ProviderServiceUnavailableError,),
    503: (ProviderServiceUnavailableError,),
    529: (ProviderServiceUnavailableError,),
}
"""The classes that an HTTP status can become; where there are several, the vendor's own code decides."""
VENDORS: Final = (ProviderError, InvalidRequestError, ContentFilterError)
NO_MODEL: Final = frozenset({"model_not_found"})


async def differences(switch: LLMSwitch, case: dict[str, Any]) -> list[str]:
    """In what we differ from the SDK; nothing, if all is well."""
    stream = switch.stream_request(TaskRequest("Say hello, please."), on_break="raise")
    events = [event async for event in stream.events()]
    expected, error = case["expected"], _vendors(stream.response.error)
    pairs: dict[str, tuple[object, object]] = {
        "text": (stream.partial, expected["text"] or ""),
        "reasoning": (_reasoning(events), expected["reasoning"] or ""),
        "tool calls": (
            [(event.name, event.arguments) for event in events if isinstance(event, ToolCall)],
            [(call["name"], call["args"]) for call in expected["tool_calls"]],
        ),
        "failed": (error is not None, expected["outcome"] == "exception"),
    }
    if error is not None:
        pairs |= _of_error(error, case)
    else:
        end = events[-1]
        finished = end.raw_finish_reason if isinstance(end, StreamCompleted) else None
        pairs["finish reason"] = (finished, expected["finish_reason"])
        pairs["usage"] = (
            # A vendor that hands over to another model reports what that one has used.
            _counted(stream.response.attempts[-1].usage, case["wire_dialect"]),
            _reported(expected["usage"]),
        )
    return [f"{what}: {got!r} is not {wanted!r}" for what, (got, wanted) in pairs.items() if got != wanted]


def _vendors(error: Exception | None) -> Exception | None:
    return error.failures[-1] if isinstance(error, StreamingError) else error


def _of_error(error: Exception, case: dict[str, Any]) -> dict[str, tuple[object, object]]:
    status = case["response"]["status"]
    if status == 200 or not isinstance(error, VENDORS):  # an error frame, or none of the vendor's
        return {"class": (isinstance(error, VENDORS), case["expected"]["outcome"] == "exception")}
    code = (case["expected"]["exception"] or {}).get("code")
    right = (ModelNotFoundError,) if code in NO_MODEL else RIGHT[status]
    return {"status": (error.status, status), "class": (type(error) in right, True)}


def _reasoning(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, ReasoningDelta))


def _counted(usage: Usage, dialect: str) -> tuple[int, int] | None:
    """Input and output as the vendor counts them; the recordings keep each vendor's own way."""
    if usage.source != "reported":
        return None
    given, written = usage.input_tokens, usage.output_tokens
    if dialect == "anthropic-messages":
        given -= usage.cache_read_tokens + usage.cache_write_tokens
    elif dialect == "google-generate-content":
        assert usage.raw is not None
        given -= usage.raw.get("toolUsePromptTokenCount", 0)
        written -= usage.reasoning_tokens
    return given, written


def _reported(usage: dict[str, Any] | None) -> tuple[int, int] | None:
    return (usage["input_tokens"] or 0, usage["output_tokens"] or 0) if usage and usage.get("raw") else None
