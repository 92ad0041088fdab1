"""Nothing is left after the end."""

from __future__ import annotations

from tests.simulation import inspection
from tests.simulation.promises.kit import fail, over_at
from tests.simulation.record import Process, Run


def no_task_or_timer_is_left(run: Run) -> None:
    """After the switch is closed, no task and no timer is left in the loop."""
    for process in run.processes:
        if process.left:
            fail(process, "no task and no timer after the end", "; ".join(process.left))


def nothing_went_wrong_unseen(run: Run) -> None:
    """No exception was left unretrieved, no coroutine unawaited, and no callback of the loop has raised. The scripts of
    the vendors have not failed either.
    """
    if run.problems:
        fail("the loop", "no exception that nobody has retrieved", "; ".join(run.problems))
    for process in run.processes:
        for name, vendors in process.vendors.items():
            for vendor in vendors:
                if vendor.script_error is not None:
                    fail(process, f"a script of {name} without errors", repr(vendor.script_error))


def every_vendors_stream_is_closed(run: Run) -> None:
    """Every request that reached a vendor is over: its generator is closed. Only a killed process leaves one open."""
    for process in run.processes:
        for vendors in process.vendors.values():
            for served in (served for vendor in vendors for served in vendor.served):
                if served.ended_at is None and not process.was_killed:
                    fail(process, f"the stream of {served.target}, asked at {served.asked_at:.3f}, is closed", "open")


def a_vendors_stream_ends_with_its_reader(run: Run) -> None:
    """No vendor's stream outlives the run of its readers: all are closed when the scenario is over."""
    for process in _living(run):
        for vendors in process.vendors.values():
            for served in (served for vendor in vendors for served in vendor.served):
                if process.closed_at is not None and over_at(served) > process.closed_at:
                    fail(process, f"{served.target} is closed by {process.closed_at:.3f}", served.ended_at)


def readers_that_ended_hold_nothing(run: Run) -> None:
    """When all readers have ended, no slot, probe, reservation or shared stream is held, before any later answer could
    set that right.
    """
    for process in run.processes:
        if process.held:
            fail(process, "nothing held after all readers have ended", process.held)


def every_slot_is_given_back(run: Run) -> None:
    """No slot of a limit is taken, and nobody waits in line for one."""
    for process in _living(run):
        if slots := inspection.taken_slots(process.switch):
            fail(process, "no taken slots", slots)
        if line := inspection.waiting_in_line(process.switch):
            fail(process, "nobody in line for a slot", line)


def every_reservation_is_released(run: Run) -> None:
    """No money is reserved."""
    for process in _living(run):
        if reserved := inspection.reserved_money(process.switch):
            fail(process, "no reserved money", reserved)


def no_more_is_released_than_was_reserved(run: Run) -> None:
    """Each reservation is released once: the money that others have reserved stays reserved."""
    for process in run.processes:
        if process.released_in_excess:
            fail(process, "no release of more than is reserved", "; ".join(process.released_in_excess))


def every_probe_is_over(run: Run) -> None:
    """No breaker counts a probe as under way, and no notice of a breaker is unsent."""
    for process in _living(run):
        if probes := inspection.probes(process.switch):
            fail(process, "no probe under way", probes)
        if unsent := inspection.unsent_notices(process.switch):
            fail(process, "no unsent notice", unsent)


def every_stream_is_closed(run: Run) -> None:
    """The switch and its runtimes count no stream as open."""
    for process in _living(run):
        if count := inspection.open_streams(process.switch):
            fail(process, "no open stream", count)


def every_flight_has_landed(run: Run) -> None:
    """No cache has a shared stream that a reader could still join."""
    for process in _living(run):
        cache = process.switch._runtime.cache_in_use
        if cache is not None and (flights := inspection.flights(cache)):
            fail(process, "no shared stream", flights)


def buckets_hold_no_more_than_fits(run: Run) -> None:
    """No token bucket holds more than a minute allows: what is given back was taken before."""
    for process in _living(run):
        if overfull := inspection.overfull_buckets(process.switch):
            fail(process, "buckets that are at most full", overfull)


def everything_is_written(run: Run) -> None:
    """After the switch is closed, every amount and every recording is in its file."""
    for process in _living(run):
        if process.closed_at is None:
            continue
        if dollars := inspection.unwritten_dollars(process.switch):
            fail(process, "every amount is written when the switch is closed", dollars)
        cache = process.switch._runtime.cache_in_use
        if cache is not None and (recordings := inspection.unwritten_recordings(cache)):
            fail(process, "every recording is written when the switch is closed", recordings)


def _living(run: Run) -> list[Process]:
    """The processes that were not killed: what a killed one held is gone with it."""
    return [process for process in run.processes if not process.was_killed]
