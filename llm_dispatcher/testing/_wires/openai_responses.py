"""OpenAI's Responses API."""

from __future__ import annotations

from typing import Any

from .._received import ReceivedRequest, Turn
from .._script import Reply, SaidUsage, Wire
from ..faults import HttpError
from . import openai_chat, openai_rules
from .frames import Frame, Rejection, bearer, dumps
from .schemas import openai_objection
from .signatures import SIGNATURES
from .turns import objects, responses_turns

BASE_PATH = "/v1"
CONTENT_TYPE = "text/event-stream; charset=utf-8"
KEEP_ALIVE = b": keep-alive\n\n"
REQUEST_ID_HEADER = "x-request-id"

MODELS = openai_chat.MODELS
models = openai_chat.models

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def read(request: ReceivedRequest) -> Rejection | None:
    if request.path.partition("?")[0] != "/v1/responses":
        return openai_chat.no_such_path(request)
    body = request.body
    if not isinstance(body.get("model"), str) or not body["model"]:
        return Rejection(400, "Missing required parameter: 'model'.")
    request.model = body["model"]
    if body.get("stream") is False:
        return Rejection(400, "this simulation only streams: send stream=true")
    instructions = body.get("instructions")
    request.system = instructions if isinstance(instructions, str) else None
    turns = body.get("input")
    if isinstance(turns, str) and turns:
        request.turns = [Turn("user", turns)]
    elif isinstance(turns, list):
        said = responses_turns(objects(turns))
        system = [turn.text for turn in said if turn.role in ("system", "developer")]
        request.system = request.system or "\n".join(system) or None
        request.turns = [turn for turn in said if turn.role not in ("system", "developer")]
    if not request.turns:
        return Rejection(400, "Missing required parameter: 'input'.")
    return _rejection(body, request.host) or openai_rules.responses_objection(request)


def _rejection(body: dict[str, Any], host: str) -> Rejection | None:
    """The reason why this host refuses a request, or `None`. llama.cpp refuses an assistant's item without a type."""
    items = body["input"] if host == "llamacpp" and isinstance(body["input"], list) else []
    if any(isinstance(item, dict) and item.get("role") == "assistant" and "type" not in item for item in items):
        return Rejection(400, "Cannot determine type of 'item'")
    if (rejection := openai_chat.metadata_rejection(body)) is not None:
        return rejection
    if body.get("background") and body.get("store") is False:
        return Rejection(400, "Background mode requires 'store' to be true.", param="store")
    text = body.get("text")
    wire_format = text.get("format") if isinstance(text, dict) else None
    if (
        isinstance(wire_format, dict)
        and wire_format.get("strict")
        and (reason := openai_objection(wire_format.get("schema")))
    ):
        message = f"Invalid schema for response_format '{wire_format.get('name')}': {reason}"
        return Rejection(400, message, "invalid_json_schema", "text.format.schema")
    for place, tool in enumerate(body.get("tools") or ()):
        if isinstance(tool, dict) and (reason := openai_chat.tool_objection(tool)) is not None:
            message = f"Invalid schema for function '{tool.get('name')}': {reason}"
            return Rejection(400, message, "invalid_function_parameters", f"tools[{place}].parameters")
    return None


def key(request: ReceivedRequest) -> str | None:
    return bearer(request)


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


class _Stream:
    """Numbers the events, and collects the output items when they are complete."""

    def __init__(self, model: str, run: str | None) -> None:
        self.frames: list[Frame] = []
        self.output: list[dict[str, Any]] = []
        self.head = {
            "id": run or "resp_sim",
            "object": "response",
            "created_at": 1_760_000_000,
            "model": model,
            "background": run is not None,
        }

    def send(self, kind: str, *, content: bool = False, **fields: Any) -> None:
        data = dumps({"type": kind, "sequence_number": len(self.frames), **fields})
        self.frames.append(Frame(b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n", content))

    def response(self, status: str, **more: Any) -> dict[str, Any]:
        return {
            **self.head,
            "status": status,
            "output": list(self.output),
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "error": None,
            "incomplete_details": None,
            **more,
        }

    def added(self, item: dict[str, Any]) -> None:
        self.send("response.output_item.added", output_index=len(self.output), item=item)

    def done(self, item: dict[str, Any]) -> None:
        self.output.append(item)
        self.send("response.output_item.done", output_index=len(self.output) - 1, item=item)


def frames(reply: Reply, model: str, run: str | None = None) -> list[Frame]:
    """All events of an answer, or those of a `run` in the background with this id."""
    stream = _Stream(model, run)
    first = "in_progress" if run is None else "queued"
    stream.send("response.created", response=stream.response(first))
    if run is not None:
        stream.send("response.queued", response=stream.response("queued"))
    stream.send("response.in_progress", response=stream.response("in_progress"))
    if reply.reasoning:
        _reasoning(stream, reply)
    if reply.pieces or not reply.tool_calls:
        _message(stream, reply)
    for call in reply.tool_calls:
        item = {"type": "function_call", "id": f"fc_{call.id}", "call_id": call.id, "name": call.name}
        stream.added({**item, "arguments": "", "status": "in_progress"})
        place: dict[str, Any] = {"item_id": item["id"], "output_index": len(stream.output)}
        for fragment in call.fragments:
            stream.send("response.function_call_arguments.delta", content=True, **place, delta=fragment)
        stream.send("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments)
        stream.done({**item, "arguments": call.arguments, "status": "completed"})
    reason = reply.raw_finish_reason or _INCOMPLETE.get(reply.finish)
    status = "incomplete" if reason else "completed"
    details = {"reason": reason} if reason else None
    stream.send(
        f"response.{status}",
        response=stream.response(status, incomplete_details=details, usage=usage_counts(reply.usage)),
    )
    return stream.frames


def failed(model: str, run: str, number: int, message: str) -> Frame:
    """The last event of a run that fails."""
    stream = _Stream(model, run)
    response = stream.response("failed", error={"code": "server_error", "message": message})
    data = dumps({"type": "response.failed", "sequence_number": number, "response": response})
    return Frame(b"event: response.failed\ndata: " + data + b"\n\n")


def run_object(model: str, run: str, status: str) -> dict[str, Any]:
    """What a GET of a run without `stream` and a cancellation answer. The output is left out."""
    return _Stream(model, run).response(status)


def _reasoning(stream: _Stream, reply: Reply) -> None:
    item = {"type": "reasoning", "id": "rs_sim", "summary": []}
    stream.added(item)
    place: dict[str, Any] = {"item_id": "rs_sim", "output_index": len(stream.output), "summary_index": 0}
    stream.send("response.reasoning_summary_part.added", **place, part={"type": "summary_text", "text": ""})
    for thought in reply.reasoning:
        stream.send("response.reasoning_summary_text.delta", content=True, **place, delta=thought)
    text = "".join(reply.reasoning)
    part = {"type": "summary_text", "text": text}
    stream.send("response.reasoning_summary_text.done", **place, text=text)
    stream.send("response.reasoning_summary_part.done", **place, part=part)
    encrypted = {"encrypted_content": SIGNATURES[Wire.OPENAI_RESPONSES]} if reply.is_signed else {}
    stream.done({**item, "summary": [part], **encrypted})


def _message(stream: _Stream, reply: Reply) -> None:
    refuses = reply.finish == "refusal"
    kind, field = ("refusal", "refusal") if refuses else ("output_text", "text")
    text = "".join(reply.pieces)
    content: dict[str, Any] = {field: text}
    extra: dict[str, Any] = {} if refuses else {"annotations": [], "logprobs": []}
    item = {"type": "message", "id": "msg_sim", "role": "assistant", "status": "in_progress", "content": []}
    stream.added(item)
    place: dict[str, Any] = {"item_id": "msg_sim", "output_index": len(stream.output), "content_index": 0}
    stream.send("response.content_part.added", **place, part={"type": kind, field: "", **extra})
    logprobs: dict[str, Any] = {} if refuses else {"logprobs": []}
    for piece in reply.pieces:
        stream.send(f"response.{kind}.delta", content=True, **place, delta=piece, **logprobs)
    stream.send(f"response.{kind}.done", **place, **logprobs, **content)
    part = {"type": kind, **content, **extra}
    stream.send("response.content_part.done", **place, part=part)
    stream.done({**item, "status": "completed", "content": [part]})


def usage_counts(usage: SaidUsage | None) -> dict[str, Any] | None:
    """The usage in the service's words."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "input_tokens_details": {"cached_tokens": usage.cached, **openai_chat.written_count(usage)},
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def error_frame(message: str) -> bytes:
    data = {"type": "error", "sequence_number": 0, "code": "server_error", "message": message, "param": None}
    return b"event: error\ndata: " + dumps(data) + b"\n\n"


def error_body(error: HttpError, request_id: str) -> dict[str, Any]:
    return openai_chat.error_body(error, request_id)
