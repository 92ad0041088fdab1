"""The normal form in which the join compares texts, and the way back to the text."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal
from unicodedata import combining, normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher._join.join import Join
from llm_dispatcher._join.normal_text import NormalText, normal_form, without_last_marks
from llm_dispatcher._join.repetition import is_proof
from tests.texts import FORMS, in_form, texts_with_marks

any_text = (
    texts_with_marks | st.text(max_size=60) | st.text("aé…“ \n\u0301\u0344\u0f73\u1100\uac01\ud800-", max_size=60)
)
splits = st.lists(st.integers(0, 60))


def grown(text: str, cuts: list[int]) -> NormalText:
    grows = NormalText()
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    for start, end in pairwise(places):
        before = grows.form()
        grows.add(text[start:end])
        assert grows.form().startswith(before), "what was shown of the form never changes"
    return grows


@pytest.mark.found("B-03")
@given(any_text, splits)
def test_a_growing_text_has_the_form_of_the_whole(text: str, cuts: list[int]) -> None:
    grows = grown(text, cuts)
    assert without_last_marks(grows.form())[0] == grows.form() == without_last_marks(normal_form(text))[0]
    grows.end()
    assert grows.form() == normal_form(text)
    assert (grows.raw, len(grows)) == (text, len(text))


@pytest.mark.found("B-03")
@given(texts_with_marks, st.sampled_from(FORMS), splits)
def test_a_text_has_the_same_form_in_every_unicode_form(text: str, form: str, cuts: list[int]) -> None:
    grows = grown(in_form(text, form), cuts)
    grows.end()
    assert grows.form() == normal_form(text)


@given(texts_with_marks, st.sampled_from(FORMS), splits, st.data())
def test_the_way_back_leads_to_the_end_of_the_form(text: str, form: str, cuts: list[int], data: st.DataObject) -> None:
    """The text before a letter has the form before that letter."""
    text = in_form(text, form)
    grows = grown(text, cuts)
    grows.end()
    begins = [index for index, character in enumerate(text) if not combining(normalize("NFD", character)[0])]
    at = data.draw(st.sampled_from([*begins, len(text)]))
    letters, marks = without_last_marks(normal_form(text[:at]))
    assert grows.raw_end(len(letters), marks) == at
    if at < len(text) and not text[at].isspace():
        assert grows.raw_start(len(letters + marks)) == at


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    ("text", "is_proven"),
    [
        ("Ménagère économe", False),  # two words, whose accents are marks in the normal form
        ("Ménagère économe et", True),
        ("अंतरराष्ट्रीयकरण", False),
        ("हिन्दी में क़लम और", True),
        ("السَّلَامُ عَلَيْكُمْ", False),
        ("السَّلَامُ عَلَيْكُمْ يَا", True),
        ("می\u200cخواهم‌ نمی\u200cخواهم", False),
        ("ภาษาไทยไม่มีช่องว่าง", True),  # Thai, like Chinese, does not separate its words
        ("这种文字在词与词之间没有任何空格", True),
    ],
)
def test_a_word_with_marks_is_one_word(text: str, is_proven: bool, form: Literal["NFC", "NFD"]) -> None:
    """Proof is three words. Marks within a word do not make more words of it."""
    assert is_proof(normal_form(normalize(form, text))) is is_proven


def test_two_long_words_that_come_again_stay() -> None:
    join = Join("Ménagère économe", "prefill")
    assert join.feed("Ménagère économe, et encore.") == "Ménagère économe, et encore."
