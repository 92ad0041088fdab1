"""The three forms of a decorated body, and the streams of a body that calls models itself.

The form is recognised when the function is decorated. `events_of_body` runs in the task that reads the outer stream.
If that task is cancelled, the body is closed, and with it every inner stream that the body has left open.
See docs/decisions/0007.
"""

from __future__ import annotations

import asyncio
import dis
import inspect
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints, overload

from msgspec import Struct

from ._durations import in_seconds
from ._llm import LLM
from ._policy import BODY, ProviderSettings
from ._stream import LLMStream
from ._usage import Usage
from .events import Attempt, Event, StreamCompleted, StreamStarted, TextDelta
from .exceptions import RequestTimeoutError, StreamTimeoutError
from .provider import Ask, Finished, Opened, Piece
from .streaming._account import Account
from .streaming._observe import Observer, OpenedStream
from .streaming._shape import Shape
from .tasks import Message, Target, TaskRequest

if TYPE_CHECKING:
    from .notices import Notify


class Form(Enum):
    """The kinds of decorated bodies."""

    PROMPT = "the body returns the prompt"
    STREAM = "the body calls models and yields the stream"
    STAND_IN = "the body answers if no model can"


def form_of(function: Callable[..., Any], stand_in: bool) -> Form:
    """The form of a function's body. Every other function is refused with a `TypeError` that says what to write."""
    name = getattr(function, "__qualname__", repr(function))
    if not inspect.isroutine(function) or not inspect.isfunction(function):
        raise TypeError(f"llm_stream decorates functions and methods, got {type(function).__name__} {name}")
    if inspect.isgeneratorfunction(function):
        raise TypeError(
            f"{name}() is a synchronous generator: write `async def {function.__name__}`, or return the prompt"
        )
    _refuse_a_model(function)
    if place_of_llm(function) is not None:
        if not inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{name}() takes an LLM, so it has to be an async generator: `async for chunk in llm(…): yield chunk`"
            )
        return Form.STREAM
    if not inspect.isasyncgenfunction(function):
        return Form.PROMPT
    if _awaits(function) and not stand_in:
        raise TypeError(
            f"{name}() awaits, but the body of such a function does not run: its arguments are the request. To use "
            "the stream inside the body, make its first parameter `llm: LLM`; if the body stands in offline, pass "
            'body="stand-in"'
        )
    return Form.STAND_IN


def _refuse_a_model(function: Callable[..., Any]) -> None:
    """Refuse a model or a dataclass as the return annotation, because a stream yields text and not objects."""
    try:
        annotation = get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):  # the names are imported for type checkers only
        return
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, (TaskRequest, Message)):
            continue
        if isinstance(kind, type) and any(hasattr(kind, each) for each in _FIELDS):
            raise TypeError(
                f"{function.__qualname__}() is annotated to return {kind.__name__}, but its body returns or yields "
                "text: annotate that (`-> str`, `-> AsyncIterator[str]`). To have the answer follow a schema, pass it "
                f"to the decorator: llm_stream(response_format={kind.__name__})"
            )


_FIELDS: Final = ("model_json_schema", "__dataclass_fields__", "__struct_fields__")
"""Attributes that pydantic models, dataclasses or msgspec structs have."""


def place_of_llm(function: Callable[..., Any]) -> int | None:
    """The position of the parameter annotated `LLM`: the first one, or the second one after `self` or `cls`."""
    for place, parameter in enumerate(list(inspect.signature(function).parameters.values())[:2]):
        annotation = parameter.annotation
        if annotation is LLM or (isinstance(annotation, str) and annotation.rpartition(".")[2] == "LLM"):
            return place
        if annotation is not inspect.Parameter.empty:
            return None
    return None


def _awaits(function: Callable[..., Any]) -> bool:
    """Whether the function itself awaits anything. Functions inside it do not count."""
    return any(step.opname in ("GET_AWAITABLE", "GET_AITER") for step in dis.get_instructions(function))


def parameters_read(function: Callable[..., Any]) -> frozenset[str]:
    """The names of the parameters that the function, or a function inside it, reads."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None or not _LOOK_AT_ALL.isdisjoint(code.co_names):
        return frozenset(inspect.signature(function).parameters)
    read = set(code.co_cellvars)
    for step in dis.get_instructions(code):
        if (
            "LOAD_FAST" in step.opname and step.opname != "LOAD_FAST_AND_CLEAR"
        ):  # LOAD_FAST_AND_CLEAR begins a comprehension
            read.update(step.argval if isinstance(step.argval, tuple) else [step.argval])
    return frozenset(read)


_LOOK_AT_ALL: Final = frozenset(("locals", "vars", "eval", "exec"))
"""A function that calls one of these may read any of its parameters."""


class StandIn:
    """A provider whose answer is the decorated body: for rehearsals offline, or as the last target."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self._call: Final = (function, args, kwargs)
        self.settings: Final = ProviderSettings(name=BODY, kind=BODY)

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        function, args, kwargs = self._call
        yield Opened()
        async with aclosing(function(*args, **kwargs)) as body:
            async for text in body:
                yield _text(function, text)
        yield Finished("stop", None)

    async def prepare(self) -> None:
        """Do nothing: a body needs no client."""

    async def aclose(self) -> None:
        """Do nothing: a body has no connections."""


def _text(function: Callable[..., Any], item: object) -> str:
    """The text of an item that a body yields: a string, or the `chunk` of a dict as `llm_stream_with_metadata` yields.

    The rest of such a dict is dropped, because the outer stream has its own metadata.
    """
    text = item.get("chunk") if isinstance(item, Mapping) else item
    if not isinstance(text, str):
        raise TypeError(
            f"{function.__qualname__}() has to yield str or dicts with text in 'chunk'; it yielded {_describe(item)}"
        )
    return text


def _describe(item: object) -> str:
    """The type of an item, and the keys of a dict, for a message."""
    keys = f" with {', '.join(map(repr, item)) or 'nothing in it'}" if isinstance(item, Mapping) else ""
    return f"{type(item).__name__}{keys}"


class InnerStreams(Sequence[Attempt]):
    """The streams that a body opened. As a ledger, it holds the attempts of all of them."""

    def __init__(self) -> None:
        self.accounts: list[Account] = []
        self._streams: list[LLMStream[str]] = []

    def add(self, stream: LLMStream[str], account: Account) -> None:
        self._streams.append(stream)
        self.accounts.append(account)

    async def aclose(self) -> None:
        """Close the streams that the body has left open."""
        for stream in self._streams:
            await stream.aclose()

    def _attempts(self) -> list[Attempt]:
        return [attempt for account in self.accounts for attempt in account.ledger]

    @overload
    def __getitem__(self, index: int) -> Attempt: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Attempt]: ...
    def __getitem__(self, index: int | slice) -> Attempt | Sequence[Attempt]:
        return self._attempts()[index]

    def __len__(self) -> int:
        return sum(len(account.ledger) for account in self.accounts)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self._attempts())


class BodyCall(Struct, frozen=True):
    """The outer stream of a body, as observers see it: a request with the options of its decorator."""

    request: TaskRequest
    notify: Notify


class BodyOpening:
    """How the outer stream of a body begins. The body runs from then on."""

    def __init__(
        self,
        inner: InnerStreams,
        observers: Sequence[Observer],
        call: BodyCall,
        events: Callable[[Account], AsyncGenerator[Event, None]],
    ) -> None:
        self.account = Account(inner)
        self.observers = observers
        self._inner = inner
        self._call = call
        self._events = events

    async def begin(self, shape: Shape) -> OpenedStream:
        from ._serving.stages.structuring import answer_for, checked

        answer = answer_for(shape, self._call.request)

        async def events() -> AsyncGenerator[Event, None]:
            events = self._events(self.account)
            return events if answer is None else checked(events, answer)

        return OpenedStream(self._call, self._inner, events, answer)


async def events_of_body(
    function: Callable[..., Any],
    body: AsyncGenerator[object, None],
    inner: InnerStreams,
    outer: Account,
    timeout: float | None = None,
) -> AsyncGenerator[Event, None]:
    """The events of the outer stream: the text comes from the body, and the figures are sums over the inner streams.

    Args:
        function: The decorated function.
        body: Its body, called and not yet started.
        inner: The streams that the body opens.
        outer: The account of the outer stream. Its target is the model that speaks now.
        timeout: The most seconds that the body may take.

    Raises:
        RequestTimeoutError: The time is over.
    """
    from ._dispatch.watchdog import Watchdog
    from ._resilience import Timeouts

    clocks = Watchdog(Timeouts(connect=None, first_token=None, idle=None, total=timeout))
    pieces: list[str] = []
    try:
        async with aclosing(inner), aclosing(body):
            clocks.arm("idle")
            async for piece in body:
                clocks.disarm()
                if text := _text(function, piece):
                    if not pieces:
                        yield _started(function, inner)
                    else:
                        outer.target = _target(function, inner)
                    event = TextDelta(text, len(pieces))
                    pieces.append(text)
                    yield event
                clocks.arm("idle")
            clocks.fired()  # takes the cancellation back, if the body took it for its end
    except (asyncio.CancelledError, Exception):
        if timeout is None or clocks.fired() is None:
            raise
        raise _too_late(timeout, "".join(pieces), inner) from None
    finally:
        clocks.close()
    if not pieces:
        yield _started(function, inner)
    last = inner.accounts[-1].finish_reason if inner.accounts else None
    yield StreamCompleted(
        "".join(pieces),
        Usage.sum(account.usage for account in inner.accounts),
        last if last not in (None, "cancelled") else "stop",  # a body may stop reading early and still be complete
        None,
    )


def _too_late(seconds: float, delivered: str, inner: InnerStreams) -> RequestTimeoutError:
    message = f"not complete within {in_seconds(seconds)} (the total clock)"
    if not delivered:
        return RequestTimeoutError(message)
    usage = Usage.sum(account.usage for account in inner.accounts)
    return StreamTimeoutError(message, partial=delivered, usage=usage)


def _started(function: Callable[..., Any], inner: InnerStreams) -> StreamStarted:
    cached = bool(inner.accounts) and all(account.cached for account in inner.accounts)
    return StreamStarted(_target(function, inner), max(1, len(inner)), cached)


def _target(function: Callable[..., Any], inner: InnerStreams) -> Target:
    """The model that the body asked last, or the body itself."""
    speaking = inner.accounts[-1].target if inner.accounts else None
    return speaking or Target(BODY, function.__name__)
