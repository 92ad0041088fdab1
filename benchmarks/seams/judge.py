"""What is wrong with a seam: read by rules, on the delivered text and what came after it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from llm_dispatcher._dispatch.continuation import CONTINUE_PROMPT
from llm_dispatcher.cache._english.lexicon import lexicon

REPEATED: Final = 4
"""So many words in a row that the reader has already are a repetition."""
_WORDS: Final = re.compile(r"\w+")
_PARTS: Final = re.compile(r"[^\W\d_]+")
_AT_END: Final = re.compile(r"\w+$")
_AT_START: Final = re.compile(r"\w+")
_MARKS: Final = ("<<", ">>", "<|")
"""Those of this library's request, and those of chat templates."""
_REMARK: Final = re.compile(
    r"\b(cut off|interrupt\w*|last words|repeat\w* exactly|where (I|we) left|corrected (sentence|version|answer))\b",
    re.IGNORECASE,
)
"""The model speaks of the interruption."""
_SENTENCE_END: Final = re.compile(r"[.!?:;…\"”’)\]|`*\n-]\s*$")


def words(text: str) -> list[str]:
    return [word.casefold() for word in _WORDS.findall(text)]


def vocabulary(texts: Iterable[str]) -> frozenset[str]:
    """All words of the uninterrupted texts."""
    return frozenset(word for text in texts for word in words(text))


def faults(delivered: str, rest: str, whole: str, known: frozenset[str]) -> list[str]:
    """What is wrong with a seam. The text that would have come has nothing wrong."""
    if delivered + rest == whole:
        return []
    coming = whole[len(delivered) :]
    found: list[str] = []
    if any(mark in rest and mark not in whole for mark in _MARKS):
        found.append("marks")
    if _says_our_words(rest, whole):
        found.append("our words")
    if _REMARK.search(rest) and not _REMARK.search(whole):
        found.append("remark")
    if _repeats(words(delivered), words(rest), words(coming)):
        found.append("repeated")
    if is_glued(delivered, rest, coming, known):
        found.append("glued")
    if not rest.strip() and not _SENTENCE_END.search(delivered):
        found.append("nothing new")
    return found


def _says_our_words(rest: str, whole: str) -> bool:
    ours, said, usual = words(CONTINUE_PROMPT), words(rest), words(whole)
    runs = {tuple(ours[at : at + 4]) for at in range(len(ours) - 3)}
    runs -= {tuple(usual[at : at + 4]) for at in range(len(usual) - 3)}
    return any(tuple(said[at : at + 4]) in runs for at in range(len(said) - 3))


def _repeats(before: list[str], after: list[str], coming: list[str]) -> bool:
    """Whether the rest begins with the last words before it, or with the first: and would not have done so anyway."""
    if len(after) < REPEATED or after[:REPEATED] == coming[:REPEATED] or _goes_in_circles(before, after):
        return False
    if len(before) > REPEATED and after[:REPEATED] == before[:REPEATED]:
        return True
    return any(before[-length:] == after[:length] for length in range(REPEATED, min(len(before), len(after)) + 1))


def _goes_in_circles(before: list[str], after: list[str]) -> bool:
    """Whether the text said the same before the cut, at a place like this one.

    Either it said the same words twice in a row, and says them again. Or the last word before the cut stood there
    before, with the first words after the cut behind it.
    """
    twice = any(
        before[-2 * length : -length] == before[-length:] == after[:length]
        for length in range(1, min(len(before) // 2, len(after)) + 1)
    )
    seam = [*before[-1:], *after[:REPEATED]]
    return twice or any(before[at : at + len(seam)] == seam for at in range(len(before) - len(seam) + 1))


def is_glued(delivered: str, rest: str, coming: str, known: frozenset[str]) -> bool:
    """Whether two words have become one that is none: `shift` and `A` are `shiftA`."""
    head, tail = _AT_END.search(delivered), _AT_START.match(rest)
    if head is None or tail is None:
        return False
    expected = _AT_START.match(coming)
    if expected is not None and expected.group() == tail.group():
        return False
    word = head.group() + tail.group()
    if word.casefold() in known or word.isdigit():
        return False
    if head.group()[-1:].islower() and tail.group()[:1].isupper():
        return True
    return not all(lexicon().lists(part.casefold()) for part in _PARTS.findall(word))
