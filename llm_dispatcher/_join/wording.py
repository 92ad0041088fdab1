"""Our own wording: the sentences of the user turn that asks for an anchored continuation.

A model may quote that turn instead of continuing. Its words are known, because the library or the operator wrote them.
A few of them prove nothing: "to the end of your answer" may be said of anything. So a quotation is a whole sentence of
the turn, or many words of it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from .repetition import WORD

WHOLE_SENTENCE: Final = 5
"""A whole sentence with at least this many words is a quotation if it begins a sentence of the answer."""
FROM_THE_BEGINNING: Final = 6
"""So is the beginning of a sentence with this many words."""
AT_THE_LIMIT: Final = 4
"""So many words of it are enough if a token limit ends the text there. The last of them may be cut."""
ANYWHERE: Final = 12
"""This many words are a quotation wherever they stand."""
BETWEEN_WORDS: Final = 12
"""At most this many characters that are not part of a word may stand between two words of a quotation."""

_LONGEST_WORD: Final = 64
_ENDS_A_SENTENCE: Final = re.compile(r"[.!?:。！？：]|\n")
_BEFORE_A_SENTENCE: Final = re.compile(r"(?:\A|[\n.!?:>|。！？：])[\s\"'*_`<>#-]*\Z")


class Quotation(NamedTuple):
    """A part of the text that repeats words of the turn.

    `is_proven` says whether they are enough. If not, more of them may still come.
    """

    start: int
    is_proven: bool


class _Run(NamedTuple):
    """Words of the text that are words of the turn, in the same order."""

    at: int
    """The number of the turn's word that comes next."""
    length: int
    start: int
    """The place of the first word in the text."""
    begins: bool
    """Whether the first word begins a sentence, in the turn and in the text."""


class Wording:
    """The words of the turn, in order. `None` stands where the anchor is."""

    def __init__(self, prompt: str) -> None:
        self._words: list[str | None] = []
        self._begins: set[int] = set()
        self._ends: set[int] = set()
        for number, part in enumerate(prompt.split("{anchor}")):
            if number:
                self._words.append(None)
            for sentence in _ENDS_A_SENTENCE.split(part):
                words = words_of(sentence)
                if words:
                    self._begins.add(len(self._words))
                    self._words += words
                    self._ends.add(len(self._words))
        self._words.append(None)
        self._beginnings = {word[:length] for word in self._words if word for length in range(1, len(word) + 1)}

    def quotation(
        self, text: str, after: int, until: int, ended: bool, delivered: str, *, hit_limit: bool = False
    ) -> Quotation | None:
        """The first quotation that begins between these places: a proven one, or one that may still grow.

        Args:
            text: The text to look at. The words that begin before `after` are not looked at.
            after: The place from which on the text was not looked at before.
            until: Where the first word of a quotation may be at the latest.
            ended: Whether no more text will come. If not, the last word may be incomplete.
            delivered: The delivered text. If it has the same words, they are words of the answer.
            hit_limit: Whether a token limit has ended the text.
        """
        runs: list[_Run] = []
        end = after
        for word in WORD.finditer(text, max(0, after - _LONGEST_WORD)):
            if word.start() >= after:
                if word.start() - end > BETWEEN_WORDS:
                    runs = []
                spoken = word.group().lower()
                if not runs and word.start() >= until:
                    return None
                if word.end() == len(text) and not ended:
                    return self._growing(runs, spoken, word)
                runs = self._continued(runs, spoken, may_be_cut=hit_limit and word.end() == len(text))
                if word.start() < until:
                    runs += self._begun(spoken, text, word.start())
                proven = next((run for run in runs if self._is_proven(run)), None)
                if proven is not None:
                    if not _has_words(delivered, words_of(text[proven.start : word.end()])):
                        return Quotation(proven.start, True)
                    runs = []
            end = max(end, word.end())
        if not runs or len(text) - end > BETWEEN_WORDS:
            return None
        if ended:
            return self._cut_off(runs, text, delivered) if hit_limit else None
        return Quotation(min(run.start for run in runs), False)

    def _growing(self, runs: list[_Run], spoken: str, word: re.Match[str]) -> Quotation | None:
        """The quotation that a last word may continue or begin, once the word is complete."""
        if spoken not in self._beginnings:
            return None
        starts = [run.start for run in runs if (self._words[run.at] or "").startswith(spoken)]
        return Quotation(min([*starts, word.start()]), False)

    def _cut_off(self, runs: list[_Run], text: str, delivered: str) -> Quotation | None:
        """The quotation that a token limit has cut off."""
        long = [run for run in runs if run.begins and run.length >= AT_THE_LIMIT]
        new = (run for run in long if not _has_words(delivered, words_of(text[run.start :])[:-1]))
        return next((Quotation(run.start, True) for run in new), None)

    def _continued(self, runs: list[_Run], spoken: str, *, may_be_cut: bool) -> list[_Run]:
        """The runs that this word continues."""
        return [
            run._replace(at=run.at + 1, length=run.length + 1)
            for run in runs
            if (word := self._words[run.at]) == spoken or (may_be_cut and word is not None and word.startswith(spoken))
        ]

    def _begun(self, spoken: str, text: str, start: int) -> list[_Run]:
        """The runs that begin with this word."""
        numbers = [number for number, word in enumerate(self._words) if word == spoken]
        if not numbers:
            return []
        begins = _BEFORE_A_SENTENCE.search(text, max(0, start - BETWEEN_WORDS), start) is not None
        return [_Run(number + 1, 1, start, begins and number in self._begins) for number in numbers]

    def _is_proven(self, run: _Run) -> bool:
        if run.length >= ANYWHERE:
            return True
        is_whole = run.length >= WHOLE_SENTENCE and run.at in self._ends
        return run.begins and (is_whole or run.length >= FROM_THE_BEGINNING)


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return [word.group().lower() for word in WORD.finditer(text)]


def _has_words(text: str, words: list[str]) -> bool:
    return f" {' '.join(words)} " in f" {' '.join(words_of(text))} "


@lru_cache(maxsize=16)
def wording_of(prompt: str) -> Wording:
    """The wording of a turn. An application has one or two."""
    return Wording(prompt)
