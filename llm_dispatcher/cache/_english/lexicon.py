"""English words: which there are, and which of them are ordinary. Loaded when a text is first judged, not before.

Frequencies are pyspellchecker's, rare words are those of the `english-words` package's lists.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib import resources
from string import ascii_lowercase
from typing import Final

import msgspec
from msgspec import Struct

from ..._importing import importing

FREQUENT: Final = 500
"""An ordinary word is seen so often in pyspellchecker's corpus, in which `the` is seen 20 million times."""
_SEEN: Final = 1000
_PREFIXES: Final = ("non", "pre", "over", "under", "out", "mis", "dis", "un", "re", "in", "co")
_SUFFIXES: Final = ("s", "es", "ed", "d", "ing", "er", "ers", "ly", "less", "ness", "able", "ish")


class Lexicon(Struct, frozen=True):
    """What is known of English words. `names` are those that dictionaries write with a capital."""

    frequency: Mapping[str, int]
    rare: frozenset[str]
    names: frozenset[str]

    def knows(self, word: str) -> bool:
        """Whether this is a word, or one built from words: then it is no slip of the keyboard."""
        return (
            self._listed(word)
            or any(word.endswith(end) and self._listed(word[: -len(end)]) for end in _SUFFIXES)
            or any(word.startswith(start) and self._listed(word[len(start) :]) for start in _PREFIXES)
            or any(self._usual(word[:place]) and self._usual(word[place:]) for place in range(4, len(word) - 3))
        )

    def writes_small(self, word: str) -> bool:
        """Whether the word without capitals is a word of its own, so that `Turkey` and `turkey` are two things."""
        if word in self.names:
            return word in self.rare and self.ordinary(word)
        return word in self.rare or self._usual(word)

    def ordinary(self, word: str) -> bool:
        """Whether everybody would take this for an everyday word, not for a name or a term."""
        return self.frequency.get(word, 0) >= FREQUENT and (word not in self.names or word in self.rare)

    def _listed(self, word: str) -> bool:
        return len(word) > 2 and (word in self.frequency or word in self.rare or word in self.names)

    def _usual(self, word: str) -> bool:
        return self.frequency.get(word, 0) >= _SEEN


def are_words_loaded() -> bool:
    return lexicon.cache_info().currsize > 0


def load_words() -> None:
    """Load the word lists, once, in whichever thread comes first."""
    importing(lexicon)


@cache
def lexicon() -> Lexicon:
    """The word lists; the first call takes half a second."""
    from english_words import get_english_words_set  # type: ignore[import-untyped]

    packed = resources.files("spellchecker").joinpath("resources", "en.json.gz").read_bytes()
    frequency = msgspec.json.decode(gzip.decompress(packed), type=dict[str, int])
    written = get_english_words_set(["web2", "gcide"])
    rare = frozenset(word for word in written if word.islower())
    names = frozenset(small for word in written if (small := word.lower()) != word)
    return Lexicon(frequency, rare, names)


@lru_cache(maxsize=10_000)
def meant(slip: str) -> str | None:
    """The ordinary word that this non-word is most likely a slip of: one edit away, with the same first letter."""
    words = lexicon()
    if words.knows(slip):
        return None
    best = max(_edits(slip), key=lambda word: words.frequency.get(word, 0), default=slip)
    return best if words.ordinary(best) else None


def _edits(word: str) -> Iterator[str]:
    for place in range(1, len(word) + 1):
        before, after = word[:place], word[place:]
        yield before + after[1:]
        if len(after) > 1:
            yield before + after[1] + after[0] + after[2:]
        for letter in ascii_lowercase:
            yield before + letter + after
            yield before + letter + after[1:]
