"""The table of docs/survival.md, from the trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from .environment import ROOT
from .judge import faults, vocabulary
from .rows import Row
from .trials import MAX_TOKENS, Trial
from .versions import versions

PAGE: Final = ROOT / "docs" / "survival.md"
BEGIN, END = "<!-- begin: make seams -->", "<!-- end -->"
READERS: Final = {
    "": "llm_dispatcher",
    "openai": "openai SDK",
    "pydantic-ai": "pydantic-ai FallbackModel",
    "litellm": "LiteLLM Router, `enable_mid_stream_fallback_continuation`",
}
HEAD: Final = (
    "reader", "cut stream → continued by", "rung", "streams broken in mid-text", "whole to the end",
    "the uninterrupted text", "clean joins", "glued in mid-word", "an error, nothing more shown",
)  # fmt: skip


class Figures(Struct):
    """What became of a row's trials that were cut in mid-text."""

    broken: int
    whole: int
    continued: int
    exact: int
    as_far: int
    clean: int
    faults: Counter[str]
    rungs: Counter[str]


def was_broken(trial: Trial) -> bool:
    """Whether the cut was in mid-text: something was delivered, and not all of it."""
    return bool(trial.delivered) and trial.delivered != trial.whole


def figures(trials: Sequence[Trial], known: frozenset[str]) -> Figures:
    broken = [trial for trial in trials if was_broken(trial)]
    whole = [trial for trial in broken if trial.got.outcome == "complete"]
    continued = [trial for trial in broken if trial.got.outcome == "complete" or trial.rest]
    found = [faults(trial.delivered, trial.rest, trial.whole, known) for trial in continued]
    return Figures(
        broken=len(broken),
        whole=len(whole),
        continued=len(continued),
        exact=sum(trial.got.text == trial.whole for trial in whole),
        as_far=sum(_is_as_far(trial.got.text, trial.whole) for trial in whole),
        clean=sum(not wrong for wrong in found),
        faults=Counter(fault for wrong in found for fault in wrong),
        rungs=Counter(trial.got.rung for trial in continued),
    )


def _is_as_far(text: str, whole: str) -> bool:
    """Whether one of two texts is the other one's beginning: only their lengths differ."""
    return text != whole and (text.startswith(whole) or whole.startswith(text))


def line(row: Row, counted: Figures) -> list[str]:
    rungs = ", ".join(
        rung if times == counted.continued else f"{rung} {times}" for rung, times in counted.rungs.items()
    )
    return [
        READERS[row.peer],
        row.from_to,
        "" if row.peer else rungs or row.rung,
        str(counted.broken),
        _share(counted.whole, counted.broken),
        _exactly(counted) if row.is_one_model and counted.continued else "",
        _share(counted.clean, counted.continued) if counted.continued else "",
        str(counted.faults["glued"]) if counted.continued else "",
        str(counted.broken - counted.continued),
    ]


def _exactly(counted: Figures) -> str:
    but_for_length = f"; {counted.as_far} more but for its length" if counted.as_far else ""
    return _share(counted.exact, counted.broken) + but_for_length


def _share(part: int, of: int) -> str:
    return f"{part} of {of} ({part / of:.0%})"


def page_text(rows: Sequence[Row], trials: Sequence[Trial]) -> str:
    known = vocabulary({trial.whole for trial in trials})
    lines = [list(HEAD), ["---"] * len(HEAD)]
    wrong: list[str] = []
    for row in rows:
        own = [trial for trial in trials if trial.row == row.name]
        if not own:
            continue
        counted = figures(own, known)
        lines.append(line(row, counted))
        if counted.faults:
            named = ", ".join(f"{name} {times}" for name, times in counted.faults.most_common())
            wrong.append(f"{READERS[row.peer]}, {row.from_to}{', ' + row.rung if row.rung else ''}: {named}")
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    each = max((trial.number + 1 for trial in trials), default=0)
    end = f"Cuts a row: {each}; at most {MAX_TOKENS} tokens an answer, temperature 0. Versions: {versions()}."
    if wrong:
        end = "Joins that are not clean: " + "; ".join(wrong) + ".\n\n" + end
    return f"{table}\n\n{end}"


def write(text: str) -> None:
    """Put the table between its marks on the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, mark, rest = page.partition(BEGIN)
    if not mark:
        raise SystemExit(f"the table has no place in {PAGE}: put `{BEGIN}` and `{END}` where it belongs")
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
