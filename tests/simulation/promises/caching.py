"""The cache serves only whole answers, of the same question, in time, and never across namespaces."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from llm_dispatcher.cache._recording import why_not_recorded
from llm_dispatcher.events import StreamCompleted, StreamStarted, check_order
from tests.simulation import inspection
from tests.simulation.promises.kit import (
    asks_the_same,
    attempts_of,
    everyone,
    fail,
    is_free,
    may_share,
    outcome_of,
    over_at,
    policies_of,
    text_of,
)
from tests.simulation.promises.matching import Request, by_other_models, of_reading
from tests.simulation.promises.walls import walls
from tests.simulation.record import Process, Reading, Run


def a_free_answer_was_paid_by_another_reader(run: Run) -> None:
    """An answer that costs its reader nothing is that of a reader who asked the same thing, in the same namespace: one
    whose answer was open at that moment, or was complete and is not older than `ttl` by the wall clock.
    """
    for reading in everyone(run):
        if not is_free(reading):
            continue
        if not may_share(reading):
            fail(reading, "no shared answer, because its call wants no cache", reading.plan.options)
        if not any(_may_have_served(run, donor, reading) for donor in run.readings):
            lives = [
                f"{each.name} of process {each.process}" for each in run.readings if asks_the_same(run, each, reading)
            ]
            what = "an answer that another reader of the same question has paid, in its time"
            fail(reading, what, f"only those of {', '.join(lives) or 'nobody'}")


def an_answer_comes_from_where_it_may(run: Run) -> None:
    """An answer, shared and cached ones included, comes from a target that its request may go to, or from a model to
    which that target's vendor has handed over.
    """
    handed = {each: by_other_models(run, each) for each in everyone(run)}
    by_vendor = {target for targets in handed.values() for target in targets.values()}
    for reading in everyone(run):
        asked = reading.plan.request
        for event in reading.watched:
            if not isinstance(event, StreamStarted) or event.attempt in handed[reading]:
                continue
            if outcome_of(reading) == "open" and event.attempt > len(attempts_of(reading)):
                continue  # its process was killed before the row was written
            if is_free(reading) and event.target in by_vendor:
                continue
            # A provider that is not configured is a part of the model's name, as in OpenRouter's "author/model".
            if asked.get("model") is not None and asked["model"] not in (str(event.target), event.target.model):
                fail(reading, f"an answer of {asked['model']}, which it names", event.target)
            if asked.get("providers") and event.target.provider not in asked["providers"]:
                fail(reading, f"an answer of {asked['providers']}, which it names", event.target)


def a_free_answer_is_marked(run: Run) -> None:
    """Of a free answer every `StreamStarted` says `cached`, and of a paid one none does."""
    for reading in everyone(run):
        marks = {event.cached for event in reading.watched if isinstance(event, StreamStarted)}
        if len(marks) > 1:
            fail(reading, "the same `cached` in each StreamStarted", marks)


def recordings_are_whole(run: Run) -> None:
    """What a cache's file holds is whole, also after its process was killed: complete answers of one model, and each
    is the answer to its question.
    """
    readings = list(everyone(run))
    for process in run.processes:
        for entry, events in process.recordings:
            reason = why_not_recorded(events, joined=False)
            if reason is not None:
                fail(process, f"no recording that is {reason}", entry.text)
            try:
                check_order(events)
            except ValueError as error:
                fail(process, "recordings in a legal order", str(error))
            truths = {each.truth for each in readings if each.question in entry.text}
            end = events[-1]
            assert isinstance(end, StreamCompleted)
            if truths and not (text_of(events) in truths and text_of(events) == end.text):
                fail(process, f"a recording of {' or '.join(sorted(truths))}", text_of(events))


def index_and_store_are_the_same(run: Run) -> None:
    """Every entry of a cache's index has a recording in its store, and the store holds nothing else."""
    for process in run.processes:
        cache = None if process.was_killed else process.switch._runtime.cache_in_use
        stored = None if cache is None else inspection.stored(cache)
        if cache is not None and stored is not None and set(stored) != inspection.indexed(cache):
            fail(process, f"{len(inspection.indexed(cache))} recordings, one for each entry", len(stored))


def a_cache_stays_within_its_size(run: Run) -> None:
    """A cache has no more entries than `max_cache_size`."""
    for process in run.processes:
        if process.was_killed:
            continue
        cache, settings = process.switch._runtime.cache_in_use, process.switch.policy.cache
        if cache is not None and settings is not None and cache.stats().entries > settings.max_cache_size:
            fail(process, f"at most {settings.max_cache_size} entries", cache.stats().entries)


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _may_have_served(run: Run, donor: Reading, reading: Reading) -> bool:
    """Whether the answer that this donor has paid may be what the reader got."""
    if is_free(donor) and not attempts_of(donor):
        return False
    if not asks_the_same(run, donor, reading) or not may_share(donor):
        return False
    paid = of_reading(run, donor)
    if not paid:
        return False
    return _was_open(donor, paid, reading) or _was_recorded(run, donor, paid, reading)


def _was_open(donor: Reading, paid: Sequence[Request], reading: Reading) -> bool:
    """Whether the donor's stream was open when the reader joined. The vendor's answer may be over before its reader."""
    last = max(over_at(each.served) for each in paid)
    ends = max(last, donor.ended_at if donor.ended_at is not None else inf)
    return (
        donor.process == reading.process
        and donor.began_at <= reading.began_at + LOOKING_UP
        and reading.began_at <= ends
    )


def _was_recorded(run: Run, donor: Reading, paid: Sequence[Request], reading: Reading) -> bool:
    """Whether the donor's answer was complete before the reader asked, and is young enough."""
    if not any(each.row is not None and each.row.outcome == "completed" for each in paid):
        return False
    ended = max(over_at(each.served) for each in paid)
    if ended > reading.began_at + LOOKING_UP or not _is_kept(run.processes[donor.process], reading):
        return False
    ttls = [policy.cache.ttl for policy in policies_of(run, reading) if policy.cache is not None]
    if None in ttls:
        return True
    donors_end = ended if donor.ended_at is None else max(ended, donor.ended_at)
    recorded = max(walls(run, ended, donors_end))
    asked = min(walls(run, reading.began_at, reading.began_at + LOOKING_UP))
    return any(ttl is not None and asked < recorded + ttl for ttl in ttls)


def _is_kept(process: Process, reading: Reading) -> bool:
    """Whether what a process has recorded is there for the reader."""
    if process.number == reading.process:
        return True
    return any(policy.cache is not None and policy.cache.store != "memory" for _, policy in process.policies)


LOOKING_UP = 2.5
"""Seconds that a look-up may take: opening a file and reading from it are two steps of a thread."""
