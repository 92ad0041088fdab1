"""A lexicon of English words, ordinary and rare. It is loaded when a text is first judged.

The words are in `lexicon.txt`, a selection of SCOWL that `scripts/build_lexicon.py` makes; its docstring describes the
file. Ordinary words are looked up in a dict. Rare words stay in the file's blocks, which take less memory than a set: a
look-up finds the block by binary search and reads it.

Nothing here changes after it was loaded. Two threads that load the lexicon at the same time do the work twice.
See docs/decisions/0031.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from string import ascii_lowercase
from typing import Final

from msgspec import Struct

COMMON: Final = 10
"""The size of the few thousand commonest words: `water`, `government`, `problem`."""
FAMILIAR: Final = 20
"""The size of an everyday vocabulary: `bridge`, `recipe`, `battery`."""
USUAL: Final = 35
"""The size of a small dictionary, with all inflections."""
RARE: Final = 100
"""More than the size of any ordinary word."""

_FILE: Final = Path(__file__).with_name("lexicon.txt")
_ENTRY: Final = re.compile(rb"([a-z]*)([0-_])")
_BEHIND_MARKS: Final = b"`"
"""This sorts behind all marks and before all letters."""
_SHARED: Final = 0x0F
_WORD_MARK: Final = 0x40
_BOTH_MARK: Final = 0x50
_PREFIXES: Final = ("non", "pre", "over", "under", "out", "mis", "dis", "un", "re", "in", "co")
_SUFFIXES: Final = ("s", "es", "ed", "d", "ing", "er", "ers", "ly", "less", "ness", "able", "ish")


class Lexicon(Struct, frozen=True):
    """The lexicon: which words exist, and how common they are.

    `sizes` has each ordinary word with the size of the smallest dictionary that lists it. `names` are the ordinary
    words that dictionaries also list with a capital. `rare` finds the mark behind a rare word.
    """

    sizes: Mapping[str, int]
    names: frozenset[str]
    rare: Callable[[str], int | None]

    def lists(self, word: str) -> bool:
        """Whether this is a word or a name, in small letters."""
        return word in self.sizes or self.rare(word) is not None

    def knows(self, word: str) -> bool:
        """Whether this is a word, or is built from words. If so, it is not a typing error."""
        return (
            self._long_enough(word)
            or any(word.endswith(end) and self._long_enough(word[: -len(end)]) for end in _SUFFIXES)
            or any(word.startswith(start) and self._long_enough(word[len(start) :]) for start in _PREFIXES)
            or any(self._usual(word[:place]) and self._usual(word[place:]) for place in range(4, len(word) - 3))
        )

    def ordinary(self, word: str) -> bool:
        """Whether this is an everyday word, not a name or a technical term."""
        return word in self.sizes

    def size(self, word: str) -> int:
        """How large a dictionary has to be to list this ordinary word; `RARE` for all other words."""
        return self.sizes.get(word, RARE)

    def writes_small(self, word: str) -> bool:
        """Whether the word also exists without a capital, so that `Turkey` and `turkey` have two meanings."""
        return word in self.sizes or (self.rare(word) or 0) >= _WORD_MARK

    def is_a_name_too(self, word: str) -> bool:
        """Whether this is both a word without a capital and a name."""
        return word in self.names or (self.rare(word) or 0) >= _BOTH_MARK

    def _long_enough(self, word: str) -> bool:
        return len(word) > 2 and self.lists(word)

    def _usual(self, word: str) -> bool:
        return self.sizes.get(word, RARE) <= USUAL


def are_words_loaded() -> bool:
    return lexicon.cache_info().currsize > 0


def load_words() -> None:
    """Load the lexicon, once. It may be called in any thread."""
    lexicon()


@cache
def lexicon() -> Lexicon:
    """The lexicon. The first call reads it, which takes about 15 ms of processor time."""
    ordinary, rare = _FILE.read_bytes().split(b"\n\n", 1)
    sizes: dict[str, int] = {}
    names: set[str] = set()
    for line in ordinary.decode("ascii").split("\n")[1:]:
        size, kind, *words = line.split(" ")
        sizes.update(dict.fromkeys(words, int(size)))
        if kind == "name":
            names.update(words)
    return Lexicon(sizes, frozenset(names), lru_cache(maxsize=4096)(partial(_mark, rare.split())))


def _mark(blocks: Sequence[bytes], word: str) -> int | None:
    """The mark behind a rare word. Only the last block that begins no later than the word may have it."""
    key = word.encode("utf-8", "surrogatepass")
    entry = b""
    for letters, mark in _ENTRY.findall(blocks[bisect_right(blocks, key + _BEHIND_MARKS) - 1]):
        entry = entry[: mark[0] & _SHARED] + letters
        if entry >= key:
            return int(mark[0]) if entry == key else None
    return None


@lru_cache(maxsize=10_000)
def correction(slip: str) -> str | None:
    """The ordinary word that a typing error stands for: one edit away, with the same first letter, from the smallest
    dictionary. `None` if this is a word, or if no word or more than one fits.
    """
    words = lexicon()
    if words.knows(slip):
        return None
    near = {word: words.sizes[word] for word in _edits(slip) if word in words.sizes}
    smallest = min(near.values(), default=RARE)
    best = [word for word, size in near.items() if size == smallest]
    return best[0] if len(best) == 1 else None


def _edits(word: str) -> Iterator[str]:
    for place in range(1, len(word) + 1):
        before, after = word[:place], word[place:]
        yield before + after[1:]
        if len(after) > 1:
            yield before + after[1] + after[0] + after[2:]
        for letter in ascii_lowercase:
            yield before + letter + after
            yield before + letter + after[1:]
