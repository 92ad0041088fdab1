"""The requests that a simulated vendor has received, and how each one ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from .. import _clock
from ._latch import Latch
from ._script import Reply, Wire

Ending: TypeAlias = Literal["open", "served", "refused", "broken", "left"]
"""`served`: the whole answer was sent. `left`: the reader closed the connection. `refused` and `broken`: by script."""

ChangeFrames: TypeAlias = Callable[[list[Any]], list[Any]]
"""Makes other frames of those of a wire."""


class ReceivedCall(Struct, frozen=True):
    """A tool call in a request. `id` is empty on a wire without ids."""

    id: str
    name: str
    arguments: str


class ReceivedResult(Struct, frozen=True):
    """The result of a tool call in a request. `id` and `name` are empty on wires that do not have them."""

    id: str
    name: str
    result: str
    error: bool = False


class Turn:
    """One turn of the conversation in a request, in the same form for all wires.

    Args:
        role: `user`, `assistant`, or `tool` for results on OpenAI's and Ollama's wires. Anthropic and Google have
            results in the user's turn.
        text: The text.
        calls: The tool calls of an assistant's turn.
        results: The results of tool calls.
    """

    __slots__ = ("calls", "results", "role", "text")

    def __init__(
        self, role: str, text: str, calls: Sequence[ReceivedCall] = (), results: Sequence[ReceivedResult] = ()
    ) -> None:
        self.role: str = role
        self.text: str = text
        self.calls: tuple[ReceivedCall, ...] = tuple(calls)
        self.results: tuple[ReceivedResult, ...] = tuple(results)

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

    @property
    def calls(self) -> tuple[ReceivedCall, ...]:
        """All tool calls of the conversation, in order."""
        return tuple(call for turn in self.turns for call in turn.calls)

    @property
    def results(self) -> tuple[ReceivedResult, ...]:
        """The results that this request brings: those after the last turn of the assistant. Empty if it brings none."""
        latest = list(takewhile(lambda turn: turn.role != "assistant", reversed(self.turns)))
        return tuple(result for turn in reversed(latest) for result in turn.results)

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
