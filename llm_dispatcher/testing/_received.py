"""The requests that a simulated vendor has received, and how each one ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from .. import _clock
from ._latch import Latch
from ._script import Reply, Wire

Ending: TypeAlias = Literal["open", "served", "refused", "broken", "left"]
"""`served`: the whole answer was sent. `left`: the reader closed the connection. `refused` and `broken`: by script."""

ChangeFrames: TypeAlias = Callable[[list[Any]], list[Any]]
"""Makes other frames of those of a wire."""


class Turn:
    """One turn of the conversation in a request, in the same form for all wires."""

    __slots__ = ("role", "text")

    def __init__(self, role: str, text: str) -> None:
        self.role: str = role
        self.text: str = text

    def __repr__(self) -> str:
        return f"Turn({self.role!r}, {self.text!r})"


class ReceivedRequest:
    """One request: its content, its answer, and how it ended. Times are those of `time.monotonic()`.

    Args:
        wire: The API on which it came.
        method: The HTTP method.
        path: The path, with its query.
        headers: The headers, with names in lower case.
        body: The JSON body.
        request_id: The ID that the answer has in its headers.
    """

    def __init__(
        self, wire: Wire, method: str, path: str, headers: Mapping[str, str], body: dict[str, Any], request_id: str = ""
    ) -> None:
        self.wire = wire
        self.method = method
        self.path = path
        self.headers: dict[str, str] = dict(headers)
        self.body = body
        self.request_id = request_id
        self.host = "openai"
        self.model = ""
        self.system: str | None = None
        self.turns: list[Turn] = []
        self.fallbacks: tuple[str, ...] = ()
        self.wants_usage = True
        self.change: ChangeFrames | None = None
        self.service: dict[str, Any] | None = None
        """The answer, if the request is for a service of the host beside its models."""
        self.is_json = True
        self.reply: Reply | None = None
        self.status: int | None = None
        self.received_at: float = _clock.monotonic()
        self.ended: Ending = "open"
        self.ended_at: float | None = None
        self._over = Latch()

    @property
    def text(self) -> str:
        """The text of the last turn, which is the prompt."""
        return self.turns[-1].text if self.turns else ""

    def wait_until_over(self, timeout: float = 30.0) -> Ending:
        """Block until the answer has ended, and return how. After the timeout it is still `open`."""
        self._over.wait(timeout)
        return self.ended

    async def until_over(self, timeout: float = 30.0) -> Ending:
        """`wait_until_over` for a coroutine."""
        await self._over.wait_async(timeout)
        return self.ended

    def end(self, ending: Ending) -> None:
        """Note how the answer ended. Only the first call counts."""
        if self.ended == "open":
            self.ended_at = _clock.monotonic()
            self.ended = ending
            self._over.open()

    def as_json(self) -> dict[str, Any]:
        """The request as a dict that can be written as JSON."""
        return {
            "wire": self.wire,
            "method": self.method,
            "path": self.path,
            "body": self.body,
            "request_id": self.request_id,
            "status": self.status,
            "received_at": self.received_at,
            "ended": self.ended,
            "ended_at": self.ended_at,
        }

    def __repr__(self) -> str:
        return f"<{self.method} {self.path}, {self.text!r}: {self.status}, {self.ended}>"
