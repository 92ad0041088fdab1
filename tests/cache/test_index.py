"""The index finds what a comparison with every entry finds, and holds its limits."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from string import ascii_lowercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from llm_dispatcher.cache._english.index import MOST_JUDGED, MOST_SLIPS, _nearly_equal, _signs
from llm_dispatcher.cache._english.likeness import LIKE, Likeness, Reading, alike, compare, is_slip, read
from llm_dispatcher.cache._index import Index, RemovalReason
from llm_dispatcher.cache._store import Entry
from tests.cache.conftest import Clock
from tests.conftest import examples

BUCKETS = (b"one", b"other")
WORDS = ("the benefits of", "green tea", "older people", "history", "colour", "water", "Norway", "7", "not", "install")
SUBJECTS = ("sailing boat", "market garden", "paper mill", "stone bridge", "winter coat", "evening train")


def swapped(word: str) -> str:
    middle = len(word) // 2
    return word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :] if len(word) > 4 else word


sentences = st.builds(
    lambda opening, subject, words, slip: " ".join(
        [opening, subject, *(swapped(word) if place == slip else word for place, word in enumerate(words))]
    ),
    st.sampled_from(["What is the history of the", "what is history of the", "Please explain the", "Explain the"]),
    st.sampled_from(SUBJECTS),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
    st.integers(0, 4),
)


def entry_of(text: str, bucket: bytes = BUCKETS[0], size: int = 10, expires: float = 1e9) -> Entry:
    return Entry(bucket + text.encode(), bucket, text, "", size, expires)


def index_of(*texts: str) -> Index:
    index = Index(1000, 10**9, Clock())
    for text in texts:
        assert index.add(entry_of(text), read(text))
    return index


@settings(max_examples=examples(60))
@given(st.lists(sentences, min_size=1, max_size=30), sentences)
def test_it_finds_what_a_comparison_with_every_entry_finds(texts: list[str], query: str) -> None:
    index = index_of(*texts)
    found, likeness = index.find(BUCKETS[0], read(query), LIKE)
    assert (found is not None) is any(alike(query, text).hit for text in texts)
    assert found is None or alike(query, found.text) == likeness
    assert index.find(BUCKETS[1], read(query), LIKE)[0] is None


@given(st.sampled_from(["visit", "water", "energy", "history", "important"]), st.data())
def test_two_texts_that_differ_by_a_typo_share_a_sign(word: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(1, len(word) - 1))
    letter = data.draw(st.sampled_from("aqz"))
    before, after = word[:place], word[place:]
    slip = data.draw(
        st.sampled_from([before + after[1:], before + letter + after, before + letter + after[1:]])
        | st.just(before + after[1:2] + after[:1] + after[2:])
    )
    one, other = ("explain", "the", word, "of", "tea"), ("explain", "the", slip, "of", "tea")
    for a, b in ((one, other), (other, one)):
        assert set(_signs(BUCKETS[0], a, (0,))) & set(_signs(BUCKETS[0], b, (0, -1, 1)))


letters = st.text("ab c", max_size=12)


@given(letters, letters)
def test_nearly_equal_means_at_most_one_edit(one: str, other: str) -> None:
    assert _nearly_equal(one, other) is (OSA.distance(one, other) <= 1)


# ── hostile prompts─────────────────────────────────────────────────────────────────────────────────────────────────

PROSE = ("what are the benefits of green tea in winter for people that " * 30).split()


def prose(words: Mapping[int, str]) -> str:
    return " ".join(words.get(place, word) for place, word in enumerate(PROSE))[:1990]


def far_apart() -> list[str]:
    """Texts that differ in every seventh word, whose words all begin and end alike."""
    draw = Random(1)
    return [
        prose({place: f"co{''.join(draw.choices(ascii_lowercase, k=6))}ed" for place in range(0, len(PROSE), 7)})
        for _ in range(600)
    ]


def one_letter_apart(word: str, before: str = "the") -> list[str]:
    """A query, and 200 texts that each differ from it by one letter of one word."""
    changed = [
        f"{word[:place]}{letter}{word[place + 1 :]}"
        for place in range(3, 11)
        for letter in ascii_lowercase
        if letter != word[place]
    ]
    return [prose({149: before, 150: each}) for each in (word, *changed)]


@pytest.mark.found("B-19")
@pytest.mark.parametrize(
    "texts",
    [far_apart(), one_letter_apart("cobcdefghijkled"), one_letter_apart("communication", before="named")],
    ids=["far apart", "no words", "slips that are no hits"],
)
def test_hostile_prompts_do_not_exceed_the_limits_of_a_look_up(
    texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    query, *others = texts
    index = index_of(*others)
    far = slips = judged_characters = 0

    class Counting:
        @staticmethod
        def distance(one: str, other: str, *, score_cutoff: int) -> int:
            nonlocal far
            far += OSA.distance(one, other) > 2
            return OSA.distance(one, other, score_cutoff=score_cutoff)

    def counting_slips(one: str, other: str) -> bool:
        nonlocal slips
        slips += 1
        return is_slip(one, other)

    def counting_compare(one: Reading, other: Reading, threshold: float) -> Likeness:
        nonlocal judged_characters
        judged_characters += len(other.text)
        return compare(one, other, threshold)

    monkeypatch.setattr("llm_dispatcher.cache._english.index.OSA", Counting)
    monkeypatch.setattr("llm_dispatcher.cache._english.index.is_slip", counting_slips)
    monkeypatch.setattr("llm_dispatcher.cache._english.index.compare", counting_compare)
    assert index.find(BUCKETS[0], read(query), LIKE)[0] is None
    assert far == 0
    assert slips <= MOST_SLIPS
    assert judged_characters <= MOST_JUDGED


def test_a_miss_names_the_reason() -> None:
    index = index_of("How should I prepare my garden for the winter?")
    assert (
        index.find(BUCKETS[0], read("How should I prepare my kitchen for the winter?"), LIKE)[1].rule
        == "nothing like it"
    )
    assert index.find(BUCKETS[0], read("Count the birds in the garden"), LIKE)[1].rule == "exact only: surface"


@given(st.lists(st.tuples(sentences, st.integers(1, 60)), max_size=40), st.integers(1, 10), st.integers(1, 100))
@settings(max_examples=examples(60))
def test_it_holds_its_limits_and_reports_every_entry_that_leaves(
    entries: list[tuple[str, int]], most: int, most_bytes: int
) -> None:
    left: list[tuple[bytes, RemovalReason]] = []
    index = Index(most, most_bytes, Clock(), lambda entry, why: left.append((entry.key, why)))
    taken: set[bytes] = set()
    for text, size in entries:
        entry = entry_of(text, size=size)
        if index.add(entry, read(text)):
            taken.add(entry.key)
        else:
            assert size > most_bytes
            taken.discard(entry.key)
        assert len(index) <= most and index.size <= most_bytes
    there = {entry.key for entry in index}
    assert there <= taken and index.size == sum(entry.size for entry in index)
    assert taken - there <= {key for key, _ in left}
    for key in there:
        index.remove(key)
    assert (len(index), index.size, index._texts._postings, index._texts._skeletons) == (0, 0, {}, {})


def test_the_least_recently_used_entry_leaves_first() -> None:
    index = Index(2, 10**6, Clock())
    tea, boat, coat = "What is green tea?", "Explain the sailing boat", "Explain the winter coat"
    for text in (tea, boat):
        index.add(entry_of(text), read(text))
    assert index.find(BUCKETS[0], read("what is green tea"), LIKE)[0] == entry_of(tea)
    index.add(entry_of(coat), read(coat))
    assert {entry.text for entry in index} == {tea, coat}
    assert index.get(entry_of(coat).key) == entry_of(coat)
    index.add(entry_of(boat), read(boat))
    assert {entry.text for entry in index} == {coat, boat}


def test_an_expired_entry_leaves_with_its_postings() -> None:
    clock, left = Clock(), list[tuple[str, RemovalReason]]()
    index = Index(10, 10**6, clock, lambda entry, why: left.append((entry.text, why)))
    tea, boat = "What is green tea?", "Explain the sailing boat"
    index.add(entry_of(tea, expires=clock.now + 5), read(tea))
    index.add(entry_of(boat, expires=clock.now + 50), read(boat))
    clock.now += 5
    assert index.get(entry_of(tea).key) is None
    assert index.find(BUCKETS[0], read("what is green tea"), LIKE)[0] is None
    assert len(index) == 1 and left == [(tea, "expired")] and len(index._texts._skeletons) == 1
    clock.now += 50
    index.add(entry_of(tea, expires=clock.now + 5), read(tea))
    assert {entry.text for entry in index} == {tea} and len(index._texts._postings) == 3


def test_an_entry_added_twice_is_one_entry() -> None:
    index = index_of("What is green tea?", "What is green tea?")
    assert len(index) == 1 and index.size == 10
    index.clear()
    assert (len(index), index._texts._postings) == (0, {})
