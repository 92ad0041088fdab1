"""The settings of one call, beside its request: their names, types and checks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from inspect import iscoroutinefunction
from typing import Any, Final, Literal, get_args

from msgspec import Struct
from msgspec.structs import asdict, replace

from .._policy import Policy, Strategy, Wishes
from .._resilience import OnBreak, Resilience
from ..exceptions import InvalidRequestError
from ..streaming import ProgressTracker, StreamingCallbacks
from ..streaming._callbacks import CallbackObserver
from ..streaming._observe import Observer
from ..streaming._progress import FOLLOWING, ProgressObserver, assign
from ..streaming._shape import Shape
from ..tasks import MOST_TOKENS, ReasoningEffort, TaskRequest, TaskType
from .options import REQUEST_OPTIONS, STREAM_OPTIONS, RequestCache, StreamOptions, ToolPolicy, check_names


class CallSettings(Struct, frozen=True, kw_only=True):
    """The options of one call, checked. A test holds its fields and those of `CallOptions` together."""

    callbacks: StreamingCallbacks | None = None
    progress_tracker: ProgressTracker | None = None
    cache: RequestCache | Literal[False] | None = None
    timeout: float | None = None
    on_break: OnBreak | None = None
    max_retries: int | None = None
    fallback_enabled: bool | None = None
    buffer_size: int | None = None
    min_chunk_size: int | None = None
    optimization_strategy: Strategy | None = None
    max_cost: float | None = None
    max_latency: float | None = None
    raw: bool = False
    tool_policy: ToolPolicy | None = None
    tool_timeout: float | None = None
    max_turns: int | None = None
    max_tool_calls: int | None = None
    tool_context: object = None
    max_repairs: int | None = None

    def wishes(self, policy: Policy, task_type: TaskType) -> Wishes:
        """The call's wishes for its routing."""
        fallback = self.fallback_enabled
        if fallback is None:
            fallback = policy.resilience_of(task_type, None).fallback_enabled
        return Wishes(
            strategy=self.optimization_strategy,
            max_cost=self.max_cost,
            max_latency=self.max_latency,
            fallback=fallback,
        )

    def over(self, resilience: Resilience, latest: float | None = None) -> Resilience:
        """The policy's resilience, for a request or for one of its targets, with the settings of the call.

        `latest` is the `max_latency` of the request, if it bounds the first token: a target that is later fails, and
        the next one is asked. Without a `total`, the last target would fail too, so then it bounds nothing.
        """
        timeouts = resilience.timeouts
        if self.timeout is not None:
            timeouts = replace(timeouts, total=self.timeout)
        if latest is not None and timeouts.total is not None:
            timeouts = replace(timeouts, first_token=min(latest, timeouts.first_token or latest))
        retries = resilience.max_retries if self.max_retries is None else self.max_retries
        return replace(resilience, timeouts=timeouts, max_retries=retries)

    def on_break_in(self, policy: Policy, task_type: TaskType) -> OnBreak:
        """What happens when a stream breaks."""
        return self.on_break or policy.resilience_of(task_type, None).on_break

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The call's own observers. Trackers come first: a callback may read one, or may never return."""
        own = () if self.progress_tracker is None else (ProgressObserver(self.progress_tracker),)
        callbacks = () if self.callbacks is None else (CallbackObserver(self.callbacks),)
        return (*own, FOLLOWING, *callbacks)

    @property
    def is_buffered(self) -> bool:
        """Whether chunks are to have another size than the vendor's pieces."""
        return self.buffer_size is not None or self.min_chunk_size is not None

    def __post_init__(self) -> None:
        check_type("callbacks", self.callbacks, StreamingCallbacks, "write StreamingCallbacks(on_stream_end=…)")
        check_type("progress_tracker", self.progress_tracker, ProgressTracker)
        if self.progress_tracker is not None:
            assign(self.progress_tracker)
        if self.cache is not None and self.cache is not False and not hasattr(self.cache, "stream"):
            raise TypeError(f"cache is a StreamingCache, or False for none, got {type(self.cache).__name__}")
        _positive("timeout", self.timeout, "seconds")
        if self.on_break not in (None, *get_args(OnBreak)):
            raise ValueError(f"on_break is one of {', '.join(get_args(OnBreak))}; got {self.on_break!r}")
        for name, least in _COUNTS.items():
            _check_count(name, getattr(self, name), least)
        check_type("fallback_enabled", self.fallback_enabled, bool)
        if self.tool_policy not in (None, "run", "report") and not callable(self.tool_policy):
            raise TypeError(
                f'tool_policy is "run", "report" or a function that decides each call, got {self.tool_policy!r:.60}'
            )
        _positive("tool_timeout", self.tool_timeout, "seconds")
        if self.optimization_strategy not in (None, *get_args(Strategy)):
            strategies = ", ".join(get_args(Strategy))
            raise ValueError(f"optimization_strategy is one of {strategies}; got {self.optimization_strategy!r}")
        _positive("max_cost", self.max_cost, "US dollars")
        _positive("max_latency", self.max_latency, "seconds")

    def total(self, policy: Policy, task_type: TaskType) -> float | None:
        """The seconds that the whole call may take."""
        return policy.resilience_of(task_type, None).timeouts.total if self.timeout is None else self.timeout

    def apart(self, policy: Policy, task_type: TaskType, shape: Shape) -> Hashable:
        """The settings that must be equal for two calls to share a stream: all that change how it runs. The shape
        counts too: a broken answer may begin again for a reader who has nothing yet, but not for one who has chunks.
        """
        on_break = self.on_break_in(policy, task_type)
        return (
            self.total(policy, task_type),
            on_break,
            on_break == "restart" and not shape.can_take_back,
            on_break == "continue" and shape.may_begin_again,
            self.max_retries,
            self.fallback_enabled,
            self.optimization_strategy,
            self.max_cost,
            self.max_latency,
        )


class FunctionSettings(CallSettings, frozen=True, kw_only=True):
    """Every option of a decorated function. `None`, or an empty value, leaves it to the call and the policy."""

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
    cache_key: str | None = None
    metadata: Mapping[str, Any] = {}
    extra: Mapping[str, Any] = {}

    @classmethod
    def of(cls, request: TaskRequest, call: CallSettings) -> FunctionSettings:
        options = {name: getattr(request, name) for name in REQUEST_OPTIONS}
        return cls(**options, **asdict(call))


def split_options(options: StreamOptions) -> tuple[dict[str, Any], CallSettings]:
    """The options of the request, and the settings of the call."""
    check_names(options, STREAM_OPTIONS)
    settings: dict[str, Any] = dict(options)
    request = {name: settings.pop(name) for name in REQUEST_OPTIONS & settings.keys()}
    return request, CallSettings(**settings)


def as_request(request: object) -> TaskRequest:
    """The request. Passing a prompt in its place is a frequent mistake, so the error says what to write."""
    if not isinstance(request, TaskRequest):
        raise TypeError(
            f"a request is a TaskRequest, got {type(request).__name__}; write TaskRequest(prompt=…), or call an LLM: "
            "LLM()(prompt)"
        )
    return request


def check_request(request: TaskRequest) -> None:
    """Refuse, before anything is sent, a request that no model can answer."""
    if request.prompt is not None and not request.prompt.strip() and not (request.images or request.audio):
        raise InvalidRequestError("the prompt is empty: write a prompt, or pass messages")
    if not request.conversation:
        raise InvalidRequestError("the request has neither a prompt nor messages: give one of them")
    if request.max_tokens is not None and request.max_tokens > MOST_TOKENS:
        raise InvalidRequestError(f"max_tokens is more than {MOST_TOKENS}: give a smaller number, or leave it out")
    if request.messages:
        from .history import check_pairs

        check_pairs(request.messages)


def check_type(name: str, value: object, kind: type, fix: str | None = None) -> None:
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} is a {kind.__name__}, got {type(value).__name__}" + (f"; {fix}" if fix else ""))


def check_function(name: str, function: object) -> None:
    """Refuse what is not callable, and a coroutine function: nobody would await it."""
    if not callable(function) or iscoroutinefunction(function):
        kind = "a coroutine function" if callable(function) else type(function).__name__
        raise TypeError(f"{name} is a plain function, got {kind}; to await something, start a task in it")


_COUNTS: Final = {
    "max_retries": 0,
    "max_repairs": 0,
    **dict.fromkeys(("buffer_size", "min_chunk_size", "max_turns", "max_tool_calls"), 1),
}
"""The settings that are whole numbers, and the least value of each."""


def _check_count(name: str, value: object, least: int) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"{name} is an int, got {type(value).__name__}")
    if isinstance(value, int) and value < least:
        raise ValueError(f"{name} is {least} or more, got {value}")


def _positive(name: str, value: object, unit: str) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise TypeError(f"{name} is a number of {unit}, got {type(value).__name__}")
    if value is not None and not value > 0:
        raise ValueError(f"{name} is more than 0 {unit}, got {value}")
