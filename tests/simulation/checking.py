"""Checks seeds: runs them, asks the invariants, and shrinks what fails. Kept seeds are files in `kept/`."""

from __future__ import annotations

import gc
import sys
import traceback
import warnings
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Final

import msgspec
from msgspec import Struct

from llm_dispatcher.testing._simulation.seeds import Seed
from llm_dispatcher.testing._simulation.shrinking import Outcome, shrunk
from llm_dispatcher.testing._simulation.simulate import Failure
from tests.simulation.invariants import broken
from tests.simulation.promises import matching
from tests.simulation.record import Run
from tests.simulation.run import lived_through
from tests.simulation.scenario import VERSION, Scenario

KEPT: Final = Path(__file__).parent / "kept"
REPLAY: Final = "python -m tests.simulation --replay {seed} --trace"
MOST_RUNS: Final = 300
"""Runs that the shrinking of one failure may take."""


class Figures(Struct):
    """What happened in some runs, in numbers."""

    seeds: int = 0
    virtual_seconds: float = 0.0
    cpu_seconds: float = 0.0
    streams: int = 0
    requests: int = 0
    faults: int = 0
    switches: int = 0
    kills: int = 0

    def add(self, other: Figures) -> None:
        """Add the figures of other runs."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Checked(Struct):
    """One seed that was run and checked. `broken` has the invariants that do not hold, each with its message."""

    seed: Seed
    broken: list[tuple[str, str]]
    figures: Figures
    digest: str
    made: int
    eventful: tuple[tuple[int, str], ...]
    trace: str = ""

    @property
    def outcome(self) -> Outcome:
        """The outcome for the shrinking. Two runs fail in the same way if the first broken invariant is the same."""
        return Outcome(self.broken[0][0] if self.broken else None, self.made, self.eventful)


class Kept(Struct, forbid_unknown_fields=True):
    """A seed that has found something. Its scenario is stored, so that it survives another version of the drawing.

    `drawn` is how many choices it took to draw the scenario: the choices of a replay are counted from there.
    """

    found: str
    why: str
    scenario: Scenario
    drawn: int = 0

    @property
    def seed(self) -> Seed:
        """The seed, whatever its version is."""
        version = int(self.found.partition("-")[0])
        return Seed.parse(self.found, version=version)


def seed_of(text: str) -> Seed:
    """The seed that a text describes. A seed of another version of the scenarios is a `ValueError`."""
    return Seed.parse(text, version=VERSION, what="the scenarios")


def checked(seed: Seed | int, kept: Kept | None = None, *, with_trace: bool = False) -> Checked:
    """Run a seed, or one that was kept, and ask all invariants."""
    seed = Seed(seed, version=VERSION) if isinstance(seed, int) else seed
    began = process_time()
    scenario, drawn = (None, 0) if kept is None else (kept.scenario, kept.drawn)
    with lived_through(seed, scenario, drawn) as run:
        failures = _failures(run)
        figures = _figures(run)
        simulation, choices = run.simulation, run.simulation.choices
        trace = str(simulation.trace) if with_trace else ""
        result = Checked(
            seed,
            failures,
            figures,
            simulation.digest,
            choices.made,
            tuple(choices.eventful),
            trace,
        )
    figures.cpu_seconds = process_time() - began
    return result


def be_quiet() -> None:
    """Print nothing of what a killed process leaves behind: its coroutines complain when they are dropped."""
    warnings.simplefilter("ignore", RuntimeWarning)
    sys.unraisablehook = lambda _: None


def check_batch(numbers: range) -> tuple[list[Checked], Figures]:
    """Check some seeds. Returns those that fail, and the figures of all."""
    failed, figures = [], Figures()
    for number in numbers:
        try:
            result = checked(number)
        except Exception:
            raise RuntimeError(f"the scenario of seed {number} is broken:\n{traceback.format_exc()}") from None
        figures.add(result.figures)
        if result.broken:
            failed.append(result)
    gc.collect()  # what is left of a simulation is a cycle, and each simulation switches the collector off
    return failed, figures


def failure_of(first: Checked) -> Failure:
    """A failed seed, shrunk, with the trace of its shortest run."""
    simplest = first.seed
    if not simplest.is_shrunk:
        simplest = shrunk(first.seed, first.outcome, lambda seed: checked(seed).outcome, MOST_RUNS)
    last = checked(simplest, with_trace=True)
    name, message = (last.broken or first.broken)[0]
    return Failure(first.seed, simplest, AssertionError(f"{name}: {message}"), first.made, last.eventful, last.trace)


def kept_seeds() -> dict[str, Kept]:
    """The kept seeds, by the names of their files."""
    return {path.stem: read_kept(path) for path in sorted(KEPT.glob("*.json"))}


def read_kept(path: Path) -> Kept:
    """A kept seed."""
    return msgspec.json.decode(path.read_bytes(), type=Kept)


def keep(seed: Seed, why: str) -> Path:
    """Write a seed to `kept/`."""
    with lived_through(seed) as run:
        kept = Kept(str(seed), why, run.scenario, run.drawn)
    path = KEPT / f"{seed.version}-{seed.number}.json"
    KEPT.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
    return path


def _failures(run: Run) -> list[tuple[str, str]]:
    if run.stuck:
        return [("the_run_goes_to_its_end", run.stuck)]
    try:
        return broken(run)
    except Exception:
        return [("invariants_can_be_asked", traceback.format_exc(limit=-2))]
    finally:
        matching.forget()  # it would hold what a killed process has left


def _figures(run: Run) -> Figures:
    readings = [*run.readings, *run.epilogue]
    served = [each for vendors in run.vendors.values() for vendor in vendors for each in vendor.served]
    rows = [reading.response.attempts for reading in readings if reading.response is not None]
    return Figures(
        seeds=1,
        virtual_seconds=run.simulation.now,
        streams=len(readings),
        requests=len(served),
        faults=sum(bool(each.fault) for each in served),
        switches=sum(one.target != other.target for attempts in rows for one, other in pairwise(attempts)),
        kills=sum(process.was_killed for process in run.processes),
    )
