"""Runs in the background: OpenAI keeps them, and a stream that broke is read on from its last event.

How it works
------------
A `BackgroundRun` is one answer, over as many connections as it takes. `begin` sends the request; `read_on` asks for the
events after the last one that was decoded, by its `sequence_number`. All connections share one decoder, so half a tool
call is completed by the next connection.

- The cursor moves when an event is decoded, which is when the reader pulls its first piece. An event that arrived but
  was not pulled is asked for again. An event that cannot be decoded does not move the cursor.
- After a reconnection, an event up to the cursor is dropped: a host that ignores the cursor sends the answer from its
  beginning. A gap is an error, because text would be missing; so is an event without a number, or the first number on
  another event, because text could come twice or get lost. Before it, nothing is dropped: a run whose numbers do not
  increase is read, but not read on.
- Keep-alives and errors are events of a connection, not of the run; they are numbered, but they do not move the cursor.
- `is_over` is set by the event that ends the run, and when the vendor says that it cannot read the run any more.

Only the task that reads a run writes its cursor. A task that is cancelled, or a reading that is closed, closes the
connection only: the run goes on at the vendor until it is cancelled. `cancel` may run in another task of the same loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from ..._policy import ProviderSettings
from ..._redaction import loggable, loggable_id
from ..._vendors.table import vendor
from ...events import Failure
from ...exceptions import (
    ConfigurationError,
    ContentFilterError,
    InvalidRequestError,
    ProviderError,
    ProviderProtocolError,
    ProviderTimeoutError,
    StreamTruncatedError,
)
from ...notices import Notify, RunNotCancelled
from ...provider import Ask, KeptRun, Piece
from ...provider._decoding import DONE, Decoder, OpenResponse, pieces_of
from ...provider._errors import ErrorContext, error_message
from ...tasks import TaskRequest
from ..base.transport import response_to

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from openai import AsyncOpenAI

BACKGROUND: Final = "background"
STORED: Final[Mapping[str, Any]] = {BACKGROUND: True, "store": True}
"""The fields of a request whose run is kept."""

CANCEL_WITHIN: Final = 4.0
"""Seconds that the vendor has to confirm a cancellation. The loop itself waits a little longer."""


def background_option(settings: ProviderSettings, interface: str) -> bool | None:
    """The option `background` of an entry that is asked over this interface; `None` if the entry does not have it."""
    option = settings.options.get(BACKGROUND)
    key = f"providers.{settings.name}.options.{BACKGROUND}"
    if option is not None and not isinstance(option, bool):
        raise ConfigurationError("is true or false", key=key)
    if option and interface != "responses":
        raise ConfigurationError(
            f"is for OpenAI's responses interface, but this entry is asked over {interface!r}: set api: responses, "
            "or leave it out",
            key=key,
        )
    return option


def is_kept(request: TaskRequest, option: bool | None, settings: ProviderSettings, model: str) -> bool:
    """Whether a request to the responses interface runs in the background.

    The request's own `extra` decides first, then the entry's option. Otherwise the `durability` of the model decides;
    then the vendor has to be known to keep runs, and the request must not forbid to store it.
    """
    asked = request.extra.get(BACKGROUND, option)
    if asked is not None:
        return asked is True
    if settings.durability_of(model) == "live":
        return False
    return vendor(settings.kind).keeps_runs and request.extra.get("store") is not False


def check_storable(request: TaskRequest, settings: ProviderSettings) -> None:
    """Refuse a request that must not be stored, and would run in the background."""
    if request.extra.get("store") is False:
        raise InvalidRequestError(
            f"extra holds store: False, but provider {settings.name!r} would run this request in the background, and "
            "the vendor keeps a run only if it may store it: leave store out, or add background: False to extra"
        )


class Calls(Struct, frozen=True, kw_only=True):
    """What a run needs to reach its vendor: the client of the running loop, the options of each call, how an answer is
    opened, and how errors are translated. `create` sends the request.
    """

    client: Callable[[], Awaitable[AsyncOpenAI]]
    create: Callable[[], Awaitable[OpenResponse]]
    opened: Callable[[ClientResponse], OpenResponse]
    translating: Callable[[], AbstractContextManager[ErrorContext]]
    options: Mapping[str, Any]
    notify: Notify


class _Head(Struct):
    id: str | None = None
    background: bool | None = None


class _Event(Struct, gc=False):
    type: str | None = None
    sequence_number: int | None = None


class _FirstEvent(Struct):
    response: _Head | None = None


_decode: Final = msgspec.json.Decoder(_Event).decode
_decode_first: Final = msgspec.json.Decoder(_FirstEvent).decode

_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_OF_THE_CONNECTION: Final = frozenset({"keepalive", "error", "response.error"})
_MAY_PASS: Final = frozenset({401, 402, 403, 408, 409, 425, 429})
"""Client errors that say nothing of the run. Any other one means that the vendor will not read it on."""
_LONGEST: Final = 2_000
"""At most this many characters of what a vendor says are in a message."""


class BackgroundRun:
    """One answer that its vendor keeps. It is its own decoder: see `_decoding.Decoder`."""

    def __init__(self, ask: Ask, decoder: Decoder, calls: Calls) -> None:
        self.id = ""
        self.is_over = False
        self._ask: Final = ask
        self._decoder: Final = decoder
        self._calls: Final = calls
        self._cursor = self._latest = -1
        self._is_dense = self._is_in_order = True
        self._has_begun = self._reads_on = False
        self._first_event = _Event()

    @property
    def position(self) -> str:
        return f"event {self._cursor}"

    @property
    def ended(self) -> bool:
        """Whether the answer is complete; as for any decoder."""
        return self._decoder.ended

    def begin(self) -> AsyncGenerator[Piece, None]:
        """The pieces of the first connection."""
        return self._read(self._calls.create)

    def read_on(self) -> AsyncGenerator[Piece, None]:
        self._reads_on = True
        return self._read(self._retrieve)

    async def cancel(self) -> None:
        if self.is_over:
            return
        try:
            async with asyncio.timeout(CANCEL_WITHIN):
                with self._calls.translating():
                    await self._send_cancel()
        except TimeoutError:
            raise self._error(
                ProviderTimeoutError, f"the vendor did not confirm the cancellation within {CANCEL_WITHIN:g} s"
            ) from None
        except (InvalidRequestError, ContentFilterError) as error:
            raise self._error(ProviderProtocolError, error.message, error.status) from error
        self.is_over = True

    # ── decoding ───────────────────────────────────────────────────────────────────────────────────────────────────

    def pieces(self, data: bytes) -> Iterable[Piece]:
        if data == DONE or not data:
            return ()
        event = _decode(data)
        number = event.sequence_number
        if event.type in _OF_THE_CONNECTION:
            self._latest = max(self._latest, -1 if number is None else number)
            return self._decoder.pieces(data)
        if self._reads_on and self._was_read(event):
            return ()
        if number is None or number <= self._cursor:
            self._is_in_order = False
        else:
            self._check_gap(number)
        pieces = self._decoder.pieces(data)
        if number is not None:
            self._cursor = max(self._cursor, number)
        if event.type in _ENDS:
            self.is_over = True
            if event.type == "response.cancelled":
                raise self._error(StreamTruncatedError, f"the run {self._name} was cancelled")
        if self._has_begun:
            return pieces
        self._has_begun, self._first_event = True, event
        return self._first(data, number, pieces)

    def _was_read(self, event: _Event) -> bool:
        """Whether an event after a reconnection was read before it. The numbers have to be those of before."""
        number, first = event.sequence_number, self._first_event
        if number is None or (number == first.sequence_number and event.type != first.type):
            raise self._error(
                ProviderProtocolError, f"the run {self._name} was read on, but its events are not numbered as before"
            )
        return number <= self._cursor

    def _check_gap(self, number: int) -> None:
        """A gap before an event is an error after a reconnection, unless the host leaves gaps."""
        is_next = number <= max(self._cursor, self._latest) + 1
        if self._reads_on and not is_next and self._is_dense:
            raise self._error(
                ProviderProtocolError,
                f"the run {self._name} was read on at event {number}, but {self.position} came last",
            )
        self._is_dense = self._is_dense and (is_next or not self._has_begun)

    def _first(self, data: bytes, number: int | None, pieces: Iterable[Piece]) -> Iterable[Piece]:
        """The pieces of the first event. It names the run, and says whether it is kept."""
        response = _decode_first(data).response
        if response is None or not response.id or response.background is False or number is None or self.is_over:
            return pieces
        self.id = response.id
        return (KeptRun(self), *pieces)

    # ── calls ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, send: Callable[[], Awaitable[OpenResponse]]) -> AsyncGenerator[Piece, None]:
        return pieces_of(send, self, self._calls.translating(), raw=self._ask.raw)

    async def _retrieve(self) -> OpenResponse:
        if self.is_over:
            raise self._error(StreamTruncatedError, f"the run {self._name} is over")
        if not self._is_in_order:
            await self._give_up()
            raise self._error(StreamTruncatedError, "the host does not number the events of its runs in order")
        import openai

        client = await self._calls.client()
        try:
            return self._calls.opened(
                await response_to(
                    client.responses.with_streaming_response.retrieve(
                        self.id, stream=True, starting_after=self._cursor, **self._calls.options
                    )
                )
            )
        except openai.APIStatusError as error:
            if not _is_final(error.status_code):
                raise
            status = error.status_code
            message = loggable((error_message(error.body) or error.message)[: 2 * _LONGEST])[:_LONGEST]
        if status == 404:
            self.is_over = True
        await self._give_up()
        raise self._error(StreamTruncatedError, f"the run {self._name} cannot be read on: {message}", status)

    async def _give_up(self) -> None:
        """The run cannot be read on. If the vendor still has it, it may still be writing: have it stop."""
        try:
            await self.cancel()
        except ProviderError as error:
            self._calls.notify(RunNotCancelled(self._ask.target, self._name, Failure.of(error)))
        self.is_over = True

    async def _send_cancel(self) -> None:
        import openai

        client = await self._calls.client()
        try:
            await client.responses.with_raw_response.cancel(self.id, **self._calls.options)
        except openai.APIStatusError as error:
            if error.status_code not in (400, 404):  # it has ended by itself, or is forgotten
                raise

    @property
    def _name(self) -> str:
        """The id as a message or a log line may have it."""
        return loggable_id(self.id) or ""

    def _error(self, kind: type[ProviderError], message: str, status: int | None = None) -> ProviderError:
        target = self._ask.target
        return kind(message, provider=target.provider, model=target.model, status=status)


def _is_final(status: int) -> bool:
    return status < 500 and status not in _MAY_PASS
