"""`SimulatedVendor`: a real server on a loopback socket that says what its script says, and breaks where it says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Coroutine
from types import TracebackType
from typing import Self

from msgspec import UNSET, UnsetType

from .. import _clock
from .._vendors.table import hosts
from ._player import Judgement, Script
from ._received import ReceivedRequest
from ._script import Reply, Wire, key_of
from ._server import Connection, Listener
from ._wires import WIRES

HELLO = Reply("Hello!")


class SimulatedVendor:
    """A vendor that says what it is told to.

    `with vendor:` serves from a thread of its own, so that any loop or none may call it; `async with vendor:` serves
    from the running loop. `base_url` is what the vendor's official client wants.

    `models` are those that it knows (any, if not said). `refuses_prefill` says that it, or which of its models, take no
    open assistant turn. The `api_key` that requests have to bring is `test-key` if not said, and none on Ollama's wire;
    `None` asks for none. `remember` bounds how many requests are kept. If a script that is a function fails, the
    answer is a 500, and the error is raised where the vendor is stopped.

    On OpenAI's wires, `host` is the kind of the host whose refusals it has: OpenAI's own, if not said.
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
        self._judgement = Judgement(
            self.wire,
            models=models,
            refuses_prefill=refuses_prefill,
            api_key=api_key,
            remember=remember,
            host=host,
        )
        self._judgement.tell(script)
        self._connections: set[Connection] = set()
        self._listener = Listener(port, lambda: Connection(self._judgement, self._connections))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: _Thread | None = None

    @property
    def script(self) -> Script:
        """May be replaced between requests; the new one is told from its beginning."""
        return self._judgement.script

    @script.setter
    def script(self, script: Script) -> None:
        self._judgement.tell(script)

    @property
    def requests(self) -> list[ReceivedRequest]:
        """What came, in order."""
        return self._judgement.requests

    @property
    def base_url(self) -> str:
        """Where the vendor's official client finds it."""
        return f"http://127.0.0.1:{self._listener.port}{WIRES[self.wire].BASE_PATH}"

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def wait_until_unconnected(self, timeout: float = 30.0) -> int:
        """Block until no connection is open; how many still are, if that took too long."""
        until = _clock.monotonic() + timeout
        while self._connections and _clock.monotonic() < until:
            _clock.sleep(0.001)
        return len(self._connections)

    async def until_unconnected(self, timeout: float = 30.0) -> int:
        """`wait_until_unconnected` for a coroutine."""
        until = _clock.monotonic() + timeout
        while self._connections and _clock.monotonic() < until:  # noqa: ASYNC110 - they may close in another thread
            await asyncio.sleep(0.001)
        return len(self._connections)

    def down(self) -> Down:
        """`with vendor.down():` (or `async with`) all its connections are reset, and new ones are refused."""
        return Down(self)

    # ── serving ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Listen, in the running loop."""
        if self._listener.is_open:
            raise RuntimeError("this vendor is already listening")
        self._loop = asyncio.get_running_loop()
        await self._listener.open()

    async def stop(self) -> None:
        """Stop listening, and reset what is open."""
        for connection in list(self._connections):
            connection.drop()
        await self._listener.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
        self._tell_of_trouble(error)

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
        self._tell_of_trouble(error)

    def _tell_of_trouble(self, error: BaseException | None) -> None:
        """Raise what the script's own code raised, unless there is an error already: that one came of it."""
        trouble, self._judgement.trouble = self._judgement.trouble, None
        if trouble is not None and error is None:
            raise trouble

    # ── for `down` ─────────────────────────────────────────────────────────────────────────────────────────────────

    def in_its_thread(self, work: Coroutine[None, None, None]) -> None:
        if self._thread is None:
            work.close()
            raise RuntimeError("a vendor that serves in a loop is taken down with `async with vendor.down():`")
        self._thread.run(work)

    async def in_its_loop(self, work: Coroutine[None, None, None]) -> None:
        if self._loop is None or self._loop is asyncio.get_running_loop():
            await work
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


class Down:
    """A while in which a vendor is not there."""

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
    """A loop in a thread of its own."""

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
