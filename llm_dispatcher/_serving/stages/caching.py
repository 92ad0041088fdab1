"""The stage that answers from a cache."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from msgspec.structs import replace

from ..._upstream import Deadline, Upstream
from ...events import Event
from ..call import Call, Onward
from ..options import RequestCache


class Caching:
    """Asks the cache before anything is planned, so that a hit is answered even if no target is available."""

    def wanted(self, call: Call) -> bool:
        return bool(_cache(call)) and not call.settings.raw and not call.runs_tools  # a replay would not act

    async def open(self, call: Call, onward: Onward) -> AsyncGenerator[Event, None]:
        cache, runtime = _cache(call), call.runtime
        assert cache
        targets = runtime.may_answer(call.request, has_body=call.body is not None)
        policy, task_type = runtime.policy, call.request.task_type
        deadline = call.deadline or Deadline(call.settings.total(policy, task_type))
        upstream = Upstream(partial(onward, replace(call, deadline=deadline)), runtime.models(targets), deadline)
        return cache.stream(call.request, targets, upstream, call.settings.apart(policy, task_type, call.shape))


def _cache(call: Call) -> RequestCache | None:
    """The cache of the call's settings, else the configured one."""
    own = call.settings.cache
    return call.runtime.cache if own is None else own or None
