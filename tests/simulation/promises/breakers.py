"""Breakers keep everybody away from a target that fails, and nobody from one that does not.

A route can have breakers of its own. So a breaker is that of a route and a target; the route "" stands for all routes
that share one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from math import inf
from typing import Final, TypeAlias

from llm_dispatcher._resilience import BreakerSettings
from llm_dispatcher._routing.health import REFUSED
from llm_dispatcher.notices import BreakerChanged, TargetSkipped
from llm_dispatcher.tasks import Target, TaskType
from tests.simulation.promises.kit import everyone, fail, has_own_breakers, over_at, route_of_breakers
from tests.simulation.promises.matching import Request, sent_by
from tests.simulation.record import Process, Run

Key: TypeAlias = tuple[str, Target]
LATE: Final = 0.5
"""Seconds by which a row may be written later than its vendor's answer has ended."""
_ROUTE: Final = re.compile(r", for the route (\w+)$")
_IS_OPEN: Final = "not asked: its breaker is open"


def an_open_breaker_keeps_everybody_away(run: Run) -> None:
    """While the breaker of a target is open, no request asks it for which this breaker holds. An attempt that was
    admitted in the same moment may be sent.
    """
    for process in run.processes:
        opened: dict[Key, list[tuple[float, float]]] = defaultdict(list)
        for at, key, notice in _changes(process):
            if opened[key] and opened[key][-1][1] == inf:
                opened[key][-1] = (opened[key][-1][0], at)
            if notice.state == "open":
                opened[key].append((at, inf))
        for request in sent_by(run, process):
            for begins, ends in opened.get(_key(run, request), ()):
                if begins < request.began_at < ends:
                    what = (
                        f"no request to {request.served.target}, whose breaker is open from {begins:.3f} to {ends:.3f}"
                    )
                    fail(request.reading, what, f"one at {request.began_at:.3f}")


def a_breaker_opens_only_after_failures(run: Run) -> None:
    """A breaker opens after as many failures of its own requests within its window as its settings say, and a half open
    one after one.
    """
    for process in run.processes:
        failed = [(_key(run, each), each) for each in sent_by(run, process) if _has_failed(each)]
        state: dict[Key, str] = {}
        for at, key, notice in _changes(process):
            settings = _breakers(process, key)
            most, window = min(each.failures or 0 for each in settings), max(each.window for each in settings)
            lately = [
                each for whose, each in failed
                if whose == key and at - window - LATE <= over_at(each.served) <= at + LATE
            ]  # fmt: skip
            least = 1 if state.get(key) == "half_open" else most
            if notice.state == "open" and len(lately) < least and not process.was_killed:
                fail(process, f"at least {least} failures of {_name(key)} before {at:.3f}", len(lately))
            state[key] = notice.state


def an_open_breaker_stays_so_for_its_cooldown(run: Run) -> None:
    """A breaker becomes half open when its cooldown is over, and not before; its states follow each other in order."""
    follows = {"closed": ("open",), "open": ("half_open",), "half_open": ("closed", "open")}
    for process in run.processes:
        last: dict[Key, tuple[str, float]] = {}
        for at, key, notice in _changes(process):
            least = min(each.cooldown for each in _breakers(process, key))
            state, since = last.get(key, ("closed", 0.0))
            if notice.state not in follows[state]:
                fail(process, f"{' or '.join(follows[state])} after {state} of {_name(key)}", notice.state)
            if state == "open" and at - since < least - 1e-6:
                what = f"{_name(key)} stays open for {least:g} s from {since:.3f} on"
                fail(process, what, f"{notice.state} at {at:.3f}")
            last[key] = (notice.state, at)


def a_half_open_breaker_admits_few(run: Run) -> None:
    """A half open breaker admits `probes` attempts at a time, and one more for each cooldown in which none ended."""
    for process in run.processes:
        sent = [(_key(run, each), each) for each in sent_by(run, process)]
        for key, begins, ends in _half_open(process):
            settings = _breakers(process, key)
            probes, cooldown = max(each.probes for each in settings), min(each.cooldown for each in settings)
            admitted = [each for whose, each in sent if whose == key and begins <= each.began_at < ends]
            for each in admitted:
                at = each.began_at
                under_way = [one for one in admitted if one.began_at <= at < over_at(one.served)]
                most = probes + int((at - begins + 1e-6) / cooldown)
                if len(under_way) > most:
                    what = f"at most {most} probes of {_name(key)} at {at:.3f}"
                    fail(process, what, [one.reading.name for one in under_way])


def a_breaker_is_that_of_its_route(run: Run) -> None:
    """A breaker keeps a request away from a target only if it is that of the request's route: a route with breakers of
    its own has one for each target, and all other routes share one.
    """
    for process in run.processes:
        closed: dict[Key, bool] = {}
        for at, notice in process.notices:
            if isinstance(notice, BreakerChanged):
                closed[_key_of(notice)] = notice.state == "closed"
            if not isinstance(notice, TargetSkipped) or _IS_OPEN not in notice.failure.message:
                continue
            routes = {
                route_of_breakers(run, each)
                for each in everyone(run)
                if each.process == process.number and each.began_at <= at <= (each.ended_at or at)
            }
            if all(closed.get((route, notice.target), True) for route in routes):
                asked = ", ".join(sorted(route or "the others" for route in routes))
                what = f"{notice.target} is asked, because its breaker for the routes {asked} is closed"
                fail(process, what, f"{notice.failure.message} at {at:.3f}")


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _key(run: Run, request: Request) -> Key:
    """The breaker that has admitted a request."""
    return route_of_breakers(run, request.reading), request.served.target


def _key_of(notice: BreakerChanged) -> Key:
    match = _ROUTE.search(notice.reason)
    return match[1] if match else "", notice.target


def _name(key: Key) -> str:
    return f"{key[1]} for the route {key[0]}" if key[0] else str(key[1])


def _changes(process: Process) -> Iterator[tuple[float, Key, BreakerChanged]]:
    return ((at, _key_of(notice), notice) for at, notice in process.notices if isinstance(notice, BreakerChanged))


def _has_failed(request: Request) -> bool:
    """Whether an attempt has failed. A model that declines has answered."""
    row = request.row
    return row is not None and row.failure is not None and row.failure.kind != REFUSED


def _breakers(process: Process, key: Key) -> list[BreakerSettings]:
    """The settings of a breaker that were in force."""
    route, target = key
    if not route:
        return [policy.resilience_of(None, target).breaker for _, policy in process.policies]
    task = TaskType.TEXT_GENERATION if route == "default" else TaskType(route)
    own = [policy for _, policy in process.policies if has_own_breakers(policy, task)]
    return [policy.resilience_of(task, target).breaker for policy in own]


def _half_open(process: Process) -> Iterator[tuple[Key, float, float]]:
    began: dict[Key, float] = {}
    for at, key, notice in _changes(process):
        if key in began:
            yield key, began.pop(key), at
        if notice.state == "half_open":
            began[key] = at
