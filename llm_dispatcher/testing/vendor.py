"""`SimulatedVendor`: a real server on a loopback socket that says what its script says, and breaks where it says so."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias

from .continuing import Continuing
from .received import ReceivedRequest
from .script import Breaking, Reply, Wire
from .server import Connection, factory
from .wires import WIRES, Rejection

Script: TypeAlias = Reply | Sequence[Reply] | Continuing | Callable[[ReceivedRequest], Reply]
"""One reply for every request; one a request, the last again and again; or a function of the request."""


HELLO = Reply("Hello!")


class SimulatedVendor:
    """A vendor that says what it is told to.

    `with vendor:` serves from a thread of its own, so that any loop or none may call it; `async with vendor:` serves
    from the running loop. `base_url` is what the vendor's official client wants.
    """

    def __init__(
        self,
        wire: Wire | str,
        script: Script = HELLO,
        *,
        models: Sequence[str] | None = None,
        refuses_prefill: bool = False,
        api_key: str | None = "test-key",
        port: int = 0,
    ) -> None:
        if wire not in set(Wire):
            raise ValueError(f"a wire is one of {', '.join(Wire)}; got {wire!r}")
        self.wire = Wire(wire)
        self.script = script
        self.requests: list[ReceivedRequest] = []
        self._models = None if models is None else frozenset(models)
        self._refuses_prefill = refuses_prefill
        self._api_key = api_key
        self._port = port
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._asked = 0
        self._over: asyncio.Event | None = None
        self._check()

    @property
    def script(self) -> Script:
        """May be replaced between requests."""
        return self._script

    @script.setter
    def script(self, script: Script) -> None:
        if isinstance(script, Sequence):
            script = list(script)
            if not script or not all(isinstance(reply, Reply) for reply in script):
                raise ValueError("a script that is a sequence holds at least one Reply, and nothing else")
        elif not isinstance(script, Reply) and not callable(script):
            raise TypeError(f"a script is a Reply, a sequence of them or a function, got {type(script).__name__}")
        self._script = script
        self._asked = 0

    @property
    def base_url(self) -> str:
        """Where the vendor's official client finds it."""
        return f"http://127.0.0.1:{self._port}{WIRES[self.wire].BASE_PATH}"

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    # ── serving ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Listen, in the running loop."""
        if self._server is not None:
            raise RuntimeError("this vendor is already listening")
        _raise_open_file_limit()
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(
            factory(self.wire, self, self._connections), "127.0.0.1", self._port, backlog=8192
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, and reset what is open."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections):
            connection.drop()
        await self._server.wait_closed()
        await asyncio.sleep(0)  # the reset connections learn of their end
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        ready = threading.Event()
        trouble: list[BaseException] = []

        async def serve() -> None:
            try:
                await self.start()
            except BaseException as error:  # the thread that waits has to hear of whatever it is
                trouble.append(error)
                raise
            finally:
                ready.set()
            over = self._over = asyncio.Event()
            await over.wait()
            await self.stop()

        def run() -> None:
            with contextlib.suppress(OSError):
                asyncio.run(serve())

        self._thread = threading.Thread(target=run, name=f"simulated {self.wire}", daemon=True)
        self._thread.start()
        ready.wait()
        if trouble:
            raise trouble[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._loop is not None and self._thread is not None and self._over is not None
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    # ── what the server asks ───────────────────────────────────────────────────────────────────────────────────────

    def judge(self, request: ReceivedRequest) -> Rejection | None:
        """Record a request; say what the real service would have against it."""
        self.requests.append(request)
        module = WIRES[self.wire]
        if request.status == 400:
            return Rejection(400, "the body is not valid JSON")
        if request.method != "POST":
            return Rejection(405, f"{request.method} is not allowed here")
        if self._api_key is not None and module.key(request) != self._api_key:
            return Rejection(401, "the API key is missing or wrong")
        rejection = module.read(request)
        if rejection is not None:
            return rejection
        if self._models is not None and request.model not in self._models:
            return Rejection(404, f"the model {request.model} does not exist")
        if self._refuses_prefill and request.turns and request.turns[-1].role == "assistant":
            return Rejection(400, "this model does not take an assistant message at the end")
        return None

    def reply(self, request: ReceivedRequest) -> Reply:
        script = self._script
        place, self._asked = self._asked, self._asked + 1
        if isinstance(script, Reply):
            return script
        if isinstance(script, Sequence):
            return script[min(place, len(script) - 1)]
        return script(request)

    def recorded(self) -> list[dict[str, Any]]:
        return [request.as_json() for request in self.requests]

    def _check(self) -> None:
        """Refuse a fault past the end on this wire, where a tool call may be sent in one piece."""
        script = self._script
        replies = [script] if isinstance(script, Reply) else script if isinstance(script, Sequence) else []
        probe = ReceivedRequest(self.wire, "POST", "/", {}, {})
        for reply in replies:
            if isinstance(reply.fault, Breaking):
                length = sum(frame.content for frame in WIRES[self.wire].frames(reply, probe))
                if reply.fault.after > length:
                    raise ValueError(
                        f"{type(reply.fault).__name__}(after={reply.fault.after}) is past the end: "
                        f"on the {self.wire} wire the reply has {length} pieces of content"
                    )


def _raise_open_file_limit() -> None:
    """As many connections as this process may have at all: the usual soft limit is far below the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
