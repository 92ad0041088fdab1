"""`LLMStream`: the object that a call returns, and the four ways to read it.

Invariant: a stream is read once. `iter(stream)`, `aiter(stream)` and `events()` only make an iterator; the first `next`
or `anext` of one of them claims the stream, and every other iterator is refused from then on. So a framework may
call `iter()` to test an object. The reading task writes the claim before anything is sent.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextvars import ContextVar
from functools import partial
from types import AsyncGeneratorType, TracebackType
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar, cast

from ._background import closed_at_the_end, finish_in_background, run_in_background
from .events import Event, TaskResponse
from .exceptions import EventLoopRunningError
from .streaming._metadata import ChunkMetadata
from .streaming._observe import Opening, observed
from .streaming._reader import Reader
from .streaming._shape import EVENTS, METADATA, TEXT, WHOLE, Shape

Chunk = TypeVar("Chunk", bound="str | ChunkMetadata", covariant=True)
Value = TypeVar("Value", covariant=True)

_Generator: TypeAlias = weakref.ref[AsyncGeneratorType[Any, None]]
_running_here: Final[ContextVar[tuple[_Generator, ...]]] = ContextVar("the streams that this task began", default=())


class LLMStream(Generic[Chunk]):
    """An answer. The request is sent when it is read. It is read once, in one of these ways:

    - `async for chunk in stream`: chunks of text, or dicts with their metadata.
    - `text = await stream`: the whole text. `await stream.collect()`: the whole `TaskResponse`.
    - `async for event in stream.events()`: everything that happens.
    - `value = await stream.parsed()`, `async for value in stream.partials()`, `async for item in stream.items()`: the
      object in the answer, if the stream has a `response_format`.
    - `for chunk in stream`, `stream.result()` and `stream.parse()`: the same for a thread that may block. `partials()`
      and `items()` can be read by `for` too.

    An `async for` runs in one event loop. A stream that is never read sends no request.
    """

    # Without a `__dict__`, an encoder that falls back on an object's attributes (FastAPI's) raises and sends none.
    __slots__ = (
        "__weakref__", "_account", "_chunks", "_opening", "_read_as", "_reader", "_reading",
    )  # fmt: skip

    def __init__(self, opening: Opening, *, with_metadata: bool = False) -> None:
        self._opening: Opening | None = opening
        self._account = opening.account
        self._chunks = METADATA if with_metadata else TEXT
        self._read_as: str | None = None
        self._reading: _Generator | None = None
        self._reader = Reader()

    # ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────

    def __aiter__(self) -> AsyncIterator[Chunk]:
        # The stream keeps no strong reference to this generator. So Python closes it as soon as a `break` drops it, and
        # not only when the stream itself is dropped.
        return self._reading_as("async for", self._chunks)

    def events(self) -> AsyncGenerator[Event, None]:
        """Everything that happens, as values. A stream that fails ends with a `StreamFailed` and does not raise."""
        return self._reading_as("events()", EVENTS)

    def __await__(self) -> Generator[Any, None, str]:
        return self.text().__await__()

    async def text(self) -> str:
        """The whole text."""
        return (await self._whole("await")).text

    async def collect(self) -> TaskResponse:
        """Read to the end, and return the text with its usage, its attempts and its times."""
        return await self._whole("collect()")

    def __iter__(self) -> Iterator[Chunk]:
        caller = sys._getframe(1).f_globals.get("__name__")  # noqa: SLF001 - the only way to see the caller
        if caller in _READ_IN_THREADS and (request := _current_task()) is not None:
            request.add_done_callback(lambda _: finish_in_background(self.aclose(), may_block=False))
        else:
            _refuse_to_block(_ASYNC_FOR)
        self._refuse_another_reading()
        return self._blocking()

    def result(self) -> TaskResponse:
        """`collect()` for a thread that may block."""
        _refuse_to_block("await stream.collect()")
        return run_in_background(self._whole("result()"))

    # ── reading as an object ─────────────────────────────────────────────────────────────────────────────────────────

    async def parsed(self) -> Any:
        """The object in the answer: a value of the type that is the stream's `response_format`, checked.

        An answer that breaks begins again. One that does not follow its schema is asked for again with the errors, up
        to `max_repairs` times. After `partials()` or `items()` were read to their end, this is the object that they
        have made.

        Raises:
            TypeError: The stream has no `response_format`.
            InvalidOutputError: The answer does not follow its schema. The error has its text.
        """
        answer = self._account.answer
        if answer is not None and self._account.is_complete:
            return answer.value
        [value] = [each async for each in self._reading_as("parsed()", _shapes().PARSED)]
        return value

    def parse(self) -> Any:
        """`parsed()` for a thread that may block."""
        _refuse_to_block("await stream.parsed()")
        return run_in_background(self.parsed())

    def partials(self) -> ObjectReading[Any]:
        """The object as far as it is complete, each time that it has grown: plain data, and the whole at the end.

        Every string, number and literal in it is complete; an object or a list may still grow. What has not begun to be
        complete is left out. If the answer begins again, so do its partial objects. Each of them is a new object, which
        shares what was complete with the one before: do not change it. Read it by `async for` or `for`.

        Raises:
            TypeError: The stream has no `response_format`.
            InvalidOutputError: The answer does not follow its schema. The error has its text.
        """
        return self._objects("partials()", _shapes().PARTIALS)

    def items(self) -> ObjectReading[Any]:
        """The items of the list in the answer, each checked and given when it is complete. Read it by `async for` or
        `for`.

        If the answer begins again, the items that were given stay, and the new answer has to agree with them.

        Raises:
            TypeError: The stream has no `response_format`, or there is not exactly one list in its type.
            StreamingError: The answer began again and does not agree with the items that were given.
            InvalidOutputError: The answer does not follow its schema. The error has its text.
        """
        return self._objects("items()", _shapes().ITEMS)

    def _objects(self, how: str, shape: Shape) -> ObjectReading[Any]:
        def begin_blocking() -> Iterator[Any]:
            _refuse_to_block(f"async for value in stream.{how}: …")
            self._refuse_another_reading()
            return self._blocking(how, shape)

        return ObjectReading(partial(self._reading_as, how, shape), begin_blocking, self.aclose)

    # ── knowledge ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def partial(self) -> str:
        """The text so far."""
        return self._account.text

    @property
    def response(self) -> TaskResponse:
        """The answer so far. It is complete when the stream is over."""
        return self._account.response()

    # ── leaving ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def aclose(self) -> None:
        """Stop reading and close the vendor's connection. If another task is reading, its reading ends.

        It may be called from any event loop, twice, and before anything was read.
        """
        self._read_as = self._read_as or "aclose()"
        task, over = self._reader.task, self._reader.over
        if task is not None and not over.is_set():
            loop = task.get_loop()
            if loop is not asyncio.get_running_loop() and loop.is_running():
                # Another loop reads the stream, and only that loop may close it.
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.aclose(), loop))
                return
        reading = self._reading() if self._reading is not None else None
        dropped = self._reading is not None and reading is None
        if task is None or over.is_set() or (reading is not None and not reading.ag_running):
            if reading is not None:
                await reading.aclose()
        elif dropped:
            await over.wait()  # a `break` dropped the generator: its loop is closing it already
        else:
            self._reader.leave()
            await over.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> Any:
        raise TypeError("an LLMStream is a live connection and cannot be copied or serialised: read it first")

    def __repr__(self) -> str:
        state = (
            "unread: iterate over it, await it or call .result()"
            if self._read_as is None
            else f"read by {self._read_as}"
        )
        return f"<{type(self).__name__}, {state}, {len(self.partial)} characters so far>"

    # ── internals ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _reading_as(self, how: str, shape: Shape) -> AsyncGenerator[Any, None]:
        """A generator that reads this stream. It claims the stream when it is first asked for something."""
        opening = self._opening  # looked up first, because another thread may claim the stream now
        self._refuse_another_reading()
        assert opening is not None  # a claimed stream was refused

        def claim() -> None:
            self._refuse_another_reading()
            self._read_as, self._reading = how, generator
            self._opening = None  # so that a finished stream keeps no request, with its media, and no switch
            self._account.is_inside_another = _begin(generator)

        events = observed(claim, opening, self._reader, shape)
        generator = weakref.ref(cast(AsyncGeneratorType[Any, None], events))
        self._reading = generator  # until one is claimed, `aclose` closes the last one
        return events

    def _refuse_another_reading(self) -> None:
        if self._read_as is not None:
            raise RuntimeError(
                f"this stream was already read (by {self._read_as}); call the function again for a new one, "
                "or read its .response"
            )

    async def _whole(self, how: str) -> TaskResponse:
        async for _ in self._reading_as(how, WHOLE):
            pass
        return self._account.response()

    def _blocking(self, how: str = "for", shape: Shape | None = None) -> Iterator[Any]:
        _refuse_to_block(_ASYNC_FOR)  # `iter()` may have run in another thread
        chunks = closed_at_the_end(self._reading_as(how, shape or self._chunks))
        done: Final = object()

        async def following() -> object:
            return await anext(chunks, done)

        async def close() -> None:
            await chunks.aclose()

        try:
            while (chunk := run_in_background(following())) is not done:
                yield chunk
        finally:
            finish_in_background(close(), may_block=may_block())


class ObjectReading(Generic[Value]):
    """A stream as partial objects or as items, to be read by `async for`, or by `for` in a thread that may block."""

    __slots__ = ("_begin", "_begin_blocking", "_close")

    def __init__(
        self,
        begin: Callable[[], AsyncIterator[Value]],
        begin_blocking: Callable[[], Iterator[Value]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._begin = begin
        self._begin_blocking = begin_blocking
        self._close = close

    def __aiter__(self) -> AsyncIterator[Value]:
        return self._begin()

    def __iter__(self) -> Iterator[Value]:
        return self._begin_blocking()

    async def aclose(self) -> None:
        """Stop reading and close the vendor's connection, as `aclose()` of the stream does."""
        await self._close()


def _shapes() -> Any:
    """The shapes of objects, which are loaded by the first reader of one."""
    from .streaming import _objects

    return _objects


_ASYNC_FOR: Final = "async for chunk in stream: …"
_READ_IN_THREADS: Final = ("quart.wrappers.response", "litestar.utils.sync")
"""Modules that call `iter()` in the event loop, and `next()` in threads. Quart's `Response` and Litestar's
`ServerSentEvent` test `isinstance(stream, Iterable)` before they look for `__aiter__`, so an exception would not make
them use that. They do not close the stream either, so it is closed when the task that handles the request ends
(docs/decisions/0026).
"""


def _begin(generator: _Generator) -> bool:
    """Note that a stream begins in this task.

    Return whether another stream of the task is at work on its next chunk at this moment. If so, that stream's body or
    one of its callbacks reads the new one.
    """
    unfinished = [
        (reference, reading)
        for reference in _running_here.get()
        if (reading := reference()) is not None and reading.ag_frame
    ]
    _running_here.set((*(reference for reference, _ in unfinished), generator))
    return any(reading.ag_running for _, reading in unfinished)


def _refuse_to_block(instead: str) -> None:
    """Refuse to block a thread whose event loop is running: the rest of the loop would stop."""
    if not may_block():
        raise EventLoopRunningError(
            f"an event loop is running in this thread, and blocking would stop it; write: {instead} "
            "(in a web framework: return StreamingResponse(stream), or pass aiter(stream))"
        )


def may_block() -> bool:
    """Whether this thread has no running event loop, or runs a notebook, where cells may block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return _in_a_notebook_cell()


def _in_a_notebook_cell() -> bool:
    """Whether the caller runs in a kernel of Jupyter or of marimo."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and hasattr(shell, "kernel"):
        return True
    marimo = sys.modules.get("marimo")
    return marimo is not None and marimo.app_meta().mode in ("edit", "run", "script")


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop is running
        return None


def is_left(stream: LLMStream[Any]) -> bool:
    """Whether the reader of a stream has dropped its iterator, as a `break` does. Its loop then closes the stream."""
    reading = stream._reading  # noqa: SLF001 - of this module
    return reading is not None and reading() is None
