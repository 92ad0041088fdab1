"""After a refusal another model goes on: one of the same vendor by itself, or the next target of the route."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from llm_dispatcher._routing.health import REFUSED
from llm_dispatcher.events import ReasoningDelta, ToolCallDelta, Usage
from llm_dispatcher.provider import ServedBy
from tests.simulation.promises.kit import (
    attempts_of,
    everyone,
    fail,
    finished,
    has_body,
    outcome_of,
    policies_of,
    task_of,
)
from tests.simulation.promises.ladder import has_others
from tests.simulation.promises.matching import Request, handed_over, of_reading
from tests.simulation.record import Reading, Run

REFUSING: Final = ("refusal", "content_filter")
"""The finish reasons of an answer that was refused."""
BY_THE_VENDOR: Final = "handed over by the vendor"


def each_model_of_a_handover_has_its_row(run: Run) -> None:
    """If a vendor hands over to another of its models, each model has a row with its own name and with the usage that
    the vendor has reported for it. The row of a model that has declined says so. The one after it continues an open
    turn, if the reader has text of the model before it.
    """
    for reading in everyone(run):
        for parts in _answers_with_handovers(run, reading):
            whole, rows = parts[0].whole, [each.row for each in parts if each.row is not None]
            told = next((piece for piece in whole.pieces if isinstance(piece, ServedBy)), None)
            for place, (row, after) in enumerate(pairwise(rows)):
                if row.failure is None or row.failure.kind != REFUSED:
                    fail(reading, f"attempt {row.number} has failed, because its model has declined", row)
                if after.target.provider != row.target.provider or after.target == row.target:
                    fail(reading, f"another model of {row.target.provider} after {row.target}", after)
                if row.delivered and (after.rung, after.proof) != ("prefill", BY_THE_VENDOR):
                    fail(reading, f"attempt {after.number} continues an open turn, {BY_THE_VENDOR}", after)
                reported = None if told is None or place >= len(told.earlier) else told.earlier[place]
                is_told = row.usage.source == "reported" and reported and _counts(row.usage) == _counts(reported)
                if whole.finished and reported is not None and not is_told:
                    fail(reading, f"the usage that was reported for {row.target}, {reported}", row.usage)
                if not row.delivered and not _wrote(parts[place]) and _counts(row.usage) != _counts(Usage()):
                    fail(reading, f"no usage of {row.target}, which has written nothing", row.usage)


def a_refusal_leads_on(run: Run) -> None:
    """With `on_refusal: next`, an answer of an ordered route ends in a refusal only if no other target can be asked."""
    for reading in finished(run):
        reason = None if reading.response is None else reading.response.finish_reason
        own = of_reading(run, reading)
        if outcome_of(reading) != "completed" or reason not in REFUSING or not own or has_body(reading):
            continue
        is_next = all(policy.route(task_of(reading)).on_refusal == "next" for policy in policies_of(run, reading))
        if is_next and has_others(run, reading, own[-1]):
            fail(reading, f"another target after the refusal of {own[-1].served.target}", attempts_of(reading)[-1])


def _answers_with_handovers(run: Run, reading: Reading) -> Iterator[list[Request]]:
    """The parts of each answer in which a vendor has handed over."""
    continued, parts = handed_over(run, reading), list[Request]()
    for request in of_reading(run, reading):
        if request.row is not None and request.row.number in continued:
            parts.append(request)
            continue
        if len(parts) > 1:
            yield parts
        parts = [request]
    if len(parts) > 1:
        yield parts


def _wrote(request: Request) -> bool:
    """Whether a model has sent anything of an answer."""
    return any(isinstance(piece, (str, ReasoningDelta, ToolCallDelta)) and piece for piece in request.served.pieces)


def _counts(usage: Usage) -> tuple[int, ...]:
    return usage.input_tokens, usage.output_tokens, usage.reasoning_tokens
