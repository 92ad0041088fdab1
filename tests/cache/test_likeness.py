"""Likeness: harmless rewrites are alike, look-alikes are not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from string import ascii_lowercase

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from llm_dispatcher.cache import Likeness, alike
from llm_dispatcher.cache._english.lexicon import correction, lexicon
from llm_dispatcher.cache._english.vocabulary import ARTICLES

HERE = Path(__file__).parent
PAIRS = HERE.parents[2] / "shared" / "pairs"

PROMPTS = (
    "What are the main causes of inflation in a growing economy?",
    "Give me a recipe for vegetable soup for 4 people.",
    "How should I prepare my garden for the winter?",
    "Explain how a sailing boat can move against the wind.",
    "Suggest three activities for a rainy weekend with children.",
    "Why does bread become hard when it is left in the open?",
)
prompts = st.sampled_from(PROMPTS)


def pairs(name: str) -> list[list[str]]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [line.split("|", 1) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(("a", "b"), pairs("look_alikes.txt"))
def test_look_alikes_are_not_alike(a: str, b: str) -> None:
    assert not alike(a, b).hit


@pytest.mark.parametrize(("a", "b"), pairs("rewrites.txt"))
def test_rewrites_are_alike(a: str, b: str) -> None:
    assert alike(a, b).hit


NAMES_THAT_ARE_WORDS = [
    "apple", "amazon", "basil", "bologna", "chad", "china", "cologne", "cooper", "ford", "hunter", "java", "kindle",
    "march", "may", "miles", "opal", "pandas", "polish", "potter", "rose", "ruby", "titanic", "turkey",
]  # fmt: skip


@pytest.mark.found("S-D8")
@pytest.mark.parametrize("word", NAMES_THAT_ARE_WORDS)
def test_a_word_and_a_name_with_the_same_letters_are_not_alike(word: str) -> None:
    for question in ("What is {} made of?", "Tell me about {} and its history.", "Why do people like {}?"):
        small, name = question.format(word), question.format(word.capitalize())
        assert not alike(small, name).hit and not alike(name, small).hit


@pytest.mark.parametrize(
    ("a", "b", "rule"),
    [
        ("What is a closure?", "What is a closure?", "exact"),
        ("What is a closure?", "  what is a closure ", "canonical"),
        ("What colour is the sky on Mars?", "What color is the sky on Mars?", "spelling"),
        ("What are the benefits of green tea?", "What are benefits of green tea?", "article"),
        ("How do plants turn water into energy?", "How do plants turn watre into energy?", "typo"),
        ("Explain `a` and why it matters", "Explain `b` and why it matters", "exact only: code"),
        ("Count the birds in the tree", "Count the birds in a tree", "exact only: surface"),
        ("- tea\n- milk", "- tea\n - milk", "exact only: layout"),
        ("a " * 2000, "b " * 2000, "exact only: long"),
    ],
)
def test_the_judgement_names_its_rule(a: str, b: str, rule: str) -> None:
    assert alike(a, b).rule == rule


def test_a_threshold_of_one_accepts_only_the_same_canonical_form() -> None:
    a, b = "How do plants turn water into energy?", "How do plants turn watre into energy?"
    assert alike(a, b).hit
    assert alike(a, b, threshold=1.0) == Likeness(False, "below the threshold", alike(a, b).score)
    assert alike(a, a.lower(), threshold=1.0).hit


@given(st.text(max_size=60), st.text(max_size=60))
@example("", " ")
def test_likeness_is_symmetric(a: str, b: str) -> None:
    assert alike(a, b) == alike(b, a)
    assert alike(a, a) == Likeness(True, "exact", 1.0)


@given(prompts, st.data())
def test_texts_with_different_numbers_names_or_negations_are_not_alike(prompt: str, data: st.DataObject) -> None:
    words = prompt.split()
    place = data.draw(st.integers(1, len(words) - 1))
    added = data.draw(
        st.sampled_from(["not", "no", "never", "7", "two", "Berlin", "without", "non", "C++", "x=1", "-r"])
    )
    other = " ".join([*words[:place], added, *words[place:]])
    assert not alike(prompt, other).hit
    again = data.draw(st.sampled_from(["not", "no", "8", "three", "Munich", "with", "C", "x=2", "-R"]))
    assume(added != again)
    assert not alike(other, " ".join([*words[:place], again, *words[place:]])).hit


@given(prompts, st.data())
def test_texts_with_different_words_are_not_alike(prompt: str, data: st.DataObject) -> None:
    words = prompt.split()
    place = data.draw(st.integers(0, len(words) - 1))
    known = data.draw(
        st.sampled_from(["summer", "dogs", "bred", "son", "sea", "hard", "war", "form", "causal", "quiet"])
    )
    changed = [*words[:place], known, *words[place + 1 :]]
    assume(changed != words)
    assert not alike(prompt, " ".join(changed)).hit


@given(prompts, st.permutations(range(6)))
def test_texts_in_different_orders_are_not_alike(prompt: str, order: list[int]) -> None:
    words = prompt.split()
    moved = [*(words[place] for place in order), *words[6:]]
    # Articles do not count: one that is left out in one place and added in another is allowed.
    assume([word for word in moved if word not in ARTICLES] != [word for word in words if word not in ARTICLES])
    assert not alike(prompt, " ".join(moved)).hit


@given(
    prompts,
    st.sampled_from(["Hi! ", "Hello, ", "Please ", "  ", "\ufeff"]),
    st.sampled_from(["", " Thanks!", "  ", "\n"]),
)
def test_politeness_and_white_space_change_nothing(prompt: str, before: str, after: str) -> None:
    assert alike(prompt, before + prompt + after).rule in ("canonical", "exact")
    assert alike(prompt, before + prompt.lower() + after).rule == "canonical"


@given(st.text(ascii_lowercase, min_size=4, max_size=12))
def test_no_word_is_taken_for_a_typo(word: str) -> None:
    assert correction(word) is None or not lexicon().knows(word)


@pytest.mark.skipif(not PAIRS.exists(), reason="the labelled pairs are not here")
def test_the_labelled_pairs() -> None:
    rows = {
        name: [json.loads(line) for line in (PAIRS / name).read_text(encoding="utf-8").splitlines()]
        for name in ("dev.jsonl", "redteam.jsonl", "redteam2.jsonl")
    }
    wrong = {
        name: sum(alike(row["a"], row["b"]).hit for row in each if row["label"] == "miss")
        for name, each in rows.items()
    }
    assert wrong["dev.jsonl"] == 0 and wrong["redteam.jsonl"] + wrong["redteam2.jsonl"] <= 2
    harmless = [row for row in rows["dev.jsonl"] if row["label"] == "hit" and row["category"] != "paraphrase"]
    assert sum(alike(row["a"], row["b"]).hit for row in harmless) >= 0.85 * len(harmless)


@pytest.mark.slow
@pytest.mark.skipif(not PAIRS.exists(), reason="the labelled pairs are not here")
def test_the_labelled_questions() -> None:
    with gzip.open(PAIRS / "questions-dev.jsonl.gz") as lines:
        hits = [row["same"] for row in map(json.loads, lines) if alike(row["a"], row["b"]).hit]
    assert len(hits) > 50 and hits.count(0) <= 0.05 * len(hits)
