"""The normal form in which the join compares texts, and the way back to the text."""

from __future__ import annotations

from itertools import pairwise
from unicodedata import combining, normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher._join.normal_text import NormalText, normal_form, without_last_marks
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
