"""Ollama's native chat API: one JSON value per line."""

from __future__ import annotations

import re
from typing import Any

from .._received import ReceivedRequest
from .._script import Reply, SaidUsage
from ..faults import HttpError
from .frames import Frame, Rejection, arguments_of, dumps, take_messages

BASE_PATH = ""
CONTENT_TYPE = "application/x-ndjson"
KEEP_ALIVE = b"\n"
REQUEST_ID_HEADER = "x-request-id"

MODELS = re.compile(r"/api/tags")

_FINISH = {"tool_calls": "stop", "content_filter": "stop", "refusal": "stop"}


def models(names: list[str]) -> dict[str, Any]:
    return {"models": [{"name": name, "model": name} for name in names]}


def read(request: ReceivedRequest) -> Rejection | None:
    if request.path.partition("?")[0] != "/api/chat":
        return Rejection(404, f"unknown path {request.path}")
    return take_messages(request)


def key(request: ReceivedRequest) -> str | None:
    return request.headers.get("authorization", "").removeprefix("Bearer ") or None


def event(data: bytes) -> bytes:
    return data + b"\n"


def frames(reply: Reply, model: str) -> list[Frame]:
    def line(message: dict[str, Any], **more: Any) -> bytes:
        assistant = {"role": "assistant", "content": "", **message}
        head = {"model": model, "created_at": "2026-01-01T00:00:00Z", "message": assistant}
        return event(dumps({**head, "done": False, **more}))

    events = [Frame(line({"thinking": thought}), True) for thought in reply.reasoning]
    events += [Frame(line({"content": piece}), True) for piece in reply.pieces]
    for call in reply.tool_calls:
        function = {"name": call.name, "arguments": arguments_of(call)}
        events.append(Frame(line({"tool_calls": [{"function": function}]}), True))
    counts = usage_counts(reply.usage) if reply.usage else {}
    events.append(
        Frame(
            line(
                {}, done=True, done_reason=reply.raw_finish_reason or _FINISH.get(reply.finish, reply.finish), **counts
            )
        )
    )
    return events


def usage_counts(usage: SaidUsage) -> dict[str, int]:
    """The usage in the service's words."""
    return {"prompt_eval_count": usage.input, "eval_count": usage.output}


def error_frame(message: str) -> bytes:
    return event(dumps({"error": message}))


def error_body(error: HttpError, _request_id: str) -> dict[str, Any]:
    return {"error": error.message}
