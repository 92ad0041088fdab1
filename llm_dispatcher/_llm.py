"""`LLM`: options for calls, bound to an object that can be called with a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from msgspec import Struct

from ._serving.options import CallOptions, RequestOptions, RouteOptions, StreamOptions, documented
from ._serving.settings import CallSettings, as_request, split_options
from ._stream import LLMStream
from .streaming._account import Account
from .streaming._observe import Observer
from .tasks import MediaSource, Message, TaskRequest

if TYPE_CHECKING:
    from ._serving.opening import CallOpening, RequestSource
    from ._serving.switch import LLMSwitch
    from .provider import Provider


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
) -> CallOpening:
    """How a stream of this switch begins; see `opening`, which is imported here for the same reason."""
    from ._serving.switch import opening

    return opening(switch, request, settings, body=body, observers=observers)


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
            self._request["response_format"] = checked.response_format  # the schema of a model is made once
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
        if isinstance(prompt, list):
            raise TypeError("the prompt is a str, got list; write llm(messages=[…]) for a conversation")
        from ._media import kind_of, request_with_media, with_its_task  # when first needed

        llm = self.with_options(**options) if options else self
        request = TaskRequest(prompt, messages=messages, images=images, audio=audio, **llm._request)  # noqa: SLF001 - another of this class
        data_uris = () if self._inside is None else self._inside.data_uris
        if prompt is not None and kind_of(prompt) is not None:
            data_uris = (*data_uris, prompt)
        return llm.stream(with_its_task(request_with_media(request, data_uris), llm._request))  # noqa: SLF001

    def stream(self, request: TaskRequest) -> LLMStream[str]:
        """A stream of the answer to a whole request. The request's own options win over those of the `LLM`."""
        inside = self._inside
        switch, observers = (current_switch(), ()) if inside is None else (inside.switch, inside.observers)
        from ._serving.preparing import prepared

        begin = open_call(switch, prepared(as_request(request)), self._call, observers=observers)
        stream: LLMStream[str] = LLMStream(begin)
        if inside is not None:
            inside.follow(stream, begin.account)
        return stream

    def with_options(self, **options: Unpack[StreamOptions]) -> LLM:
        """A copy with these options in place of its own."""
        merged: StreamOptions = {**self._options, **options}
        llm = LLM(**merged)
        llm._inside = self._inside
        return llm

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._request.items())
        return f"LLM({options})"


def for_body(llm: LLM, inside: Inside) -> LLM:
    """The `LLM` that a decorated body is called with."""
    copy = llm.with_options()
    copy._inside = inside  # noqa: SLF001 - of this module
    return copy


def request_options_of(llm: LLM) -> dict[str, Any]:
    """The options of the requests of an `LLM`. Its functions are tools already."""
    return dict(llm._request)  # noqa: SLF001 - of this module
