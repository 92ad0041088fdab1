"""An index of texts that finds a similar text among many without comparing all of them.

Texts that may be alike have equal skeletons, except for one typo in one word (see `likeness`). A typo keeps a word's
first letter, and its first two letters or its last two. So each text is filed under its canonical form and under two
signs: one of how the words of its skeleton begin, one of how they end. Two texts without a common sign are not alike.

Theory of operation: a text that is filed has one row in `_skeletons` and is in `_postings` under each of its signs;
`remove` takes it out of both. The index has no lock of its own. Its owner makes sure that only one thread uses it at a
time. Nothing here waits, so a cancellation leaves nothing half done.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

from rapidfuzz.distance import OSA, Postfix, Prefix

from .likeness import Likeness, Reading, compare, is_slip, read

_SEPARATOR: Final = "\x1f"

# An attacker may choose prompts so that thousands of them have common signs. A look-up runs on the event loop, so each
# of its steps has a limit, and the expensive steps have the low ones.
MOST_CANDIDATES: Final = 400
"""A look-up reads at most this many texts that share a sign. Each costs 1 µs if it begins and ends like the query."""
MOST_SLIPS: Final = 8
"""A look-up judges at most this many words as typos of others. Each costs up to 300 µs."""
MOST_JUDGED: Final = 4000
"""A look-up compares at most this many characters, all texts together. One longer text is compared all the same. Each
character costs up to 0.7 µs."""


class IndexedText(Protocol):
    """A value that can be filed: a text, a key that identifies it, and the bucket in which it may be found."""

    @property
    def key(self) -> bytes: ...
    @property
    def bucket(self) -> bytes: ...
    @property
    def text(self) -> str: ...


T = TypeVar("T", bound=IndexedText)


class TextIndex(Generic[T]):
    """Values by the canonical form and by the signs of their texts."""

    def __init__(self) -> None:
        self._skeletons: dict[bytes, tuple[str, tuple[int, ...]]] = {}
        self._postings: dict[int, T | dict[bytes, T]] = {}

    def find(self, bucket: bytes, reading: Reading, threshold: float) -> tuple[T | None, Likeness]:
        """The first value in this bucket whose text is alike, and the judgement.

        Without one: `None`, and the judgement on the text that came nearest.
        """
        nearest = Likeness(False, "nothing like it", 0.0)
        if reading.only is not None:
            return None, Likeness(False, f"exact only: {reading.only}", 0.0)
        judged = 0
        for value in self._candidates(bucket, reading):
            judged += len(value.text)
            if judged > max(MOST_JUDGED, len(value.text)):
                break
            likeness = compare(reading, read(value.text), threshold)
            if likeness.hit:
                return value, likeness
            if likeness.score >= nearest.score:
                nearest = likeness
        return None, nearest

    def add(self, value: T, reading: Reading) -> None:
        """File a value under the signs of its text, unless the text is only ever compared for equality."""
        if reading.only is not None:
            return
        signs = (hash((value.bucket, reading.canonical)), *_signs(value.bucket, reading.skeleton, (0,)))
        self._skeletons[value.key] = _SEPARATOR.join(reading.skeleton), signs
        for sign in signs:
            self._post(sign, value)

    def remove(self, key: bytes) -> None:
        """Take a value out. A key that is not filed changes nothing."""
        for sign in self._skeletons.pop(key, ("", ()))[1]:
            there = self._postings.get(sign)
            if isinstance(there, dict):
                there.pop(key, None)
                if len(there) == 1:
                    self._postings[sign] = next(iter(there.values()))
            elif there is not None and there.key == key:
                del self._postings[sign]

    def clear(self) -> None:
        self._skeletons.clear()
        self._postings.clear()

    def _candidates(self, bucket: bytes, reading: Reading) -> Iterator[T]:
        for value in self._posted(hash((bucket, reading.canonical))):
            yield value
        compared: set[bytes] = set()
        skeleton = _SEPARATOR.join(reading.skeleton)
        looked_at = slips = 0
        for sign in _signs(bucket, reading.skeleton, (0, -1, 1)):
            for value in self._posted(sign, MOST_CANDIDATES - looked_at):
                looked_at += 1
                other = self._skeletons[value.key][0]
                if value.key in compared or not _nearly_equal(skeleton, other):
                    continue
                compared.add(value.key)
                if skeleton == other:
                    yield value
                elif (pair := _differing_words(reading.skeleton, tuple(other.split(_SEPARATOR)))) is not None:
                    slips += 1
                    if slips > MOST_SLIPS:
                        return
                    if is_slip(*pair):
                        yield value

    def _posted(self, sign: int, most: int = MOST_CANDIDATES) -> list[T]:
        posted = self._postings.get(sign)
        if posted is None:
            return []
        return list(islice(posted.values(), most)) if isinstance(posted, dict) else [posted][:most]

    def _post(self, sign: int, value: T) -> None:
        there = self._postings.get(sign)
        if there is None:
            self._postings[sign] = value
        elif isinstance(there, dict):
            there[value.key] = value
        else:
            self._postings[sign] = {there.key: there, value.key: value}


def _nearly_equal(one: str, other: str) -> bool:
    """Whether two texts differ by at most one edit.

    The distance is a thousand times more expensive than finding the common beginning and end. So it is computed only
    where these make up all but two of the characters.
    """
    common = Prefix.similarity(one, other) + Postfix.similarity(one, other)
    return common >= max(len(one), len(other)) - 2 and OSA.distance(one, other, score_cutoff=1) <= 1


def _differing_words(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, str] | None:
    """The one pair of words that differ, if one may be a typo of the other.

    This is a cheap pre-check; `compare` decides on the full text.
    """
    if len(one) != len(other):
        return None
    different = [(x, y) for x, y in zip(one, other, strict=True) if x != y]
    if len(different) != 1:
        return None
    x, y = different[0]
    return different[0] if x.isalpha() and y.isalpha() and x[0] == y[0] else None


def _signs(bucket: bytes, skeleton: tuple[str, ...], lengths: tuple[int, ...]) -> Iterator[int]:
    """How the words begin and how they end, each with the length of all words together.

    `lengths` are differences in that length. Each of them gives both signs.
    """
    length = sum(map(len, skeleton))
    begin: Hashable = tuple([word[:2] for word in skeleton])
    end: Hashable = tuple([word[:1] + word[-2:] for word in skeleton])
    for difference in lengths:
        yield hash((bucket, length + difference, begin))
        yield hash((bucket, length + difference, end, 0))
