"""`@llm_stream` and `@llm_stream_with_metadata`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from functools import WRAPPER_ASSIGNMENTS
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from msgspec.structs import replace

from ._bodies import Form, InnerStreams, StandIn, form_of, held_by_body, names_read, place_of_llm
from ._llm import LLM, FunctionSettings, StreamSettings, divided, the_switch
from ._serving.settings import CallSettings
from ._stream import LLMStream, Reading
from .events import Event
from .streaming import ChunkMetadata, ProgressTracker
from .streaming._account import Account
from .tasks import Message, TaskRequest

if TYPE_CHECKING:
    from ._serving.switch import Opening

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
Chunk = TypeVar("Chunk", bound="str | ChunkMetadata", covariant=True)

Prompt: TypeAlias = str | TaskRequest | list[Message] | list[dict[str, Any]]
"""What a body that is the prompt may return."""


class DecoratorSettings(StreamSettings, total=False):
    """What the decorators take; `body="stand-in"` says that a body which awaits is meant to stand in offline."""

    body: Literal["stand-in"]


class StreamFunction(Protocol, Generic[P, Chunk]):
    """A decorated function: calling it opens nothing and returns an `LLMStream`."""

    __name__: str
    __qualname__: str

    @property
    def progress_tracker(self) -> ProgressTracker: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> LLMStream[Chunk]: ...

    @overload
    def __get__(self, instance: None, owner: type, /) -> StreamFunction[P, Chunk]: ...
    @overload
    def __get__(
        self: StreamFunction[Concatenate[S, Q], Chunk], instance: S, owner: type | None = None, /
    ) -> StreamFunction[Q, Chunk]: ...
    @overload  # what cannot be bound to the object that it is asked of is a static method
    def __get__(self, instance: object, owner: type | None = None, /) -> StreamFunction[P, Chunk]: ...


class Decorator(Protocol[Chunk]):
    """Takes a function in one of its three forms."""

    @overload
    def __call__(self, function: Callable[Concatenate[LLM, P], AsyncIterator[str]], /) -> StreamFunction[P, Chunk]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[S, LLM, P], AsyncIterator[str]], /
    ) -> StreamFunction[Concatenate[S, P], Chunk]: ...
    @overload
    def __call__(self, function: Callable[P, AsyncIterator[Any]], /) -> StreamFunction[P, Chunk]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[Prompt]], /) -> StreamFunction[P, Chunk]: ...
    @overload
    def __call__(self, function: Callable[P, Prompt], /) -> StreamFunction[P, Chunk]: ...


class DecoratorOrFactory(Protocol[Chunk]):
    """The same, bare; or, called with settings, what takes the function."""

    @overload
    def __call__(self, function: Callable[Concatenate[LLM, P], AsyncIterator[str]], /) -> StreamFunction[P, Chunk]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[S, LLM, P], AsyncIterator[str]], /
    ) -> StreamFunction[Concatenate[S, P], Chunk]: ...
    @overload
    def __call__(self, function: Callable[P, AsyncIterator[Any]], /) -> StreamFunction[P, Chunk]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[Prompt]], /) -> StreamFunction[P, Chunk]: ...
    @overload
    def __call__(self, function: Callable[P, Prompt], /) -> StreamFunction[P, Chunk]: ...
    @overload
    def __call__(self, **settings: Unpack[DecoratorSettings]) -> Decorator[Chunk]: ...


def _decorator(with_metadata: bool) -> Callable[..., Any]:
    def decorate(function: Callable[..., Any] | None = None, /, **settings: Any) -> Any:
        body = settings.pop("body", None)
        if body not in (None, "stand-in"):
            raise TypeError(f'body= is "stand-in" or left out, got {body!r}')
        decorated = _Decoration(cast(StreamSettings, settings), body is not None, with_metadata)
        return decorated if function is None else decorated(function)

    return decorate


_OUTER: Final = frozenset(("callbacks", "progress_tracker", "timeout", "buffer_size", "min_chunk_size", "raw"))
"""Settings of a stream as a whole: where the body holds it, they are not those of the calls that the body makes."""


class _Decoration:
    """One use of a decorator: its settings, checked where they are written."""

    def __init__(self, settings: StreamSettings, stand_in: bool, with_metadata: bool) -> None:
        self._request, self._call = divided(settings)
        inner = {name: value for name, value in settings.items() if name not in _OUTER}
        self._llm = LLM(**cast(StreamSettings, inner))
        self._stand_in = stand_in
        self._with_metadata = with_metadata

    def __call__(self, function: Any) -> Any:
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self(function.__func__))
        form = form_of(function, self._stand_in)
        signature = inspect.signature(function)
        place = place_of_llm(function) if form is Form.STREAM else None
        if place is not None:
            parameters = list(signature.parameters.values())
            signature = signature.replace(parameters=parameters[:place] + parameters[place + 1 :])
        tracker = self._call.progress_tracker or ProgressTracker()
        tracker.give(function.__name__)
        decorated = _Decorated(function, self._request, replace(self._call, progress_tracker=tracker), self._llm)
        opening = {Form.PROMPT: decorated.said, Form.STREAM: decorated.held, Form.STAND_IN: decorated.stood_for}[form]
        with_metadata = self._with_metadata

        def call(*args: Any, **kwargs: Any) -> LLMStream[Any]:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:  # a wrong call is refused here, like any function's
                raise TypeError(f"{function.__qualname__}() {error}") from None
            return LLMStream(*opening(bound), with_metadata=with_metadata)

        for name in WRAPPER_ASSIGNMENTS:
            if hasattr(function, name):
                setattr(call, name, getattr(function, name))
        # No `__wrapped__`: whoever unwraps would call the body instead.
        settings = FunctionSettings.of(TaskRequest(**self._request), decorated.call)
        call.__dict__.update(__signature__=signature, progress_tracker=tracker, settings=settings)
        return call


class _Decorated:
    """One decorated function, and how each form of it opens a stream."""

    def __init__(self, function: Callable[..., Any], request: dict[str, Any], call: CallSettings, llm: LLM) -> None:
        self._function = function
        self._request = request
        self.call = call
        self._llm = llm
        self._names_read = names_read(function)

    def said(self, bound: inspect.BoundArguments) -> Opening:
        """The body is the prompt: it runs when the stream is read."""

        async def request() -> TaskRequest:
            said = self._function(*bound.args, **bound.kwargs)
            if inspect.isawaitable(said):
                said = await said
            if not isinstance(said, (str, list, TaskRequest)):
                raise TypeError(
                    f"{self._function.__qualname__}() has to return a str, a list of messages or a TaskRequest, "
                    f"it returned {type(said).__name__}"
                )
            arguments = _arguments(bound)
            from ._arguments import prompted  # with all that recognises media: decorating a function needs none of it

            return prompted(self._function, arguments, self._request, said, self._read(bound, arguments))

        return the_switch().opening(request, self.call)

    def _read(self, bound: inspect.BoundArguments, arguments: Mapping[str, Any]) -> frozenset[str]:
        """Which of these arguments the body reads; those of `**kwargs` are read together."""
        parameters = bound.signature.parameters
        together = [name for name, each in parameters.items() if each.kind is inspect.Parameter.VAR_KEYWORD]
        if not self._names_read.isdisjoint(together):
            return self._names_read | {name for name in arguments if name not in parameters}
        return self._names_read

    def stood_for(self, bound: inspect.BoundArguments) -> Opening:
        """The arguments are the request; the body may stand in."""
        from ._arguments import request_of

        request = request_of(self._function, _arguments(bound), self._request)
        return the_switch().opening(request, self.call, lambda: StandIn(self._function, bound.args, bound.kwargs))

    def held(self, bound: inspect.BoundArguments) -> Opening:
        """The body holds the stream: it is given an `LLM` whose streams are followed."""
        inner = InnerStreams(self.call.callbacks)
        outer = Account(inner)
        watchers = self.call.watchers()
        place = place_of_llm(self._function) or 0
        arguments = _arguments(bound)
        read = self._read(bound, arguments)
        from ._arguments import refuse_unread_media, sorted_arguments

        refuse_unread_media(self._function, arguments, read)
        data_uris = sorted_arguments(self._function, arguments, {}, read).data_uris
        llm = self._llm.following(inner.add, the_switch(), data_uris=data_uris)

        async def source(_: Reading) -> AsyncGenerator[Event, None]:
            watchers[:0] = self.call.trackers(outer, self._request.get("max_tokens"))
            body = self._function(*bound.args[:place], llm, *bound.args[place:], **bound.kwargs)
            return self.call.in_chunks(held_by_body(self._function, body, inner, outer, self.call.timeout))

        return source, outer, watchers


def settings_of(function: StreamFunction[..., Any]) -> FunctionSettings:
    """What a decorated function was given, every name of it."""
    settings = getattr(function, "settings", None)
    if not isinstance(settings, FunctionSettings):
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(f"{name} is not decorated with llm_stream or llm_stream_with_metadata")
    return settings


def _arguments(bound: inspect.BoundArguments) -> dict[str, Any]:
    """The call's arguments by name, defaults included; `self` and `cls` are not said to a model."""
    bound.apply_defaults()
    arguments: dict[str, Any] = {}
    for place, (name, parameter) in enumerate(bound.signature.parameters.items()):
        if place == 0 and name in ("self", "cls"):
            continue
        value = bound.arguments[name]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(value)
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL or value:
            arguments[name] = value
    return arguments


llm_stream: DecoratorOrFactory[str] = cast(DecoratorOrFactory[str], _decorator(with_metadata=False))
"""Make a function a stream of text from whichever model serves its task."""

llm_stream_with_metadata: DecoratorOrFactory[ChunkMetadata] = cast(
    DecoratorOrFactory[ChunkMetadata], _decorator(with_metadata=True)
)
"""The same, as dicts: each chunk with its index, who said it and when, and a closing item with the figures."""
