"""The answers of real models, fed to the join again: what was shown, what was refused, and that nothing was lost.

The trials lie beside the repository, in `shared/real/trials.jsonl`; its README says how they were made. No server is
needed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from llm_dispatcher._dispatch.continuation import CONTINUE_PROMPT
from llm_dispatcher._join.join import Join
from llm_dispatcher._join.normal_text import normal_form
from llm_dispatcher._policy import Continues
from tests.conftest import thinned

TRIALS: Final = Path(__file__).parents[3] / "shared" / "real" / "trials.jsonl"
needs_trials = pytest.mark.skipif(not TRIALS.is_file(), reason=f"{TRIALS} is not there")

OURS: Final = re.compile(
    r"your answer was cut off|its last words were|begin by repeating exactly|without the marks|"
    r"straight on from there to the end|do not comment on the interruption",
    re.IGNORECASE,
)
"""Words of the request."""
MARKS: Final = re.compile(r"<<|>>|\A\s*[<>]")


class Trial(NamedTuple):
    """What a model sent when it was asked to continue, and what the library did with it when it was recorded."""

    name: str
    style: Continues
    delivered: str
    sent: str
    hit_limit: bool
    limit: int | None
    seam: str | None
    trimmed: str | None
    whole: str | None
    """The answer of the first model, had nothing broken it; `None` where it is not known."""


class Result(NamedTuple):
    """What the join made of a trial: the text that a reader sees, and what is said of it."""

    shown: str
    seam: str | None
    trimmed: str
    refusal: str | None
    leak: str | None
    taken: tuple[tuple[int, str], ...]


def is_continued(delivered: object) -> bool:
    """Whether there was a text to continue. A row of three attempts has a list in this place."""
    return isinstance(delivered, str) and bool(delivered.strip())


@cache
def trials(style: Continues) -> list[Trial]:
    found = []
    wholes: dict[tuple[str, str, int], str] = {}
    for line in TRIALS.read_text().splitlines():
        row: dict[str, Any] = json.loads(line)
        if "whole_a" in row:
            wholes[row["set"], row["prompt"], row["seed"]] = row["whole_a"]
        if row.get("style") == style and row.get("b_sent") is not None and is_continued(row["delivered"]):
            found.append(
                Trial(
                    row["id"],
                    style,
                    row["delivered"],
                    row["b_sent"],
                    row["finish"] == "length",
                    row.get("b_max"),
                    row.get("seam"),
                    row.get("trimmed"),
                    wholes.get((row["set"], row["prompt"], row["seed"])),
                )
            )
    return found


def chunkings(text: str) -> list[list[str]]:
    """The text at once, in words, in single characters, and in pieces that end anywhere."""
    return [[text], re.findall(r"\S+|\s+", text), list(text), [text[at : at + 7] for at in range(0, len(text), 7)]]


def replayed(trial: Trial, parts: list[str], *, is_certain: bool = True) -> Result:
    """What a reader sees if the attempt ends at a refusal or a leak."""
    join = Join(trial.delivered, trial.style, prompt=CONTINUE_PROMPT, is_certain=is_certain)
    shown: list[str] = []
    for part in parts:
        text = join.feed(part)
        if join.refusal is not None:
            break
        shown.append(text)
    else:
        text = join.close(trial.hit_limit)
        shown += [text] if join.refusal is None else []
    if join.refusal is not None:  # the attempt has ended
        return Result("".join(shown), join.seam, join.trimmed, join.refusal, None, ())
    taken = tuple((mark.place, mark.text) for mark in join.taken)
    return Result("".join(shown), join.seam, join.trimmed, None, join.leak, taken)


@cache
def results(style: Continues) -> list[tuple[Trial, Result]]:
    return [(trial, replayed(trial, [trial.sent])) for trial in trials(style)]


def is_known(trimmed: str, delivered: str) -> bool:
    """Whether a reader has all that was cut off, beside the marks and the words of the request before it."""
    repeated = re.split(r"<<<+", trimmed)[-1] if OURS.match(trimmed) else trimmed
    words = normal_form(repeated).strip(" <>").lower()
    have = normal_form(delivered).strip().lower()
    if words in have or f"{words} " in have + " ":
        return True
    beginning = have[: len(words)]
    return SequenceMatcher(None, words, beginning, autojunk=False).ratio() >= 0.9


def kind_of(trial: Trial, result: Result) -> str:
    """One word for what a reader sees of an anchored trial, the worst first."""
    if trial.limit is not None and trial.limit <= 3:
        return "limit spent"
    if OURS.search(result.shown):
        return "our wording"
    if MARKS.search(result.shown):
        return "marks"
    if trial.whole is not None and (trial.delivered + result.shown).strip() == trial.whole.strip():
        return "clean"  # the answer is whole
    if len(result.shown.strip()) <= 2:
        return "nothing new"
    return "unproven" if result.seam == "plain" else "clean"


@needs_trials
def test_a_trial_has_one_result_however_it_came() -> None:
    differing = [
        trial.name
        for style in ("anchored", "prefill")
        for trial, result in thinned(results(style))
        if any(replayed(trial, parts) != result for parts in chunkings(trial.sent))
    ]
    assert differing == []


@needs_trials
def test_nothing_new_is_cut() -> None:
    for trial, result in results("anchored"):
        assert is_known(result.trimmed, trial.delivered), trial.name
        if result.refusal is None and result.leak is None:
            shown = result.shown
            for place, mark in reversed(result.taken):
                shown = shown[:place] + mark + shown[place:]
            assert result.trimmed + shown == trial.sent, trial.name


@needs_trials
def test_what_is_refused_was_not_seen() -> None:
    assert {result.shown for _, result in results("anchored") if result.refusal is not None} == {""}


@needs_trials
def test_no_mark_and_no_word_of_ours_is_shown() -> None:
    for trial, result in results("anchored"):
        assert not OURS.search(result.shown), trial.name
        assert not MARKS.search(result.shown), trial.name


@needs_trials
def test_three_of_four_anchored_continuations_that_are_shown_are_clean(say_of_trials: Callable[[str], None]) -> None:
    """Those that show nothing, because the model ended at once and the text may be whole, count as shown, too."""
    accepted = [(trial, result) for trial, result in results("anchored") if result.refusal is None]
    shown = Counter(kind_of(trial, result) for trial, result in accepted)
    refused = Counter(result.refusal for _, result in results("anchored") if result.refusal is not None)
    assert set(shown) <= {"clean", "nothing new"}
    assert shown["clean"] >= 0.75 * shown.total()
    visible = [(trial, result) for trial, result in accepted if result.shown.strip()]
    assert sum(len(result.shown.strip()) > 2 for _, result in visible) >= 0.75 * len(visible)
    say_of_trials(f"{dict(shown)} shown, {refused.total()} refused: {dict(refused)}")


@needs_trials
def test_prefilled_trials_come_out_as_before() -> None:
    for trial, result in results("prefill"):
        assert result.refusal is None
        assert result.trimmed + result.shown == trial.sent
        if trial.seam is not None:
            assert (result.seam, result.trimmed) == (trial.seam, trial.trimmed), trial.name


@needs_trials
def test_a_host_that_takes_prefill_is_not_refused_when_that_is_uncertain() -> None:
    for trial, result in results("prefill"):
        assert replayed(trial, [trial.sent], is_certain=False) == result, trial.name


@needs_trials
def test_a_new_answer_by_a_host_that_ignores_prefill_is_refused() -> None:
    """The second answers of the anchored trials stand for it. Where they begin like other text, they are shown."""
    found = Counter[bool]()
    for trial in trials("anchored"):
        is_glued = trial.delivered[-1:].isalpha() or trial.delivered.endswith(",")
        if trial.seam == "plain" and is_glued and re.match(r"[A-Z][\w']* [a-z]", trial.sent):
            result = replayed(trial._replace(style="prefill"), [trial.sent], is_certain=False)
            found[result.refusal is not None or result.seam == "restart"] += 1
    assert found[True] >= 0.75 * found.total() > 0
