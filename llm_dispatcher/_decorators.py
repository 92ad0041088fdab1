"""The decorators `@llm_stream` and `@llm_stream_with_metadata`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from functools import WRAPPER_ASSIGNMENTS
from typing import (
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

from ._bodies import (
    BodyCall,
    BodyOpening,
    Form,
    InnerStreams,
    StandIn,
    events_of_body,
    form_of,
    parameters_read,
    place_of_llm,
)
from ._llm import LLM, Inside, current_switch, for_body, open_call, request_options_of
from ._serving.options import STREAM_OPTIONS, CallOptions, RequestOptions, RouteOptions, StreamOptions, documented
from ._serving.settings import CallSettings, FunctionSettings, split_options
from ._stream import LLMStream
from .events import Event
from .streaming import ChunkMetadata, ProgressTracker
from .streaming._account import Account
from .streaming._callbacks import CallbackObserver
from .streaming._observe import Opening
from .streaming._progress import assign
from .tasks import Message, TaskRequest

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
Chunk = TypeVar("Chunk", bound="str | ChunkMetadata", covariant=True)

Prompt: TypeAlias = str | TaskRequest | list[Message] | list[dict[str, Any]]
"""The types that a body may return as its prompt."""


class DecoratorOptions(StreamOptions, total=False):
    """Options of the decorators, beside those of a stream.

    Attributes:
        body: `"stand-in"` if a body that awaits is meant to answer when no model can.
    """

    body: Literal["stand-in"]


class StreamFunction(Protocol, Generic[P, Chunk]):
    """A decorated function. Calling it returns an `LLMStream` and opens nothing."""

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
    @overload  # a static method is not bound to the object
    def __get__(self, instance: object, owner: type | None = None, /) -> StreamFunction[P, Chunk]: ...


class Decorator(Protocol[Chunk]):
    """Decorates a function with one of the three forms of a body."""

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
    """A decorator that is used bare or called with options."""

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
    def __call__(self, **settings: Unpack[DecoratorOptions]) -> Decorator[Chunk]: ...


def _decorator(name: str, description: str, *, with_metadata: bool) -> Callable[..., Any]:
    def decorate(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        body = options.pop("body", None)
        if body not in (None, "stand-in"):
            raise TypeError(f'body= is "stand-in" or left out, got {body!r}')
        decoration = _Decoration(cast(StreamOptions, options), body is not None, with_metadata)
        return decoration if function is None else decoration(function)

    decorate.__name__ = decorate.__qualname__ = name
    decorate.__doc__ = description + _USE
    return documented(RequestOptions, RouteOptions, CallOptions, DecoratorOptions)(decorate)


_USE: Final = """

It is used bare, or with options: `@llm_stream`, `@llm_stream(task_type=TaskType.CODE_GENERATION, timeout=30)`. The body
is one of three things: it returns the prompt; or it takes an `LLM` and yields what that streams; or it is a stand-in
that answers when no model can. Calling the function opens nothing and returns an `LLMStream`, in any thread. The
stream belongs to the event loop, or to the thread that may block, in which it is read.

Args:
    function: The function to decorate, if the decorator is used without options.

Raises:
    TypeError: The function has no form that can be used, or an option has a wrong name or type.
    ValueError: An option has a wrong value."""


_OUTER: Final = frozenset(("callbacks", "progress_tracker", "timeout", "buffer_size", "min_chunk_size", "raw"))
"""Options of a stream as a whole. A body that calls models itself does not pass them on to these calls."""


class _Decoration:
    """One use of a decorator. Its options are checked where they are written."""

    def __init__(self, settings: StreamOptions, stand_in: bool, with_metadata: bool) -> None:
        _, self._call = split_options(settings)
        inner = {name: value for name, value in settings.items() if name not in _OUTER}
        self._llm = LLM(**cast(StreamOptions, inner))
        self._request = request_options_of(self._llm)
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
        assign(tracker, function.__name__)
        decorated = _Decorated(function, self._request, replace(self._call, progress_tracker=tracker), self._llm)
        openers = {
            Form.PROMPT: decorated.open_prompt,
            Form.STREAM: decorated.open_body_stream,
            Form.STAND_IN: decorated.open_stand_in,
        }
        begin = openers[form]
        with_metadata = self._with_metadata

        def call(*args: Any, **kwargs: Any) -> LLMStream[Any]:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:  # a wrong call is refused here, like any function's
                raise TypeError(f"{function.__qualname__}() {error}{_how_to_set(signature, kwargs)}") from None
            return LLMStream(begin(bound), with_metadata=with_metadata)

        for name in WRAPPER_ASSIGNMENTS:
            if hasattr(function, name):
                setattr(call, name, getattr(function, name))
        # No `__wrapped__`: a tool that unwraps the function would call the body instead.
        settings = FunctionSettings.of(TaskRequest(**self._request), decorated.call)
        call.__dict__.update(__signature__=signature, progress_tracker=tracker, settings=settings)
        return call


class _Decorated:
    """One decorated function, and how a stream of it begins for each form of its body."""

    def __init__(self, function: Callable[..., Any], request: dict[str, Any], call: CallSettings, llm: LLM) -> None:
        self._function = function
        self._request = request
        self.call = call
        self._llm = llm
        self._parameters_read = parameters_read(function)

    def open_prompt(self, bound: inspect.BoundArguments) -> Opening:
        """The body returns the prompt. It runs when the stream is read."""

        async def request() -> TaskRequest:
            prompt = self._function(*bound.args, **bound.kwargs)
            if inspect.isawaitable(prompt):
                prompt = await prompt
            if not isinstance(prompt, (str, list, TaskRequest)):
                raise TypeError(
                    f"{self._function.__qualname__}() has to return a str, a list of messages or a TaskRequest, "
                    f"it returned {type(prompt).__name__}"
                )
            arguments = _arguments(bound)
            from ._arguments import request_with_prompt  # imported here to keep decorating light: it loads media

            return request_with_prompt(self._function, arguments, self._request, prompt, self._read(bound, arguments))

        return open_call(current_switch(), request, self._settings(bound))

    def _settings(self, bound: inspect.BoundArguments) -> CallSettings:
        """The settings of one call: an argument `tool_context` is the object for its tools."""
        context = _arguments(bound).get("tool_context")
        return self.call if context is None else replace(self.call, tool_context=context)

    def _read(self, bound: inspect.BoundArguments, arguments: Mapping[str, Any]) -> frozenset[str]:
        """Which of these arguments the body reads. If it reads `**kwargs`, it reads all of them."""
        parameters = bound.signature.parameters
        together = [name for name, each in parameters.items() if each.kind is inspect.Parameter.VAR_KEYWORD]
        if not self._parameters_read.isdisjoint(together):
            return self._parameters_read | {name for name in arguments if name not in parameters}
        return self._parameters_read

    def open_stand_in(self, bound: inspect.BoundArguments) -> Opening:
        """The arguments are the request. The body answers if no model can."""
        from ._arguments import request_of

        request = request_of(self._function, _arguments(bound), self._request)
        return open_call(
            current_switch(),
            request,
            self._settings(bound),
            body=lambda: StandIn(self._function, bound.args, bound.kwargs),
        )

    def open_body_stream(self, bound: inspect.BoundArguments) -> Opening:
        """The body holds the stream. It is called with an `LLM` whose streams are counted as its own."""
        from ._arguments import refuse_unread_media, sorted_arguments
        from ._serving.stages.buffering import in_chunks
        from ._serving.switch import notify_of

        arguments = _arguments(bound)
        read = self._read(bound, arguments)
        refuse_unread_media(self._function, arguments, read)
        data_uris = sorted_arguments(self._function, arguments, {}, read).data_uris
        inner, call, place = InnerStreams(), self.call, place_of_llm(self._function) or 0
        unseen = () if call.callbacks is None else (CallbackObserver(call.callbacks, only_unseen=True),)
        switch = current_switch()
        context = arguments.get("tool_context")
        own = self._llm if context is None else self._llm.with_options(tool_context=context)
        llm = for_body(own, Inside(inner.add, switch, unseen, data_uris))

        def events(outer: Account) -> AsyncGenerator[Event, None]:
            body = self._function(*bound.args[:place], llm, *bound.args[place:], **bound.kwargs)
            return in_chunks(events_of_body(self._function, body, inner, outer, call.timeout), call)

        body_call = BodyCall(TaskRequest(**self._request), notify_of(switch))
        return BodyOpening(inner, call.observers, body_call, events)


def _how_to_set(signature: inspect.Signature, arguments: Mapping[str, Any]) -> str:
    """How to set an option that a caller has passed to a function without such a parameter."""
    from ._arguments import PARAMETER_NAMES

    for name in arguments.keys() - signature.parameters.keys():
        if name in PARAMETER_NAMES:
            return f": give the function a parameter {name!r} to set this option in a call"
        if name in STREAM_OPTIONS:
            return f": set this option in the decorator, @llm_stream({name}=…)"
    return ""


def settings_of(function: StreamFunction[..., Any]) -> FunctionSettings:
    """All options of a decorated function.

    Raises:
        TypeError: The function is not decorated with `llm_stream` or `llm_stream_with_metadata`.
    """
    settings = getattr(function, "settings", None)
    if not isinstance(settings, FunctionSettings):
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(f"{name} is not decorated with llm_stream or llm_stream_with_metadata")
    return settings


def _arguments(bound: inspect.BoundArguments) -> dict[str, Any]:
    """The arguments by name, with their defaults, without `self` and `cls`."""
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


llm_stream: DecoratorOrFactory[str] = cast(
    DecoratorOrFactory[str],
    _decorator(
        "llm_stream",
        "Make a function a stream of text from the best healthy model for its task.",
        with_metadata=False,
    ),
)
"""Make a function a stream of text from the best healthy model for its task."""

llm_stream_with_metadata: DecoratorOrFactory[ChunkMetadata] = cast(
    DecoratorOrFactory[ChunkMetadata],
    _decorator(
        "llm_stream_with_metadata",
        "Make a function a stream of dicts: each chunk of text with its metadata, and a closing item with the figures.",
        with_metadata=True,
    ),
)
"""Make a function a stream of dicts: each chunk of text with its metadata, and a closing item with the figures."""
