"""Gemini's `streamGenerateContent`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .._received import ReceivedRequest
from .._script import Reply, SaidUsage, Wire
from ..faults import HttpError
from . import google_rules
from .frames import Frame, Rejection, arguments_of, bearer, dumps
from .signatures import SIGNATURES
from .turns import google_turn, text_of

BASE_PATH = ""
CONTENT_TYPE = "text/event-stream"
KEEP_ALIVE = b": keep-alive\r\n\r\n"
REQUEST_ID_HEADER = "x-request-id"

_ROLES = {"user": "user", "model": "assistant", "function": "tool"}
_PATH = re.compile(
    r"/v1(?:alpha|beta)?\d*/(?:(?:projects/[^/]+/locations/[^/]+/)?publishers/google/)?"
    r"models/([^/:]+):streamGenerateContent"
)
"""The paths of Gemini and of Vertex."""
MODELS = re.compile(r"/v1(?:alpha|beta)?\d*/models")
_FINISH = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
}
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def models(names: list[str]) -> dict[str, Any]:
    return {"models": [{"name": f"models/{name}", "displayName": name} for name in names]}


def read(request: ReceivedRequest) -> Rejection | None:
    path = urlsplit(request.path)
    match = _PATH.fullmatch(path.path)
    if match is None:
        return Rejection(404, f"unknown path {path.path}")
    if parse_qs(path.query).get("alt") != ["sse"]:
        return Rejection(400, "this simulation streams with alt=sse only")
    request.model = unquote(match[1])
    instruction = request.body.get("systemInstruction")
    request.system = text_of(instruction.get("parts")) or None if isinstance(instruction, dict) else None
    contents = request.body.get("contents")
    if not isinstance(contents, list) or not contents:
        return Rejection(400, "GenerateContentRequest.contents: contents is not specified")
    for content in contents:
        role = content.get("role", "user") if isinstance(content, dict) else None
        if role not in _ROLES:
            return Rejection(400, "Please use a valid role: user, model.")
        request.turns.append(google_turn(_ROLES[role], content.get("parts")))
    return google_rules.objection(request)


def key(request: ReceivedRequest) -> str | None:
    query = parse_qs(urlsplit(request.path).query).get("key")
    return request.headers.get("x-goog-api-key") or (query[0] if query else bearer(request))


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\r\n\r\n"


def frames(reply: Reply, model: str) -> list[Frame]:
    def chunk(parts: list[dict[str, Any]], **more: Any) -> bytes:
        candidate = {"content": {"parts": parts, "role": "model"}, "index": 0, **more}
        return event(dumps({"candidates": [candidate], **usage, "modelVersion": model, "responseId": "sim"}))

    reported = reply.usage
    usage: dict[str, Any] = {"usageMetadata": {"promptTokenCount": reported.input}} if reported else {}
    events = [Frame(chunk([{"text": thought, "thought": True}]), True) for thought in reply.reasoning]
    events += [Frame(chunk([{"text": piece}]), True) for piece in reply.pieces]
    signed = {"thoughtSignature": SIGNATURES[Wire.GOOGLE]} if reply.is_signed else {}
    for place, call in enumerate(reply.tool_calls):
        function = {"name": call.name, "args": arguments_of(call), "id": call.id}
        events.append(Frame(chunk([{"functionCall": function, **({} if place else signed)}]), True))
    if reported:
        usage = {"usageMetadata": usage_counts(reported)}
    events.append(Frame(chunk([{"text": ""}], finishReason=reply.raw_finish_reason or _FINISH[reply.finish])))
    return events


def usage_counts(usage: SaidUsage) -> dict[str, int]:
    """The usage at the end of an answer, in the service's words."""
    return {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output - usage.reasoning,
        "thoughtsTokenCount": usage.reasoning,
        "cachedContentTokenCount": usage.cached,
        "totalTokenCount": usage.input + usage.output,
    }


def error_frame(message: str) -> bytes:
    return event(dumps({"error": {"code": 503, "message": message, "status": "UNAVAILABLE"}}))


def error_body(error: HttpError, _request_id: str) -> dict[str, Any]:
    status = error.code or _STATUS.get(error.status, "UNKNOWN")
    body: dict[str, Any] = {"code": error.status, "message": error.message, "status": status}
    if error.retry_after is not None:
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{error.retry_after:g}s"}
        body["details"] = [retry]
    return {"error": body}
