"""OpenAI's Chat Completions API."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..._vendors.table import vendor
from .._received import ReceivedRequest
from .._script import Reply, SaidUsage
from ..faults import HttpError
from . import openai_rules, token_ids
from .frames import Frame, Rejection, bearer, dumps, take_messages
from .schemas import openai_objection

BASE_PATH = "/v1"
CONTENT_TYPE = "text/event-stream; charset=utf-8"
KEEP_ALIVE = b": keep-alive\n\n"
REQUEST_ID_HEADER = "x-request-id"

_PATH = re.compile(r"/(?:openai/)?v1/chat/completions|/openai/deployments/([^/]+)/chat/completions")
"""The path of OpenAI, and the two of Azure."""
MODELS = re.compile(r"/(?:openai/)?v1/models")
_FINISH = {"refusal": "stop"}
_TYPES = {bool: "a boolean", int: "an integer", float: "a decimal", list: "an array", type(None): "null"}
_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


def models(names: list[str]) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "simulated"} for name in names]}


def read(request: ReceivedRequest) -> Rejection | None:
    path = urlsplit(request.path)
    if request.host in token_ids.HOSTS and path.path != "/v1/chat/completions":
        return _read_beside_chat(request, path.path)
    match = _PATH.fullmatch(path.path)
    if match is None or (match[1] is not None and "api-version" not in parse_qs(path.query)):
        return no_such_path(request)
    request.wants_usage = (request.body.get("stream_options") or {}).get("include_usage") is True
    rejection = (
        take_messages(request)
        or _rejection(request)
        or openai_rules.chat_objection(request)
        or token_ids.rejection(request)
    )
    if request.host == "vllm" and request.body.get("return_token_ids") is True and rejection is None:
        request.change = token_ids.with_ids(request, event)
    elif request.host == "vllm" and _inside(request.body, "stream_options").get("continuous_usage_stats") is True:
        request.change = token_ids.with_usage(request, event)
    return rejection


def _read_beside_chat(request: ReceivedRequest, path: str) -> Rejection | None:
    """Read a request of the interfaces that vLLM and llama.cpp have beside chat."""
    if path == "/v1/completions":
        request.wants_usage = (request.body.get("stream_options") or {}).get("include_usage") is True
        request.change = token_ids.as_completion(request, event)
        return token_ids.read_completion(request)
    answer = token_ids.service(request, path)
    if not isinstance(answer, dict):
        return answer or no_such_path(request)
    request.service = answer
    return None


def _rejection(request: ReceivedRequest) -> Rejection | None:
    """The reason why OpenAI refuses a request, or `None`. For two open turns, as llama.cpp does."""
    body = request.body
    if (rejection := metadata_rejection(body)) is not None:
        return rejection
    wants_store = "stored_metadata" in vendor(request.host).quirks
    if wants_store and body.get("metadata") and body.get("store") is not True:
        return Rejection(400, "The 'metadata' parameter is only allowed when 'store' is enabled.", param="metadata")
    if [turn.role for turn in request.turns[-2:]] == ["assistant"] * 2:
        return Rejection(400, "Cannot have 2 or more assistant messages at the end of the list.")
    answer_format = _inside(body.get("response_format"), "json_schema")
    if answer_format.get("strict") and (reason := openai_objection(answer_format.get("schema"))) is not None:
        message = f"Invalid schema for response_format '{answer_format.get('name')}': {reason}"
        return Rejection(400, message, param="response_format")
    for place, tool in enumerate(body.get("tools") or ()):
        if (reason := tool_objection(function := _inside(tool, "function"))) is not None:
            message = f"Invalid schema for function '{function.get('name')}': {reason}"
            return Rejection(400, message, "invalid_function_parameters", f"tools[{place}].function.parameters")
    return None


def no_such_path(request: ReceivedRequest) -> Rejection:
    """OpenAI's error for an unknown path. It has no code, unlike the error for an unknown model."""
    return Rejection(404, f"Invalid URL ({request.method} {request.path.partition('?')[0]})", code="")


def metadata_rejection(body: dict[str, Any]) -> Rejection | None:
    """OpenAI's error for metadata that is not text, or `None`."""
    metadata = body.get("metadata")
    for name, value in metadata.items() if isinstance(metadata, dict) else ():
        if not isinstance(value, str):
            kind = _TYPES.get(type(value), "object")
            message = f"Invalid type for 'metadata.{name}': expected a string, but got {kind} instead."
            return Rejection(400, message, "invalid_type", f"metadata.{name}")
    return None


def tool_objection(function: dict[str, Any]) -> str | None:
    """The reason why OpenAI refuses the schema of a tool, or `None`."""
    return openai_objection(function.get("parameters")) if function.get("strict") else None


def _inside(value: Any, name: str) -> dict[str, Any]:
    inner = value.get(name) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def key(request: ReceivedRequest) -> str | None:
    return request.headers.get("api-key") or bearer(request)


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def frames(reply: Reply, model: str) -> list[Frame]:
    def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        head = {"id": "chatcmpl-sim", "object": "chat.completion.chunk", "created": 1_760_000_000}
        return event(dumps({**head, "model": model, "choices": choices, **more}))

    events = [Frame(chunk({"role": "assistant", "content": ""}))]
    events += [Frame(chunk({"reasoning_content": thought}), True) for thought in reply.reasoning]
    field = "refusal" if reply.finish == "refusal" else "content"
    events += [Frame(chunk({field: piece}), True) for piece in reply.pieces]
    for index, call in enumerate(reply.tool_calls):
        for place, fragment in enumerate(call.fragments):
            function = {"name": call.name, "arguments": fragment} if place == 0 else {"arguments": fragment}
            head = {"id": call.id, "type": "function"} if place == 0 else {}
            events.append(Frame(chunk({"tool_calls": [{"index": index, **head, "function": function}]}), True))
    events.append(Frame(chunk({}, reply.raw_finish_reason or _FINISH.get(reply.finish, reply.finish))))
    if reply.usage is not None:
        events.append(Frame(chunk(None, usage=usage_counts(reply.usage))))
    events.append(Frame(event(b"[DONE]")))
    return events


def usage_counts(usage: SaidUsage) -> dict[str, Any]:
    """The usage in the service's words."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0, **written_count(usage)},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    }


def written_count(usage: SaidUsage) -> dict[str, int]:
    """What was written to the prompt cache, if anything was."""
    return {"cache_write_tokens": usage.written} if usage.written else {}


def error_frame(message: str) -> bytes:
    return event(dumps({"error": {"message": message, "type": "server_error", "param": None, "code": None}}))


def error_body(error: HttpError, _request_id: str) -> dict[str, Any]:
    kind = "requests" if error.status == 429 else "invalid_request_error" if error.status < 500 else "server_error"
    code = _CODES.get(error.status) if error.code is None else error.code or None
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": code}}
