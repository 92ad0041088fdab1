"""Anthropic's Messages API."""

from __future__ import annotations

import re
from typing import Any

from .._received import ReceivedRequest
from .._script import Reply
from ..faults import HttpError
from . import anthropic_fallbacks, anthropic_rules
from .anthropic_frames import block_frames, blocks, stop_reason, usage_counts
from .anthropic_frames import event as _event
from .frames import Frame, Rejection, bearer, take_messages
from .schemas import anthropic_objection
from .turns import anthropic_turns, text_of

BASE_PATH = ""
CONTENT_TYPE = "text/event-stream; charset=utf-8"
KEEP_ALIVE = b'event: ping\ndata: {"type": "ping"}\n\n'
REQUEST_ID_HEADER = "request-id"

MODELS = re.compile(r"/v1/models")

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def models(names: list[str]) -> dict[str, Any]:
    return {"data": [{"type": "model", "id": name, "display_name": name} for name in names], "has_more": False}


def read(request: ReceivedRequest) -> Rejection | None:
    if request.path.partition("?")[0] != "/v1/messages":
        return Rejection(404, f"unknown path {request.path}")
    if "anthropic-version" not in request.headers:
        return Rejection(400, "anthropic-version: header is required")
    max_tokens = request.body.get("max_tokens")
    if not isinstance(max_tokens, int) or max_tokens < 1:
        return Rejection(400, "max_tokens: Field required" if max_tokens is None else "max_tokens: must be 1 or more")
    request.system = text_of(request.body.get("system")) or None
    if (rejection := take_messages(request, anthropic_turns)) is not None:
        return rejection
    for place, turn in enumerate(request.turns):
        if turn.role not in ("user", "assistant"):
            return Rejection(400, f"messages.{place}.role: Input should be 'user' or 'assistant'")
    last = request.turns[-1]
    if last.role == "assistant" and last.text != last.text.rstrip():
        return Rejection(400, "messages: final assistant content cannot end with trailing whitespace")
    return anthropic_fallbacks.take(request) or _rejection(request.body) or anthropic_rules.objection(request.body)


def _rejection(body: dict[str, Any]) -> Rejection | None:
    """The reason why the service refuses the metadata or a schema, or `None`."""
    metadata = body.get("metadata")
    for name, value in metadata.items() if isinstance(metadata, dict) else ():
        if name != "user_id":
            return Rejection(400, f"metadata.{name}: Extra inputs are not permitted")
        if not isinstance(value, str):
            return Rejection(400, "metadata.user_id: Input should be a valid string")
    config = body.get("output_config")
    answer_format = config.get("format") if isinstance(config, dict) else None
    if isinstance(answer_format, dict) and (reason := anthropic_objection(answer_format.get("schema"))) is not None:
        return Rejection(400, f"output_config.format.schema: {reason}")
    for place, tool in enumerate(body.get("tools") or ()):
        if isinstance(tool, dict) and tool.get("strict") and (reason := anthropic_objection(tool.get("input_schema"))):
            return Rejection(400, f"tools.{place}.custom: {reason}")
    return None


def key(request: ReceivedRequest) -> str | None:
    return request.headers.get("x-api-key") or bearer(request)


def event(data: bytes) -> bytes:
    return b"event: content_block_delta\ndata: " + data + b"\n\n"


def frames(reply: Reply, model: str) -> list[Frame]:
    message = {"id": "msg_sim", "type": "message", "role": "assistant", "model": model, "content": []}
    open_ended = {"stop_reason": None, "stop_sequence": None, "usage": usage_counts(reply.usage, 1)}
    events = [Frame(_event("message_start", message={**message, **open_ended})), Frame(_event("ping"))]
    for index, block in enumerate(blocks(reply)):
        events += block_frames(index, block)
    output = reply.usage.output if reply.usage else 0
    stop = {"stop_reason": stop_reason(reply), "stop_sequence": None}
    events.append(Frame(_event("message_delta", delta=stop, usage=usage_counts(reply.usage, output))))
    events.append(Frame(_event("message_stop")))
    return events


def error_frame(message: str) -> bytes:
    return _event("error", error={"type": "overloaded_error", "message": message})


def error_body(error: HttpError, request_id: str) -> dict[str, Any]:
    kind = _TYPES.get(error.status, "api_error")
    return {"type": "error", "error": {"type": error.code or kind, "message": error.message}, "request_id": request_id}
