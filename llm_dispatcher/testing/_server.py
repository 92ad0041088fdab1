"""The connections of a simulated vendor: they read requests, send answers, and carry out faults.

A connection handles one request after the other. `_task` sends the current answer. `connection_lost` cancels it and
notes that the reader has left; every other ending is noted before the connection is closed or reset. All of it runs in
one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Final, Protocol

from ._answers import Answer
from ._http import END_OF_BODY, HttpRequest, NotHttpError, RequestReader, head
from ._received import ReceivedRequest
from .faults import Cut, CutEach, HangUp, KeepAlives, Linger, Refuse, SlowHeaders, Stall, UnaskedAnswer

BACKLOG: Final = 8192
_TURNS_TO_BEGIN: Final = 3
"""Turns of a loop from the acceptance of a connection to `connection_made`."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, with a timeout of 0
_UNSENT: Final = 0x894B  # SIOCOUTQNSD: the number of bytes that Linux has not sent yet


class Responder(Protocol):
    """Records a request, and makes its answer."""

    def receive(self, received: HttpRequest) -> ReceivedRequest: ...

    def answer(self, request: ReceivedRequest) -> Answer: ...


class Connection(asyncio.Protocol):
    """One connection. It answers requests one after the other."""

    def __init__(self, vendor: Responder, connections: set[Connection]) -> None:
        self._vendor = vendor
        self._connections = connections
        self._reader = RequestReader()
        self._task: asyncio.Task[None] | None = None
        self._request: ReceivedRequest | None = None
        self._flushed = asyncio.Event()
        self._flushed.set()
        self._transport: asyncio.Transport

    # ── the connection ─────────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(0)  # `resume_writing` then means that everything was sent.
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._flushed.set()
        if self._request is not None:
            self._request.end("left")
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._flushed.clear()

    def resume_writing(self) -> None:
        self._flushed.set()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self._next()

    def drop(self) -> None:
        """Reset the connection."""
        plug: socket.socket | None = self._transport.get_extra_info("socket")
        if plug is not None and not self._transport.is_closing():
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    # ── requests and answers ───────────────────────────────────────────────────────────────────────────────────────

    def _next(self) -> None:
        if self._task is not None:
            return
        try:
            received = self._reader.next()
        except NotHttpError:
            self._transport.write(head(400, {"content-length": "0", "connection": "close"}))
            self._transport.close()
            return
        if received is not None:
            self._request = self._vendor.receive(received)
            self._task = asyncio.get_running_loop().create_task(self._answer(self._request))
            self._task.add_done_callback(self._after_answer)

    def _after_answer(self, task: asyncio.Task[None]) -> None:
        self._task = self._request = None
        if not task.cancelled() and task.exception() is not None:
            self._transport.abort()
            task.result()  # Raises: only a bug in this module gets here, and the loop reports it.
        if not self._transport.is_closing():
            self._next()

    async def _answer(self, request: ReceivedRequest) -> None:
        answer = self._vendor.answer(request)
        request.status = answer.status or None
        if isinstance(answer.fault, SlowHeaders):
            await asyncio.sleep(answer.fault.seconds)
        if answer.status:
            first = answer.writes[0].data if answer.writes else b""
            self._transport.write(head(answer.status, answer.headers) + first)
        for before, write in pairwise(answer.writes):
            await asyncio.sleep(before.pause)
            await self._flushed.wait()
            if answer.is_stopped is not None and answer.is_stopped():
                self._transport.write(END_OF_BODY)
                request.end("served")
                return
            self._transport.write(write.data)
        await self._flushed.wait()
        await self._finish(request, answer)

    def _has_unsent(self) -> bool:
        """Whether the kernel has unsent bytes of this connection, which a reset would drop."""
        plug: socket.socket | None = self._transport.get_extra_info("socket")
        # Windows has no fcntl, other systems do not have this call, and none has it for a closed socket.
        with contextlib.suppress(ImportError, OSError, ValueError):
            import fcntl

            return plug is not None and int.from_bytes(fcntl.ioctl(plug, _UNSENT, bytes(4)), sys.byteorder) > 0
        return False

    async def _finish(self, request: ReceivedRequest, answer: Answer) -> None:
        match answer.fault:
            case Refuse():
                request.end("refused")
                self.drop()
            case Cut(moment=moment) | CutEach(moment=moment):
                while self._has_unsent():  # noqa: ASYNC110 - no event says when they are sent
                    await asyncio.sleep(0.001)
                await asyncio.sleep(moment)
                request.end("broken")
                self.drop()
            case Stall():
                await asyncio.Event().wait()
            case KeepAlives(every=every):
                while True:
                    await asyncio.sleep(every)
                    await self._flushed.wait()
                    self._transport.write(answer.keep_alive)
            case HangUp():
                request.end(answer.ending)
                self._transport.close()
            case Linger():
                request.end(answer.ending)
                await asyncio.Event().wait()
            case UnaskedAnswer(moment=moment):
                request.end(answer.ending)
                await asyncio.sleep(moment)
                self._transport.write(answer.unasked)
            case _:
                request.end(answer.ending)
                if request.headers.get("connection", "").lower() == "close":
                    self._transport.close()


class Listener:
    """A port on the loopback address, which stays the same when it is closed and opened again."""

    def __init__(self, port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
        self.port = port
        self._protocol = protocol
        self._server: asyncio.Server | None = None

    @property
    def is_open(self) -> bool:
        return self._server is not None

    async def open(self) -> None:
        raise_open_file_limit()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, "127.0.0.1", self.port, backlog=BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening: after this, connections are refused. Those that were accepted have met their protocol."""
        if self._server is not None:
            server, self._server = self._server, None
            for listening in server.sockets:  # asyncio leaks a connection that begins after `close()`
                with contextlib.suppress(NotImplementedError):  # a loop of Windows has no readers
                    asyncio.get_running_loop().remove_reader(listening.fileno())
            for _ in range(_TURNS_TO_BEGIN):
                await asyncio.sleep(0)
            server.close()


def raise_open_file_limit() -> None:
    """Raise the limit of open files to the highest that this process may have.

    Windows has no such limit, and no module `resource`.
    """
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
