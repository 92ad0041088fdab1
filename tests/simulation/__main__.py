"""`python -m tests.simulation`: runs the project's own scenarios under many seeds, and checks the invariants.

python -m tests.simulation --seeds 20000            all of them, in as many processes as there are cores
python -m tests.simulation --replay 1-48213 --trace  one of them, with what happened in it
python -m tests.simulation --replay 1-48213 --keep "why it is kept"

The exit status is 1 if an invariant broke, and 2 if the seed is none of this version.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.checking import (
    REPLAY,
    Checked,
    Figures,
    be_quiet,
    check_batch,
    checked,
    failure_of,
    keep,
    read_kept,
    seed_of,
)

BATCH: Final = 25
"""Seeds that a process gets at a time."""


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    if options.replay is not None:
        return replay(options.replay, with_trace=options.trace, why=options.keep)
    failed, figures = run(options.first, options.seeds, options.jobs, stop=options.stop, quiet=options.json)
    first = min(failed, key=lambda each: each.seed.number, default=None)
    if options.json:
        name, message = first.broken[0] if first is not None else ("", "")
        count = figures.seeds if first is None else first.seed.number - options.first + 1
        print(json.dumps({"seeds": count, "invariant": name, "message": message}))
        return 0 if first is None else 1
    print(summary(figures))
    if first is None:
        return 0
    for each in sorted(failed, key=lambda each: each.seed.number)[:20]:
        print(f"seed {each.seed} breaks {each.broken[0][0]}: {each.broken[0][1]}")
    print(f"{len(failed)} of {figures.seeds} seeds break an invariant")
    print(shrunk_report(first))
    return 1


def run(first: int, count: int, jobs: int, *, stop: bool, quiet: bool) -> tuple[list[Checked], Figures]:
    """Check these seeds, in several processes. With `stop`, no more after the first one that fails."""
    failed: list[Checked] = []
    figures = Figures()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        bar = progress.add_task("seeds", total=count)
        for failures, more in results(first, count, jobs):
            failed += failures
            figures.add(more)
            progress.update(bar, advance=more.seeds, description=f"seeds, {len(failed)} fail" if failed else "seeds")
            if failed and stop:
                break
    return failed, figures


def results(first: int, count: int, jobs: int) -> Iterator[tuple[list[Checked], Figures]]:
    """The results of these seeds, batch by batch. The batches of several processes come as they are done."""
    batches = iter([range(at, min(at + BATCH, first + count)) for at in range(first, first + count, BATCH)])
    if jobs == 1:
        yield from map(check_batch, batches)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=be_quiet) as pool:
        open_batches: set[Future[tuple[list[Checked], Figures]]] = set()
        try:
            while True:
                while len(open_batches) < 2 * jobs and (batch := next(batches, None)) is not None:
                    open_batches.add(pool.submit(check_batch, batch))
                if not open_batches:
                    return
                done, open_batches = wait(open_batches, return_when=FIRST_COMPLETED)
                for each in done:
                    yield each.result()
        finally:
            pool.shutdown(cancel_futures=True)


def replay(text: str, *, with_trace: bool, why: str | None) -> int:
    """Run one seed, or the file of a kept one."""
    kept = read_kept(Path(text)) if text.endswith(".json") else None
    try:
        seed = seed_of(text) if kept is None else kept.seed
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    result = checked(seed, kept, with_trace=with_trace)
    if with_trace:
        print(result.trace)
    for name, message in result.broken:
        print(f"seed {seed} breaks {name}: {message}")
    if not result.broken:
        print(f"seed {seed} breaks no invariant; its digest is {result.digest}")
    if why is not None:
        print(f"it is kept in {keep(seed, why)}")
    return 1 if result.broken else 0


def shrunk_report(first: Checked) -> str:
    failure = failure_of(first)
    return f"{failure.error}\n{failure.report(REPLAY)}"


def summary(figures: Figures) -> str:
    """What was simulated, in one line."""
    seeds = max(1, figures.seeds)
    return (
        f"{figures.seeds} seeds: {figures.virtual_seconds / 86_400:,.0f} days of virtual time, {figures.streams:,} "
        f"streams, {figures.requests:,} requests, {figures.faults:,} faults, {figures.switches:,} switches, "
        f"{figures.kills:,} killed processes; {1_000 * figures.cpu_seconds / seeds:.0f} ms of CPU a seed"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Run scenarios under many seeds.")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    parser.add_argument("--jobs", type=int, default=_cores(), help="processes at a time")
    parser.add_argument("--stop", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--json", action="store_true", help="print the result as one line of JSON, without shrinking")
    parser.add_argument("--replay", metavar="SEED", help="run this seed, or the file of a kept one")
    parser.add_argument("--trace", action="store_true", help="with --replay: show what happened")
    parser.add_argument("--keep", metavar="WHY", help="with --replay: keep the seed as a test")
    return parser


def _cores() -> int:
    count = getattr(os, "process_cpu_count", os.cpu_count)()
    return max(1, min(2, count or 1))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
