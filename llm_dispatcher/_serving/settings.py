"""What can be said of one call beyond its request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable, Iterable
from typing import Literal, Protocol, TypedDict, get_args

from msgspec import Struct

from .._policy import OnBreak, Policy, Strategy, Wishes
from ..events import Event
from ..exceptions import InvalidRequestError
from ..streaming import ProgressTracker, StreamingCallbacks
from ..streaming._account import Account
from ..streaming._observe import Watcher
from ..streaming._progress import following_tracker
from ..tasks import MOST_TOKENS, Target, TaskRequest
from .stages.buffering import buffered


class RequestCache(Protocol):
    """What a cache is to the switch: it stands before the targets."""

    def stream(
        self,
        request: TaskRequest,
        targets: Iterable[Target],
        upstream: Callable[[], AsyncGenerator[Event, None]],
        apart: Hashable = (),
    ) -> AsyncGenerator[Event, None]:
        """The events of the answer: recorded ones of this request, or of one so like it that its answer serves; else
        those of `upstream`, which asks the targets. Requests that differ in `apart` do not share a stream. The switch
        gives an `Upstream`, which also says what each target really is, and how much time there is.
        """
        ...


class RouteSettings(TypedDict, total=False):
    """What can be said of a request's route alone."""

    optimization_strategy: Strategy | None
    max_cost: float | None
    max_latency: float | None


class CallSettings(Struct, frozen=True, kw_only=True):
    """What can be said of one call beyond its request; `None` leaves it to the configuration."""

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

    def wishes(self, policy: Policy) -> Wishes:
        """What a call says of its routing, over what the configuration says."""
        fallback = policy.resilience.fallback_enabled if self.fallback_enabled is None else self.fallback_enabled
        return Wishes(
            strategy=self.optimization_strategy,
            max_cost=self.max_cost,
            max_latency=self.max_latency,
            fallback=fallback,
        )

    def watchers(self) -> list[Watcher]:
        """Who watches a stream of this call, the cache and the progress tracker excepted: these need the request."""
        return [] if self.callbacks is None else [self.callbacks.watcher()]

    def trackers(self, account: Account, max_tokens: int | None) -> list[Watcher]:
        """What moves progress trackers: the one that the call was given, and one that follows its task's streams. A
        stream inside of another is a part of that one's progress.
        """
        tracker = None if account.is_inside_another else following_tracker()
        own = [] if self.progress_tracker is None else [self.progress_tracker.watcher(max_tokens)]
        return own if tracker is None else [*own, tracker.follow(max_tokens)]

    def __post_init__(self) -> None:
        check_is("callbacks", self.callbacks, StreamingCallbacks, "write StreamingCallbacks(on_stream_end=…)")
        check_is("progress_tracker", self.progress_tracker, ProgressTracker)
        if self.progress_tracker is not None:
            self.progress_tracker.give()
        if self.cache is not None and self.cache is not False and not hasattr(self.cache, "stream"):
            raise TypeError(f"cache is a StreamingCache, or False for none, got {type(self.cache).__name__}")
        _positive("timeout", self.timeout, "seconds")
        if self.on_break not in (None, *get_args(OnBreak)):
            raise ValueError(f"on_break is one of {', '.join(get_args(OnBreak))}; got {self.on_break!r}")
        if self.max_retries is not None and (
            isinstance(self.max_retries, bool) or not isinstance(self.max_retries, int)
        ):
            raise TypeError(f"max_retries is an int, got {type(self.max_retries).__name__}")
        if self.max_retries is not None and self.max_retries < 0:
            raise ValueError(f"max_retries is 0 or more, got {self.max_retries}")
        check_is("fallback_enabled", self.fallback_enabled, bool)
        for name, size in (("buffer_size", self.buffer_size), ("min_chunk_size", self.min_chunk_size)):
            if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
                raise TypeError(f"{name} is an int, got {type(size).__name__}")
            if size is not None and size < 1:
                raise ValueError(f"{name} is 1 or more, got {size}")
        if self.optimization_strategy not in (None, *get_args(Strategy)):
            strategies = ", ".join(get_args(Strategy))
            raise ValueError(f"optimization_strategy is one of {strategies}; got {self.optimization_strategy!r}")
        _positive("max_cost", self.max_cost, "US dollars")
        _positive("max_latency", self.max_latency, "seconds")

    def total(self, policy: Policy) -> float | None:
        """Seconds that the whole call may take."""
        return policy.resilience.timeouts.total if self.timeout is None else self.timeout

    def apart(self, policy: Policy, reading: str) -> Hashable:
        """What two calls must agree in to share one stream: all that bears on how it goes. How they are read does only
        where a stream that breaks may begin again, which chunks cannot.
        """
        on_break = self.on_break or policy.resilience.on_break
        return (
            self.total(policy),
            on_break,
            on_break == "restart" and reading == "chunks",
            self.max_retries,
            self.fallback_enabled,
            self.optimization_strategy,
            self.max_cost,
            self.max_latency,
        )

    def in_chunks(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """The events with their text in chunks of the size that was asked for; as they are, if none was."""
        if self.buffer_size is None and self.min_chunk_size is None:
            return events
        return buffered(events, buffer_size=self.buffer_size or 1, min_chunk_size=self.min_chunk_size or 1)


def a_request(request: object) -> TaskRequest:
    """The request; a prompt that was passed in its place is a mistake that is often made."""
    if not isinstance(request, TaskRequest):
        raise TypeError(
            f"a request is a TaskRequest, got {type(request).__name__}; write TaskRequest(prompt=…), or call an LLM: "
            "LLM()(prompt)"
        )
    return request


def judge(request: TaskRequest) -> None:
    """Refuse what no model could answer, before anything is sent."""
    if request.prompt is not None and not request.prompt.strip() and not (request.images or request.audio):
        raise InvalidRequestError("the prompt is empty: nothing was asked")
    if not request.conversation:
        raise InvalidRequestError("the request has neither a prompt nor messages: give one of them")
    if request.max_tokens is not None and request.max_tokens > MOST_TOKENS:
        raise InvalidRequestError(f"max_tokens is more than {MOST_TOKENS}: give a smaller number, or leave it out")


def check_is(name: str, value: object, kind: type, fix: str | None = None) -> None:
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} is a {kind.__name__}, got {type(value).__name__}" + (f"; {fix}" if fix else ""))


def _positive(name: str, value: object, unit: str) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise TypeError(f"{name} is a number of {unit}, got {type(value).__name__}")
    if value is not None and not value > 0:
        raise ValueError(f"{name} is more than 0 {unit}, got {value}")
