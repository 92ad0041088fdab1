"""A host that refuses the strongest way to go on is asked in the next best one, in the same attempt."""

from __future__ import annotations

from math import inf
from typing import Final

from llm_dispatcher.provider import Opened
from llm_dispatcher.testing._player import PREFILL_REFUSED
from tests.simulation.promises.kit import fail, finished, over_at
from tests.simulation.promises.matching import of_reading, requests
from tests.simulation.record import Run
from tests.simulation.witness import TOKENS_REFUSED

BY_TEXT: Final = ("prefill", "anchored")
"""The ways in which a host is asked that has refused token ids."""


def a_refused_open_turn_is_remembered(run: Run) -> None:
    """A host that is not known to take an open turn, and refuses one, is asked again with an anchor in the same
    attempt, and is not sent another by a later one.
    """
    for process in run.processes:
        refused: dict[tuple[str, str], float] = {}
        for request in requests(run):
            if request.reading.process != process.number or request.part:
                continue
            served, key = request.served, (request.served.target.provider, request.served.target.model)
            is_open_turn = request.row is not None and request.row.rung == "prefill" and not request.reads_on
            is_uncertain = request.vendor.settings.kind == "openai_compatible"
            failure = None if request.row is None else request.row.failure
            if is_open_turn and is_uncertain and failure is not None and failure.message == PREFILL_REFUSED:
                fail(request.reading, f"{served.target} is asked again with an anchor", failure)
            if (is_open_turn or request.refused_at is not None) and served.asked_at > refused.get(key, inf):
                fail(request.reading, f"no open turn to {served.target} after {refused[key]:.3f}", served)
            if request.refused_at is not None and any(isinstance(piece, Opened) for piece in served.pieces):
                refused.setdefault(key, over_at(served))


def refused_token_ids_cost_no_attempt(run: Run) -> None:
    """A host that gives token ids, and refuses them when they come back, is asked again in the same attempt, by the
    text and in the style of its model. No later attempt of this stream sends it token ids.
    """
    for reading in finished(run):
        refused: set[tuple[str, str]] = set()
        for request in of_reading(run, reading):
            target, row = request.served.target, request.row
            key = (target.provider, target.model)
            if row is None or request.part or request.reads_on:
                continue
            with_tokens = [each for each in (*request.refused, request.whole) if request.had_tokens(each)]
            if with_tokens and key in refused:
                fail(reading, f"no token ids for {target}, which has refused them before", with_tokens[-1])
            if row.failure is not None and TOKENS_REFUSED in row.failure.message:
                fail(reading, f"{target} is asked again by the text", row)
            if any(request.had_tokens(each) for each in request.refused):
                refused.add(key)
                if row.rung not in BY_TEXT:
                    fail(reading, f"the rung of attempt {row.number} is one of {' and '.join(BY_TEXT)}", row)
            elif (row.rung == "exact") != bool(with_tokens):
                fail(reading, "token ids in an attempt that is exact, and in no other", row)
