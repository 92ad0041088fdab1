"""The tap: every event of a stream passes here once, on its way to the reader.

How it works. `observed` opens the stream, and for each event it does four things in this order: it numbers the event,
it updates the account, it calls the watchers one after the other, and it shows the event to the reader in the shape
that the reader asked for. It is the only writer of the account and of `Event.sequence`.

Every stream ends with exactly one of three events. `StreamCompleted` comes from the source. If the source raises, the
tap adds a `StreamFailed`: a reader of events gets it as the last event, every other reader gets the exception
(docs/decisions/0003). If the reader leaves or is cancelled, the tap adds a `StreamCancelled`, which only the watchers
see.

One task reads at a time, but it need not be the same task for every event. So the tap
records the reading task in `Reader` after each event, and another task can end the reading through it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import force_setattr, replace

from ..events import Attempt, Event, Failure, StreamCancelled, StreamFailed, TextDelta
from ..tasks import TaskRequest
from ._account import Account
from ._answer import Answer
from ._reader import Reader
from ._shape import Shape

if TYPE_CHECKING:
    from ..notices import Notice, Notify

AnyEvent = TypeVar("AnyEvent", bound=Event)


class Watcher(Protocol):
    """Watches one stream. The tap calls it after the account has been updated.

    `chunk` is called for each piece of text, unless it is `None`. `watch` is called for every other event. If a call
    returns an awaitable, the tap awaits it before the stream continues. A watcher must not raise. `account.error` holds
    the exception behind a `StreamFailed`.
    """

    @property
    def chunk(self) -> Callable[[TextDelta, Account], Awaitable[None] | None] | None:
        """The function to call for each piece of text, or `None`."""
        ...

    def watch(self, event: Event, account: Account, /) -> Awaitable[None] | None:
        """Take an event that is not a piece of text."""
        ...


class ObservedCall(Protocol):
    """A call, as an observer sees it before the first event."""

    @property
    def request(self) -> TaskRequest: ...

    @property
    def notify(self) -> Notify:
        """Gives a notice to all observers of the switch."""
        ...


class Observer:
    """Watches what happens and decides nothing. Subclass it and override what you need.

    Pass an observer to a switch, as in `LLMSwitch(observers=[…])`. It sees all streams of that switch. If it raises,
    the exception is logged, and the stream continues.
    """

    needs_sequence: ClassVar[bool] = True
    """Whether its watchers read the `sequence` of pieces of text. An observer that does not need it makes streams a
    little faster.
    """

    def begin(self, call: ObservedCall | None, account: Account) -> Watcher | None:
        """A stream begins: return a watcher for it, or `None`. `call` is `None` if no request could be made."""
        return None

    def notice(self, notice: Notice) -> None:
        """Something happened that an operator may want to know. It may come from any thread."""


class OpenedStream(Struct, frozen=True):
    """An open stream: the call that observers see, its ledger and its events. `answer` is for a reader of objects."""

    call: ObservedCall
    ledger: Sequence[Attempt]
    events: Callable[[], Awaitable[AsyncGenerator[Event, None]]]
    answer: Answer | None = None


class Opening(Protocol):
    """Begins a stream when it is read."""

    @property
    def account(self) -> Account: ...

    @property
    def observers(self) -> Sequence[Observer]: ...

    async def begin(self, shape: Shape) -> OpenedStream:
        """Make the request. Nothing has been sent when this returns."""
        ...


async def observed(
    claim: Callable[[], None], opening: Opening, reader: Reader, shape: Shape
) -> AsyncGenerator[Any, None]:
    """Open a stream and show it to the reader, calling the watchers first; see the theory above.

    `claim` runs first, when the reader asks for its first item. If it raises, the stream does not begin.
    """
    loop = asyncio.get_running_loop()
    account = opening.account
    watchers: Sequence[Watcher] = ()
    left = False
    shows_events = shape.shows_events
    claim()
    account.begin()
    number = -1
    with reader:
        try:
            try:
                opened = await opening.begin(shape)
            except BaseException:
                watchers = _watchers(opening, None)
                raise
            account.ledger, account.answer = opened.ledger, opened.answer
            watchers = _watchers(opening, opened.call)
            items: list[Any] = []
            events = await opened.events()
            if shape.reads is not None:
                events = _read(events, shape.reads(account), items)
            async with aclosing(events) as source:
                for_text = [chunk for watcher in watchers if (chunk := watcher.chunk) is not None]
                show = None if shape.chunk is None else shape.chunk(account)
                transcript = account.transcript
                shows_text = shape.shows_text
                shows_more = shows_events or shape.reads is not None
                is_numbered = shows_events or any(observer.needs_sequence for observer in opening.observers)
                event: Event
                async for each in source:
                    number += 1
                    if type(each) is TextDelta:
                        event = delta = _numbered(each, number) if is_numbered else each
                        if account.first_token_after is None:
                            account.hear_first_token()
                        text = delta.text  # `Transcript.add`, written out, because this runs for every chunk
                        transcript.pieces.append(text)
                        transcript.characters += len(text)
                        transcript.chunks += 1
                        for watch in for_text:
                            if (pending := watch(delta, account)) is not None:
                                await pending
                        if shows_text:
                            yield text
                        elif show is not None:
                            yield show(delta)
                    else:
                        event = _numbered(each, number)
                        await _show(event, account, watchers)
                    if shows_more:
                        try:
                            if shows_events:
                                yield event
                            for item in items:
                                yield item
                        except GeneratorExit:
                            left = True
                            raise
                    reader.task = asyncio.current_task(loop)  # half as long if the loop is passed
            account.end()
        except (asyncio.CancelledError, GeneratorExit):
            if not account.over:
                account.end()
                if account.finish_reason is None:
                    await _show(StreamCancelled(sequence=number + 1), account, watchers)
            raise
        except Exception as error:  # watchers and the reader get every error that ended the stream
            account.end(error)
            failed = StreamFailed(Failure.of(error), sequence=number + 1)
            await _show(failed, account, watchers)
            if not shows_events or left:  # if the reader has left, the source failed to close
                raise
            yield failed
        else:
            if shape.closing is not None:
                yield shape.closing(account)


async def _read(
    events: AsyncGenerator[Event, None], read: Callable[[Event], Iterable[Any]], items: list[Any]
) -> AsyncGenerator[Event, None]:
    """The events. What each of them brings to the reader is in `items` until the next one is asked for."""
    async with aclosing(events):
        async for event in events:
            items[:] = read(event)
            yield event


def _numbered(event: AnyEvent, number: int) -> AnyEvent:
    """The event with its number. An event that another tap has numbered may still be read there, so it is copied."""
    if event.sequence < 0:
        force_setattr(event, "sequence", number)
    elif event.sequence != number:
        return replace(event, sequence=number)
    return event


def _watchers(opening: Opening, call: ObservedCall | None) -> list[Watcher]:
    """Ask each observer for its watcher."""
    return [watcher for observer in opening.observers if (watcher := observer.begin(call, opening.account)) is not None]


async def _show(event: Event, account: Account, watchers: Sequence[Watcher]) -> None:
    """Update the account and call the watchers, for an event that is not a piece of text."""
    account.see(event)
    await _tell(event, account, watchers)


async def _tell(event: Event, account: Account, watchers: Sequence[Watcher]) -> None:
    """Call the watchers. If the reader is stopped while one of them works, those after it see the event all the same:
    it may be the last one.
    """
    for place, watcher in enumerate(watchers, 1):
        if (pending := watcher.watch(event, account)) is not None:
            try:
                await pending
            except BaseException:
                await _tell(event, account, watchers[place:])
                raise
