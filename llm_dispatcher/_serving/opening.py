"""`CallOpening`: begins the stream of one call when it is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

from .. import _media as media
from .._dispatch import Ledger
from ..events import Event
from ..provider import Provider
from ..streaming._account import Account
from ..streaming._observe import Observer, OpenedStream
from ..streaming._shape import Shape
from ..tasks import TaskRequest
from .call import Call, Conversation
from .preparing import prepared
from .runtime import Runtime
from .settings import CallSettings, check_request
from .stages import open_events
from .stages.structuring import answer_for

RequestSource: TypeAlias = TaskRequest | Callable[[], Awaitable[TaskRequest]]
"""A request, or a function that makes one when the stream is read."""


class CallOpening:
    """Makes the `Call` when its stream is read, and opens its events.

    `runtime` is awaited first: a configuration file may have changed. From then on the call keeps that runtime.
    """

    def __init__(
        self,
        request: RequestSource,
        settings: CallSettings,
        runtime: Callable[[], Awaitable[Runtime]],
        observers: Sequence[Observer],
        body: Callable[[], Provider] | None = None,
        conversation: Conversation | None = None,
    ) -> None:
        self.account = Account()
        self.observers = observers
        self._request = request
        self._settings = settings
        self._runtime = runtime
        self._body = body
        self._conversation = conversation

    async def begin(self, shape: Shape) -> OpenedStream:
        """Make the request and the call. Media files are read now, once for all targets."""
        runtime = await self._runtime()
        request = prepared(self._request if isinstance(self._request, TaskRequest) else await self._request())
        if media.has_media(request):
            request = await asyncio.to_thread(media.load_media, request)
        call = Call(
            request=request,
            settings=self._settings,
            shape=shape,
            runtime=runtime,
            ledger=Ledger(),
            body=self._body,
            conversation=self._conversation,
            answer=answer_for(shape, request),
        )
        return OpenedStream(call, call.ledger, partial(_open, call), call.answer)


async def _open(call: Call) -> AsyncGenerator[Event, None]:
    check_request(call.request)
    return await open_events(call)
