"""Build the English lexicon of the cache, `llm_dispatcher/cache/_english/lexicon.txt`, from Debian's package `scowl`.

apt-get install scowl=2020.12.07-2
python scripts/build_lexicon.py

SCOWL ("Spell Checker Oriented Word Lists") has a list of words for each size of dictionary: 10 holds the few thousand
commonest words, 40 the words of a learner's dictionary, 70 the words of most dictionaries, 95 all words of all
sources. The same version of the package gives the same file, byte for byte; a test compares them.

The file is ASCII text in two parts, with an empty line between them.

1. A title, then the ordinary words, at most eight lines: the smallest size that has the word, `name` or `word` (whether
   dictionaries also list it with a capital), and the words, separated by spaces.
2. The rare words, sorted, in blocks of 8, a block a line. A word is written as the letters in which it differs from
   the word before it, and a mark. The mark's lower four bits say how many letters the two have in common. The marks
   from `0` on follow names, the marks from `@` on follow words, the marks from `P` on follow words that are names, too.
"""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Final

PACKAGE: Final = "2020.12.07-2"
"""The version of Debian's package that the committed file was built from."""
LISTS: Final = Path("/usr/share/dict/scowl")
TARGET: Final = Path(__file__).parents[1] / "llm_dispatcher" / "cache" / "_english" / "lexicon.txt"
"""The file of the lexicon."""

ORDINARY: Final = 40
"""The largest size whose words count as ordinary."""
WRITTEN_SMALL: Final = 80
"""The largest size whose small letters count: 95 lists nearly every name in small letters, too."""
WRITTEN_BOTH_WAYS: Final = 50
"""The same for a word that is a name, too: SCOWL's medium size."""
WHOLE: Final = 70
"""The largest size that is taken whole. From larger ones, only words that look like typing errors are taken."""
SHORTEST_TARGET: Final = 5
"""`likeness.is_slip` never corrects a typing error to a shorter word."""
BLOCK: Final = 8
MOST_SHARED: Final = 15
NAME_MARK: Final = 0x30
WORD_MARK: Final = 0x40
BOTH_MARK: Final = 0x50

Sizes = dict[str, int]
"""Words, each with the smallest size that has it."""


def installed() -> str | None:
    """The version of the package `scowl` on this machine."""
    if not LISTS.is_dir():
        return None
    try:
        command = ["dpkg-query", "--show", "--showformat=${Version}", "scowl"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def read_lists(folder: Path) -> tuple[Sizes, Sizes]:
    """The words in small letters, and those with a capital (in small letters here). Accents are taken away."""
    words: Sizes = {}
    names: Sizes = {}
    for path in sorted(folder.iterdir()):
        kind = path.stem.split("-", 1)[1]
        if kind in {"contractions", "roman-numerals"}:
            continue
        size = int(path.suffix[1:])
        for entry in path.read_text(encoding="utf-8").split():
            word = "".join(each for each in unicodedata.normalize("NFD", entry) if not unicodedata.combining(each))
            small = word.lower()
            if re.fullmatch("[a-z]+", small):
                sizes = words if word == small and kind != "abbreviations" else names
                sizes[small] = min(size, sizes.get(small, size))
    return words, names


def ordinary(words: Sizes, names: Sizes) -> Sizes:
    """The ordinary words with their sizes. `german` is as common as `German`, because people type names small."""
    common = {word: min(size, names.get(word, size)) for word, size in words.items() if size <= WRITTEN_SMALL}
    return {word: size for word, size in common.items() if size <= ORDINARY}


def near(targets: Iterable[str]) -> Callable[[str], bool]:
    """Whether a word may be one edit away from one of these. A word and its typing errors begin with the same letter.

    Two words that are one edit apart are equal after one letter was left out of one of them or of both.
    """
    without = {shorter for word in targets if len(word) >= SHORTEST_TARGET for shorter in _shorter(word)}
    return lambda word: not without.isdisjoint(_shorter(word))


def _shorter(word: str) -> Iterator[str]:
    yield word
    for place in range(1, len(word)):
        yield word[:place] + word[place + 1 :]


def lexicon(words: Sizes, names: Sizes) -> bytes:
    """The content of the file."""
    common = ordinary(words, names)
    may_be_taken_for_a_slip = near(common)
    every = {word: min(words.get(word, 99), names.get(word, 99)) for word in words.keys() | names.keys()}
    rare = [word for word, size in every.items() if size <= WHOLE or may_be_taken_for_a_slip(word)]
    lines = [f"English words, a selection of SCOWL {PACKAGE}: see LICENSE.scowl and scripts/build_lexicon.py"]
    lines += _ordinary_lines(common, names)
    lines.append("")
    left = [(word, _mark(word, words, names)) for word in sorted(set(rare) - common.keys())]
    lines += [_block(left[start : start + BLOCK]) for start in range(0, len(left), BLOCK)]
    return ("\n".join(lines) + "\n").encode("ascii")


def _ordinary_lines(common: Sizes, names: Sizes) -> list[str]:
    groups: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    for word in sorted(common):
        groups[common[word], "name" if word in names else "word"].append(word)
    return [f"{size} {kind} {' '.join(groups[size, kind])}" for size, kind in sorted(groups)]


def _mark(word: str, words: Sizes, names: Sizes) -> int:
    size = words.get(word, 99)
    if word in names:
        return BOTH_MARK if size <= WRITTEN_BOTH_WAYS else NAME_MARK
    return WORD_MARK if size <= WRITTEN_SMALL else NAME_MARK


def _block(block: Iterable[tuple[str, int]]) -> str:
    entries: list[str] = []
    before = ""
    for word, mark in block:
        pairs = takewhile(lambda pair: pair[0] == pair[1], zip(before, word, strict=False))
        shared = min(MOST_SHARED, sum(1 for _ in pairs))
        entries.append(word[shared:] + chr(mark + shared))
        before = word
    return "".join(entries)


def main() -> None:
    version = installed()
    if version != PACKAGE:
        sys.exit(
            f"The lexicon is built from scowl {PACKAGE}, and {version or 'none'} is installed: apt-get install scowl."
        )
    content = lexicon(*read_lists(LISTS))
    TARGET.write_bytes(content)
    print(f"{TARGET.name}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
