"""`LLMSwitch`: takes requests, and owns the policy in force and everything that outlives a reload.

A switch may be used from several threads and event loops. A reload replaces `_runtime` as a whole; a stream keeps the
runtime that it began with. `_reloading` is held during a reload, so that two reloads do not mix. All runtimes share the
state in `_shared`, and each part of it has its own lock.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from types import TracebackType
from typing import Any, Self, Unpack

from msgspec.structs import replace

from .. import _catalog as catalog
from .._config import WatchedFile, load
from .._dispatch import OpenStreams, RetryStop, RetryWait, check_strategies, load_what_failures_need
from .._distribution import warn_of_the_other
from .._policy import Affinity, Policy, ProviderSettings, Strategy
from .._providers import make
from .._routing import Plan, SharedState, TargetHealth
from .._stream import LLMStream, may_block
from ..exceptions import ConfigurationError, LLMDispatcherError
from ..notices import BudgetAlert, ConfigurationChanged, ConfigurationRejected, Notify, Period
from ..provider import Provider
from ..streaming._observe import Observer
from ..tasks import Target, TaskRequest
from .call import Conversation
from .knowledge import Knowledge
from .observers import Observers
from .opening import CallOpening, RequestSource
from .options import CALL_OPTIONS, CallOptions, RouteOptions, check_names, documented
from .preparing import prepared
from .runtime import Runtime, Shared
from .runtimes import Runtimes
from .settings import CallSettings, as_request, check_function, check_request
from .warming import LOADING, prepare


class LLMSwitch:
    """Routes requests to providers and keeps their streams going. Making a switch opens no connection.

    Args:
        config: A mapping, the path of a YAML file, or a `Policy`. Without one, the environment and
            `llm_dispatcher.yaml` are read.
        keys: API keys by kind of provider. They win over all others.
        watch: Whether the file is read again when it has changed. Requests check it, at most once a second.
        on_budget_alert: A function that is called when a share of a budget is spent.
        observers: Observers of all streams of this switch.
        retry_wait: How long to wait before a target is tried again: one of tenacity's `wait_…` objects. Without one,
            the policy's `backoff` and `max_backoff` say it. A vendor's `Retry-After` is honoured in any case.
        retry_stop: When a target is not tried again: one of tenacity's `stop_…` objects. Without one, or for a call
            that sets `max_retries`, the number of tries says it.

    Raises:
        ConfigurationError: The configuration is wrong. The error lists every problem.
        TypeError: An observer, `on_budget_alert` or a strategy for retries is of the wrong type.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str | os.PathLike[str] | Policy | None = None,
        *,
        keys: Mapping[str, str] | None = None,
        watch: bool = False,
        on_budget_alert: Callable[[BudgetAlert], None] | None = None,
        observers: Sequence[Observer] = (),
        retry_wait: RetryWait | None = None,
        retry_stop: RetryStop | None = None,
    ) -> None:
        warn_of_the_other()
        load_what_failures_need()
        check_strategies(retry_wait, retry_stop)
        if on_budget_alert is not None:
            check_function("on_budget_alert", on_budget_alert)
        self._keys = keys
        policy = load(config, keys=keys)
        notify = self._observers = Observers(observers)
        traffic = SharedState(policy, alert=on_budget_alert, notify=notify)
        self._shared = Shared(
            traffic,
            Knowledge(traffic, notify),
            OpenStreams(),
            notify,
            Runtimes(),
            self._make_provider,
            {},
            retry_wait,
            retry_stop,
        )
        self._reloading = Lock()
        self._runtime = Runtime(policy, self._shared)
        self._shared.runtimes.adopt(self._runtime)
        self._watched_file = WatchedFile(self._file(None)) if watch else None

    @staticmethod
    def _make_provider(settings: ProviderSettings, notify: Notify) -> Provider:
        """Make a provider of the policy. A switch of a simulation makes simulated ones."""
        return make(settings, notify)

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._runtime.policy

    def reload(self, path: str | os.PathLike[str] | None = None) -> None:
        """Read a configuration file again, or another one, and put it in force. It may be called from any thread.

        The file is checked before anything changes. Streams keep the configuration that they began with. Health, rate
        limits and spending are kept.

        Raises:
            ConfigurationError: The file is wrong, and nothing has changed.
        """
        file = self._file(path)
        self._adopt(load(file, keys=self._keys, is_found=path is None and self.policy.is_found))
        if self._watched_file is not None:
            self._watched_file = WatchedFile(file)

    def _file(self, path: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
        file = path or self.policy.source
        if file is None:
            raise ConfigurationError(
                "the configuration was not read from a file, so it cannot be read again: give a path"
            )
        return file

    def _adopt(self, policy: Policy) -> None:
        with self._reloading:
            before = self._runtime
            self._runtime = Runtime(policy, self._shared, before)
            self._shared.runtimes.adopt(self._runtime, before)
            self._shared.traffic.adopt(policy)
        self._shared.notify(ConfigurationChanged(policy.source))

    async def _look(self) -> None:
        """Read the watched file again if it has changed. A wrong file changes nothing and causes one notice."""
        watched_file = self._watched_file
        if watched_file is None or not watched_file.has_changed():
            return
        try:
            is_found = self.policy.is_found
            self._adopt(await asyncio.to_thread(load, watched_file.path, keys=self._keys, is_found=is_found))
        except ConfigurationError as error:
            self._shared.notify(ConfigurationRejected(error))
        except asyncio.CancelledError:
            watched_file.forget()  # the next request reads it
            raise

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @documented(RouteOptions, CallOptions)
    def stream_request(self, request: TaskRequest, **options: Unpack[CallOptions]) -> LLMStream[str]:
        """A stream of the answer. The request is checked and sent when the stream is read.

        Call it from any thread. The stream is read in one event loop, or in a thread that may block.

        Args:
            request: The prompt or messages, with the options of the request.

        Raises:
            TypeError, ValueError: An option has a wrong name, type or value.
        """
        check_names(options, CALL_OPTIONS)
        return LLMStream(self._opening(prepared(as_request(request)), CallSettings(**options)))

    def _opening(
        self,
        request: RequestSource,
        settings: CallSettings,
        *,
        body: Callable[[], Provider] | None = None,
        observers: Sequence[Observer] = (),
        conversation: Conversation | None = None,
    ) -> CallOpening:
        all_observers = (*settings.observers, *observers, *self._observers.own, LOADING)
        return CallOpening(request, settings, self._runtime_now, all_observers, body, conversation)

    async def _runtime_now(self) -> Runtime:
        """The runtime for a call that begins now."""
        await self._look()
        return self._runtime

    # ── knowledge ────────────────────────────────────────────────────────────────────────────────────────────────────

    def explain(
        self,
        request: TaskRequest,
        *,
        optimization_strategy: Strategy | None = None,
        max_cost: float | None = None,
        max_latency: float | None = None,
    ) -> Plan:
        """The targets for a request in order, and each rejected target with its reason. Nothing is sent.

        The plan also says by which rung each target would continue an answer that breaks. Which rungs may be used then
        depends on what its reader has received by that time.

        Args:
            request: The request to plan.
            optimization_strategy: The strategy to plan with, instead of the policy's.
            max_cost: The most US dollars that the request may cost.
            max_latency: The most seconds until the first token.

        Raises:
            NoProviderAvailableError: No target can serve the request.
            EventLoopRunningError: An event loop runs in this thread, and the plan depends on prices or spending that
                were not read yet. Await `aexplain` instead.
        """
        settings = CallSettings(optimization_strategy=optimization_strategy, max_cost=max_cost, max_latency=max_latency)
        return self._plan(prepared(as_request(request)), settings)

    def _plan(self, request: TaskRequest, settings: CallSettings, affinity: Affinity | None = None) -> Plan:
        check_request(request)
        wishes = replace(settings.wishes(self.policy, request.task_type), affinity=affinity)
        self._shared.knowledge.look(request, self.policy, wishes, "await switch.aexplain(request)")
        runtime = self._runtime
        return runtime.with_rungs(runtime.plan(request, wishes, load=False), request)

    async def aexplain(self, request: TaskRequest, **settings: Unpack[RouteOptions]) -> Plan:
        """`explain` for coroutines. It reads prices and spending in threads."""
        await self._shared.knowledge.look_in_a_thread()
        return self.explain(request, **settings)

    def group_requests_by_provider(self, requests: Iterable[TaskRequest]) -> dict[str, list[TaskRequest]]:
        """The requests by the provider that each one would go to first, in their order.

        Requests that no provider can serve are under the key "". In a running event loop, `await switch.warm()` once
        before.
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
        """The traits, prices and context window of a model. A target is written `provider/model`.

        In a running event loop, prices and context windows are missing until they are loaded: `await switch.warm()`
        once before.
        """
        if not may_block():
            self._shared.knowledge.load_in_background()
        return self._runtime.capabilities(target, load=may_block())

    def health(self) -> dict[Target, TargetHealth]:
        """The health of each target that was asked."""
        return self._shared.traffic.health.snapshot()

    def spent(self, namespace: str = "") -> dict[Period, float]:
        """US dollars spent today and this month, by all requests or by those of one namespace.

        Raises:
            EventLoopRunningError: An event loop runs in this thread, and the file of recorded spending was not read
                yet. Await `aspent` instead.
        """
        self._shared.knowledge.look_at_spending("await switch.aspent()")
        return self._shared.traffic.budgets.spent(namespace)

    async def aspent(self, namespace: str = "") -> dict[Period, float]:
        """`spent` for coroutines. It reads the file in a thread."""
        await asyncio.to_thread(self._shared.traffic.budgets.spending.look)
        return self._shared.traffic.budgets.spent(namespace)

    async def warm(self) -> None:
        """Load every configured vendor's SDK and make its client in the running loop, and load the price list.

        Await this when an application starts, so that no request and no switch in the middle of an answer has to wait
        for an import. No request is sent to a vendor. If a vendor cannot be prepared, that is a notice, and the others
        are still prepared.
        """
        spending = self._shared.traffic.budgets.spending
        reading = [] if spending.is_read else [asyncio.to_thread(spending.read)]
        await asyncio.gather(
            prepare(self._runtime.providers, self._shared.notify), asyncio.to_thread(catalog.load_prices), *reading
        )

    # ── closing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def aclose(self) -> None:
        """Close the connections that were opened in the running loop, and write spending and cache entries to disk.

        Open streams of this loop end with a `StreamingError`, which has their delivered text.
        """
        await self._shared.open_streams.end()
        for provider in self._runtime.providers.values():
            await provider.aclose()
        await self._shared.traffic.budgets.spending.flush()
        if (cache := self._runtime.cache_in_use) is not None:
            await asyncio.to_thread(cache.flush)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def opening(
    switch: LLMSwitch,
    request: RequestSource,
    settings: CallSettings,
    *,
    body: Callable[[], Provider] | None = None,
    observers: Sequence[Observer] = (),
    conversation: Conversation | None = None,
) -> CallOpening:
    """The opening of a stream of this switch, for the decorators, for `LLM` and for sessions.

    The request may be a function that makes one when the stream is read. `body` makes the provider that runs the
    decorated function's own body. `conversation` is what the call belongs to.
    """
    return switch._opening(  # noqa: SLF001 - of this module
        request, settings, body=body, observers=observers, conversation=conversation
    )


def plan_of(switch: LLMSwitch, request: TaskRequest, settings: CallSettings, affinity: Affinity | None) -> Plan:
    """`switch.explain` for the next turn of a conversation, with all settings of its call."""
    return switch._plan(request, settings, affinity)  # noqa: SLF001 - of this module


def notify_of(switch: LLMSwitch) -> Notify:
    """The function that gives a notice to all observers of a switch."""
    return switch._shared.notify  # noqa: SLF001 - of this module
