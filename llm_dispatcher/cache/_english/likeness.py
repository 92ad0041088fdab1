"""`alike`: whether two texts ask the same thing, so that one answer serves both. A pure function of the texts.

Two texts that are equal, or have the same canonical form, are alike. Otherwise they must reach the threshold *and* pass
the guard: every token that differs must be provably harmless. If the rules cannot decide, the texts are not alike.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from msgspec import Struct
from rapidfuzz import fuzz
from rapidfuzz.distance import OSA

from .canonical import Token, canonical, reads_as_english
from .comparable import exact_only
from .lexicon import COMMON, FAMILIAR, correction, lexicon
from .spelling import american
from .vocabulary import ARTICLES, DEFINITE, FUNCTION, NAMING, PROTECTED, QUANTITIES

LIKE: Final = 0.95
"""The default of the least similarity."""


class Likeness(Struct, frozen=True):
    """The judgement on two texts.

    `hit` says whether they are alike. `rule` names the lane by which they passed (`exact`, `canonical`, `spelling`,
    `article`, `typo`) or the reason why they did not. `score` is their similarity from 0 to 1.
    """

    hit: bool
    rule: str
    score: float


class Reading(Struct, frozen=True):
    """A text as the rules see it.

    `only` says why it is compared for equality only. `skeleton` is the canonical form without articles and in American
    spelling: texts that are alike differ in at most one of its words. `places` are the places of its words in `tokens`.
    """

    text: str
    only: str | None
    tokens: tuple[Token, ...]
    canonical: str
    skeleton: tuple[str, ...]
    places: tuple[int, ...]
    english: bool
    both_spellings: bool


def alike(a: str, b: str, threshold: float = LIKE) -> Likeness:
    """Whether the answer to one text may be served for the other.

    Args:
        a: A text.
        b: Another text.
        threshold: The least similarity for texts that differ in more than the manner of typing.
    """
    return compare(read(a), read(b), threshold)


@lru_cache(maxsize=256)
def read(text: str) -> Reading:
    """Prepare a text for comparison."""
    only = exact_only(text)
    if only is not None:
        return Reading(text, only, (), text, (), (), english=False, both_spellings=False)
    tokens = canonical(text)
    places = tuple(place for place, token in enumerate(tokens) if token.text not in ARTICLES)
    skeleton = tuple(american(tokens[place].text) if tokens[place].plain else tokens[place].text for place in places)
    return Reading(
        text,
        None,
        tokens,
        " ".join(t.text for t in tokens),
        skeleton,
        places,
        reads_as_english([token.text for token in tokens if token.plain], glue=2),
        _has_both_spellings(tokens, places, skeleton),
    )


def compare(a: Reading, b: Reading, threshold: float = LIKE) -> Likeness:
    """The judgement on two prepared texts."""
    if a.text == b.text:
        return Likeness(True, "exact", 1.0)
    if reasons := [only for only in (a.only, b.only) if only is not None]:
        return Likeness(False, f"exact only: {min(reasons)}", 0.0)
    if a.canonical == b.canonical:
        return Likeness(True, "canonical", 1.0)
    if len(a.skeleton) != len(b.skeleton):
        return Likeness(False, "words differ", 0.0)
    different = [place for place, (one, other) in enumerate(zip(a.skeleton, b.skeleton, strict=True)) if one != other]
    if len(different) > 1:
        return Likeness(False, "words differ", 0.0)
    score = min(0.99, fuzz.ratio(" ".join(a.skeleton), " ".join(b.skeleton)) / 100)  # 1.0 is the same text
    if not (a.english and b.english):
        return Likeness(False, "not judged: other language", score)
    if not (_same_articles(a, b) or _harmless_articles(a, b)):
        return Likeness(False, "articles differ", score)
    if a.both_spellings or b.both_spellings:
        return Likeness(False, "words differ", score)
    if different and not _harmless_slip(a, b, different[0]):
        return Likeness(False, "words differ", score)
    if score < threshold:
        return Likeness(False, "below the threshold", score)
    return Likeness(True, "typo" if different else "spelling" if _same_articles(a, b) else "article", score)


# ── the guard ──────────────────────────────────────────────────────────────────────────────────────────────────────


def is_slip(x: str, y: str) -> bool:
    """Whether one of two words is a typo of the other.

    The typo is not a word, a name or a term itself, and the other word is the ordinary word that it most likely stands
    for, one edit away.
    """
    if x[0] != y[0] or not (x.isalpha() and y.isalpha() and x.isascii() and y.isascii()):
        return False
    if OSA.distance(x, y, score_cutoff=1) > 1:
        return False
    words = lexicon()
    word, slip = (x, y) if words.ordinary(x) else (y, x)
    if len(word) < 5 or word in PROTECTED or correction(slip) != word:
        return False
    if len(word) < 8 and slip[-1] != word[-1] and slip[-2:] != word[:-3:-1]:
        return False  # a name may be formed like this; two swapped last letters are a typo
    return len(word) > 6 or words.size(word) <= FAMILIAR


def _harmless_slip(a: Reading, b: Reading, place: int) -> bool:
    one, other = a.tokens[a.places[place]], b.tokens[b.places[place]]
    x, y = a.skeleton[place], b.skeleton[place]
    if not (one.plain and other.plain and is_slip(x, y)):
        return False
    return _says_enough(a, place, min(lexicon().size(x), lexicon().size(y)))


def _says_enough(a: Reading, place: int, size: int) -> bool:
    """Whether the rest of the text makes a typo likely. In `what is venmo`, the word may well be a name."""
    around = a.skeleton[max(0, place - 2) : place]
    if any(word in NAMING for word in around):
        return False
    content = sum(word.isalpha() and word not in FUNCTION for word in a.skeleton) - 1
    return content >= 2 or (content == 1 and size <= COMMON)


def _has_both_spellings(tokens: tuple[Token, ...], places: tuple[int, ...], skeleton: tuple[str, ...]) -> bool:
    """Whether a text has a word in both spellings. Such a text is about spelling."""
    return len(set(skeleton)) < len({tokens[place].text for place in places})


def _same_articles(a: Reading, b: Reading) -> bool:
    return len(a.tokens) == len(b.tokens) and all(
        one.text == other.text
        for one, other in zip(a.tokens, b.tokens, strict=True)
        if one.text in ARTICLES or other.text in ARTICLES
    )


def _harmless_articles(a: Reading, b: Reading) -> bool:
    """Whether every article that only one of the texts has can be left out without changing the meaning."""
    if ":" in a.skeleton:
        return False
    for place in range(len(a.skeleton) + 1):
        one, other = _articles_before(a, place), _articles_before(b, place)
        if one != other and not _droppable(a.skeleton, place, one, other):
            return False
    return True


def _articles_before(reading: Reading, place: int) -> tuple[str, ...]:
    end = reading.places[place] if place < len(reading.places) else len(reading.tokens)
    start = reading.places[place - 1] + 1 if place else 0
    return tuple(token.text for token in reading.tokens[start:end])


def _droppable(skeleton: tuple[str, ...], place: int, one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether the noun phrase means the same without its article: `of a firewall`, `the benefits`."""
    if (one and other) or len(one or other) > 1 or not 0 < place < len(skeleton) or len(skeleton) < 4:
        return False
    word, ahead = skeleton[place], skeleton[place + 1 : place + 4]
    if "the" in (*one, *other) and "of" in ahead and len(word) > 2 and word not in QUANTITIES:
        return all(each.isalpha() for each in (word, *ahead[: ahead.index("of")]))
    return (
        len(word) > 3
        and word not in DEFINITE
        and lexicon().ordinary(word)
        and skeleton[place - 1] in FUNCTION
        and not any(each in NAMING for each in skeleton)
    )
