"""Finding a like text among many without looking at all of them.

Texts that may be alike have equal skeletons but for one slip in one word (see `likeness`). A slip keeps a word's first
letter, and its first two letters or its last two: so each entry is filed under the canonical form and under two
signs, one of how the skeleton's words begin and one of how they end. What has neither sign in common is not alike.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from itertools import islice
from threading import Lock
from typing import Final, Literal, TypeAlias

from cachetools import TLRUCache
from msgspec import Struct
from rapidfuzz.distance import OSA, Postfix, Prefix

from .likeness import Likeness, Reading, is_slip, judged, read

_SEPARATOR: Final = "\x1f"
Gone: TypeAlias = Literal["evicted", "expired"]

# Prompts may be chosen so that thousands of them have signs in common. A look-up runs on the event loop: each of its
# steps is bounded, the dearer the step the closer.
MOST_CANDIDATES: Final = 400
"""How many texts that share a sign are looked at, at most. Each costs 1 µs, if it begins and ends like the text."""
MOST_SLIPS: Final = 8
"""How many words are looked up as slips of others, at most. Each costs up to 300 µs."""
MOST_JUDGED: Final = 4000
"""How many characters are judged, at most, all texts together. A single longer text is judged all the same. Each
character costs up to 0.5 µs."""
OVERHEAD: Final = 1500
"""Bytes that an entry takes in memory beside its text and its recording, about."""


class Filed(Struct, frozen=True, gc=False):
    """An entry as the index keeps it; its recording is in the store."""

    key: bytes
    bucket: bytes
    text: str
    namespace: str
    size: int
    expires: float


class Index:
    """The texts of a cache by key, by canonical form and by sign, bounded in number, bytes and age."""

    def __init__(
        self,
        max_entries: int,
        max_bytes: int,
        clock: Callable[[], float],
        gone: Callable[[Filed, Gone], None] = lambda filed, why: None,
    ) -> None:
        self._gone = gone
        self._max_entries = max_entries
        self._shelf = _Shelf(max_bytes, clock, self._left)
        self._skeletons: dict[bytes, tuple[str, tuple[int, ...]]] = {}
        self._postings: dict[int, Filed | dict[bytes, Filed]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._shelf)

    def __iter__(self) -> Iterator[Filed]:
        with self._lock:
            return iter([self._shelf[key] for key in list(self._shelf)])

    @property
    def size(self) -> int:
        """The bytes that all entries take, with their recordings."""
        return int(self._shelf.currsize)

    def get(self, key: bytes) -> Filed | None:
        """The entry of exactly this text."""
        with self._lock:
            return self._shelf.get(key)

    def find(self, bucket: bytes, reading: Reading, threshold: float) -> tuple[Filed | None, Likeness]:
        """The entry in this bucket that is most like the text; or none, and how near the nearest came."""
        nearest = Likeness(False, "nothing like it", 0.0)
        if reading.only is not None:
            return None, Likeness(False, f"exact only: {reading.only}", 0.0)
        with self._lock:
            self._shelf.expire()
            judged_so_far = 0
            for filed in self._candidates(bucket, reading):
                judged_so_far += len(filed.text)
                if judged_so_far > max(MOST_JUDGED, len(filed.text)):
                    break
                likeness = judged(reading, read(filed.text), threshold)
                if likeness.hit:
                    self._shelf.get(filed.key)  # it was used
                    return filed, likeness
                if likeness.score >= nearest.score:
                    nearest = likeness
        return None, nearest

    def add(self, filed: Filed, reading: Reading | None) -> bool:
        """File an entry, and let go of what the bounds no longer allow. Without a reading it is found by its key alone.
        One that is larger than the whole cache is not taken.
        """
        with self._lock:
            self._remove(filed.key)
            while self._shelf and len(self._shelf) >= self._max_entries:
                self._shelf.popitem()
            try:
                self._shelf[filed.key] = filed
            except ValueError:
                return False
            if reading is not None and reading.only is None and filed.key in self._shelf:
                signs = (hash((filed.bucket, reading.canonical)), *_signs(filed.bucket, reading.skeleton, (0,)))
                self._skeletons[filed.key] = _SEPARATOR.join(reading.skeleton), signs
                for sign in signs:
                    self._post(sign, filed)
            return True

    def remove(self, key: bytes) -> None:
        with self._lock:
            self._remove(key)

    def clear(self) -> None:
        with self._lock:
            self._shelf.clear()
            self._skeletons.clear()
            self._postings.clear()

    def _candidates(self, bucket: bytes, reading: Reading) -> Iterator[Filed]:
        for filed in self._posted(hash((bucket, reading.canonical))):
            yield filed
        seen: set[bytes] = set()
        skeleton = _SEPARATOR.join(reading.skeleton)
        looked_at = slips = 0
        for sign in _signs(bucket, reading.skeleton, (0, -1, 1)):
            for filed in self._posted(sign, MOST_CANDIDATES - looked_at):
                looked_at += 1
                other = self._skeletons[filed.key][0]
                if filed.key in seen or not _nearly_equal(skeleton, other):
                    continue
                seen.add(filed.key)
                if skeleton == other:
                    yield filed
                elif (pair := _different(reading.skeleton, tuple(other.split(_SEPARATOR)))) is not None:
                    slips += 1
                    if slips > MOST_SLIPS:
                        return
                    if is_slip(*pair):
                        yield filed

    def _posted(self, sign: int, most: int = MOST_CANDIDATES) -> list[Filed]:
        found = self._postings.get(sign)
        if found is None:
            return []
        return [found][:most] if isinstance(found, Filed) else list(islice(found.values(), most))

    def _post(self, sign: int, filed: Filed) -> None:
        there = self._postings.get(sign)
        if there is None:
            self._postings[sign] = filed
        elif isinstance(there, Filed):
            self._postings[sign] = {there.key: there, filed.key: filed}
        else:
            there[filed.key] = filed

    def _remove(self, key: bytes) -> None:
        filed = self._shelf.pop(key, None)
        if filed is not None:
            self._unpost(key)

    def _left(self, filed: Filed, why: Gone) -> None:
        self._unpost(filed.key)
        self._gone(filed, why)

    def _unpost(self, key: bytes) -> None:
        for sign in self._skeletons.pop(key, ("", ()))[1]:
            there = self._postings.get(sign)
            if isinstance(there, dict):
                there.pop(key, None)
                if len(there) == 1:
                    self._postings[sign] = next(iter(there.values()))
            elif there is not None and there.key == key:
                del self._postings[sign]


class _Shelf(TLRUCache[bytes, Filed]):
    """Bounded by bytes and by each entry's own expiry; it tells of every entry that leaves by itself."""

    def __init__(self, max_bytes: int, clock: Callable[[], float], left: Callable[[Filed, Gone], None]) -> None:
        super().__init__(max_bytes, lambda key, filed, now: filed.expires, clock, lambda filed: filed.size)
        self._left = left

    def popitem(self) -> tuple[bytes, Filed]:
        key, filed = super().popitem()
        self._left(filed, "evicted")
        return key, filed

    def expire(self, time: float | None = None) -> list[tuple[bytes, Filed]]:
        expired = list(super().expire(time))
        for _, filed in expired:
            self._left(filed, "expired")
        return expired


def _nearly_equal(one: str, other: str) -> bool:
    """Whether two texts differ by one edit at most. Only where all but two of their characters are a common beginning
    and a common end is the distance computed, because that is a thousand times dearer.
    """
    common = Prefix.similarity(one, other) + Postfix.similarity(one, other)
    return common >= max(len(one), len(other)) - 2 and OSA.distance(one, other, score_cutoff=1) <= 1


def _different(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, str] | None:
    """The two words that differ, if it is one pair, and one that may be a slip: the judgement reads the whole text."""
    if len(one) != len(other):
        return None
    different = [(x, y) for x, y in zip(one, other, strict=True) if x != y]
    if len(different) != 1:
        return None
    x, y = different[0]
    return different[0] if x.isalpha() and y.isalpha() and x[0] == y[0] else None


def _signs(bucket: bytes, skeleton: tuple[str, ...], lengths: tuple[int, ...]) -> Iterator[int]:
    """How the words begin and how they end, with the length of them all: for each difference in length, both."""
    length = sum(map(len, skeleton))
    begin: Hashable = tuple([word[:2] for word in skeleton])
    end: Hashable = tuple([word[:1] + word[-2:] for word in skeleton])
    for difference in lengths:
        yield hash((bucket, length + difference, begin))
        yield hash((bucket, length + difference, end, 0))
