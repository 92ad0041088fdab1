"""`LLMSwitch`: the one place where routing, the loop, the providers and the watchers meet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from .. import _catalog as catalog
from .._config import WatchedFile, load
from .._dispatch import OpenStreams, load_what_failures_need
from .._distribution import warn_of_the_other
from .._policy import Policy, Strategy
from .._routing import Plan, SharedState, TargetHealth
from .._stream import LLMStream, may_block
from ..exceptions import ConfigurationError, LLMDispatcherError
from ..notices import BudgetAlert, ConfigurationChanged, ConfigurationRejected, Notify, Period
from ..provider import Provider
from ..streaming._observe import Observer
from ..tasks import Target, TaskRequest
from .knowledge import Knowledge
from .observers import Observers
from .opening import CallOpening, RequestSource
from .options import CALL_OPTIONS, CallOptions, RouteOptions, check_names, documented
from .runtime import Runtime, Shared
from .settings import CallSettings, as_request, check_request
from .warming import LOADING, prepare


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
        observers: Sequence[Observer] = (),
    ) -> None:
        warn_of_the_other()
        load_what_failures_need()
        self._keys = keys
        policy = load(config, keys=keys)
        notify = self._observers = Observers(observers)
        traffic = SharedState(policy, alert=on_budget_alert, notify=notify)
        self._shared = Shared(traffic, Knowledge(traffic, notify), OpenStreams(), notify)
        self._runtime = Runtime(policy, self._shared)
        self._watched = WatchedFile(self._file(None)) if watch else None

    @property
    def policy(self) -> Policy:
        """The configuration in force."""
        return self._runtime.policy

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
        self._runtime = Runtime(policy, self._shared, self._runtime)
        self._shared.traffic.adopt(policy)
        self._shared.notify(ConfigurationChanged(policy.source))

    async def _look(self) -> None:
        """Take the watched file anew, if it has changed. A bad one changes nothing and is told of once."""
        if self._watched is None or not self._watched.has_changed():
            return
        try:
            is_found = self.policy.is_found
            self._adopt(await asyncio.to_thread(load, self._watched.path, keys=self._keys, is_found=is_found))
        except ConfigurationError as error:
            self._shared.notify(ConfigurationRejected(error))

    # ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────

    @documented(RouteOptions, CallOptions)
    def stream_request(self, request: TaskRequest, **options: Unpack[CallOptions]) -> LLMStream[str]:
        """A stream of the answer. Nothing is sent, and the request is not checked, before it is read.

        Call it from any thread. The stream is read in one event loop, or in a thread that may block.

        Raises:
            TypeError, ValueError: An option has a wrong name, type or value.
        """
        check_names(options, CALL_OPTIONS)
        return LLMStream(self._opening(as_request(request), CallSettings(**options)))

    def _opening(
        self,
        request: RequestSource,
        settings: CallSettings,
        *,
        body: Callable[[], Provider] | None = None,
        observers: Sequence[Observer] = (),
    ) -> CallOpening:
        everybody = (*settings.observers, *observers, *self._observers.own, LOADING)
        return CallOpening(request, settings, self._runtime_now, everybody, body)

    async def _runtime_now(self) -> Runtime:
        """The runtime for a call that begins now."""
        await self._look()
        return self._runtime

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
        check_request(as_request(request))
        settings = CallSettings(optimization_strategy=optimization_strategy, max_cost=max_cost, max_latency=max_latency)
        wishes = settings.wishes(self.policy)
        self._shared.knowledge.look(request, self.policy, wishes, "await switch.aexplain(request)")
        return self._runtime.plan(request, wishes, load=False)

    async def aexplain(self, request: TaskRequest, **settings: Unpack[RouteOptions]) -> Plan:
        """`explain` for a coroutine: what it needs to know is read in threads."""
        await self._shared.knowledge.look_in_a_thread()
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
            self._shared.knowledge.load_in_background()
        return self._runtime.capabilities(target, load=may_block())

    def health(self) -> dict[Target, TargetHealth]:
        """How each target that was asked has been doing."""
        return self._shared.traffic.health.snapshot()

    def spent(self, namespace: str = "") -> dict[Period, float]:
        """US dollars spent today and this month, by all requests or by those of a namespace. In a running event loop,
        await `aspent` where no stream has been read yet: the file of what was spent was not either.
        """
        self._shared.knowledge.look_at_spending("await switch.aspent()")
        return self._shared.traffic.budgets.spent(namespace)

    async def aspent(self, namespace: str = "") -> dict[Period, float]:
        """`spent` for a coroutine: the file of what was spent is read in a thread."""
        await asyncio.to_thread(self._shared.traffic.budgets.spending.look)
        return self._shared.traffic.budgets.spent(namespace)

    async def warm(self) -> None:
        """Load every configured vendor's SDK and make its client in the running loop, and load the price list.

        Await this when an application starts, so that no request and no switch in the middle of an answer has to wait
        for an import. Nothing is sent to any vendor. If one cannot be prepared, a notice says so; the others are.
        """
        spending = self._shared.traffic.budgets.spending
        reading = [] if spending.is_read else [asyncio.to_thread(spending.read)]
        await asyncio.gather(
            prepare(self._runtime.providers, self._shared.notify), asyncio.to_thread(catalog.load_prices), *reading
        )

    # ── its end ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def aclose(self) -> None:
        """Close the connections that were opened in the running loop, and write down what was spent and recorded.

        Streams of this loop that are under way end with a `StreamingError`, which has what they had delivered.
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
) -> CallOpening:
    """How a stream of this switch begins: for the decorators and for `LLM`.

    The request may be a function that makes one when the stream is read. `body` makes the provider that stands for the
    decorated function's own body.
    """
    return switch._opening(request, settings, body=body, observers=observers)  # noqa: SLF001 - of this module


def notify_of(switch: LLMSwitch) -> Notify:
    """The function that gives a notice to all observers of a switch."""
    return switch._shared.notify  # noqa: SLF001 - of this module
