"""`LLM`: options for calls, bound to an object that can be called with a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack, overload

from msgspec import Struct
from msgspec.structs import replace

from ._serving.options import CallOptions, RequestOptions, RouteOptions, StreamOptions, documented
from ._serving.settings import CallSettings, as_request, split_options
from ._stream import LLMStream
from .streaming._account import Account
from .streaming._observe import Observer
from .tasks import MediaSource, Message, TaskRequest

if TYPE_CHECKING:
    from ._policy import Affinity
    from ._routing import Plan
    from ._serving.call import Conversation
    from ._serving.opening import CallOpening, RequestSource
    from ._serving.switch import LLMSwitch
    from ._structured import ObjectStream
    from .provider import Provider

T = TypeVar("T")
AnyStream = TypeVar("AnyStream", bound=LLMStream[str])


def current_switch() -> LLMSwitch:
    """`get_global_switch()`. It is imported when the first stream is made, because it loads everything that routes."""
    from ._serving.current import get_global_switch

    return get_global_switch()


def open_call(
    switch: LLMSwitch,
    request: RequestSource,
    settings: CallSettings,
    *,
    body: Callable[[], Provider] | None = None,
    observers: Sequence[Observer] = (),
    conversation: Conversation | None = None,
) -> CallOpening:
    """How a stream of this switch begins; see `opening`, which is imported here for the same reason."""
    from ._serving.switch import opening

    return opening(switch, request, settings, body=body, observers=observers, conversation=conversation)


class Inside(Struct, frozen=True):
    """Additions of a decorated body to the streams of its `LLM`.

    `follow` is called with each stream that the body opens, and `observers` see it. If a prompt contains one of
    the `data_uris`, the image or sound itself is sent. The streams are those of `switch`.
    """

    follow: Callable[[LLMStream[str], Account], None]
    switch: LLMSwitch
    observers: Sequence[Observer] = ()
    data_uris: Sequence[str] = ()


class LLM:
    """Options for calls, bound to an object that can be called: `llm = LLM("openai/gpt-…", temperature=0.7)`.

    Without a model, requests are routed by their `task_type`. An `LLM` holds no connection. It asks for the global
    switch at each call, so it can be made at import time and used from any thread and any event loop. It never
    changes: `llm.with_options(temperature=0.0)` makes another one.
    """

    __slots__ = ("_call", "_inside", "_options", "_request")

    @documented(RequestOptions, RouteOptions, CallOptions)
    def __init__(self, target: str | None = None, /, **options: Unpack[StreamOptions]) -> None:
        """Bind options.

        Args:
            target: A model, as `"provider/model"`.

        Raises:
            TypeError, ValueError: An option has a wrong name, type or value.
        """
        if target is not None and options.get("model") is not None:
            raise TypeError("the model was given twice")
        if target is not None:
            options["model"] = target
        self._options: StreamOptions = options
        self._request, self._call = split_options(options)
        checked = TaskRequest(**self._request)  # a wrong option is refused here, and not at the first call
        if checked.response_format is not None:
            from ._serving.preparing import prepared_schema  # loads pydantic if it is a type

            schema = prepared_schema(checked.response_format)
            self._request["response_format"] = options["response_format"] = schema
        if checked.tools:
            from ._serving.preparing import prepared_tools  # loads pydantic if a tool is a function

            self._request["tools"] = options["tools"] = prepared_tools(checked.tools)
        self._inside: Inside | None = None

    def __call__(
        self,
        prompt: str | None = None,
        /,
        *,
        messages: Sequence[Message | Mapping[str, Any]] = (),
        images: MediaSource | Sequence[MediaSource] = (),
        audio: MediaSource | Sequence[MediaSource] = (),
        **options: Unpack[StreamOptions],
    ) -> LLMStream[str]:
        """A stream of the answer. Nothing is sent before it is read.

        Args:
            prompt: What to ask.
            messages: The conversation so far, as `Message`s or as OpenAI's dicts.
            images: Images to send with the prompt: paths, bytes, data URIs, addresses or PIL images.
            audio: Sounds to send with the prompt.
            **options: Options for this call alone; the same as those of `LLM`.

        Raises:
            TypeError, ValueError: An argument or an option has a wrong name, type or value.
        """
        llm = self.with_options(**options) if options else self
        return llm.stream(llm._with_its_task(llm._ask(prompt, messages, images, audio)))  # noqa: SLF001 - another of this class

    def stream(self, request: TaskRequest) -> LLMStream[str]:
        """A stream of the answer to a whole request. The request's own options win over those of the `LLM`."""
        from ._serving.preparing import prepared

        begin = self._opening(prepared(as_request(request)))
        return self._followed(LLMStream(begin), begin.account)

    def _ask(
        self,
        prompt: str | None,
        messages: Sequence[Message | Mapping[str, Any]],
        images: MediaSource | Sequence[MediaSource],
        audio: MediaSource | Sequence[MediaSource],
    ) -> TaskRequest:
        """The request for a prompt, with the options of this `LLM`. A data URI in the prompt becomes a part of it."""
        if isinstance(prompt, list):
            raise TypeError("the prompt is a str, got list; write llm(messages=[…]) for a conversation")
        from ._media import kind_of, request_with_media  # when first needed

        request = TaskRequest(prompt, messages=messages, images=images, audio=audio, **self._request)
        data_uris = () if self._inside is None else self._inside.data_uris
        if prompt is not None and kind_of(prompt) is not None:
            data_uris = (*data_uris, prompt)
        return request_with_media(request, data_uris)

    def _with_its_task(self, request: TaskRequest) -> TaskRequest:
        """The request with the task that its images and sounds imply, unless an option names a task."""
        from ._media import with_its_task

        return with_its_task(request, self._request)

    def _opening(self, request: RequestSource, conversation: Conversation | None = None) -> CallOpening:
        """How a stream begins, in the switch of the body that this `LLM` belongs to, else in the global one."""
        inside = self._inside
        switch, observers = (current_switch(), ()) if inside is None else (inside.switch, inside.observers)
        return open_call(switch, request, self._call, observers=observers, conversation=conversation)

    def _followed(self, stream: AnyStream, account: Account) -> AnyStream:
        """The stream. If this `LLM` belongs to a body, the body counts and closes it."""
        if self._inside is not None:
            self._inside.follow(stream, account)
        return stream

    @overload
    def into(self, kind: type[T], /) -> ObjectLLM[T]: ...
    @overload  # an annotation such as `Literal["yes", "no"]` or `Invoice | None` is no `type[T]` to a type checker
    def into(self, kind: object, /) -> ObjectLLM[Any]: ...
    def into(self, kind: Any, /) -> ObjectLLM[Any]:
        """The same, for answers that are objects: `invoice = await llm.into(Invoice)("…").parsed()`.

        Args:
            kind: The type of the answer: a pydantic model, a dataclass, a `TypedDict`, a msgspec `Struct`, or a list of
                one of them.

        Raises:
            TypeError: The type cannot be an answer. The message names it.
        """
        if isinstance(kind, Mapping):
            raise TypeError("into() takes a type, got a JSON schema: pass that as response_format=, and read parsed()")
        if kind is None:
            raise TypeError("into() takes a type, got None: for an answer that is text, leave into() out")
        return ObjectLLM(self.with_options(response_format=kind))

    def with_options(self, **options: Unpack[StreamOptions]) -> LLM:
        """A copy with these options in place of its own."""
        merged: StreamOptions = {**self._options, **options}
        llm = LLM(**merged)
        llm._inside = self._inside
        return llm

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._request.items())
        return f"LLM({options})"


class ObjectLLM(Generic[T]):
    """An `LLM` whose answers are objects of the type `T`. `LLM.into` makes it."""

    __slots__ = ("_llm",)

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    def __call__(
        self,
        prompt: str | None = None,
        /,
        *,
        messages: Sequence[Message | Mapping[str, Any]] = (),
        images: MediaSource | Sequence[MediaSource] = (),
        audio: MediaSource | Sequence[MediaSource] = (),
        **options: Unpack[StreamOptions],
    ) -> ObjectStream[T]:
        """A stream of the answer. Nothing is sent before it is read.

        Args:
            prompt: What to ask.
            messages: The conversation so far, as `Message`s or as OpenAI's dicts.
            images: Images to send with the prompt: paths, bytes, data URIs, addresses or PIL images.
            audio: Sounds to send with the prompt.
            **options: Options for this call alone; the same as those of `LLM`, except `response_format`.

        Raises:
            TypeError, ValueError: An argument or an option has a wrong name, type or value.
        """
        if "response_format" in options:
            raise TypeError("the type of the answer was given to into() already: leave response_format out")
        llm = self._llm.with_options(**options) if options else self._llm
        return self._stream(llm, llm._with_its_task(llm._ask(prompt, messages, images, audio)))  # noqa: SLF001 - of this module

    def stream(self, request: TaskRequest) -> ObjectStream[T]:
        """A stream of the answer to a whole request. Its answer has the type that `into` was given."""
        schema = self._llm._request["response_format"]  # noqa: SLF001 - of this module
        return self._stream(self._llm, replace(as_request(request), response_format=schema))

    @staticmethod
    def _stream(llm: LLM, request: TaskRequest) -> ObjectStream[T]:
        from ._serving.preparing import prepared
        from ._structured import ObjectStream

        begin = llm._opening(prepared(request))  # noqa: SLF001 - of this module
        stream: ObjectStream[T] = ObjectStream(begin)
        return llm._followed(stream, begin.account)  # noqa: SLF001

    def __repr__(self) -> str:
        options = dict(self._llm._request)  # noqa: SLF001 - of this module
        kind = options.pop("response_format")
        return f"LLM({', '.join(f'{name}={value!r}' for name, value in options.items())}).into({kind!r})"


def for_body(llm: LLM, inside: Inside) -> LLM:
    """The `LLM` that a decorated body is called with."""
    copy = llm.with_options()
    copy._inside = inside  # noqa: SLF001 - of this module
    return copy


def request_options_of(llm: LLM) -> dict[str, Any]:
    """The options of the requests of an `LLM`. Its functions are tools already."""
    return dict(llm._request)  # noqa: SLF001 - of this module


# ── for sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def ask(
    llm: LLM,
    prompt: str | None,
    images: MediaSource | Sequence[MediaSource],
    audio: MediaSource | Sequence[MediaSource],
) -> TaskRequest:
    """The request for a new turn of a conversation, without the turns before it. Its functions are tools."""
    from ._serving.preparing import prepared

    return prepared(llm._ask(prompt, (), images, audio))  # noqa: SLF001 - of this module


def with_task_of_media(llm: LLM, request: TaskRequest) -> TaskRequest:
    """The request with the task that its images and sounds imply, unless an option of the `LLM` names a task."""
    return llm._with_its_task(request)  # noqa: SLF001 - of this module


def open_conversation(llm: LLM, request: RequestSource, conversation: Conversation) -> CallOpening:
    """How a stream of a conversation begins."""
    return llm._opening(request, conversation)  # noqa: SLF001 - of this module


def followed(llm: LLM, stream: AnyStream, account: Account) -> AnyStream:
    """The stream of a conversation. If the `LLM` belongs to a body, the body counts and closes it."""
    return llm._followed(stream, account)  # noqa: SLF001 - of this module


def plan_for(llm: LLM, request: TaskRequest, affinity: Affinity | None) -> Plan:
    """The plan for the next turn of a conversation."""
    from ._serving.switch import plan_of

    inside = llm._inside  # noqa: SLF001 - of this module
    return plan_of(current_switch() if inside is None else inside.switch, request, llm._call, affinity)  # noqa: SLF001
