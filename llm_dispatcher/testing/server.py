"""The HTTP of a simulated vendor: just enough of it, by hand, so that every byte and every close is ours to choose."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from .received import Ending, ReceivedRequest
from .script import (
    Breaking,
    CleanEnd,
    Cut,
    ErrorFrame,
    Garbage,
    HttpError,
    KeepAlives,
    MalformedJson,
    Refuse,
    Reply,
    Resplit,
    SlowHeaders,
    Stall,
    Wire,
)
from .wires import WIRES, Frame, Rejection

_REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    429: "Too Many Requests",
}
_END_OF_BODY = b"0\r\n\r\n"


class Judge(Protocol):
    """What the server asks of the vendor it belongs to."""

    def judge(self, request: ReceivedRequest) -> Rejection | None: ...

    def reply(self, request: ReceivedRequest) -> Reply: ...

    def recorded(self) -> list[dict[str, Any]]: ...


class Connection(asyncio.Protocol):
    """One connection: requests come in one after the other, answers go out."""

    def __init__(self, wire: Wire, judge: Judge, open_connections: set[Connection]) -> None:
        self._wire = wire
        self._judge = judge
        self._all = open_connections
        self._received = bytearray()
        self._answering: asyncio.Task[None] | None = None
        self._request: ReceivedRequest | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport

    # ── the connection ─────────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self)
        self._writable.set()
        if self._request is not None:
            self._request.end("left")
        if self._answering is not None:
            self._answering.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._next()

    def drop(self) -> None:
        """Reset the connection."""
        linger = struct.pack("ii", 1, 0)  # on, and for no time: close() sends RST
        plug: socket.socket | None = self._transport.get_extra_info("socket")
        if plug is not None and not self._transport.is_closing():
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()

    # ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _next(self) -> None:
        if self._answering is None and (request := self._take()) is not None:
            self._request = request
            task = self._answering = asyncio.get_running_loop().create_task(self._answer(request))
            task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._answering = self._request = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._transport.abort()
            raise error
        if not self._transport.is_closing():
            self._next()

    def _take(self) -> ReceivedRequest | None:
        """The next request, once all of it is here."""
        head, blank, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not blank:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if headers.get("transfer-encoding") == "chunked":
            taken = _dechunked(rest)
        else:
            length = int(headers.get("content-length", 0))
            taken = (rest[:length], rest[length:]) if len(rest) >= length else None
        if taken is None:
            return None
        body, left = taken
        self._received = bytearray(left)
        try:
            parsed = msgspec.json.decode(body) if body else {}
        except msgspec.DecodeError:
            parsed = None
        request = ReceivedRequest(self._wire, method, path, headers, parsed if isinstance(parsed, dict) else {})
        request.status = 400 if not isinstance(parsed, dict) else None
        return request

    # ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _answer(self, request: ReceivedRequest) -> None:
        if request.path == "/_simulated/requests":
            self._send_json(200, self._judge.recorded())
            return
        rejection = self._judge.judge(request)
        if rejection is not None:
            request.end("refused")
            self._send_error(request, HttpError(rejection.status, message=rejection.message, code=rejection.code))
            return
        reply = request.reply = self._judge.reply(request)
        match reply.fault:
            case Refuse():
                request.end("refused")
                self.drop()
            case HttpError():
                request.end("refused")
                self._send_error(request, reply.fault, reply)
            case SlowHeaders(seconds):
                await asyncio.sleep(seconds)
                await self._stream(request, reply)
            case _:
                await self._stream(request, reply)

    async def _stream(self, request: ReceivedRequest, reply: Reply) -> None:
        module = WIRES[self._wire]
        request.status = 200
        headers = {
            "content-type": module.CONTENT_TYPE,
            "transfer-encoding": "chunked",
            "x-request-id": "req_sim",
            "request-id": "req_sim",
            **reply.headers,
        }
        head = b"HTTP/1.1 200 OK\r\n" + _lines(headers)
        frames = module.frames(reply, request)
        fault = reply.fault if isinstance(reply.fault, Breaking) else None
        if fault is not None:
            frames = list(_until(frames, fault.after))
        if isinstance(fault, (ErrorFrame, MalformedJson, Garbage)):
            frames.append(Frame(_bad_frame(self._wire, fault)))
        self._transport.write(head)
        if reply.resplit is not None:
            frames = list(_resplit(frames, reply.resplit))
        if reply.pace or reply.resplit is not None:
            for frame in frames:
                await self._write(_chunk(frame.data))
                await asyncio.sleep(reply.pace if frame.content else 0)
        else:
            await self._write(b"".join(_chunk(frame.data) for frame in frames))
        await self._end(request, fault, module.KEEP_ALIVE)

    async def _end(self, request: ReceivedRequest, fault: Breaking | None, keep_alive: bytes) -> None:
        ending: Ending = "served" if fault is None else "broken"
        match fault:
            case Cut():
                await asyncio.sleep(fault.moment)
                request.end(ending)
                self.drop()
            case Stall():
                await asyncio.Event().wait()
            case KeepAlives():
                while True:
                    await self._write(_chunk(keep_alive))
                    await asyncio.sleep(fault.every)
            case None | CleanEnd() | ErrorFrame() | MalformedJson() | Garbage():
                request.end(ending)
                self._transport.write(_END_OF_BODY)

    async def _write(self, data: bytes) -> None:
        if not self._writable.is_set():
            await self._writable.wait()
        self._transport.write(data)

    def _send_error(self, request: ReceivedRequest, error: HttpError, reply: Reply | None = None) -> None:
        request.status = error.status
        headers = {"x-request-id": "req_sim", "request-id": "req_sim", **(reply.headers if reply else {})}
        if error.retry_after is not None:
            headers["retry-after"] = f"{error.retry_after:g}"
        body = error.body.encode() if error.body is not None else None
        self._send_json(error.status, WIRES[self._wire].error_body(error), headers, body)

    def _send_json(
        self, status: int, value: Any, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> None:
        data = msgspec.json.encode(value) if body is None else body
        all_headers = {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
        start = f"HTTP/1.1 {status} {_REASONS.get(status, 'Simulated')}\r\n".encode()
        self._transport.write(start + _lines(all_headers) + data)


def factory(wire: Wire, judge: Judge, connections: set[Connection]) -> Callable[[], Connection]:
    return lambda: Connection(wire, judge, connections)


def _lines(headers: dict[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1") + b"\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _until(frames: list[Frame], after: int) -> Iterator[Frame]:
    """The frames before the fault: those up to this many pieces of content."""
    seen = 0
    for frame in frames:
        if seen == after and (frame.content or (after and seen)):
            return
        seen += frame.content
        yield frame


def _bad_frame(wire: Wire, fault: ErrorFrame | MalformedJson | Garbage) -> bytes:
    module = WIRES[wire]
    match fault:
        case ErrorFrame():
            return module.error_frame(fault.message)
        case MalformedJson():
            return module.event(b'{"broken": [1, ')
        case Garbage():
            return module.event(fault.data)


def _resplit(frames: list[Frame], resplit: Resplit) -> Iterator[Frame]:
    data = b"".join(frame.data for frame in frames)
    at = turn = 0
    while at < len(data):
        size = resplit.sizes[turn % len(resplit.sizes)]
        yield Frame(data[at : at + size])
        at, turn = at + size, turn + 1


def _dechunked(data: bytes) -> tuple[bytes, bytes] | None:
    """A chunked body and what follows it, once all of it is here."""
    body = b""
    while True:
        size, newline, data = data.partition(b"\r\n")
        if not newline:
            return None
        length = int(size.partition(b";")[0], 16)
        if len(data) < length + 2:
            return None
        body, data = body + data[:length], data[length + 2 :]
        if length == 0:
            return body, data
