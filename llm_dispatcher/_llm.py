"""`LLM`: request defaults that can be called, and the settings that a call or a decorator takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypedDict, Unpack

from msgspec import structs

from ._hints import did_you_mean
from ._policy import OnBreak, Strategy
from ._serving.settings import CallSettings, RequestCache, a_request
from ._stream import LLMStream
from .streaming import ProgressTracker, StreamingCallbacks
from .streaming._account import Account
from .streaming._observe import Watcher
from .tasks import MediaSource, Message, ReasoningEffort, ResponseFormat, TaskRequest, TaskType

if TYPE_CHECKING:
    from ._serving.switch import LLMSwitch


def the_switch() -> LLMSwitch:
    """`get_global_switch()`, imported when the first stream is made: it loads all that routes."""
    from ._serving.switch import get_global_switch

    return get_global_switch()


class RequestSettings(TypedDict, total=False):
    """What a request may be given beside its words."""

    task_type: TaskType | str
    providers: str | Sequence[str]
    model: str | None
    system: str | None
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    stop: str | Sequence[str]
    seed: int | None
    reasoning_effort: ReasoningEffort | None
    tools: Sequence[Any]
    tool_choice: str | Mapping[str, Any] | None
    response_format: ResponseFormat | None
    namespace: str | None
    sticky: str | None
    metadata: Mapping[str, Any] | None
    extra: Mapping[str, Any] | None


class StreamSettings(RequestSettings, total=False):
    """What a call or a decorator may be given: a request's settings and those of its stream."""

    callbacks: StreamingCallbacks | None
    progress_tracker: ProgressTracker | None
    cache: RequestCache | Literal[False] | None
    timeout: float | None
    on_break: OnBreak | None
    max_retries: int | None
    fallback_enabled: bool | None
    buffer_size: int | None
    min_chunk_size: int | None
    optimization_strategy: Strategy | None
    max_cost: float | None
    max_latency: float | None
    raw: bool


Follow: TypeAlias = Callable[[LLMStream[str], Account, list[Watcher]], None]
"""Told of a stream, of its account, and of its watchers, to whom it may add."""

REQUEST_SETTINGS: Final = frozenset(RequestSettings.__annotations__)
STREAM_SETTINGS: Final = frozenset(StreamSettings.__annotations__)
_OF_A_CALL: Final = ("messages", "images", "audio")
"""What a call of an `LLM` takes beside the settings."""


def divided(settings: StreamSettings) -> tuple[dict[str, Any], CallSettings]:
    """The part of the settings that goes into the request, and the part that is for the switch."""
    for name in settings:
        if name not in STREAM_SETTINGS:
            hint = did_you_mean(name, (*STREAM_SETTINGS, *_OF_A_CALL))
            if name in _OF_A_CALL:
                hint = f"; pass {name} in the call: llm(prompt, {name}=…)"
            raise TypeError(f"there is no setting {name!r}{hint}")
    given: dict[str, Any] = dict(settings)
    request = {name: given.pop(name) for name in REQUEST_SETTINGS & given.keys()}
    return request, CallSettings(**given)


class FunctionSettings(CallSettings, frozen=True, kw_only=True):
    """Every setting of a decorated function; `None`, or nothing in it, where it is left to the call and the policy."""

    task_type: TaskType = TaskType.TEXT_GENERATION
    providers: tuple[str, ...] = ()
    model: str | None = None
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: ReasoningEffort | None = None
    tools: tuple[Any, ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    response_format: Mapping[str, Any] | None = None
    namespace: str | None = None
    sticky: str | None = None
    metadata: Mapping[str, Any] = {}
    extra: Mapping[str, Any] = {}

    @classmethod
    def of(cls, request: TaskRequest, call: CallSettings) -> FunctionSettings:
        given = {name: getattr(request, name) for name in REQUEST_SETTINGS}
        return cls(**given, **structs.asdict(call))


class LLM:
    """Defaults for requests, to be called with a prompt: `llm = LLM("openai/gpt-…", temperature=0.7)`.

    Without a model, requests are routed by their `task_type`. It holds no connection and asks for the global switch
    at each call. It does not change: `llm.but(temperature=0.0)` is another one.
    """

    __slots__ = ("_call", "_data_uris", "_follow", "_request", "_settings", "_switch")

    def __init__(self, target: str | None = None, /, **settings: Unpack[StreamSettings]) -> None:
        if target is not None and settings.get("model") is not None:
            raise TypeError("the model was given twice")
        if target is not None:
            settings["model"] = target
        self._settings: StreamSettings = settings
        self._request, self._call = divided(settings)
        checked = TaskRequest(**self._request)  # a wrong default is refused where it is written, not where it is used
        if checked.response_format is not None:
            self._request["response_format"] = checked.response_format  # the schema of a model is made once
        self._switch: LLMSwitch | None = None
        self._follow: Follow | None = None
        self._data_uris: Sequence[str] = ()

    def __call__(
        self,
        prompt: str | None = None,
        /,
        *,
        messages: Sequence[Message | Mapping[str, Any]] = (),
        images: MediaSource | Sequence[MediaSource] = (),
        audio: MediaSource | Sequence[MediaSource] = (),
        **settings: Unpack[StreamSettings],
    ) -> LLMStream[str]:
        """A stream of the answer; nothing is sent before it is read."""
        if isinstance(prompt, list):
            raise TypeError("the prompt is a str, got list; write llm(messages=[…]) for a conversation")
        from ._media import kind_of, request_with_media, with_its_task  # when first needed

        llm = self.but(**settings) if settings else self
        request = TaskRequest(prompt, messages=messages, images=images, audio=audio, **llm._request)  # noqa: SLF001 - another of this class
        data_uris = self._data_uris if prompt is None or kind_of(prompt) is None else (*self._data_uris, prompt)
        return llm.stream(with_its_task(request_with_media(request, data_uris), llm._request))  # noqa: SLF001

    def stream(self, request: TaskRequest) -> LLMStream[str]:
        """A stream of the answer to a request that is already whole; the request's own settings hold."""
        source, account, watchers = (self._switch or the_switch()).opening(a_request(request), self._call)
        stream: LLMStream[str] = LLMStream(source, account, watchers)
        if self._follow is not None:
            self._follow(stream, account, watchers)
        return stream

    def but(self, **settings: Unpack[StreamSettings]) -> LLM:
        """The same with other settings."""
        merged: StreamSettings = {**self._settings, **settings}
        return self.following(self._follow, self._switch, merged, self._data_uris)

    def following(
        self,
        follow: Follow | None,
        switch: LLMSwitch | None = None,
        settings: StreamSettings | None = None,
        data_uris: Sequence[str] = (),
    ) -> LLM:
        """The same, with somebody told of every stream that it opens.

        Where one of the `data_uris` stands in a prompt, the image or sound itself is sent.
        """
        llm = LLM(**(self._settings if settings is None else settings))
        llm._follow, llm._switch, llm._data_uris = follow, switch, data_uris
        return llm

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._request.items())
        return f"LLM({shown})"
