"""Providers of our own making for tests of the loop: each is a function, and may keep runs or give token ids."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from llm_dispatcher._dispatch import Course, Job, Ledger, attempts
from llm_dispatcher._policy import Continues
from llm_dispatcher._resilience import Resilience
from llm_dispatcher.events import Event, TextDelta
from llm_dispatcher.exceptions import ProviderConnectionError, ProviderError, StreamTruncatedError
from llm_dispatcher.provider import Ask, Finished, KeptRun, Opened, Piece, ProviderSettings, TokenTrail
from llm_dispatcher.tasks import Target, TaskRequest

Answer = Callable[[Ask], AsyncGenerator[Piece, None]]
STOP = Finished("stop", "stop")


class Scripted:
    """A provider that is one function. It keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.settings = ProviderSettings(name="a", kind="scripted")
        self.asked: list[Ask] = []
        self._answer = answer

    def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        self.asked.append(ask)
        return self._answer(ask)

    async def prepare(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


class TakesTokens(Scripted):
    """A provider that continues from token ids of the family `ids`."""

    def takes_tokens(self, model: str, trail: TokenTrail) -> bool:
        return trail.family == "ids"


class KeptAnswer:
    """A run that its vendor keeps. Its connection breaks at each of these `breaks`, counted in pieces, once.

    `ends_at` is where the vendor ends the run by itself. `gone` says that the vendor has forgotten it.
    """

    id = "run_1"

    def __init__(
        self,
        pieces: Sequence[Piece],
        breaks: Sequence[int] = (),
        error: ProviderError | None = None,
        *,
        ends_at: int | None = None,
        on_cancel: Exception | None = None,
    ) -> None:
        self.pieces = list(pieces)
        self.breaks = list(breaks)
        self.error = error or ProviderConnectionError("cut", provider="a", model="m")
        self.ends_at = ends_at
        self.on_cancel = on_cancel
        self.is_over = self.gone = False
        self.at = self.reads = self.cancels = 0

    @property
    def position(self) -> str:
        return f"event {self.at}"

    async def begin(self) -> AsyncGenerator[Piece, None]:
        yield Opened()
        yield KeptRun(self)
        async for piece in self._pieces():
            yield piece

    async def read_on(self) -> AsyncGenerator[Piece, None]:
        self.reads += 1
        if self.gone:
            self.is_over = True
            raise StreamTruncatedError("the run is not there any more")
        yield Opened()
        async for piece in self._pieces():
            yield piece

    async def _pieces(self) -> AsyncGenerator[Piece, None]:
        while True:
            if self.at in self.breaks:
                self.breaks.remove(self.at)
                raise self.error
            if self.at == self.ends_at:
                self.is_over = True
                raise StreamTruncatedError("the vendor ended the run")
            if self.at == len(self.pieces):
                self.is_over = True
                return
            self.at += 1
            yield self.pieces[self.at - 1]

    async def cancel(self) -> None:
        self.cancels += 1
        if self.on_cancel is not None:
            raise self.on_cancel
        self.is_over = True


def says(*pieces: Piece | BaseException) -> Answer:
    """An answer of these pieces; an error among them is raised there."""

    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        for piece in pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    return answer


def in_turn(*answers: Answer) -> Answer:
    """The first answer to the first request, and so on; the last one to every later request."""
    left = list(answers)

    def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        return (left.pop(0) if len(left) > 1 else left[0])(ask)

    return answer


def job_over(
    providers: Mapping[str, Scripted | Answer],
    styles: Mapping[str, Continues] | None = None,
    resilience: Resilience = Resilience(max_retries=0, backoff=0.0),
    request: TaskRequest = TaskRequest("Count."),
    **more: Any,
) -> Job:
    """A job over these providers, each with the model `m`. They are asked in their order."""
    made = {name: each if isinstance(each, Scripted) else Scripted(each) for name, each in providers.items()}
    return Job(
        request=request,
        targets=tuple(Target(name, "m") for name in made),
        provider=lambda target: made[target.provider],
        style=lambda target: (styles or {}).get(target.provider, "prefill"),
        resilience=resilience,
        ledger=Ledger(),
        **more,
    )


async def read(job: Job, course: Course | None = None) -> list[Event]:
    return [event async for event in attempts(job, course)]


def text_in(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))
