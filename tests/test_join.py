"""Joining a continuation to what was delivered: nothing repeated, nothing retracted, nothing lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from unicodedata import normalize

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llm_dispatcher._joining.normal_text import normal_form, without_last_marks
from llm_dispatcher._joining.repetition import LEAST_CHARACTERS, is_proof
from llm_dispatcher.join import Join, Style, anchor_of
from tests.texts import FORMS, texts_with_marks, written

VOCABULARY = (
    "the quick brown fox jumps over lazy dogs while Grüße señor naïve e\u0301te\u0301 👩\u200d💻 ha return x = "
    "{1: [2, 3]} | don't “quoted” — dash… a-b 日本語の文章 } ) ; print('hello') and so on, he said."
)
words = st.sampled_from(VOCABULARY.split(" "))
gaps = st.sampled_from([" ", " ", " ", " ", "\n", "\n\n", "\n    ", "  "])
texts = st.lists(st.tuples(words, gaps), min_size=2, max_size=60).map(
    lambda parts: "".join(word + gap for word, gap in parts).rstrip()
)
long_texts = st.lists(st.tuples(words, gaps), min_size=25, max_size=60).map(
    lambda parts: "".join(word + gap for word, gap in parts).rstrip()
)
refrains = st.tuples(
    st.sampled_from(["ha ", "}\n", "| a | b | c |\n", "Row, row, row your boat\n", "la la la, la la.\n"]),
    st.integers(2, 20),
).map(lambda parts: parts[0] * parts[1] + "end.")
pieces = st.integers(min_value=1, max_value=40)
splits = st.lists(st.integers(1, 700), max_size=12)
styles: st.SearchStrategy[Style] = st.sampled_from(["prefill", "anchored"])
ways = st.sampled_from(
    ["exact", "anchor", "marks", "quoted", "capitals", "overlap", "page", "ellipsis", "restart", "remark", "retold"]
)
"""How a model goes on."""


def joined(delivered: str, new: str, style: Style, size: int = 7) -> tuple[str, Join]:
    """What the reader has in the end; what went in comes out again, apart from the head that was trimmed."""
    join = Join(delivered, style)
    emitted = "".join(join.feed(new[start : start + size]) for start in range(0, len(new), size)) + join.close()
    assert join.trimmed + emitted == new
    return delivered + emitted, join


def split(text: str, lengths: list[int]) -> list[str]:
    """A text in pieces of these lengths, and the rest of it in single characters."""
    parts: list[str] = []
    for length in lengths:
        parts.append(text[:length])
        text = text[length:]
    return [*parts, *text]


def goes_on(way: str, delivered: str, rest: str) -> str:
    """What a model says that goes on in this way."""
    anchor, core = anchor_of(delivered), delivered.rstrip()
    gap = delivered[len(core) :]
    match way:
        case "anchor":
            return anchor + gap + rest
        case "marks":
            return f"<<<{anchor}>>{gap}{rest}"
        case "quoted":
            return f"<<<{anchor}>>>\n{anchor}{gap}{rest}"
        case "capitals":
            return anchor.capitalize() + gap + rest
        case "overlap":
            return core[-30:] + gap + rest
        case "page":
            return core[len(core) // 2 :] + gap + rest
        case "ellipsis":
            return "…" + core[-30:] + gap + rest
        case "restart":
            return delivered + rest
        case "remark":
            return "Of course:\n\n" + delivered + rest
        case "retold":
            return delivered.replace("dogs", "cats") + rest
        case _:
            return rest


def cut_where(data: st.DataObject, whole: str, valid: Callable[[str], bool]) -> str:
    """What was delivered of the whole, cut at a place where this holds."""
    places = [place for place in range(1, len(whole) + 1) if valid(whole[:place])]
    assume(places)
    return whole[: data.draw(st.sampled_from(places))]


def ends_in_a_word(delivered: str) -> bool:
    anchor = anchor_of(delivered)
    return bool(anchor) and not delivered[-1].isspace() and anchor[0].isalnum() and anchor[-1].isalnum()


def ends_in_a_letter(delivered: str, whole: str) -> bool:
    """Whether the text was cut between the parts of one letter."""
    return normalize("NFD", delivered) + normalize("NFD", whole[len(delivered) :]) != normalize("NFD", whole) or (
        normalize("NFC", delivered) + normalize("NFC", whole[len(delivered) :]) != normalize("NFC", whole)
    )


def is_repeated(delivered: str, rest: str) -> bool:
    """Whether the exact rest reads like a repetition of what was delivered: then two readings fit."""
    return joined(delivered, rest, "anchored")[1].seam != "plain"


@given(texts | refrains, st.data(), pieces)
def test_an_anchor_that_is_repeated_goes_once(whole: str, data: st.DataObject, size: int) -> None:
    """However repetitive the text is: the model was asked for the anchor, so the first one is the seam."""
    cut = data.draw(st.integers(1, len(whole)))
    delivered, rest = whole[:cut], whole[cut:]
    anchor = anchor_of(delivered)
    assume(anchor)
    gap = delivered[len(delivered.rstrip()) :]
    text, join = joined(delivered, anchor + gap + rest, "anchored", size)
    assert (text, join.seam) == (whole, "anchor")


@given(
    texts | refrains,
    st.data(),
    pieces,
    st.sampled_from(['"{}"', "**{}**", "`{}`", "“{}”", "<<<{}>>>", "*{}*", "\n{}", "> {}"]),
)
def test_marks_around_the_anchor_go_with_it(whole: str, data: st.DataObject, size: int, marks: str) -> None:
    delivered = cut_where(data, whole, ends_in_a_word)
    anchor, rest = anchor_of(delivered), whole[len(delivered) :]
    text, join = joined(delivered, marks.format(anchor) + rest, "anchored", size)
    assert (text, join.seam) == (whole, "anchor")


@given(texts, st.data(), pieces)
def test_an_anchor_in_other_white_space_and_quotes_is_known(whole: str, data: st.DataObject, size: int) -> None:
    delivered = cut_where(data, whole, lambda text: not text[-1].isspace())
    anchor, rest = anchor_of(delivered), whole[len(delivered) :]
    retold = " ".join(anchor.split()).replace("“", '"').replace("”", '"').replace("—", "-")
    assert joined(delivered, retold + rest, "anchored", size)[0] == whole


@given(
    long_texts,
    st.data(),
    pieces,
    st.sampled_from(["Sure, continuing:\n\n", "Here is the rest:\n", "Of course! Continuing: "]),
)
def test_a_remark_goes_where_the_anchor_after_it_proves_it(
    whole: str, data: st.DataObject, size: int, remark: str
) -> None:
    def proves(text: str) -> bool:
        anchor = anchor_of(text)
        return len(anchor) > 40 and text.count(anchor) == 1 and not text[-1].isspace()

    delivered = cut_where(data, whole, proves)
    anchor, rest = anchor_of(delivered), whole[len(delivered) :]
    text, join = joined(delivered, remark + anchor + rest, "anchored", size)
    if join.seam == "anchor":
        assert text == whole
    else:  # the anchor is repetitive in normal form: then nothing is proven, and nothing may go
        assert join.trimmed == ""


@given(texts, st.data(), pieces)
def test_the_exact_rest_stays_as_it_is(whole: str, data: st.DataObject, size: int) -> None:
    cut = data.draw(st.integers(1, len(whole)))
    delivered, rest = whole[:cut], whole[cut:]
    assume(not is_repeated(delivered, rest))
    assert joined(delivered, rest, "anchored", size)[0] == whole


@given(texts | refrains, st.data(), pieces)
def test_prefill_repeats_only_the_white_space_that_its_request_had_to_drop(
    whole: str, data: st.DataObject, size: int
) -> None:
    cut = data.draw(st.integers(1, len(whole)))
    core = whole[:cut].rstrip()
    assume(core)
    join = Join(whole[:cut], "prefill")
    join.feed(whole[len(core) :])
    join.close()
    assume(join.seam == "plain")
    assert joined(whole[:cut], whole[len(core) :], "prefill", size)[0] == whole


@given(texts, st.data(), pieces, st.sampled_from(["prefill", "anchored"]))
def test_a_restart_is_cut_to_the_rest(whole: str, data: st.DataObject, size: int, style: Style) -> None:
    cut = data.draw(st.integers(1, len(whole)))
    delivered = whole[:cut]
    text, join = joined(delivered, whole, style, size)
    if style == "prefill" and join.seam == "plain":
        told = " ".join(delivered.split())
        assert len(re.findall(r"\w+", told)) < 3 or len(told) < LEAST_CHARACTERS  # too little to prove anything
    elif join.seam == "restart":
        assert text == whole


@given(texts, st.data(), pieces, st.integers(1, 40))
def test_some_of_the_last_words_go_if_they_are_proof(whole: str, data: st.DataObject, size: int, back: int) -> None:
    delivered = cut_where(
        data, whole, lambda text: len(text) > back and not text[-back].isspace() and not text[-1].isspace()
    )
    repeated, rest = delivered[-back:], whole[len(delivered) :]
    text, join = joined(delivered, repeated + rest, "anchored", size)
    if join.seam == "overlap" and len(join.trimmed) == len(repeated):
        assert text == whole
    elif join.seam == "plain":
        assert text == delivered + repeated + rest  # less than the minimum: it stays


def all_of(delivered: str, style: Style, parts: list[str], spent: bool) -> tuple[str, str | None, str]:
    join = Join(delivered, style)
    emitted = "".join(map(join.feed, parts)) + join.close(spent)
    return emitted, join.seam, join.trimmed


@pytest.mark.found("B-04")
@given(texts | long_texts | refrains | texts_with_marks, st.data(), ways, splits, st.booleans(), styles)
def test_how_an_answer_is_split_does_not_matter(
    whole: str, data: st.DataObject, way: str, lengths: list[int], spent: bool, style: Style
) -> None:
    cut = data.draw(st.integers(0, len(whole)))
    new = goes_on(way, whole[:cut], data.draw(st.just(whole[cut:]) | st.text(max_size=200)))
    at_once = all_of(whole[:cut], style, [new], spent)
    assert all_of(whole[:cut], style, split(new, lengths), spent) == at_once
    assert at_once[2] + at_once[0] == new


@pytest.mark.found("B-04")
@given(st.sampled_from(["\n", "\n\n", " ", "  \n"]), st.integers(1, 60), splits, st.booleans())
def test_last_words_before_white_space_go_wherever_a_piece_ends(
    gap: str, first: int, lengths: list[int], gap_alone: bool
) -> None:
    repeated, rest = "Nobody in the town had slept that night.", "At dawn the first boat came in."
    delivered = "The harbour lay quiet under the first snow of the year, and it was cold.\n\n" + repeated + gap
    parts = [repeated, gap, rest] if gap_alone else split(repeated + gap + rest, [first, *lengths])
    join = Join(delivered, "anchored", anchor="some other words that the model does not repeat")
    assert "".join(map(join.feed, parts)) + join.close() == rest
    assert join.seam == "overlap"


@pytest.mark.found("B-03")
@given(texts_with_marks, st.data(), st.sampled_from(FORMS), pieces)
def test_an_anchor_goes_once_however_its_marks_are_written(
    whole: str, data: st.DataObject, form: str, size: int
) -> None:
    cut = data.draw(st.integers(1, len(whole)))
    delivered, rest = whole[:cut], whole[cut:]
    anchor = anchor_of(delivered)
    assume(anchor)
    gap = delivered[len(delivered.rstrip()) :]
    text, join = joined(delivered, written(anchor, form) + gap + rest, "anchored", size)
    assert (text, join.seam) == (whole, "anchor")


@pytest.mark.found("B-03")
@given(texts_with_marks, st.data(), st.sampled_from(FORMS), pieces, styles)
def test_a_restart_goes_however_its_marks_are_written(
    whole: str, data: st.DataObject, form: str, size: int, style: Style
) -> None:
    delivered = cut_where(
        data,
        whole,
        lambda text: is_proof(without_last_marks(normal_form(text.strip()))[0]) and not ends_in_a_letter(text, whole),
    )
    text, join = joined(delivered, written(whole, form), style, size)
    assert normalize("NFC", text) == normalize("NFC", whole)
    assert join.seam == ("anchor" if style == "anchored" and anchor_of(delivered) == delivered.strip() else "restart")


TALE = "Once upon a time there was a small dog who liked to read. The quick brown fo"


@pytest.mark.parametrize(
    ("delivered", "new", "style", "whole", "seam"),
    [
        (TALE, anchor_of(TALE) + "x jumps", "anchored", TALE + "x jumps", "anchor"),
        (TALE, "```\n" + anchor_of(TALE) + "x jumps", "anchored", TALE + "x jumps", "anchor"),
        (TALE, TALE + "x jumps", "anchored", TALE + "x jumps", "restart"),
        (TALE, TALE + "x jumps", "prefill", TALE + "x jumps", "restart"),
        (TALE, "The quick brown fox jumps", "anchored", TALE + "x jumps", "overlap"),
        (TALE, "brown fox jumps", "anchored", TALE + "brown fox jumps", "plain"),
        (TALE, "The quick brown fox jumps", "prefill", TALE + "The quick brown fox jumps", "plain"),
        ("ha ha ", " ha ha", "prefill", "ha ha ha ha", "plain"),
        ("A line.\n", "A line.\n\nNext", "anchored", "A line.\n\nNext", "anchor"),
        ("A line. ", "A line.\nNext", "anchored", "A line. \nNext", "anchor"),
        ("cafe", "cafe\u0301 au lait", "anchored", "cafe\u0301 au lait", "anchor"),
        ("日本語の文章です", "日本語の文章ですから", "anchored", "日本語の文章ですから", "anchor"),
        ("}\n}\n", "}\n}", "prefill", "}\n}\n}\n}", "plain"),
        ("  \n", "Hello", "anchored", "  \nHello", "plain"),
    ],
)
def test_each_kind_by_example(delivered: str, new: str, style: Style, whole: str, seam: str) -> None:
    text, join = joined(delivered, new, style, 3)
    assert (text, join.seam) == (whole, seam)


def test_a_restart_that_ends_inside_what_was_delivered_brings_nothing_new() -> None:
    text, join = joined(TALE, TALE[:60], "anchored")
    assert (text, join.seam, join.trimmed) == (TALE, "restart", TALE[:60])


def test_the_reader_waits_no_longer_than_the_head_may_be_held() -> None:
    join = Join("so it went on and on and on " * 50 + "until", "anchored", hold=100)
    fed = 0
    while not join.decided:
        join.feed("went on and on and on so it ")
        fed += 28
    assert fed <= 128


def test_a_text_that_cannot_be_a_restart_passes_at_once() -> None:
    join = Join(TALE, "prefill")
    assert join.feed("x") == "x" and join.decided


def test_a_long_restart_in_small_pieces_is_compared_once() -> None:
    delivered = "".join(f"Line {number} of a long text.\n" for number in range(4000))
    join = Join(delivered, "anchored")
    emitted = "".join(join.feed(character) for character in delivered + "The end.") + join.close()
    assert emitted == "The end." and join.seam == "restart"


@pytest.mark.parametrize("style", ["anchored", "prefill"])
def test_white_space_alone_is_not_said_twice(style: Style) -> None:
    """There is no word to go on from, so the answer begins again."""
    for new in ("\n\nHello there", "\nHello there", "Hello there"):
        assert joined("\n\n", new, style, size=1)[0] == "\n\nHello there"
