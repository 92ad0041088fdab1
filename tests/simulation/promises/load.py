"""How much is sent to whom: retry budgets, limits and breakers; and nobody is starved for ever."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import groupby
from math import inf
from typing import Final

from llm_dispatcher._policy import Limits, Policy
from llm_dispatcher._resilience import RetryBudgetSettings
from llm_dispatcher._routing.retry_budget import WINDOW
from llm_dispatcher.events import Attempt
from llm_dispatcher.exceptions import (
    ContentFilterError,
    InvalidRequestError,
    ProviderConnectionError,
    StreamTruncatedError,
    UnprovenContinuationError,
)
from llm_dispatcher.notices import TargetSkipped
from llm_dispatcher.provider import KeptRun, Opened
from llm_dispatcher.tasks import Target
from tests.simulation import inspection
from tests.simulation.promises.kit import (
    attempts_of,
    fail,
    finished,
    has_body,
    option,
    outcome_of,
    over_at,
    policies_of,
    resilience_of,
    route_of_breakers,
    task_of,
)
from tests.simulation.promises.matching import (
    Request,
    asked_targets,
    begins_again,
    handed_over,
    of_process,
    of_reading,
    sent_by,
    turns_of_rows,
)
from tests.simulation.record import Process, Reading, Run

SURE_WINDOW: Final = WINDOW * 0.9
"""Seconds that the budget's window has in any case: it drops a tenth of the window at a time."""
BROKE: Final = (ProviderConnectionError.__name__, StreamTruncatedError.__name__)
"""The failures after which a target still has the answer in its cache."""
FATAL: Final = (InvalidRequestError.__name__, ContentFilterError.__name__)
SOON: Final = 0.01
"""Waits for a rate limit of fewer seconds are skipped."""


_SPENT: Final = "the retry budget of"
LATE: Final = 0.5
"""Seconds by which a row may be written later than its vendor's answer has ended."""


# ── retries ────────────────────────────────────────────────────────────────────────────────────────────────────────


def retries_stay_within_their_budget(run: Run) -> None:
    """Within a minute, a provider gets no more second tries of a target than a share of its requests and the floor.

    Only a switch to a target that is healthy or new may overdraw the budget, so this counts tries of the same target.
    """
    for process in run.processes:
        for provider, sent in _by_provider(run, process).items():
            share, floor = _retry_budget(process, provider)
            firsts, retries = _firsts_and_retries(sent)
            for number, at in enumerate(retries):
                lately = number + 1 - sum(other <= at - SURE_WINDOW for other in retries[: number + 1])
                requests = sum(at - WINDOW <= other <= at for other in firsts)
                if lately > share * requests + floor + 1e-9:
                    what = f"at most {share:g} of its {requests} requests and {floor} more are retries of {provider}"
                    fail(process, f"{what} in the minute before {at:.3f}", lately)


def a_retry_is_refused_only_if_the_budget_is_spent(run: Run) -> None:
    """The retry budget refuses a try only if so many others, of vendors that were really asked, have used it up."""
    for process in run.processes:
        if process.was_killed:
            continue
        sent = sent_by(run, process)
        for at, notice in process.notices:
            if not isinstance(notice, TargetSkipped) or _SPENT not in notice.failure.message:
                continue
            provider = notice.target.provider
            settings = _retry_budgets(process, provider)
            if any(each.share is None for each in settings):
                continue
            share, floor = min(each.share or 0.0 for each in settings), min(each.floor for each in settings)
            firsts, _ = _firsts_and_retries([each for each in sent if each.served.target.provider == provider])
            # Of one moment, the order is not known: requests that were surely counted, and tries that may have been
            # drawn although they were sent a moment later.
            requests = sum(at - SURE_WINDOW <= first < at for first in firsts)
            lately = sum(at - WINDOW <= each <= at + LATE for each in _drawn(sent, provider))
            if lately + 1 <= share * requests + floor:
                what = f"a retry of {notice.target} at {at:.3f}, because only {lately} were drawn in a minute"
                fail(process, what, f"{notice.failure.message} (share {share:g} of {requests}, floor {floor})")


def an_outage_is_not_made_worse(run: Run) -> None:
    """While every vendor is down, a provider gets no more than its requests, a share of them, and the floor.

    A vendor that has answered even one request is not down, also if its run was read on: a switch to it may overdraw
    the budget.
    """
    if run.scenario.kind != "outage":
        return
    for process in run.processes:
        whole = [each.served for each in of_process(run, process) if each.served.finished]
        answering = {served.target.provider for served in whole if served.asked_at < run.scenario.ends_at}
        for provider, sent in _by_provider(run, process).items():
            if provider in answering:
                continue
            share, floor = _retry_budget(process, provider)
            down = [each for each in sent if each.served.asked_at < run.scenario.ends_at]
            firsts = Counter(_window(at) for at in _firsts_and_retries(down)[0])
            total = Counter(_window(each.served.asked_at) for each in down)
            minutes = len(total)
            most = sum(firsts.values()) * (1 + share) + floor * minutes
            if sum(total.values()) > most + 1e-9:
                asked = sum(firsts.values())
                what = f"at most {most:g} requests to {provider}, of {asked} that came, in {minutes} minutes"
                fail(process, what, sum(total.values()))


def targets_are_tried_in_turn(run: Run) -> None:
    """A request tries a target once and `max_retries` times more, goes on to the next one, and never comes back. A
    target that continues best is asked once more in any case, and one whose continuation proved nothing may begin the
    answer again when nobody else can go on. Reading a run on is no try while that brings anything.
    """
    for reading in finished(run):
        if has_body(reading):
            continue
        every, asked, by_vendor = attempts_of(reading), asked_targets(run, reading), handed_over(run, reading)
        again, turn_of = begins_again(run, reading), turns_of_rows(run, reading)
        of_turn = [turn_of[row.number] for row in every]
        places = [
            list(some) for _, some in groupby(range(len(every)), key=lambda at: (of_turn[at], asked[at], again[at]))
        ]
        turns = [[every[at] for at in some] for some in places]
        targets = [str(asked[some[0]]) for some in places]
        in_vain = {id(each.row) for each in of_reading(run, reading) if each.reads_on and not _has_news(each)}
        first_turns = [(of_turn[some[0]], asked[some[0]]) for some in places if not again[some[0]]]
        if len(set(first_turns)) != len(first_turns):
            fail(reading, "each target has one turn", ", ".join(targets))
        for turn, rows in zip(places, turns, strict=True):
            target = asked[turn[0]]
            retries = partial(_max_retries, reading, target)
            most = _most(run, reading, "max_retries", retries) + 1
            own = [row for row in rows if row.number not in by_vendor]
            tries = sum(row.rung != "reattached" for row in own)
            fell = {each.row.number for each in of_reading(run, reading) if each.row is not None and each.refused}
            bound = max(most, 2) if _continues_best(rows, by_vendor, fell) else most
            if tries > bound:
                fail(reading, f"at most {bound} tries of {target}", tries)
            for _, some in groupby(rows, key=lambda row: id(row) in in_vain):
                if (readings := list(some)) and id(readings[0]) in in_vain and len(readings) > most:
                    fail(reading, f"at most {most} readings of a run that bring nothing", len(readings))
        of_turns = Counter(turn for turn, _ in set(zip(of_turn, asked, strict=True)))
        if max(of_turns.values(), default=0) > 1 and not _most(
            run, reading, "fallback_enabled", lambda policy: resilience_of(policy, reading, None).fallback_enabled
        ):
            fail(reading, "one target, because fallback is switched off", ", ".join(targets))


def what_no_other_target_helps_ends_at_once(run: Run) -> None:
    """After a refusal of the request itself, and after a break with `on_break: raise`, no further attempt is made. But
    a run may be read on, and `on_refusal: next` has the next target asked after a filter.
    """
    for reading in finished(run):
        if has_body(reading):
            continue
        rows = attempts_of(reading)
        on_break = _all(run, reading, "on_break", lambda policy: resilience_of(policy, reading, None).on_break)
        raises = on_break == {"raise"}
        fatal, by_vendor = FATAL[:1] if _may_go_on_after_refusals(run, reading) else FATAL, handed_over(run, reading)
        turns = turns_of_rows(run, reading)
        for row in rows[:-1]:
            if turns[row.number] != turns[row.number + 1]:
                continue  # the next request of the stream, with the results of its tools
            if rows[row.number].rung == "reattached" or rows[row.number].number in by_vendor:
                continue
            if row.failure is not None and row.failure.kind in fatal:
                fail(reading, f"no attempt after {row.failure.kind}", rows[row.number])
            if raises and row.delivered:
                fail(
                    reading,
                    f"no attempt after {row.delivered} characters, because on_break is 'raise'",
                    rows[row.number],
                )


def _max_retries(reading: Reading, target: Target, policy: Policy) -> int:
    return resilience_of(policy, reading, target).max_retries


def _may_go_on_after_refusals(run: Run, reading: Reading) -> bool:
    return any(policy.route(task_of(reading)).on_refusal == "next" for policy in policies_of(run, reading))


# ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def streams_at_once_stay_within_their_limit(run: Run) -> None:
    """No more streams of a provider or of a model are open at once than `concurrent_streams` allows."""
    for process in run.processes:
        for scope, limits, sent in _limited(run, process):
            most = limits.concurrent_streams
            if most is None:
                continue
            for each in sent:
                at = each.served.asked_at
                # One that ends in the moment in which another begins may be either before or after it.
                open_now = [one for one in sent if one.served.asked_at <= at < over_at(one.served)]
                if len(open_now) > most:
                    names = ", ".join(one.reading.name for one in open_now)
                    fail(process, f"at most {most} streams of {scope} at once", f"{len(open_now)} at {at:.3f}: {names}")


def requests_a_minute_stay_within_their_limit(run: Run) -> None:
    """In any time, a provider or a model gets no more requests than `requests_per_minute` allows: a minute's amount at
    once, and then as many as come back.
    """
    for process in run.processes:
        for scope, limits, sent in _limited(run, process):
            if limits.requests_per_minute is None:
                continue
            a_second = limits.requests_per_minute / 60
            times = [each.served.asked_at for each in sent if not each.is_local]
            for first, began in enumerate(times):
                for last in range(first, len(times)):
                    most = limits.requests_per_minute + (times[last] - began + SOON) * a_second
                    if last - first + 1 > most + 1e-6:
                        what = f"at most {most:.2f} requests to {scope} from {began:.3f} to {times[last]:.3f}"
                        fail(process, what, last - first + 1)


def _continues_best(rows: Sequence[Attempt], by_vendor: Collection[int], fell: Collection[int]) -> bool:
    """Whether the second try of a target may follow also with `max_retries: 0`: its connection broke, and it goes on
    from exactly what it wrote; or its continuation proved nothing, and it begins again. In attempts that `fell`, the
    host has refused the token ids of what it wrote.
    """
    second = next(
        (at for at, row in enumerate(rows) if at and row.rung != "reattached" and row.number not in by_vendor), None
    )
    if second is None:
        return False
    failure = rows[second - 1].failure
    kind = "" if failure is None else failure.kind
    is_exact = kind in BROKE and (rows[second].rung in ("exact", "prefill") or rows[second].number in fell)
    return is_exact or (kind == UnprovenContinuationError.__name__ and rows[second].rung == "restarted")


def _has_news(request: Request) -> bool:
    """Whether a connection has brought anything of its answer."""
    return any(not isinstance(piece, (Opened, KeptRun)) for piece in request.served.pieces)


# ── the end of all trouble ─────────────────────────────────────────────────────────────────────────────────────────


def a_healthy_target_is_asked_again(run: Run) -> None:
    """When all vendors are healthy and enough time has passed, every enabled target answers who asks it by name, and
    the default route answers as well: no breaker, limit, budget or slot is stuck.
    """
    for reading in run.epilogue:
        target = reading.response.target if reading.response is not None else None
        if outcome_of(reading) != "completed":
            fail(reading, "an answer, because all vendors are healthy", repr(reading.error))
        named = reading.plan.request.get("model")
        if named is not None and str(target) != named:
            fail(reading, f"an answer of {named}", target)


def an_answer_closes_the_breaker(run: Run) -> None:
    """After a target has answered, its breaker is closed."""
    for reading in run.epilogue:
        target = reading.response.target if reading.response is not None else None
        key = None if target is None else (route_of_breakers(run, reading), target)
        breaker = None if key is None else inspection.breakers(run.processes[reading.process].switch).get(key)
        if breaker is not None and not breaker.is_closed:
            fail(reading, f"the breaker of {target} is closed after its answer", breaker.state)


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _by_provider(run: Run, process: Process) -> dict[str, list[Request]]:
    sent: defaultdict[str, list[Request]] = defaultdict(list)
    for request in sent_by(run, process):
        sent[request.served.target.provider].append(request)
    return sent


def _firsts_and_retries(sent: Sequence[Request]) -> tuple[list[float], list[float]]:
    """When requests came to this provider for the first time, and when one of its targets was tried again. Each turn
    of a stream with tools is a request.
    """
    seen: set[tuple[tuple[int, int], Target | None]] = set()
    excused: set[tuple[int, int]] = set()
    firsts, retries = [], []
    for each in sent:
        reader, target = (id(each.reading), each.turn), each.served.target
        if (reader, None) not in seen:
            firsts.append(each.served.asked_at)
        elif (reader, target) in seen and reader not in excused:
            retries.append(each.served.asked_at)
        seen |= {(reader, None), (reader, target)}
        excused = excused | {reader} if each.is_local else excused - {reader}
    return firsts, retries


def _drawn(sent: Sequence[Request], provider: str) -> list[float]:
    """When a provider got a request that is not the first one of its turn: at most these draw on its budget."""
    last: dict[tuple[int, int], Request] = {}
    drawn = []
    for each in sent:
        before = last.get((id(each.reading), each.turn))
        if before is not None and not before.is_local and each.served.target.provider == provider:
            drawn.append(each.served.asked_at)
        last[id(each.reading), each.turn] = each
    return drawn


def _retry_budgets(process: Process, provider: str) -> list[RetryBudgetSettings]:
    return [policy.resilience_of(None, Target(provider, "")).retry_budget for _, policy in process.policies]


def _retry_budget(process: Process, provider: str) -> tuple[float, int]:
    """The largest share and floor that were in force. Without a share, there is no bound."""
    budgets = _retry_budgets(process, provider)
    shares = [inf if each.share is None else each.share for each in budgets]
    return max(shares), max(each.floor for each in budgets)


def _window(at: float) -> int:
    return int(at / SURE_WINDOW)


def _limited(run: Run, process: Process) -> Iterator[tuple[str, Limits, list[Request]]]:
    """Each provider or model with limits that no reload has changed, and the requests to it."""
    every = sent_by(run, process)
    scopes = {each.served.target.provider: "" for each in every} | {str(each.served.target): "" for each in every}
    for scope in scopes:
        limits = [_limits(policy, scope) for _, policy in process.policies]
        if limits[0] is not None and all(each == limits[0] for each in limits):
            yield (
                scope,
                limits[0],
                [each for each in every if scope in (each.served.target.provider, str(each.served.target))],
            )


def _limits(policy: Policy, scope: str) -> Limits | None:
    provider, _, model = scope.partition("/")
    settings = policy.providers.get(provider)
    if settings is None or not model:
        return None if settings is None else settings.limits
    return settings.models[model].limits if model in settings.models else None


def _all(run: Run, reading: Reading, name: str, of: Callable[[Policy], object]) -> set[object]:
    """The values of an option that may be in force for a reader: that of its call, or those of its policies."""
    chosen = option(reading, name)
    return {chosen} if chosen is not None else {of(policy) for policy in policies_of(run, reading)}


def _most(run: Run, reading: Reading, name: str, of: Callable[[Policy], int]) -> int:
    return max(int(value) for value in _all(run, reading, name, of) if isinstance(value, int))
