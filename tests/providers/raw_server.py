"""A server that sends whatever bytes a test wants, where a simulated vendor is too well behaved."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from llm_dispatcher.testing import Cut, Reply, Wire
from llm_dispatcher.testing._answers import streamed
from llm_dispatcher.testing._http import END_OF_BODY, head
from llm_dispatcher.testing._wires import WIRES

TEXT = "One two three."


class Came:
    """One request."""

    def __init__(
        self, number: int, on_connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        """Among all requests, from 1."""
        self.on_connection = on_connection
        """Among those of its connection, from 1."""
        self.reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        plug: socket.socket = self._writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()


class RawServer:
    def __init__(self, wire: Wire, port: int) -> None:
        self.base_url = f"http://127.0.0.1:{port}{WIRES[wire].BASE_PATH}"
        self.requests = 0
        self.connections = 0


@asynccontextmanager
async def raw_server(wire: Wire, answer: Callable[[Came], Awaitable[None]]) -> AsyncIterator[RawServer]:
    """Serve: each request is read, and given to `answer`."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        task.add_done_callback(serving.discard)
        server.connections += 1
        on_connection = 0
        try:
            while True:
                came = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: *(\d+)", came, re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
                on_connection += 1
                server.requests += 1
                await answer(Came(server.requests, on_connection, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server = RawServer(wire, listener.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listener.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def whole(wire: Wire, text: str = TEXT) -> bytes:
    """An answer from its status to the end of its body."""
    answer = streamed(wire, Reply(text), "m")
    return head(answer.status, answer.headers) + b"".join(write.data for write in answer.writes)


def without_its_end(wire: Wire, text: str = TEXT) -> bytes:
    """The same, but for the last bytes of chunked framing: the vendor has said all, and HTTP has not."""
    return whole(wire, text).removesuffix(END_OF_BODY)


def beginning(wire: Wire) -> bytes:
    """An answer up to its first word, in whole chunks."""
    answer = streamed(wire, Reply(TEXT, fault=Cut(after=1)), "m")
    return head(answer.status, answer.headers) + b"".join(write.data for write in answer.writes)
