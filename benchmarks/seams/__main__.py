"""Broken streams of real model servers: does this library go on with the text that would have come, and do its peers?

make seams                                       sets up `.seams`, runs all rows, writes the table of docs/survival.md
python -m benchmarks.seams --rows exact-vllm     only these rows; the table is printed, not written
python -m benchmarks.seams --trials 4            so many cuts a row

Trials are kept in `.seams/trials.jsonl`, so a run that is interrupted goes on where it stopped. A row is run anew when
the source of the library, or a peer's version, has changed.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections import defaultdict
from collections.abc import Sequence

from . import trials
from .environment import SetupError, set_up
from .rows import ROWS, Row
from .servers import all_running
from .table import page_text, write
from .versions import source_of


async def run(rows: Sequence[Row], count: int, sources: dict[str, str]) -> None:
    done = {(trial.row, trial.number) for trial in trials.kept(trials.TRIALS, sources)}
    left = {row: [number for number in range(count) if (row.name, number) not in done] for row in rows}
    open_rows = [row for row in rows if left[row]]
    recorded: trials.Recorded = defaultdict(dict)
    servers = {server for row in open_rows for server in (row.first, row.second) if server is not None}
    # A run that is told to end ends its servers, too.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with all_running(sorted(servers, key=lambda server: server.name)) as ports:
        for row in open_rows:
            await trials.run_row(row, ports, recorded, sources[row.name], left[row])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seams", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], help="only these rows")
    parser.add_argument("--trials", type=int, default=48, help="cuts a row (48)")
    parser.add_argument("--table", action="store_true", help="no trials: the table of those that are kept")
    options = parser.parse_args()
    rows = [row for row in ROWS if not options.rows or row.name in options.rows]
    try:
        set_up()
    except SetupError as error:
        sys.exit(f"make seams: {error}")
    sources = {row.name: source_of(row) for row in rows}
    if not options.table:
        try:
            asyncio.run(run(rows, options.trials, sources))
        except (KeyboardInterrupt, asyncio.CancelledError):
            sys.exit("make seams: ended early. The trials so far are kept, and the next run goes on from there.")
    done = [trial for trial in trials.kept(trials.TRIALS, sources) if trial.number < options.trials]
    text = page_text(rows, done)
    print(text)
    if len(rows) == len(ROWS):
        write(text)


if __name__ == "__main__":
    main()
