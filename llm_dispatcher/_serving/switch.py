"""`LLMSwitch`: the one place where routing, the loop, the providers and the watchers meet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from threading import Lock
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, Unpack

from msgspec.structs import replace

from .. import _catalog as catalog
from .. import _media as media
from .._config import WatchedFile, load
from .._dispatch import Course, Job, Ledger, OpenStreams, attempts, load_what_failures_need
from .._distribution import warn_of_the_other
from .._log import write
from .._policy import BODY, OnBreak, Policy, Strategy
from .._routing import Admission, Plan, SharedState, TargetHealth
from .._stream import LLMStream, Reading, Source, may_block
from .._upstream import Deadline, Upstream
from ..events import Event
from ..exceptions import ConfigurationError, InvalidRequestError, LLMDispatcherError
from ..notices import BudgetAlert, ConfigurationChanged, ConfigurationRejected, Notify, Period
from ..provider import Provider
from ..streaming import ProgressTracker, StreamingCallbacks
from ..streaming._account import Account
from ..streaming._observe import Watcher
from ..tasks import Target, TaskRequest
from .knowledge import Knowledge
from .runtime import InForce
from .settings import CallSettings, RequestCache, RouteSettings, a_request, check_is, judge
from .stages.metering import metered
from .warming import LoadOthers, load_in_background, missing_sdks, prepare

Asked: TypeAlias = TaskRequest | Callable[[], Awaitable[TaskRequest]]
Opening: TypeAlias = tuple[Source, Account, list[Watcher]]  # a stream's source, its account and its watchers


class LLMSwitch:
    """Routes requests to providers and keeps their streams going.

    `config` is a mapping, the path of a YAML file, a `Policy`, or nothing: then the environment and
    `llm_dispatcher.yaml`. Making one opens no connection. With `watch`, the file is looked at once a second while
    requests come, and taken anew when it has changed. `on_budget_alert` is told when a share of a budget is spent.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str | os.PathLike[str] | Policy | None = None,
        *,
        keys: Mapping[str, str] | None = None,
        watch: bool = False,
        on_budget_alert: Callable[[BudgetAlert], None] | None = None,
    ) -> None:
        warn_of_the_other()
        load_what_failures_need()
        self._notify: Notify = write
        self._keys = keys
        self._in_force = InForce(load(config, keys=keys), notify=self._notify)
        self._traffic = SharedState(self.policy, alert=on_budget_alert, notify=self._notify)
        self._under_way = OpenStreams()
        self._watched = WatchedFile(self._file(None)) if watch else None
        self._knowledge = Knowledge(self._traffic, self._notify)

    @property
    def policy(self) -> Policy:
        """The configuration in force."""
        return self._in_force.policy

    def reload(self, path: str | os.PathLike[str] | None = None) -> None:
        """Take another configuration, or the same file anew. It is read and judged whole before anything changes: a
        `ConfigurationError` changes nothing. Streams that are under way keep the configuration that they began with;
        health, rate limits and what was spent go on.
        """
        file = self._file(path)
        self._adopt(load(file, keys=self._keys, is_found=path is None and self.policy.is_found))
        if self._watched is not None:
            self._watched = WatchedFile(file)

    def _file(self, path: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
        file = path or self.policy.source
        if file is None:
            raise ConfigurationError("the configuration was not read from a file: there is none to read again")
        return file

    def _adopt(self, policy: Policy) -> None:
        self._in_force = InForce(policy, self._in_force, self._notify)
        self._traffic.adopt(policy)
        self._notify(ConfigurationChanged(policy.source))

    async def _look(self) -> None:
        """Take the watched file anew, if it has changed. A bad one changes nothing and is told of once."""
        if self._watched is None or not self._watched.has_changed():
            return
        try:
            is_found = self.policy.is_found
            self._adopt(await asyncio.to_thread(load, self._watched.path, keys=self._keys, is_found=is_found))
        except ConfigurationError as error:
            self._notify(ConfigurationRejected(error))

    # ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────

    def stream_request(
        self,
        request: TaskRequest,
        *,
        callbacks: StreamingCallbacks | None = None,
        progress_tracker: ProgressTracker | None = None,
        cache: RequestCache | Literal[False] | None = None,
        timeout: float | None = None,
        on_break: OnBreak | None = None,
        max_retries: int | None = None,
        fallback_enabled: bool | None = None,
        optimization_strategy: Strategy | None = None,
        max_cost: float | None = None,
        max_latency: float | None = None,
        buffer_size: int | None = None,
        min_chunk_size: int | None = None,
        raw: bool = False,
    ) -> LLMStream[str]:
        """A stream of the answer. Nothing is sent, and no request judged, before it is read."""
        settings = CallSettings(
            callbacks=callbacks,
            progress_tracker=progress_tracker,
            cache=cache,
            timeout=timeout,
            on_break=on_break,
            max_retries=max_retries,
            fallback_enabled=fallback_enabled,
            optimization_strategy=optimization_strategy,
            max_cost=max_cost,
            max_latency=max_latency,
            buffer_size=buffer_size,
            min_chunk_size=min_chunk_size,
            raw=raw,
        )
        return LLMStream(*self.opening(a_request(request), settings))

    def opening(self, request: Asked, settings: CallSettings, body: Callable[[], Provider] | None = None) -> Opening:
        """What an `LLMStream` is made of. The request may be one that is only made when the stream is read; `body`
        makes the provider that stands for the decorated function's own body.
        """
        ledger = Ledger()
        account, watchers = Account(ledger), settings.watchers()

        async def source(reading: Reading) -> AsyncGenerator[Event, None]:
            return settings.in_chunks(await self._opened(request, settings, body, ledger, account, watchers, reading))

        return source, account, watchers

    async def _opened(
        self,
        asked: Asked,
        settings: CallSettings,
        body: Callable[[], Provider] | None,
        ledger: Ledger,
        account: Account,
        watchers: list[Watcher],
        reading: Reading,
    ) -> AsyncGenerator[Event, None]:
        await self._look()
        in_force = self._in_force
        request = asked if isinstance(asked, TaskRequest) else await asked()
        if media.has_media(request):  # files are read once, however many targets are asked
            request = await asyncio.to_thread(media.load_media, request)
        # (Before the callbacks, which may ask a tracker; and one of which may hang.)
        watchers[:0] = settings.trackers(account, request.max_tokens)
        judge(request)
        kinds = in_force.kinds(request)
        if missing_sdks(kinds):
            watchers.append(LoadOthers(kinds))

        async def answering(deadline: Deadline | None = None) -> AsyncGenerator[Event, None]:
            await self._knowledge.learn(request, in_force.policy, settings.wishes(in_force.policy))
            dispatch, admission = self._dispatch(request, settings, body, ledger, reading, in_force, deadline)
            source, usage = attempts(dispatch, course := Course()), lambda: ledger.usage
            return metered(source, admission, course.transcript, usage) if admission.is_metered else source

        cache = in_force.cache if settings.cache is None else settings.cache
        if cache and not settings.raw:
            # (The cache is asked first: what it holds, it gives when no target could, and for nothing.)
            may_answer = in_force.may_answer(request, has_body=body is not None)
            deadline = Deadline(settings.total(in_force.policy))
            upstream = Upstream(partial(answering, deadline), in_force.models(may_answer), deadline)
            return cache.stream(request, may_answer, upstream, settings.apart(in_force.policy, reading))
        return await answering()

    def _dispatch(
        self,
        request: TaskRequest,
        settings: CallSettings,
        body: Callable[[], Provider] | None,
        ledger: Ledger,
        reading: Reading,
        in_force: InForce,
        deadline: Deadline | None = None,
    ) -> tuple[Job, Admission]:
        """Plan a request, and put together what the loop needs."""
        resilience = in_force.policy.resilience
        on_break = settings.on_break or resilience.on_break
        if on_break == "restart" and reading == "chunks":
            raise InvalidRequestError(
                "on_break='restart' takes back what was shown, and chunks cannot be taken back: "
                "read .events(), or await the stream"
            )
        wishes = settings.wishes(in_force.policy)
        decided = in_force.plan(request, wishes, self._traffic, has_body=body is not None, load=False)
        resilience = replace(resilience, timeouts=in_force.timeouts(request, decided, wishes))
        if settings.timeout is not None:
            resilience = replace(resilience, timeouts=replace(resilience.timeouts, total=settings.timeout))
        if settings.max_retries is not None:
            resilience = replace(resilience, max_retries=settings.max_retries)
        admission = in_force.admission(request, decided, wishes, self._traffic)
        stand_in = body() if body is not None else None

        def provider(target: Target) -> Provider:
            if target.provider == BODY and stand_in is not None:
                return stand_in
            return in_force.providers[target.provider]

        dispatch = Job(
            request=in_force.to_send(request),
            targets=decided.targets,
            provider=provider,
            style=lambda target: in_force.catalog.capabilities(target, load=False).continues,
            resilience=resilience,
            ledger=ledger,
            admission=admission,
            on_break=on_break,
            raw=settings.raw,
            open_streams=self._under_way,
            deadline=deadline,
            price=in_force.price,
            notify=self._notify,
        )
        return dispatch, admission

    # ── what it knows ──────────────────────────────────────────────────────────────────────────────────────────────

    def explain(
        self,
        request: TaskRequest,
        *,
        optimization_strategy: Strategy | None = None,
        max_cost: float | None = None,
        max_latency: float | None = None,
    ) -> Plan:
        """The targets for a request in order, and every rejected one with its reason; nothing is sent. In a running
        event loop, a plan that depends on prices or on money spent that were not read yet is refused: await `aexplain`.
        """
        judge(a_request(request))
        settings = CallSettings(optimization_strategy=optimization_strategy, max_cost=max_cost, max_latency=max_latency)
        wishes = settings.wishes(self.policy)
        self._knowledge.look(request, self.policy, wishes, "await switch.aexplain(request)")
        return self._in_force.plan(request, wishes, self._traffic, load=False)

    async def aexplain(self, request: TaskRequest, **settings: Unpack[RouteSettings]) -> Plan:
        """`explain` for a coroutine: what it needs to know is read in threads."""
        await self._knowledge.look_in_a_thread()
        return self.explain(request, **settings)

    def group_requests_by_provider(self, requests: Iterable[TaskRequest]) -> dict[str, list[TaskRequest]]:
        """The requests by the provider that each would go to first, their order kept. Requests that nobody can serve
        are under the key "", which no provider can have. In a running event loop, `await switch.warm()` once before.
        """
        groups: dict[str, list[TaskRequest]] = {}
        for request in requests:
            try:
                provider = self.explain(request).targets[0].provider
            except LLMDispatcherError:
                provider = ""
            groups.setdefault(provider, []).append(request)
        return groups

    def capabilities(self, target: str | Target) -> catalog.Capabilities:
        """What a model can do and what it costs; the target is written `provider/model`. In a running event loop,
        prices and windows are there once they were loaded: `await switch.warm()` before.
        """
        if not may_block():
            self._knowledge.load_in_background()
        return self._in_force.capabilities(target, load=may_block())

    def health(self) -> dict[Target, TargetHealth]:
        """How each target that was asked has been doing."""
        return self._traffic.health.snapshot()

    def spent(self, namespace: str = "") -> dict[Period, float]:
        """US dollars spent today and this month, by all requests or by those of a namespace. In a running event loop,
        await `aspent` where no stream has been read yet: the file of what was spent was not either.
        """
        self._knowledge.look_at_spending("await switch.aspent()")
        return self._traffic.budgets.spent(namespace)

    async def aspent(self, namespace: str = "") -> dict[Period, float]:
        """`spent` for a coroutine: the file of what was spent is read in a thread."""
        await asyncio.to_thread(self._traffic.budgets.spending.look)
        return self._traffic.budgets.spent(namespace)

    async def warm(self) -> None:
        """Load every configured vendor's SDK and make its client in the running loop, and load the price list.

        Await this when an application starts, so that no request and no switch in the middle of an answer has to wait
        for an import. Nothing is sent to any vendor. If one cannot be prepared, a notice says so; the others are.
        """
        spending = self._traffic.budgets.spending
        reading = [] if spending.is_read else [asyncio.to_thread(spending.read)]
        preparing = prepare(self._in_force.providers, self._notify)
        await asyncio.gather(preparing, asyncio.to_thread(catalog.load_prices), *reading)

    # ── its end ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def aclose(self) -> None:
        """Close the connections that were opened in the running loop, and write down what was spent and recorded.

        Streams of this loop that are under way end with a `StreamingError`, which has what they had delivered.
        """
        await self._under_way.end()
        for provider in self._in_force.providers.values():
            await provider.aclose()
        await self._traffic.budgets.spending.flush()
        if (cache := self._in_force.cache_in_use) is not None:
            await asyncio.to_thread(cache.flush)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


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
    watch: bool = False,
    warm: bool = False,
    on_budget_alert: Callable[[BudgetAlert], None] | None = None,
) -> LLMSwitch:
    """Make the global switch from a configuration and keys; keys given here win over all others.

    With `warm`, the SDKs of all configured vendors are imported in a thread from now on; `await switch.warm()` also
    makes their clients, and waits until that is done.
    """
    given = {"openai": openai_api_key, "anthropic": anthropic_api_key, "google": google_api_key}
    keys = {kind: key for kind, key in given.items() if key is not None}
    switch = LLMSwitch(config, keys=keys, watch=watch, on_budget_alert=on_budget_alert)
    set_global_switch(switch)
    if warm:
        load_in_background(provider.kind for provider in switch.policy.providers.values() if provider.enabled)
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
    check_is("switch", switch, LLMSwitch)
    with _lock:
        before, _global = _global, switch
        return before


@contextmanager
def use_switch(switch: LLMSwitch) -> Generator[LLMSwitch, None, None]:
    """Let this switch stand in for the global one in this context: this task and those it starts."""
    check_is("switch", switch, LLMSwitch)
    token = _override.set(switch)
    try:
        yield switch
    finally:
        _override.reset(token)
