"""Ways to break the record of a run: each function returns a `Change`, which does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from llm_dispatcher._policy import Limits, Policy
from llm_dispatcher._resilience import BreakerSettings
from llm_dispatcher.cache import Entry
from llm_dispatcher.events import Failure, ToolResult
from llm_dispatcher.notices import BreakerChanged, TargetSkipped
from llm_dispatcher.tasks import Message, Target, ToolCallPart
from tests.simulation import inspection
from tests.simulation.record import Reading, Run, Served
from tests.simulation.witness import TOKENS_REFUSED

Change: TypeAlias = Callable[[Run], object]

CALLING: Final = Message("assistant", ToolCallPart("1", "look_up", "{}"))
ALPHA: Final = Target("alpha", "small")


def reading(run: Run, name: str) -> Reading:
    return next(each for each in run.readings if each.name == name)


def change(name: str, **fields: Any) -> Change:
    """Set fields of the record of a reader."""

    def apply(run: Run) -> None:
        for field, value in fields.items():
            setattr(reading(run, name), field, value)

    return apply


def event(name: str, kind: type, at: int = 0, events: str = "watched", **fields: Any) -> Change:
    """Change an event that a reader got, or that its observer saw: the one with number `at` of its kind."""

    def apply(run: Run) -> None:
        stream = getattr(reading(run, name), events)
        place = [place for place, each in enumerate(stream) if isinstance(each, kind)][at]
        stream[place] = replace(stream[place], **fields)

    return apply


def insert(name: str, new: Any, before: type, at: int = 0, events: str = "watched") -> Change:
    """Put another event before one of a reader's events."""

    def apply(run: Run) -> None:
        stream = getattr(reading(run, name), events)
        place = [place for place, each in enumerate(stream) if isinstance(each, before)][at]
        stream.insert(place, replace(new, sequence=stream[place].sequence))
        stream[-1] = replace(stream[-1], sequence=len(stream) - 1)

    return apply


def swap(name: str, events: str) -> Change:
    """Exchange the first two events."""

    def apply(run: Run) -> None:
        stream = getattr(reading(run, name), events)
        stream[0], stream[1] = stream[1], stream[0]

    return apply


def response(name: str, **fields: Any) -> Change:
    def apply(run: Run) -> None:
        each = reading(run, name)
        assert each.response is not None
        each.response = replace(each.response, **fields)

    return apply


def row(name: str, at: int, **fields: Any) -> Change:
    """Change a row of a reader's ledger."""

    def apply(run: Run) -> None:
        each = reading(run, name)
        assert each.response is not None
        rows = list(each.response.attempts)
        rows[at] = replace(rows[at], **fields)
        each.response = replace(each.response, attempts=tuple(rows))

    return apply


def usage(name: str, at: int = 0, **fields: Any) -> Change:
    """Change the usage of a row."""

    def apply(run: Run) -> None:
        each = reading(run, name)
        assert each.response is not None
        row(name, at, usage=replace(each.response.attempts[at].usage, **fields))(run)

    return apply


def tool_run(**fields: Any) -> Change:
    """Change the first run of a tool."""
    return lambda run: put(**fields)(reading(run, "text").tool_runs[0])


def run_a_tool_again(run: Run) -> None:
    runs = reading(run, "text").tool_runs
    runs.append(runs[0])


def forget_a_result(run: Run) -> None:
    events = reading(run, "text").watched
    del events[next(place for place, each in enumerate(events) if isinstance(each, ToolResult))]


def change_the_session(how: Callable[[tuple[Message, ...]], tuple[Message, ...]]) -> Change:
    """Change what is stored of the session."""

    def apply(run: Run) -> None:
        run.last.sessions["chat"] = how(run.last.sessions["chat"])

    return apply


def without_the_first_turn(served: Served) -> None:
    """Take the first turn of the session out of a request."""
    put(request=replace(served.request, messages=served.request.messages[2:]))(served)


def without_results(served: Served) -> None:
    """Take the last results out of a request."""
    kept = [message for message in served.request.messages if message.role != "tool"]
    put(request=replace(served.request, messages=tuple(kept)))(served)


def rows(name: str, of: Callable[[list[Any]], list[Any]]) -> Change:
    def apply(run: Run) -> None:
        each = reading(run, name)
        assert each.response is not None
        each.response = replace(each.response, attempts=tuple(of(list(each.response.attempts))))

    return apply


def error(name: str, **fields: Any) -> Change:
    """Change the error that a reader got."""

    def apply(run: Run) -> None:
        put(**fields)(reading(run, name).error)

    return apply


def left_in_files(process: int, amounts: dict[tuple[str, str], float]) -> Change:
    return lambda run: put(left_in_files=amounts)(run.processes[process])


def served(name: str, at: int, act: Callable[[Any], object]) -> Change:
    """Do something with the record of one of a reader's requests."""

    def apply(run: Run) -> None:
        found: list[tuple[int, Served]] = sorted(
            (place, each)
            for vendors in run.vendors.values()
            for vendor in vendors
            for place, each, whose in zip(vendor.asked_in_order, vendor.served, vendor.asked_by, strict=True)
            if whose is reading(run, name)
        )
        act(found[at][1])

    return apply


def put(**fields: Any) -> Callable[[Any], object]:
    def act(target: Any) -> None:
        for field, value in fields.items():
            setattr(target, field, value)

    return act


def policy(of: Callable[[Policy], Policy]) -> Change:
    """Have another policy in force, as far as the record says."""

    def apply(run: Run) -> None:
        for process in run.processes:
            process.policies = [(at, of(each)) for at, each in process.policies]
        for reading in run.readings:
            reading.policy = None if reading.policy is None else of(reading.policy)

    return apply


def resilience(**fields: Any) -> Change:
    return policy(lambda each: replace(each, resilience=replace(each.resilience, **fields)))


def limited(**limits: Any) -> Change:
    def of(each: Policy) -> Policy:
        providers = {name: replace(one, limits=Limits(**limits)) for name, one in each.providers.items()}
        return replace(each, providers=providers)

    return policy(of)


def notices(*states: tuple[float, str]) -> Change:
    def apply(run: Run) -> None:
        run.last.notices.extend((at, BreakerChanged(ALPHA, state, "a test")) for at, state in states)  # type: ignore[arg-type]

    return apply


def skipped(message: str) -> Change:
    def apply(run: Run) -> None:
        failure = Failure("ProviderServiceUnavailableError", message)
        run.last.notices.append((500.0, TargetSkipped(ALPHA, failure)))

    return apply


def both(*changes: Change) -> Change:
    def apply(run: Run) -> None:
        for each in changes:
            each(run)

    return apply


def in_switch(act: Callable[[Any], object]) -> Change:
    return lambda run: act(run.switch)


def a_limit(switch: Any) -> Any:
    return next(limit for _, limit in inspection.limits(switch))


def take_a_slot(switch: Any) -> None:
    a_limit(switch).semaphore._used_slots = 1


def stand_in_line(switch: Any) -> None:
    a_limit(switch).semaphore._line.append((None, None))


def fill_a_bucket(switch: Any) -> None:
    a_limit(switch)._requests._level = 61.0


def reserve_money(switch: Any) -> None:
    switch._shared.traffic.budgets._reserved["red"] = 1.0


def leave_a_probe(switch: Any) -> None:
    inspection.breakers(switch)["", ALPHA]._probes = 1


def leave_it_open(switch: Any) -> None:
    inspection.breakers(switch)["", ALPHA]._state = "open"


def leave_a_notice(switch: Any) -> None:
    switch._shared.traffic.health._unsent.append("a notice")


def leave_a_stream(switch: Any) -> None:
    switch._shared.open_streams._watchdogs[switch] = True


def leave_a_flight(switch: Any) -> None:
    switch._runtime.cache_in_use._shared_streams[switch] = {1: 1}


def leave_an_amount(switch: Any) -> None:
    switch._shared.traffic.budgets.spending._unwritten["", "2025-12-01"] = 1.0


def leave_a_recording(switch: Any) -> None:
    switch._runtime.cache_in_use._store._unwritten[b"key"] = b""


def plan_of(name: str, **fields: Any) -> Change:
    """Change the plan of a reader."""

    def apply(run: Run) -> None:
        each = reading(run, name)
        each.plan = replace(each.plan, **fields)

    return apply


def copied(name: str, field: str, of: str) -> Change:
    """Give a reader's response what another one's has."""

    def apply(run: Run) -> None:
        response(name, **{field: getattr(reading(run, of).response, field)})(run)

    return apply


def move_to_another_day(switch: Any) -> None:
    dollars = switch._shared.traffic.budgets.spending._dollars
    scope, day = next(line for line in dollars if len(line[1]) == 10)
    dollars[scope, "1999-01-01"] = dollars.pop((scope, day))


def lose_a_recording(switch: Any) -> None:
    switch._runtime.cache_in_use._store._recordings.clear()


def shrink_the_cache(switch: Any) -> None:
    runtime = switch._runtime
    runtime.policy = replace(runtime.policy, cache=replace(runtime.policy.cache, max_cache_size=-1))


def release_in_use(run: Run) -> None:
    vendor = next(each for each in run.vendors["alpha"] if each.served)
    first = vendor.served[0]
    assert first.ended_at is not None
    vendor.released_at.append((first.asked_at + first.ended_at) / 2)  # type: ignore[attr-defined]


def release_now(run: Run) -> None:
    run.vendors["alpha"][0].released_at.append(1.0)  # type: ignore[attr-defined]


def exchange_the_epilogue(run: Run) -> None:
    run.epilogue[1].response = run.epilogue[3].response  # the first is of the default route, then two of each target


def shorter_route(each: Policy) -> Policy:
    return replace(each, default=replace(each.default, targets=(ALPHA,)))


def longer_route(each: Policy) -> Policy:
    return replace(each, default=replace(each.default, targets=(ALPHA, Target("bravo", "small"))))


def forget_the_cancellation(run: Run) -> None:
    """As if nobody had cancelled the run of a reader that left."""
    kept = next(kept for kept in run.vendors["alpha"][0].runs if kept.cancelled_at is not None)
    kept.over_at = kept.cancelled_at = None


def never_release(run: Run) -> None:
    for vendor in run.vendors["alpha"]:
        vendor.released_at.clear()  # type: ignore[attr-defined]


def next_after_a_refusal(each: Policy) -> Policy:
    return replace(each, default=replace(each.default, on_refusal="next"))


def other_settings(each: Policy) -> Policy:
    return replace(each, providers={n: replace(one, kind="openai") for n, one in each.providers.items()})


TIMED_OUT: Final = Failure("ProviderTimeoutError", "nothing more came within 20 s (the idle clock)")
NO_TOKENS: Final = Failure("InvalidRequestError", TOKENS_REFUSED)
REFUSED: Final = Failure("InvalidRequestError", "no")
PROBED: Final = resilience(breaker=BreakerSettings())
DRIPPED: Final = Failure("ProviderTimeoutError", "only 3 of 20 characters came within 4 s (the flow clock)")
TOO_MANY: Final = Failure("ProviderRateLimitError", "simulated", status=429, retry_after=50.0)
ENTRY: Final = Entry(b"", b"", "a text", "", 1, 1.0)
