"""Breakers keep everybody away from a target that fails, and nobody from one that does not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import inf
from typing import Final

from llm_dispatcher._resilience import BreakerSettings
from llm_dispatcher.notices import BreakerChanged
from llm_dispatcher.tasks import Target
from tests.simulation.promises.kit import fail, over_at
from tests.simulation.promises.matching import sent_by
from tests.simulation.record import Process, Run

LATE: Final = 0.5
"""Seconds by which a row may be written later than its vendor's answer has ended."""


def an_open_breaker_keeps_everybody_away(run: Run) -> None:
    """While a target's breaker is open, nobody asks it. An attempt that was admitted in the same moment may be sent."""
    for process in run.processes:
        opened: dict[Target, list[tuple[float, float]]] = defaultdict(list)
        for at, notice in process.notices:
            if isinstance(notice, BreakerChanged):
                if opened[notice.target] and opened[notice.target][-1][1] == inf:
                    opened[notice.target][-1] = (opened[notice.target][-1][0], at)
                if notice.state == "open":
                    opened[notice.target].append((at, inf))
        for request in sent_by(run, process):
            for begins, ends in opened.get(request.served.target, ()):
                if begins < request.served.asked_at < ends:
                    what = (
                        f"no request to {request.served.target}, whose breaker is open from {begins:.3f} to {ends:.3f}"
                    )
                    fail(request.reading, what, f"one at {request.served.asked_at:.3f}")


def a_breaker_opens_only_after_failures(run: Run) -> None:
    """A breaker opens after as many failures within its window as its settings say, and a half open one after one."""
    for process in run.processes:
        failed = [each for each in sent_by(run, process) if each.row is not None and each.row.outcome == "failed"]
        state: dict[Target, str] = {}
        for at, notice in process.notices:
            if not isinstance(notice, BreakerChanged):
                continue
            settings = _breakers(process, notice.target)
            most, window = min(each.failures or 0 for each in settings), max(each.window for each in settings)
            lately = [
                each for each in failed
                if each.served.target == notice.target and at - window - LATE <= over_at(each.served) <= at + LATE
            ]  # fmt: skip
            least = 1 if state.get(notice.target) == "half_open" else most
            if notice.state == "open" and len(lately) < least and not process.was_killed:
                fail(process, f"at least {least} failures of {notice.target} before {at:.3f}", len(lately))
            state[notice.target] = notice.state


def an_open_breaker_stays_so_for_its_cooldown(run: Run) -> None:
    """A breaker becomes half open when its cooldown is over, and not before; its states follow each other in order."""
    follows = {"closed": ("open",), "open": ("half_open",), "half_open": ("closed", "open")}
    for process in run.processes:
        last: dict[Target, tuple[str, float]] = {}
        for at, notice in process.notices:
            if not isinstance(notice, BreakerChanged):
                continue
            least = min(each.cooldown for each in _breakers(process, notice.target))
            state, since = last.get(notice.target, ("closed", 0.0))
            if notice.state not in follows[state]:
                fail(process, f"{' or '.join(follows[state])} after {state} of {notice.target}", notice.state)
            if state == "open" and at - since < least - 1e-6:
                fail(
                    process,
                    f"{notice.target} stays open for {least:g} s from {since:.3f} on",
                    f"{notice.state} at {at:.3f}",
                )
            last[notice.target] = (notice.state, at)


def a_half_open_breaker_admits_few(run: Run) -> None:
    """A half open breaker admits `probes` attempts at a time, and one more for each cooldown in which none ended."""
    for process in run.processes:
        sent = sent_by(run, process)
        for target, begins, ends in _half_open(process):
            settings = _breakers(process, target)
            probes, cooldown = max(each.probes for each in settings), min(each.cooldown for each in settings)
            admitted = [each for each in sent if each.served.target == target and begins <= each.served.asked_at < ends]
            for each in admitted:
                at = each.served.asked_at
                under_way = [one for one in admitted if one.served.asked_at <= at < over_at(one.served)]
                most = probes + int((at - begins + 1e-6) / cooldown)
                if len(under_way) > most:
                    fail(
                        process,
                        f"at most {most} probes of {target} at {at:.3f}",
                        [one.reading.name for one in under_way],
                    )


def _breakers(process: Process, target: Target) -> list[BreakerSettings]:
    """The settings of a target's breaker that were in force."""
    return [policy.resilience_of(None, target).breaker for _, policy in process.policies]


def _half_open(process: Process) -> Iterator[tuple[Target, float, float]]:
    began: dict[Target, float] = {}
    for at, notice in process.notices:
        if isinstance(notice, BreakerChanged):
            if notice.target in began:
                yield notice.target, began.pop(notice.target), at
            if notice.state == "half_open":
                began[notice.target] = at
