"""What the ledgers say is what the budgets, the responses and the health of targets say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from math import isclose
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import UNSET

from llm_dispatcher._policy import Policy
from llm_dispatcher._usage import Usage
from llm_dispatcher.events import Attempt, StreamCompleted, UsageReport
from llm_dispatcher.exceptions import ContentFilterError, RequestTimeoutError, StreamingError, UnprovenContinuationError
from llm_dispatcher.provider import Opened
from llm_dispatcher.tasks import MOST_TOKENS, Target
from tests.simulation import inspection
from tests.simulation.promises.kit import (
    DOLLARS,
    attempts_of,
    end_of,
    everyone,
    fail,
    finished,
    has_body,
    is_free,
    may_share,
    namespace,
    policies_of,
)
from tests.simulation.promises.matching import (
    Request,
    answers,
    check_requests,
    has_handed_over,
    of_process,
    requests,
)
from tests.simulation.promises.walls import walls
from tests.simulation.record import Process, Run

NAMESPACES: Final = ("", "red", "blue")


# ── rows ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def each_request_has_one_row(run: Run) -> None:
    """Each request that reached a vendor has exactly one row, in the ledger of the reader that caused it. If the vendor
    has handed over to other models, each of them has one.
    """
    check_requests(run)


def a_row_tells_what_its_vendor_reported(run: Run) -> None:
    """The usage of a row is what its vendor reported; an estimate if it did not; unknown if it accepted nothing."""
    for request in requests(run):
        if request.row is None or request.served.run is not None or has_handed_over(request.row):
            continue  # `the_attempts_at_a_run_cost_what_it_cost`, `each_model_of_a_handover_has_its_row`
        usage, reported = request.row.usage, _reported(request)
        if not any(isinstance(piece, Opened) for piece in request.served.pieces):
            if _counts(usage) != _counts(Usage()) or usage.source != "unknown":
                fail(request.reading, f"no usage of {request.served.target}, which accepted nothing", usage)
        elif reported is not None and request.served.finished and reported.source == "reported":
            if _counts(usage) != _counts(reported) or usage.source != "reported":
                fail(request.reading, f"the usage that {request.served.target} reported, {reported}", usage)
        elif usage.source != "estimated" or (reported is not None and usage.output_tokens < reported.output_tokens):
            fail(request.reading, f"an estimate of at least {reported}, because nothing final was reported", usage)


def the_attempts_at_a_run_cost_what_it_cost(run: Run) -> None:
    """The rows of a run that its vendor keeps add up to what the vendor reported of it, or to an estimate if it did not
    report anything.
    """
    for answer in answers(run):
        if answer[0].served.run is None or any(each.row is None for each in answer):
            continue
        rows = [each.row for each in answer if each.row is not None]
        reports = [each for each in map(_reported, answer) if each is not None]
        total = Usage.sum(row.usage for row in rows)
        if any(row.usage.input_tokens and row.usage.source == "estimated" for row in rows[1:]):
            fail(answer[0].reading, "one estimate of the input, with the first row of the run", rows)
        if not answer[-1].served.finished or not reports:
            if any(row.usage.source == "reported" for row in rows):
                fail(answer[0].reading, "estimates, because nothing final was reported", rows)
            continue
        if _counts(total) != _counts(reports[-1]):
            fail(answer[0].reading, f"rows that add up to {reports[-1]}", [row.usage for row in rows])


def a_row_costs_what_its_tokens_cost(run: Run) -> None:
    """The cost of a row is that of its tokens, at the prices of the configuration with which its stream began."""
    for request in requests(run):
        row = request.row
        if row is None or row.usage.source == "unknown":
            continue
        expected = [_price(policy, row) for policy in policies_of(run, request.reading)]
        if not any(_same_cost(row.usage.cost, price) for price in expected):
            fail(request.reading, f"a row of {row.target} that costs ${expected}", row.usage)


def a_rows_outcome_is_what_its_vendor_did(run: Run) -> None:
    """A completed row is of an answer that its vendor has finished, a failed one names its failure, and only those. An
    answer that its vendor has finished fails only if it cannot be shown, or is a refusal.
    """
    for reading in everyone(run):
        for row in attempts_of(reading):
            if (row.failure is not None) != (row.outcome == "failed"):
                fail(reading, "a failure in a failed row, and in no other", row)
    for request in requests(run):
        if request.row is not None and request.row.outcome == "completed" and not request.served.finished:
            fail(request.reading, f"no completed row, because {request.served.target} never finished", request.row)
        kind = "" if request.row is None or request.row.failure is None else request.row.failure.kind
        is_useless = kind in (UnprovenContinuationError.__name__, ContentFilterError.__name__) or _is_too_short(request)
        if kind and request.served.finished and not is_useless:
            fail(
                request.reading, f"no failed row, because {request.served.target} has finished its answer", request.row
            )


# ── readers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def a_response_costs_what_its_rows_cost(run: Run) -> None:
    """`response.usage` and `StreamCompleted.usage` are the sum of the rows; a shared or cached answer costs nothing."""
    for reading in finished(run):
        if reading.response is None:
            continue
        rows, usage = attempts_of(reading), reading.response.usage
        total = Usage.sum(row.usage for row in rows)
        if not rows and (usage.cost or 0.0) > 0:
            fail(reading, "no cost, because it asked no vendor", usage)
        if rows and not _same_cost(usage.cost, total.cost):
            fail(reading, f"the cost of its rows, {total.cost}", usage.cost)
        if rows and not has_body(reading) and _counts(usage) != _counts(total):
            fail(reading, f"the sum of its rows, {total}", usage)
        end = end_of(reading.watched)
        if isinstance(end, StreamCompleted) and not has_body(reading) and end.usage != usage:
            fail(reading, f"StreamCompleted.usage is response.usage {usage}", end.usage)


def a_free_answer_has_no_rows(run: Run) -> None:
    """A reader that was served from the cache, or from another reader's stream, has no rows and is not charged."""
    for reading in finished(run):
        if not is_free(reading) or has_body(reading):
            continue
        if attempts_of(reading):
            fail(reading, "no rows, because another reader paid", attempts_of(reading))
        if reading.response is not None and not reading.response.cached:
            fail(reading, "response.cached", reading.response)


def an_error_costs_what_its_rows_cost(run: Run) -> None:
    """`error.usage` is the sum of the rows, and costs nothing for a reader of another reader's stream.

    One exception: a reader whose own time is over, while others read its stream on, is told what the vendor had
    reported so far.
    """
    for reading in finished(run):
        error = reading.error
        if not isinstance(error, StreamingError) or reading.response is None or has_body(reading):
            continue
        if is_free(reading) or (may_share(reading) and not attempts_of(reading)):  # it may have seen no event at all
            if (error.usage.cost or 0.0) > 0:
                fail(reading, "an error that costs nothing, because another reader pays", error.usage)
        elif not (may_share(reading) and isinstance(error, RequestTimeoutError)):
            total = Usage.sum(row.usage for row in attempts_of(reading))
            if _counts(error.usage) != _counts(total) or not _same_cost(error.usage.cost, total.cost):
                fail(reading, f"an error with the usage of its rows, {total}", error.usage)


# ── budgets ────────────────────────────────────────────────────────────────────────────────────────────────────────


def budgets_count_what_the_ledgers_say(run: Run) -> None:
    """What a process has spent, by namespace over all days, and over all months, is the sum of its rows."""
    for process in run.processes:
        if process.was_killed:
            continue
        found, before = inspection.dollars(process.switch), process.found_in_files
        for name in NAMESPACES:
            spent = sum(row.usage.cost or 0.0 for _, row in _rows(run, process, name))
            for length, period in ((10, "days"), (7, "months")):
                counted = sum(
                    amount - before.get(line, 0.0) * (line in before)
                    for line, amount in found.items()
                    if line[0] == name and len(line[1]) == length
                )
                if not _is_between(counted, spent, spent):
                    fail(process, f"${spent:.6f} spent by {name or 'everybody'} over all {period}", f"${counted:.6f}")


def files_hold_what_was_spent(run: Run) -> None:
    """The spending file has what was spent before, and all that a process has spent; if it was killed, not more."""
    for process in run.processes:
        if process.left_in_files is None:
            continue
        for name in NAMESPACES:
            spent = sum(row.usage.cost or 0.0 for _, row in _rows(run, process, name))
            for length in (10, 7):
                new = _sum(process.left_in_files, name, length) - _sum(process.found_in_files, name, length)
                most = spent + _estimated_too_high(run, process, name)
                if process.was_killed and not _is_between(new, 0.0, most):
                    fail(process, f"at most ${spent:.6f} more for {name or 'everybody'} in its file", f"${new:.6f}")
                if not process.was_killed and not _is_between(new, spent, spent):
                    fail(process, f"${spent:.6f} more for {name or 'everybody'} in its file", f"${new:.6f}")


def each_day_has_what_was_spent_on_it(run: Run) -> None:
    """An attempt counts for the day on which it ended, by the wall clock and in the time zone of the budgets."""
    for process in run.processes:
        if process.was_killed:
            continue
        found = inspection.dollars(process.switch)
        zones = sorted({policy.budgets.time_zone for _, policy in process.policies})
        for name in NAMESPACES:
            sure: defaultdict[str, float] = defaultdict(float)
            most: defaultdict[str, float] = defaultdict(float)
            for request, row in _rows(run, process, name):
                if request.reading in run.epilogue:
                    continue  # its months are its own: `budgets_count_what_the_ledgers_say` has them
                days = _days(run, process, request, zones)
                for day in days:
                    most[day] += row.usage.cost or 0.0
                    sure[day] += (row.usage.cost or 0.0) if len(days) == 1 else 0.0
            for day in sorted({*most, *sure}):
                amount = found.get((name, day), 0.0) - process.found_in_files.get((name, day), 0.0)
                if not _is_between(amount, sure[day], most[day] + _estimated_too_high(run, process, name)):
                    what = f"between ${sure[day]:.6f} and ${most[day]:.6f} by {name or 'everybody'} on {day}"
                    fail(process, what, f"${amount:.6f}")


def spent_tells_todays_amounts(run: Run) -> None:
    """`switch.spent()` returns the amounts of the day and of the month that the wall clock shows."""
    for process in run.processes:
        for name, amounts in process.spent.items():
            found = {period: value for period, value in amounts.items() if value}
            lines = inspection.dollars(process.switch)
            kept = {round(value, 6) for (scope, _), value in lines.items() if scope == name} | {0.0}
            if wrong := {period: value for period, value in found.items() if round(value, 6) not in kept}:
                fail(process, f"amounts of {name or 'everybody'} that were spent on one day or month", wrong)


def health_counts_each_attempt_once(run: Run) -> None:
    """`switch.health()` counts each attempt at a target once, and each failure, if the vendor has seen the request. A
    refusal is none.
    """
    for process in run.processes:
        if process.stock_at is None:
            continue
        attempts: defaultdict[Target, int] = defaultdict(int)
        failures: defaultdict[Target, int] = defaultdict(int)
        for request in of_process(run, process):
            row = request.row
            if row is None or request.reading in run.epilogue or row.outcome == "cancelled" or request.is_local:
                continue
            attempts[row.target] += 1
            failures[row.target] += row.failure is not None and not _is_refusal(row)
        found = {target: (health.attempts, health.failures) for target, health in process.health.items()}
        expected = {target: (attempts[target], failures[target]) for target in attempts}
        if found != expected:
            wrong = sorted(each for each in {*found, *expected} if found.get(each) != expected.get(each))
            right = {str(each): expected.get(each) for each in wrong}
            fail(process, f"attempts and failures {right}", {str(each): found.get(each) for each in wrong})


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(run: Run, process: Process, name: str) -> Iterable[tuple[Request, Attempt]]:
    """The rows of a process that count for a namespace; "" is everybody."""
    for request in of_process(run, process):
        if request.row is not None and name in ("", namespace(request.reading)):
            yield request, request.row


def _is_between(amount: float, least: float, most: float) -> bool:
    slack = DOLLARS + 1e-9 * abs(most)
    return least - slack <= amount <= most + slack


def _estimated_too_high(run: Run, process: Process, name: str) -> float:
    """US dollars that budgets may have for runs that are being read on, beyond what their vendors will report: the
    estimate of the input, and a token for each connection.
    """
    dollars = 0.0
    for answer in answers(run):
        reading = answer[0].reading
        if len(answer) > 1 and reading.process == process.number and name in ("", namespace(reading)):
            input_tokens, output_tokens = 100, 30 + 2 * len(answer)
            prices = [_prices(policy, answer[0].served.target) for policy in policies_of(run, reading)]
            dollars += max(input_tokens * each[0] + output_tokens * each[1] for each in prices) / 1e6
    return dollars


def _sum(amounts: dict[tuple[str, str], float], name: str, length: int) -> float:
    return sum(amount for (scope, period), amount in amounts.items() if scope == name and len(period) == length)


def _is_refusal(row: Attempt) -> bool:
    """Whether the model has declined, or a filter has stopped it: its vendor did what it should."""
    return row.failure is not None and row.failure.kind == ContentFilterError.__name__


def _is_too_short(request: Request) -> bool:
    """Whether a limit has ended an answer that began again, before it was longer than what the reader had."""
    row = request.row
    return row is not None and row.seam == "restart" and row.failure is not None and "limit" in row.failure.message


def _reported(request: Request) -> Usage | None:
    """The last usage that the vendor reported; `None` if it is impossible."""
    reports = [piece.usage for piece in request.served.pieces if isinstance(piece, UsageReport)]
    if not reports or not all(0 <= count <= MOST_TOKENS for count in _counts(reports[-1])):
        return None
    return reports[-1]


def _counts(usage: Usage) -> tuple[int, ...]:
    return (
        usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.cache_read_tokens,
        usage.cache_write_tokens, usage.cache_write_1h_tokens,
    )  # fmt: skip


def _same_cost(one: float | None, two: float | None) -> bool:
    return isclose(one or 0.0, two or 0.0, rel_tol=1e-9, abs_tol=1e-12)


def _price(policy: Policy, row: Attempt) -> float:
    """The cost of a row at the prices of a policy. A model on this machine that has none costs nothing."""
    usage, (of_input, of_cached, of_output) = row.usage, _prices(policy, row.target)
    cached = min(usage.cache_read_tokens, usage.input_tokens)
    total = (usage.input_tokens - cached) * of_input + cached * of_cached + usage.output_tokens * of_output
    return total / 1e6


def _prices(policy: Policy, target: Target) -> tuple[float, float, float]:
    """The prices of input, of cached input, and of output."""
    correction = policy.catalog.get(target)
    if correction is None or not correction.has_prices:
        return 0.0, 0.0, 0.0
    of_input, of_cached = correction.input_price or 0.0, correction.cached_input_price
    return of_input, of_input if of_cached is UNSET else of_cached, correction.output_price or 0.0


def _days(run: Run, process: Process, request: Request, zones: list[str]) -> list[str]:
    """The days on which a row may have been written: between the end of the vendor's answer and that of its reader."""
    first = request.served.ended_at if request.served.ended_at is not None else request.served.asked_at
    last = process.stock_at or first
    if not may_share(request.reading) and request.reading.ended_at is not None:
        last = max(first, request.reading.ended_at)
    moments = sorted(walls(run, first, last))
    days: set[str] = set()
    for zone in zones:
        at = moments[0]
        while at < moments[-1]:
            days.add(f"{datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(zone)):%Y-%m-%d}")
            at += 3_600.0
        days.add(f"{datetime.fromtimestamp(moments[-1], UTC).astimezone(ZoneInfo(zone)):%Y-%m-%d}")
    return sorted(days)
