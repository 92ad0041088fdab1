"""`LLMSwitch`: the one place where routing, the loop, the providers and the watchers meet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from functools import partial
from random import random
from threading import Lock
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import replace

from . import catalog, media
from .buffering import buffered
from .config import load
from .config.policy import OnBreak, Policy, Strategy, is_offline
from .dispatch import Dispatch, Ledger, attempts
from .events import Event, Usage
from .exceptions import InvalidRequestError
from .provider import BODY, Provider
from .providers import make
from .routing import Admission, Plan, Situation, TargetHealth, Traffic, Wishes, needs_prices, plan
from .stream import LLMStream, Reading
from .streaming import ProgressTracker, StreamingCallbacks
from .streaming.account import Account
from .streaming.observe import Watcher
from .tasks import Target, TaskRequest


class RequestCache(Protocol):
    """What a cache is to the switch: it may answer in the place of the targets, and it may watch."""

    def replay(self, request: TaskRequest, targets: tuple[Target, ...]) -> AsyncGenerator[Event, None] | None:
        """The recorded events of this request, or of one so like it that its answer serves; `None` on a miss."""
        ...

    def recorder(self, request: TaskRequest, targets: tuple[Target, ...]) -> Watcher | None:
        """A watcher that records a stream which was not replayed."""
        ...


class CallSettings(Struct, frozen=True, kw_only=True):
    """What can be said of one call beyond its request; `None` leaves it to the configuration."""

    callbacks: StreamingCallbacks | None = None
    progress_tracker: ProgressTracker | None = None
    cache: RequestCache | None = None
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

    def watchers(self) -> list[Watcher]:
        """Who watches a stream of this call, the cache and the progress tracker excepted: these need the request."""
        return [] if self.callbacks is None else [self.callbacks.watcher()]

    def __post_init__(self) -> None:
        _is("callbacks", self.callbacks, StreamingCallbacks)
        _is("progress_tracker", self.progress_tracker, ProgressTracker)
        if self.progress_tracker is not None:
            self.progress_tracker.give()
        _is_positive("timeout", self.timeout, "seconds")
        if self.on_break not in (None, *get_args(OnBreak)):
            raise ValueError(f"on_break is one of {', '.join(get_args(OnBreak))}; got {self.on_break!r}")
        if self.max_retries is not None and (
            isinstance(self.max_retries, bool) or not isinstance(self.max_retries, int)
        ):
            raise TypeError(f"max_retries is an int, got {type(self.max_retries).__name__}")
        if self.max_retries is not None and self.max_retries < 0:
            raise ValueError(f"max_retries is 0 or more, got {self.max_retries}")
        _is("fallback_enabled", self.fallback_enabled, bool)
        for name, size in (("buffer_size", self.buffer_size), ("min_chunk_size", self.min_chunk_size)):
            if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
                raise TypeError(f"{name} is an int, got {type(size).__name__}")
            if size is not None and size < 1:
                raise ValueError(f"{name} is 1 or more, got {size}")
        if self.optimization_strategy not in (None, *get_args(Strategy)):
            strategies = ", ".join(get_args(Strategy))
            raise ValueError(f"optimization_strategy is one of {strategies}; got {self.optimization_strategy!r}")
        _is_positive("max_cost", self.max_cost, "US dollars")
        _is_positive("max_latency", self.max_latency, "seconds")

    def in_chunks(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """The events with their text in chunks of the size that was asked for; as they are, if none was."""
        if self.buffer_size is None and self.min_chunk_size is None:
            return events
        return buffered(events, buffer_size=self.buffer_size or 1, min_chunk_size=self.min_chunk_size or 1)


Asked: TypeAlias = TaskRequest | Callable[[], Awaitable[TaskRequest]]
Opening: TypeAlias = tuple[Callable[[Reading], AsyncGenerator[Event, None]], Account, list[Watcher]]
"""A stream's source, its account and its watchers."""


def _is(name: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} is a {kind.__name__}, got {type(value).__name__}")


def _is_positive(name: str, value: object, unit: str) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise TypeError(f"{name} is a number of {unit}, got {type(value).__name__}")
    if value is not None and not value > 0:
        raise ValueError(f"{name} is more than 0 {unit}, got {value}")


class LLMSwitch:
    """Routes requests to providers and keeps their streams going.

    `config` is a mapping, the path of a YAML file, a `Policy`, or nothing: then the environment and
    `llm_dispatcher.yaml`. Making one opens no connection.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str | os.PathLike[str] | Policy | None = None,
        *,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self._policy = load(config, keys=keys)
        self._providers: dict[str, Provider] = {
            name: make(settings) for name, settings in self._policy.providers.items()
        }
        self._catalog = catalog.Catalog(self._vendor_model, self._policy.catalog)
        self._traffic = Traffic(self._policy.resilience)
        self._prices_asked_for = False

    @property
    def policy(self) -> Policy:
        """The configuration in force."""
        return self._policy

    # ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────

    def stream_request(
        self,
        request: TaskRequest,
        *,
        callbacks: StreamingCallbacks | None = None,
        progress_tracker: ProgressTracker | None = None,
        cache: RequestCache | None = None,
        timeout: float | None = None,
        on_break: OnBreak | None = None,
        optimization_strategy: Strategy | None = None,
        max_cost: float | None = None,
        max_latency: float | None = None,
        raw: bool = False,
    ) -> LLMStream[str]:
        """A stream of the answer. Nothing is sent, and no request judged, before it is read."""
        settings = CallSettings(
            callbacks=callbacks,
            progress_tracker=progress_tracker,
            cache=cache,
            timeout=timeout,
            on_break=on_break,
            optimization_strategy=optimization_strategy,
            max_cost=max_cost,
            max_latency=max_latency,
            raw=raw,
        )
        return LLMStream(*self.opening(_a_request(request), settings))

    def opening(self, request: Asked, settings: CallSettings, body: Callable[[], Provider] | None = None) -> Opening:
        """What an `LLMStream` is made of. The request may be one that is only made when the stream is read; `body`
        makes the provider that stands for the decorated function's own body.
        """
        ledger = Ledger(self._price)
        watchers = settings.watchers()

        def source(reading: Reading) -> AsyncGenerator[Event, None]:
            return settings.in_chunks(self._source(request, settings, body, ledger, watchers, reading))

        return source, Account(ledger), watchers

    async def _source(
        self,
        asked: Asked,
        settings: CallSettings,
        body: Callable[[], Provider] | None,
        ledger: Ledger,
        watchers: list[Watcher],
        reading: Reading,
    ) -> AsyncGenerator[Event, None]:
        request = asked if isinstance(asked, TaskRequest) else await asked()
        if media.has_media(request):  # files are read once, however many targets are asked
            request = await asyncio.to_thread(media.normal, request)
        if settings.progress_tracker is not None:
            # (Before the callbacks, which may ask it; and one of which may hang.)
            watchers.insert(0, settings.progress_tracker.watcher(request.max_tokens))
        _judge(request)
        if not catalog.are_prices_loaded():
            if needs_prices(request, self._policy, self._wishes(settings)):
                await asyncio.to_thread(catalog.load_prices)
            elif not self._prices_asked_for:
                asyncio.get_running_loop().run_in_executor(None, catalog.load_prices)  # they are needed at the end
            self._prices_asked_for = True
        dispatch = self._dispatch(request, settings, body, ledger, reading)
        replay = recorder = None
        if settings.cache is not None:
            replay = settings.cache.replay(request, dispatch.targets)
            recorder = settings.cache.recorder(request, dispatch.targets) if replay is None else None
        if recorder is not None:
            watchers.append(recorder)
        async with aclosing(attempts(dispatch) if replay is None else replay) as events:
            async for event in events:
                yield event

    def _dispatch(
        self,
        request: TaskRequest,
        settings: CallSettings,
        body: Callable[[], Provider] | None,
        ledger: Ledger,
        reading: Reading,
    ) -> Dispatch:
        """Plan a request, and put together what the loop needs."""
        resilience = self._policy.resilience
        on_break = settings.on_break or resilience.on_break
        if on_break == "restart" and reading == "chunks":
            raise InvalidRequestError(
                "on_break='restart' takes back what was shown, and chunks cannot be taken back: "
                "read .events(), or await the stream"
            )
        if settings.timeout is not None:
            resilience = replace(resilience, timeouts=replace(resilience.timeouts, total=settings.timeout))
        if settings.max_retries is not None:
            resilience = replace(resilience, max_retries=settings.max_retries)
        decided = self._plan(request, settings, has_body=body is not None, load=False)
        stand_in = body() if body is not None else None

        def provider(target: Target) -> Provider:
            return stand_in if target.provider == BODY and stand_in is not None else self._providers[target.provider]

        return Dispatch(
            request=request,
            targets=decided.targets,
            provider=provider,
            style=lambda target: self._catalog.capabilities(target, load=False).continues,
            resilience=resilience,
            ledger=ledger,
            admission=Admission(self._traffic),
            on_break=on_break,
            raw=settings.raw,
        )

    # ── what it knows ──────────────────────────────────────────────────────────────────────────────────────────────

    def explain(
        self,
        request: TaskRequest,
        *,
        optimization_strategy: Strategy | None = None,
        max_cost: float | None = None,
        max_latency: float | None = None,
    ) -> Plan:
        """The targets for a request in order, and every rejected one with its reason; nothing is sent."""
        _judge(_a_request(request))
        settings = CallSettings(optimization_strategy=optimization_strategy, max_cost=max_cost, max_latency=max_latency)
        return self._plan(request, settings)

    def group_requests_by_provider(self, requests: Iterable[TaskRequest]) -> dict[str, list[TaskRequest]]:
        """The requests by the provider that each would go to first, their order kept."""
        groups: dict[str, list[TaskRequest]] = {}
        for request in requests:
            groups.setdefault(self.explain(request).targets[0].provider, []).append(request)
        return groups

    def capabilities(self, target: str | Target) -> catalog.Capabilities:
        """What a model can do and what it costs; the target is written `provider/model`."""
        found = Target.parse(target) if isinstance(target, str) else target
        settings = self._policy.providers.get(found.provider)
        if settings is None:
            configured = ", ".join(self._policy.providers)
            raise InvalidRequestError(f"no provider {found.provider!r} is configured (configured: {configured})")
        return self._catalog.capabilities(found)

    def health(self) -> dict[Target, TargetHealth]:
        """How each target that was asked has been doing."""
        return self._traffic.health.snapshot()

    def _plan(self, request: TaskRequest, settings: CallSettings, *, has_body: bool = False, load: bool = True) -> Plan:
        return plan(
            request,
            self._policy,
            capabilities=partial(self._catalog.capabilities, load=load),
            situation=Situation(
                health=self._traffic.health.snapshot(),
                draw=random(),  # noqa: S311 - a canary is no secret
                has_body=has_body,
                offline=is_offline(os.environ),
            ),
            wishes=self._wishes(settings),
        )

    def _wishes(self, settings: CallSettings) -> Wishes:
        fallback = settings.fallback_enabled
        return Wishes(
            strategy=settings.optimization_strategy,
            max_cost=settings.max_cost,
            max_latency=settings.max_latency,
            fallback=self._policy.resilience.fallback_enabled if fallback is None else fallback,
        )

    def _vendor_model(self, target: Target) -> tuple[str, str]:
        """The kind of vendor, and its own name for the model."""
        settings = self._policy.providers[target.provider]
        return settings.kind, settings.vendor_model(target.model)

    def _price(self, target: Target, usage: Usage) -> float | None:
        if target.provider not in self._policy.providers:
            return 0.0  # the decorated body: nobody sends a bill for it
        return self._catalog.cost(target, usage)

    # ── its end ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def aclose(self) -> None:
        """Close the connections that were opened in the running loop."""
        for provider in self._providers.values():
            await provider.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def _a_request(request: object) -> TaskRequest:
    if not isinstance(request, TaskRequest):
        raise TypeError(f"a request is a TaskRequest, got {type(request).__name__}; write TaskRequest(prompt=…)")
    return request


def _judge(request: TaskRequest) -> None:
    """Refuse what no model could answer, before anything is sent."""
    if request.prompt is not None and not request.prompt.strip() and not (request.images or request.audio):
        raise InvalidRequestError("the prompt is empty: nothing was asked")
    if not request.conversation:
        raise InvalidRequestError("the request has neither a prompt nor messages: give one of them")


# ── the one that everybody uses ────────────────────────────────────────────────────────────────────────────────────

_lock = Lock()
_global: LLMSwitch | None = None
_override: ContextVar[LLMSwitch | None] = ContextVar("llm_dispatcher_switch", default=None)


def init(
    config: Mapping[str, Any] | str | os.PathLike[str] | Policy | None = None,
    *,
    openai_api_key: str | None = None,
    anthropic_api_key: str | None = None,
    google_api_key: str | None = None,
) -> LLMSwitch:
    """Make the global switch from a configuration and keys; keys given here win over all others."""
    given = {"openai": openai_api_key, "anthropic": anthropic_api_key, "google": google_api_key}
    switch = LLMSwitch(config, keys={kind: key for kind, key in given.items() if key is not None})
    set_global_switch(switch)
    return switch


def get_global_switch() -> LLMSwitch:
    """The switch of this context, or else the global one, made from the environment when it is first asked for."""
    global _global
    override = _override.get()
    if override is not None:
        return override
    with _lock:
        if _global is None:
            _global = LLMSwitch()
        return _global


def set_global_switch(switch: LLMSwitch | None) -> LLMSwitch | None:
    """Make this the global switch, and return the one before. After `None`, the next use makes one."""
    global _global
    _is("switch", switch, LLMSwitch)
    with _lock:
        before, _global = _global, switch
        return before


@contextmanager
def use_switch(switch: LLMSwitch) -> Generator[LLMSwitch, None, None]:
    """Let this switch stand in for the global one in this context: this task and those it starts."""
    token = _override.set(switch)
    try:
        yield switch
    finally:
        _override.reset(token)
