"""`SimulatedVendor`: a real server on a loopback socket that answers and fails by a script.

The server runs in one event loop: that of `async with`, or one in its own thread for `with`. `requests` and
`script` may be used from any thread; connections are only touched in the server's loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Coroutine
from types import TracebackType
from typing import Self

from msgspec import UNSET, UnsetType

from .. import _clock
from .._vendors.table import hosts
from ._player import Player, Script
from ._received import ReceivedRequest
from ._runs import OPENAIS, Background, SimulatedRun
from ._script import Reply, Wire, key_of
from ._server import Connection, Listener
from ._wires import WIRES

HELLO = Reply("Hello!")


class SimulatedVendor:
    """A server with the API of a vendor, which answers by a script.

    `with vendor:` serves from its own thread, so any event loop or thread may send requests. `async with vendor:`
    serves from the running loop. `base_url` is the address for the vendor's official client.

    If a function in the script raises an error, the answer is a 500, and the error is raised again when the vendor
    stops.

    Args:
        wire: The API: `openai-chat`, `openai-responses`, `anthropic`, `google` or `ollama`.
        script: Its answers. See `Script`.
        models: The models that it has; by default it accepts any name.
        refuses_prefill: Whether it refuses requests that end with an open assistant turn, or which models do.
        api_key: The key that requests must have; `None` for none. By default `test-key`, and none for Ollama.
        port: The port; 0 takes a free one.
        remember: The number of requests that are kept; by default all.
        host: On OpenAI's wires, the kind of the host whose refusals it has; by default OpenAI itself.
        background: How it keeps the runs of requests with `background: true`, on the wire `openai-responses`.

    Raises:
        ValueError: An argument is impossible, such as a fault past the end of a reply.
    """

    def __init__(
        self,
        wire: Wire | str,
        script: Script = HELLO,
        *,
        models: Collection[str] | None = None,
        refuses_prefill: bool | Collection[str] = False,
        api_key: str | UnsetType | None = UNSET,
        port: int = 0,
        remember: int | None = None,
        host: str = "openai",
        background: Background = OPENAIS,
    ) -> None:
        if host not in hosts():
            raise ValueError(f"a host is one of {', '.join(hosts())}; got {host!r}")
        if wire not in set(Wire):
            raise ValueError(f"a wire is one of {', '.join(Wire)}; got {wire!r}")
        if remember is not None and remember < 1:
            raise ValueError(f"remember is 1 or more, got {remember}")
        self.wire: Wire = Wire(wire)
        api_key = key_of(self.wire, api_key)
        self.api_key: str | None = api_key
        self._player = Player(
            self.wire,
            models=models,
            refuses_prefill=refuses_prefill,
            api_key=api_key,
            remember=remember,
            host=host,
            background=background,
        )
        self._player.load(script)
        self._connections: set[Connection] = set()
        self._listener = Listener(port, lambda: Connection(self._player, self._connections))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: _Thread | None = None

    @property
    def script(self) -> Script:
        """The script. It may be replaced between requests; the new one starts at its beginning."""
        return self._player.script

    @script.setter
    def script(self, script: Script) -> None:
        self._player.load(script)

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The received requests, in order."""
        return self._player.requests

    @property
    def runs(self) -> list[SimulatedRun]:
        """The runs in the background, in the order in which they began."""
        return self._player.runs.all

    @property
    def base_url(self) -> str:
        """The address for the vendor's official client."""
        return f"http://127.0.0.1:{self._listener.port}{WIRES[self.wire].BASE_PATH}"

    @property
    def open_connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    def wait_until_unconnected(self, timeout: float = 30.0) -> int:
        """Block until no connection is open, and return 0. After the timeout, return the number of open ones."""
        until = _clock.monotonic() + timeout
        while self._connections and _clock.monotonic() < until:
            _clock.sleep(0.001)
        return len(self._connections)

    async def until_unconnected(self, timeout: float = 30.0) -> int:
        """`wait_until_unconnected` for a coroutine."""
        until = _clock.monotonic() + timeout
        while self._connections and _clock.monotonic() < until:  # noqa: ASYNC110 - they may be closed in another thread
            await asyncio.sleep(0.001)
        return len(self._connections)

    def down(self) -> Down:
        """In `with vendor.down():` (or `async with`), all connections are reset, and new ones are refused."""
        return Down(self)

    # ── serving ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Start to listen, in the running loop.

        Raises:
            RuntimeError: It is already listening.
        """
        if self._listener.is_open:
            raise RuntimeError("this vendor is already listening")
        self._loop = asyncio.get_running_loop()
        await self._listener.open()

    async def stop(self) -> None:
        """Stop listening, and reset the open connections."""
        await self._listener.close()
        for connection in list(self._connections):
            connection.drop()
        await asyncio.sleep(0)  # Let the connections notice that they were reset.

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
        self._raise_script_error(error)

    def __enter__(self) -> Self:
        self._thread = _Thread(f"simulated {self.wire}")
        try:
            self._thread.run(self.start())
        except BaseException:
            self._thread.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._thread is not None
        try:
            self._thread.run(self.stop())
        finally:
            self._thread.end()
        self._raise_script_error(error)

    def _raise_script_error(self, error: BaseException | None) -> None:
        """Raise the error of a function in the script, unless the block failed already: that error is a consequence."""
        script_error, self._player.script_error = self._player.script_error, None
        if script_error is not None and error is None:
            raise script_error

    # ── for `down` ─────────────────────────────────────────────────────────────────────────────────────────────────

    def in_its_thread(self, work: Coroutine[None, None, None]) -> None:
        """Run a coroutine in the vendor's thread, and wait for it. Call it from another thread.

        Raises:
            RuntimeError: The vendor serves in an event loop and has no thread.
        """
        if self._thread is None:
            work.close()
            raise RuntimeError("a vendor that serves in a loop is taken down with `async with vendor.down():`")
        self._thread.run(work)

    async def in_its_loop(self, work: Coroutine[None, None, None]) -> None:
        """Run a coroutine in the vendor's loop, and wait for it. Call it from any loop."""
        if self._loop is None or self._loop is asyncio.get_running_loop():
            await work
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


class Down:
    """A context manager in which a vendor refuses connections."""

    def __init__(self, vendor: SimulatedVendor) -> None:
        self._vendor = vendor

    def __enter__(self) -> None:
        self._vendor.in_its_thread(self._vendor.stop())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._vendor.in_its_thread(self._vendor.start())

    async def __aenter__(self) -> None:
        await self._vendor.in_its_loop(self._vendor.stop())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._vendor.in_its_loop(self._vendor.start())


class _Thread:
    """An event loop in its own thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()
