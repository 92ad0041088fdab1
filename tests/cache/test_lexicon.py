"""The lexicon: the script that builds it, the file that it wrote, and what the rules read in it."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from llm_dispatcher.cache._english.lexicon import RARE, Lexicon, correction, lexicon
from scripts import build_lexicon
from scripts.build_lexicon import PACKAGE, TARGET

FOUND = build_lexicon.installed()
CONTENT = TARGET.read_bytes()


def decoded() -> dict[str, str]:
    """The rare words of the file with their marks, read without any of the package's code."""
    words: dict[str, str] = {}
    for block in CONTENT.decode("ascii").partition("\n\n")[2].splitlines():
        word = ""
        for letters, mark in re.findall(r"([a-z]+)([^a-z])", block):
            word = word[: ord(mark) % 16] + letters
            words[word] = mark
    return words


RARE_WORDS = decoded()


@pytest.mark.skipif(FOUND != PACKAGE, reason=f"the lexicon is built from scowl {PACKAGE}; here is {FOUND or 'none'}")
@pytest.mark.slow
@pytest.mark.measured
def test_the_script_builds_the_file_that_is_committed() -> None:
    assert build_lexicon.lexicon(*build_lexicon.read_lists(build_lexicon.LISTS)) == CONTENT


# ── the file ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_file_is_small_and_ascii() -> None:
    assert len(CONTENT) < 1_100_000
    assert CONTENT.isascii() and CONTENT.endswith(b"\n") and b"\r" not in CONTENT


def test_ordinary_words_are_sorted_and_stand_in_one_line_each() -> None:
    title, *lines = CONTENT.decode("ascii").partition("\n\n")[0].split("\n")
    assert PACKAGE in title
    heads = [line.split(" ", 2)[:2] for line in lines]
    assert heads == [[size, kind] for size in ("10", "20", "35", "40") for kind in ("name", "word")]
    groups = [line.split(" ")[2:] for line in lines]
    assert all(words == sorted(words) for words in groups)
    every = [word for words in groups for word in words]
    assert all(re.fullmatch("[a-z]+", word) for word in every)
    assert len(every) == len(set(every)) > 40_000


def test_rare_words_are_sorted_and_no_ordinary_ones() -> None:
    assert all(before < after for before, after in pairwise(RARE_WORDS))
    assert len(RARE_WORDS) > 100_000
    assert not RARE_WORDS.keys() & lexicon().sizes.keys()


@pytest.mark.slow
@pytest.mark.measured
def test_every_word_of_the_file_is_found() -> None:
    words = lexicon()
    assert all(words.lists(word) for word in RARE_WORDS)
    assert all(words.writes_small(word) is (mark >= "@") for word, mark in RARE_WORDS.items())
    assert all(words.is_a_name_too(word) is (mark >= "P") for word, mark in RARE_WORDS.items())
    assert not any(words.ordinary(word) for word in RARE_WORDS)


def test_nothing_else_is_found() -> None:
    words = lexicon()
    known = RARE_WORDS.keys() | words.sizes.keys()
    for word in (*list(RARE_WORDS)[::50], *list(words.sizes)[::50]):
        for other in (
            word[:-1],
            f"{word}q",
            f"q{word}",
            f"{word}é",
            word.upper(),
            f"{word}@",
            f"{word[:2]} {word[2:]}",
        ):
            assert words.lists(other) is (other in known)
    assert not any(map(words.lists, ("", "\n", "0", "é", "\ud800", "zzzz")))


def test_the_licence_of_the_words_is_shipped_beside_them() -> None:
    licence = TARGET.with_name("LICENSE.scowl").read_text(encoding="utf-8")
    for holder in ("2000-2018 by Kevin Atkinson", "1997 by Princeton", "J Ross Beresford", "2016 by Benjamin Titze"):
        assert holder in licence
    assert PACKAGE in licence


# ── what the rules read in it ──────────────────────────────────────────────────────────────────────────────────────


def test_common_words_are_in_small_sizes() -> None:
    words = lexicon()
    sizes = [words.size(word) for word in ("water", "farmer", "doorstep", "astrologer", "mendicancy", "xqzt")]
    assert sizes == [10, 20, 35, 40, RARE, RARE]


def test_what_is_built_from_words_is_known() -> None:
    words = Lexicon({"water": 10, "table": 35, "stroll": 40, "ad": 35}, frozenset(), {"zoaea": 0x40}.get)
    assert all(map(words.knows, ("water", "zoaea", "waterless", "zoaeas", "rewater", "watertable")))
    # Parts have at least three letters, and both parts of a compound are in a small dictionary.
    assert not any(map(words.knows, ("ad", "ads", "read", "waterstroll", "zoaeatable", "watertabl")))


def test_a_slip_is_meant_for_the_commoner_of_two_words_and_for_none_of_two_like_ones() -> None:
    words = Lexicon(
        {"garden": 10, "gardens": 20, "warden": 10, "market": 20, "marker": 20}, frozenset(), {"zoaea": 0x40}.get
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm_dispatcher.cache._english.lexicon.lexicon", lambda: words)
        judged = [correction.__wrapped__(slip) for slip in ("gardenz", "markee", "varden", "zoaea")]
    assert judged == ["garden", None, None, None]


# ── the script ─────────────────────────────────────────────────────────────────────────────────────────────────────

LISTS = {
    "english-words.10": "water table farm",
    "english-words.35": "saute turkey watered",
    "english-words.50": "chad",
    "english-words.80": "kagoul zoaea water's",
    "english-words.95": "waterr norway qwertyish",
    "british-words.20": "colour",
    "english-upper.50": "Chad Turkey Norway Dvořák",
    "english-proper-names.95": "Farma Qwertz",
    "english-abbreviations.60": "SQL etc",
    "english-contractions.10": "don't",
    "special-roman-numerals.35": "xiv",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, words in LISTS.items():
        (tmp_path / name).write_text("\n".join(words.split()), encoding="utf-8")
    return tmp_path


def test_the_script_writes_ordinary_words_by_size_and_rare_ones_by_block(folder: Path) -> None:
    _, *lines = build_lexicon.lexicon(*build_lexicon.read_lists(folder)).decode("ascii").splitlines()
    assert lines == [
        "10 word farm table water",
        "20 word colour",
        "35 name turkey",
        "35 word saute watered",
        "",
        # `waterr` and `farma` might be slips. `norway` is in small letters in size 95 only, `chad` in a smaller one.
        "chadPdvorak0etc0norway0sql0waterr0",
    ]


def test_a_word_that_only_large_dictionaries_have_is_kept_where_it_may_be_taken_for_a_slip() -> None:
    may_be = build_lexicon.near(["water", "farm"])
    assert all(map(may_be, ("waterr", "wter", "watre", "wster", "wwater")))
    assert not any(map(may_be, ("later", "waterrr", "farma", "wtre")))


def test_rare_words_share_letters_with_the_word_before() -> None:
    words = dict.fromkeys(("abbotship", "abbotships", "counterrevolutionaries", "counterrevolutionary"), 70)
    content = build_lexicon.lexicon(words, {"abbotship": 95})
    assert content.endswith(b"\n\nabbotship0sIcounterrevolutionaries@onaryO\n")
