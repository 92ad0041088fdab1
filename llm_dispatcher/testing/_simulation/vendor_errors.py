"""The errors of simulated vendors, as the real providers read them from an answer's body, headers or stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..._wire import NDJSONDecoder, SSEDataDecoder
from ...provider._decoding import DONE
from ...provider._errors import ErrorReply, RefusedError, error_message, read_error
from ...provider._rate_limit_headers import amount
from .._script import Wire
from .._wires import WIRES
from ..faults import HttpError, Redirect


def refused(wire: Wire, error: HttpError, request_id: str, headers: Mapping[str, str]) -> RefusedError:
    """An HTTP error."""
    if error.body is None:
        body: object = WIRES[wire].error_body(error, request_id)
    else:
        body = _as_json(error.body)
    if error.retry_after is not None:
        headers = {**headers, "retry-after": f"{error.retry_after:g}"}
    return RefusedError(_read(wire, body, error.status, headers))


def not_followed(redirect: Redirect) -> RefusedError:
    """A redirect to another host, or one that would lose the prompt."""
    return RefusedError(ErrorReply(f"it redirects to {redirect.location}, which is not followed", redirect.status))


def in_the_stream(wire: Wire, message: str) -> RefusedError:
    """An error that comes as an event of the stream."""
    event: Any = msgspec.json.decode(data_of(wire, WIRES[wire].error_frame(message)))
    if wire is Wire.GOOGLE:
        return RefusedError(_google(event, event["error"]["code"], {}))
    return RefusedError(read_error(event.get("error", event)))


def data_of(wire: Wire, event: bytes) -> bytes:
    """The data of an event, which may lack its end."""
    decoder = NDJSONDecoder() if wire is Wire.OLLAMA else SSEDataDecoder()
    return b"".join((*decoder.feed(event), *decoder.close()))


def raw_event(wire: Wire, event: bytes) -> dict[str, Any] | None:
    """What a `RawEvent` holds of an event; `None` if the event is not a JSON object."""
    data = data_of(wire, event)
    value: Any = None if data == DONE or not data else msgspec.json.decode(data)
    return value if isinstance(value, dict) else None


def _as_json(text: str) -> object:
    try:
        value: object = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value


def _read(wire: Wire, body: object, status: int, headers: Mapping[str, str]) -> ErrorReply:
    if wire is Wire.GOOGLE:
        return _google(body, status, headers)
    if wire is Wire.OLLAMA:
        return ErrorReply(error_message(body) or "", status, headers=headers)
    reply = read_error(body.get("error", body) if isinstance(body, Mapping) else body)
    return ErrorReply(
        error_message(body) or f"Error code: {status}", status, reply.codes, headers=headers, param=reply.param
    )


def _google(body: object, status: int, headers: Mapping[str, str]) -> ErrorReply:
    inner = body.get("error", body) if isinstance(body, Mapping) else {"message": str(body)}
    if not isinstance(inner, Mapping):
        return ErrorReply(error_message(inner) or "the vendor sent an error", status, headers=headers)
    codes = [str(inner["status"])] if inner.get("status") else []
    wait: float | None = None
    details = inner.get("details")
    for detail in details if isinstance(details, list) else ():
        codes[:0] = [str(detail["reason"])] if detail.get("reason") else []
        codes[:0] = ["quota_of_the_day"] if "PerDay" in str(detail.get("violations")) else []
        if str(detail.get("@type", "")).endswith("RetryInfo"):
            wait = amount(str(detail.get("retryDelay")).removesuffix("s"))
    return ErrorReply(error_message(inner) or "the vendor sent an error", status, tuple(codes), headers, wait)
