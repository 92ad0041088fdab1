"""Joining a continuation to what was delivered: nothing repeated, nothing retracted, nothing lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from unicodedata import normalize

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llm_dispatcher._join.anchor import ANCHOR_WORDS
from llm_dispatcher._join.join import HOLD, Join, anchor_of
from llm_dispatcher._join.normal_text import normal_form, without_last_marks
from llm_dispatcher._join.repetition import DEVIATION, FAITHFUL, LEAST_CHARACTERS, RETURN, is_proof
from llm_dispatcher._policy import Continues
from tests.texts import FORMS, in_form, texts_with_marks

VOCABULARY = (
    "the quick brown fox jumps over lazy dogs while Grüße señor naïve e\u0301te\u0301 👩\u200d💻 ha return x = "
    "{1: [2, 3]} | don't “quoted” — dash… a-b 日本語の文章 } ) ; print('hello') and so on, he said."
)
GAPS = [" ", " ", " ", " ", "\n", "\n\n", "\n    ", "  "]
words_and_gaps = list(product(VOCABULARY.split(" "), GAPS))  # one draw for both is twice as fast
texts = st.lists(st.sampled_from(words_and_gaps), min_size=2, max_size=60).map(
    lambda parts: "".join(word + gap for word, gap in parts).rstrip()
)
long_texts = st.lists(st.sampled_from(words_and_gaps), min_size=25, max_size=60).map(
    lambda parts: "".join(word + gap for word, gap in parts).rstrip()
)
OTHER_WORDS = str.maketrans("0123456789", "abcdefghij")


def tales(least: int, most: int | None = None) -> st.SearchStrategy[str]:
    """Texts in which no word is like another, so that only one reading fits."""
    alphabetic = [(word, gap) for word, gap in words_and_gaps if word.isalpha()]
    parts = st.lists(st.sampled_from(alphabetic), min_size=least, max_size=most or 3 * least)
    return parts.map(
        lambda drawn: "".join(f"{word}{number:03}{gap}" for number, (word, gap) in enumerate(drawn)).rstrip()
    )


remarks = st.sampled_from(["Sure, continuing:\n\n", "Here is the rest:\n", "Of course! Continuing: "])
refrains = st.tuples(
    st.sampled_from(["ha ", "}\n", "| a | b | c |\n", "Row, row, row your boat\n", "la la la, la la.\n"]),
    st.integers(2, 20),
).map(lambda parts: parts[0] * parts[1] + "end.")
pieces = st.integers(min_value=1, max_value=40)
splits = st.lists(st.integers(1, 700), max_size=12)
styles: st.SearchStrategy[Continues] = st.sampled_from(["prefill", "anchored"])
ways = st.sampled_from(
    ["exact", "anchor", "marks", "quoted", "capitals", "overlap", "page", "ellipsis", "restart", "remark", "retold"]
)
"""The ways in which a model continues."""


def joined(delivered: str, new: str, style: Continues, size: int = 7) -> tuple[str, Join]:
    """The reader's text at the end, and the join. Checks that only the trimmed head is missing from it."""
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


def continuation(way: str, delivered: str, rest: str) -> str:
    """The continuation of a model that continues in this way."""
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
    """The delivered part of the whole, cut at a place where this holds."""
    place = data.draw(st.integers(1, len(whole)))
    if valid(whole[:place]):  # most places are, and trying all of them takes long
        return whole[:place]
    places = [place for place in range(1, len(whole) + 1) if valid(whole[:place])]
    assume(places)
    return whole[: data.draw(st.sampled_from(places))]


def ends_in_a_word(delivered: str) -> bool:
    anchor = anchor_of(delivered)
    return bool(anchor) and not delivered[-1].isspace() and anchor[0].isalnum() and anchor[-1].isalnum()


def proves(words: str) -> bool:
    """Whether the join takes these words for proof. It compares the last letter without its marks."""
    return is_proof(without_last_marks(normal_form(words.strip()))[0])


def last_words(text: str, count: int) -> str:
    return text[[word.start() for word in re.finditer(r"\S+", text)][-count] :]


def ends_in_a_letter(delivered: str, whole: str) -> bool:
    """Whether the text was cut between the parts of one letter."""
    return normalize("NFD", delivered) + normalize("NFD", whole[len(delivered) :]) != normalize("NFD", whole) or (
        normalize("NFC", delivered) + normalize("NFC", whole[len(delivered) :]) != normalize("NFC", whole)
    )


@given(texts | refrains, st.data(), pieces)
def test_a_repeated_anchor_is_cut_once(whole: str, data: st.DataObject, size: int) -> None:
    """The model was asked for the anchor, so the first one is the seam, even in a repetitive text."""
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
def test_marks_around_the_anchor_are_cut_with_it(whole: str, data: st.DataObject, size: int, marks: str) -> None:
    delivered = cut_where(data, whole, ends_in_a_word)
    anchor, rest = anchor_of(delivered), whole[len(delivered) :]
    text, join = joined(delivered, marks.format(anchor) + rest, "anchored", size)
    assert (text, join.seam) == (whole, "anchor")


@given(texts, st.data(), pieces)
def test_an_anchor_with_other_white_space_and_quotes_is_found(whole: str, data: st.DataObject, size: int) -> None:
    delivered = cut_where(data, whole, lambda text: not text[-1].isspace())
    anchor, rest = anchor_of(delivered), whole[len(delivered) :]
    retold = " ".join(anchor.split()).replace("“", '"').replace("”", '"').replace("—", "-")
    assert joined(delivered, retold + rest, "anchored", size)[0] == whole


@given(tales(15), st.data(), pieces, remarks)
def test_a_remark_before_the_anchor_is_cut_with_it(whole: str, data: st.DataObject, size: int, remark: str) -> None:
    """Two words may repeat themselves (`日本語の文章000 日本語の文章00`); such an anchor is not proof."""
    delivered = cut_where(
        data, whole, lambda text: len(text.split()) > 2 and proves(anchor_of(text)) and not text[-1].isspace()
    )
    anchor, rest = anchor_of(delivered), whole[len(delivered) :]
    text, join = joined(delivered, remark + anchor + rest, "anchored", size)
    assert (text, join.seam, join.trimmed) == (whole, "anchor", remark + anchor)


@given(tales(10, 10), tales(5), pieces, remarks)
def test_a_refrain_after_a_remark_is_not_proof(line: str, between: str, size: int, remark: str) -> None:
    """The text has these words twice, so the third time may be part of the answer."""
    delivered = f"{line}\n{between}\n{line}"
    assert normal_form(anchor_of(delivered)) in normal_form(line)
    text, join = joined(delivered, f"{remark}{line}\nThe end.", "anchored", size)
    assert (join.seam, join.trimmed) == ("plain", "")
    assert text == f"{delivered}{remark}{line}\nThe end."


@given(tales(2), st.data(), pieces, styles)
def test_an_exact_continuation_is_not_changed(whole: str, data: st.DataObject, size: int, style: Continues) -> None:
    cut = data.draw(st.integers(1, len(whole) - 1))
    assume(whole[:cut].strip() and not whole[cut - 1].isspace())
    text, join = joined(whole[:cut], whole[cut:], style, size)
    assert (text, join.seam, join.trimmed) == (whole, "plain", "")


@given(texts | refrains | tales(4), tales(1), st.data(), pieces, styles, st.booleans())
def test_new_text_is_never_cut(
    delivered: str, new: str, data: st.DataObject, size: int, style: Continues, spent: bool
) -> None:
    """The delivered text has no word of it."""
    new = data.draw(st.sampled_from(["", "\n\n", "Note:\n", "> ", "…"])) + new.translate(OTHER_WORDS)
    join = Join(delivered, style)
    emitted = "".join(join.feed(new[start : start + size]) for start in range(0, len(new), size)) + join.close(spent)
    assert (emitted, join.seam, join.trimmed) == (new, "plain", "")


@pytest.mark.parametrize("in_a_gap", [True, False])
@given(texts | refrains, st.data(), pieces)
def test_with_prefill_only_the_dropped_white_space_is_cut(
    in_a_gap: bool, whole: str, data: st.DataObject, size: int
) -> None:
    delivered = cut_where(data, whole, lambda text: text[-1].isspace() == in_a_gap)
    core = delivered.rstrip()
    rest = whole[len(core) :]
    is_restart = proves(core) and normal_form(rest).startswith(normal_form(core)[:LEAST_CHARACTERS])
    assume(not is_restart)
    text, join = joined(delivered, rest, "prefill", size)
    assert (text, join.seam) == (whole, "plain")
    assert join.trimmed == delivered[len(core) :]


@given(tales(14, 20), st.data(), pieces, styles)
def test_a_restart_is_cut_to_the_rest(whole: str, data: st.DataObject, size: int, style: Continues) -> None:
    """With "anchored", the text is longer than its anchor."""
    delivered = cut_where(
        data, whole, lambda text: proves(text) and (style == "prefill" or len(text.split()) > ANCHOR_WORDS)
    )
    text, join = joined(delivered, whole, style, size)
    assert (text, join.seam) == (whole, "restart")


@given(tales(4, 20), st.data(), pieces)
def test_a_restart_of_a_text_as_short_as_its_anchor_is_cut(whole: str, data: st.DataObject, size: int) -> None:
    delivered = cut_where(data, whole, lambda text: proves(text) and anchor_of(text) == text.strip())
    text, join = joined(delivered, whole, "anchored", size)
    assert (text, join.seam) == (whole, "anchor")


@given(tales(4), st.data(), pieces)
def test_a_short_repetition_is_not_a_restart(whole: str, data: st.DataObject, size: int) -> None:
    delivered = cut_where(data, whole, lambda text: not proves(text) and not text[-1].isspace())
    text, join = joined(delivered, whole, "prefill", size)
    assert (text, join.seam) == (delivered + whole, "plain")


def delivered_and_last_words(data: st.DataObject, whole: str, back: int) -> tuple[str, str]:
    """The delivered part of the whole, and this many of its last words."""
    delivered = cut_where(data, whole, lambda text: len(text.split()) > 10 and not text[-1].isspace())
    return delivered, last_words(delivered, back)


@given(tales(14), st.data(), pieces, st.integers(3, 7))
def test_last_words_that_are_proof_are_cut(whole: str, data: st.DataObject, size: int, back: int) -> None:
    """They are fewer than the anchor has: eight of these words are never longer than an anchor may be."""
    delivered, repeated = delivered_and_last_words(data, whole, back)
    assume(proves(repeated))
    text, join = joined(delivered, repeated + whole[len(delivered) :], "anchored", size)
    assert (text, join.seam, join.trimmed) == (whole, "overlap", repeated)


@given(tales(14), st.data(), pieces, st.integers(1, 3))
def test_last_words_that_are_not_proof_stay(whole: str, data: st.DataObject, size: int, back: int) -> None:
    delivered, repeated = delivered_and_last_words(data, whole, back)
    assume(not proves(repeated))
    new = repeated + whole[len(delivered) :]
    text, join = joined(delivered, new, "anchored", size)
    assert (text, join.seam, join.trimmed) == (delivered + new, "plain", "")


# ── the ways of real models ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.found("B-21")
@given(tales(120), st.data(), pieces)
def test_a_repeated_last_page_is_cut_at_any_length(whole: str, data: st.DataObject, size: int) -> None:
    delivered = cut_where(data, whole, lambda text: len(text) > 2 * HOLD and not text[-1].isspace())
    repeated = last_words(delivered, data.draw(st.integers(11, len(delivered.split()) - 1)))
    text, join = joined(delivered, repeated + whole[len(delivered) :], "anchored", size)
    assert (text, join.seam, join.trimmed) == (whole, "overlap", repeated)


@pytest.mark.found("B-21")
@given(tales(14), st.data(), pieces, remarks | st.sampled_from(["```\n", "<<<", "**"]))
def test_a_restart_after_a_remark_is_cut(whole: str, data: st.DataObject, size: int, remark: str) -> None:
    delivered = cut_where(data, whole, lambda text: len(text.split()) > 12)
    text, join = joined(delivered, remark + whole, "anchored", size)
    assert text == whole
    assert join.trimmed.startswith(remark + delivered)


@pytest.mark.found("B-21")
@given(tales(60), st.data(), pieces, st.sampled_from(["", "otherwise ", "quite otherwise "]))
def test_a_restart_may_differ_in_a_word(whole: str, data: st.DataObject, size: int, other: str) -> None:
    """A word and its gap are at least five characters in the normal form, which counts."""
    whole = whole.translate(OTHER_WORDS)
    delivered = cut_where(data, whole, lambda text: len(text.split()) > 50 and not text[-1].isspace())
    starts = [word.start() for word in re.finditer(r"\S+", delivered)]
    before, after = max(FAITHFUL, DEVIATION * len("quite otherwise ")) // 5 + 1, RETURN // 5 + 4
    place = data.draw(st.sampled_from(starts[before:-after]))
    retold = delivered[:place] + other + re.sub(r"^\S+\s+", "", delivered[place:])
    text, join = joined(delivered, retold + whole[len(delivered) :], "anchored", size)
    assert (text, join.seam, join.trimmed) == (whole, "restart", retold)


RECORD = (
    "## Test {}\n\nThe machine is switched on in a cold room, left alone for an hour, and then loaded up to its limit "
    "by two people. After that, test {} is repeated once a day for one week, and all of the results are written down."
)


@pytest.mark.parametrize(("first", "second"), [("1", "2"), ("one", "two")])
def test_a_record_similar_to_the_first_is_not_a_restart(first: str, second: str) -> None:
    """It differs in a number, or too early for a restart."""
    delivered, rest = RECORD.format(first, first), "\n\n" + RECORD.format(second, second)
    assert joined(delivered, rest, "anchored")[0] == delivered + rest
    late = RECORD.replace("## Test {}\n\n", "")
    assert joined(late.format("1"), "\n\n" + late.format("2"), "anchored")[1].trimmed == ""


@pytest.mark.parametrize(
    ("place", "one", "other"),
    [
        (FAITHFUL - 20, "cold", "warm"),
        (FAITHFUL + 20, "cold and dark and silent and far away", "warm"),
        (FAITHFUL + 20, "cold", "warm and bright and loud and near and full"),
    ],
)
def test_a_text_that_differs_early_or_at_length_is_not_a_restart(place: int, one: str, other: str) -> None:
    letters = "".join(f"{chr(97 + index % 26)}{chr(97 + index // 26)}x " for index in range(120))
    before, after = letters[:place], letters[place : place + 150]
    delivered = f"{before} {one} {after}"
    _, join = joined(delivered, f"{before} {other} {after} The end.", "anchored")
    assert (join.seam, join.trimmed) == ("plain", "")
    again = Join(delivered, "anchored")
    assert again.feed(f"{before} {one} {after} The end.") == " The end."


@pytest.mark.found("B-21")
@given(tales(14), st.data(), pieces, st.sampled_from([str.capitalize, str.upper, str.lower, str.swapcase]))
def test_an_anchor_with_other_capitals_is_found(
    whole: str, data: st.DataObject, size: int, capitals: Callable[[str], str]
) -> None:
    whole = whole.replace("ß", "ss")  # (in capitals it is two letters)
    delivered = cut_where(data, whole, lambda text: proves(anchor_of(text)) and not text[-1].isspace())
    text, join = joined(delivered, capitals(anchor_of(delivered)) + whole[len(delivered) :], "anchored", size)
    assert (text, join.seam) == (whole, "anchor")


@pytest.mark.found("B-21")
@given(tales(14), st.data(), pieces, st.integers(4, 10), st.sampled_from(["…", "... ", "[…] ", "(...) "]))
def test_last_words_after_an_ellipsis_are_cut(
    whole: str, data: st.DataObject, size: int, back: int, ellipsis: str
) -> None:
    delivered = cut_where(data, whole, lambda text: len(text.split()) > 10 and not text[-1].isspace())
    repeated = last_words(delivered, back)
    assume(proves(repeated))
    text, join = joined(delivered, ellipsis + repeated + whole[len(delivered) :], "anchored", size)
    assert (text, join.trimmed) == (whole, ellipsis + repeated)


@pytest.mark.found("B-21")
@given(st.sampled_from(["<<<{}>>>\n", '"{}"\n\n', "> **{}**\n"]), pieces)
def test_an_anchor_that_is_quoted_first_is_cut_twice(quotation: str, size: int) -> None:
    anchor = anchor_of(TALE)
    text, join = joined(TALE, quotation.format(anchor) + anchor + "x jumps", "anchored", size)
    assert (text, join.seam) == (TALE + "x jumps", "anchor")


@given(tales(10, 10), pieces)
def test_a_line_that_the_text_has_twice_is_cut_once(line: str, size: int) -> None:
    delivered, rest = f"They sang:\n{line}", f"\n{line}\nThen they left."
    text, join = joined(delivered, f"<<<{line}>>>{rest}", "anchored", size)
    assert (text, join.seam) == (delivered + rest, "anchor")


@given(st.integers(10, 19), st.integers(10, 19), pieces)
def test_words_that_repeat_themselves_are_cut_once(sung: int, more: int, size: int) -> None:
    delivered, rest = "They sang" + " la" * sung, " la" * more + ", and left."
    text, join = joined(delivered, f'"{anchor_of(delivered)}"{rest}', "anchored", size)
    assert (text, join.seam) == (delivered + rest, "anchor")


@pytest.mark.found("R-5")
@given(tales(14), st.data(), pieces, st.integers(1, 5), st.integers(0, 6))
def test_every_mark_that_closes_the_anchor_is_cut(
    whole: str, data: st.DataObject, size: int, opening: int, closing: int
) -> None:
    delivered = cut_where(data, whole, ends_in_a_word)
    said = "<" * opening + anchor_of(delivered) + ">" * closing
    text, join = joined(delivered, said + whole[len(delivered) :], "anchored", size)
    assert (text, join.seam, join.trimmed) == (whole, "anchor", said)


@pytest.mark.parametrize(
    "delivered", ["a map is a dict<str, list<list<int", "x is less than this, so write x -", "f ="]
)
def test_a_mark_that_may_belong_to_the_text_stays(delivered: str) -> None:
    text, join = joined(delivered, f"<<<{anchor_of(delivered)}>>>>> y", "anchored")
    assert (text, join.seam) == (delivered + ">> y", "anchor")


@pytest.mark.found("R-4")
@given(tales(14), st.data(), pieces, st.sampled_from(["", "<<<", "**", "\n"]))
def test_a_prefix_of_the_anchor_is_cut_if_a_token_limit_ended_it(
    whole: str, data: st.DataObject, size: int, marks: str
) -> None:
    delivered = cut_where(data, whole, lambda text: ends_in_a_word(text) and len(text) > 1)
    anchor = anchor_of(delivered)
    said = marks + anchor[: data.draw(st.integers(1, len(anchor) - 1))]
    join = Join(delivered, "anchored")
    shown = "".join(join.feed(said[start : start + size]) for start in range(0, len(said), size)) + join.close(True)
    assert (shown, join.trimmed) == ("", said)
    ended = Join(delivered, "anchored")
    assume(not is_proof(normal_form(said)))  # else it may be a restart that ended
    assert ended.feed(said) + ended.close() == said, "where the model ended by itself, it may be the text's own end"


def all_of(delivered: str, style: Continues, parts: list[str], spent: bool) -> tuple[str, str | None, str]:
    join = Join(delivered, style)
    emitted = "".join(map(join.feed, parts)) + join.close(spent)
    return emitted, join.seam, join.trimmed


@given(texts | long_texts | refrains | texts_with_marks, st.data(), ways, splits, st.booleans(), styles)
def test_the_result_does_not_depend_on_the_split(
    whole: str, data: st.DataObject, way: str, lengths: list[int], spent: bool, style: Continues
) -> None:
    cut = data.draw(st.integers(0, len(whole)))
    new = continuation(way, whole[:cut], data.draw(st.just(whole[cut:]) | st.text(max_size=200)))
    at_once = all_of(whole[:cut], style, [new], spent)
    assert all_of(whole[:cut], style, split(new, lengths), spent) == at_once
    assert at_once[2] + at_once[0] == new


@pytest.mark.found("B-04")
@given(st.sampled_from(["\n", "\n\n", " ", "  \n"]), st.integers(1, 60), splits, st.booleans())
def test_last_words_before_white_space_are_cut_wherever_a_piece_ends(
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
def test_an_anchor_is_cut_once_in_every_unicode_form(whole: str, data: st.DataObject, form: str, size: int) -> None:
    cut = data.draw(st.integers(1, len(whole)))
    delivered, rest = whole[:cut], whole[cut:]
    anchor = anchor_of(delivered)
    assume(anchor)
    gap = delivered[len(delivered.rstrip()) :]
    text, join = joined(delivered, in_form(anchor, form) + gap + rest, "anchored", size)
    assert (text, join.seam) == (whole, "anchor")


@pytest.mark.found("B-03")
@given(texts_with_marks, st.data(), st.sampled_from(FORMS), pieces, styles)
def test_a_restart_is_cut_in_every_unicode_form(
    whole: str, data: st.DataObject, form: str, size: int, style: Continues
) -> None:
    delivered = cut_where(
        data,
        whole,
        lambda text: proves(text) and not ends_in_a_letter(text, whole),
    )
    text, join = joined(delivered, in_form(whole, form), style, size)
    is_short = style == "anchored" and anchor_of(delivered) == delivered.strip()
    assert normalize("NFC", text) == normalize("NFC", whole)
    assert join.seam == ("anchor" if is_short else "restart")


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
def test_examples_of_each_seam(delivered: str, new: str, style: Continues, whole: str, seam: str) -> None:
    text, join = joined(delivered, new, style, 3)
    assert (text, join.seam) == (whole, seam)


def test_a_restart_that_ends_early_gives_no_text() -> None:
    text, join = joined(TALE, TALE[:60], "anchored")
    assert (text, join.seam, join.trimmed) == (TALE, "restart", TALE[:60])


def test_at_most_six_hundred_characters_are_held_back() -> None:
    """The anchor might still follow these marks."""
    join = Join(TALE, "anchored")
    assert "".join(map(join.feed, "-" * 599)) == ""
    assert join.feed("-") == "-" * 600
    at_once = Join(TALE, "anchored")
    assert at_once.feed("-" * 600 + anchor_of(TALE)) == "-" * 600 + anchor_of(TALE)


def test_the_reader_waits_for_no_more_than_hold_characters() -> None:
    join = Join("so it went on and on and on " * 50 + "until", "anchored", hold=100)
    fed = 0
    while not join.is_decided:
        join.feed("went on and on and on so it ")
        fed += 28
    assert fed <= 128


def test_text_that_cannot_be_a_restart_passes_at_once() -> None:
    join = Join(TALE, "prefill")
    assert join.feed("x") == "x" and join.is_decided


@pytest.mark.parametrize("unit", ["1,", "ha-", "哈", "ACG-TTA-"])
def test_an_open_turn_that_repeats_itself_goes_on_as_it_began(unit: str) -> None:
    """The rest of the answer begins as the whole of it does, so it looks like a restart."""
    for times in range(1, 30):
        text, join = joined(unit * times, unit * 40, "prefill", 1)
        assert (text, join.seam) == (unit * (times + 40), "plain")


def test_a_long_restart_in_small_pieces_is_compared_once() -> None:
    delivered = "".join(f"Line {number} of a long text.\n" for number in range(4000))
    join = Join(delivered, "anchored")
    emitted = "".join(join.feed(character) for character in delivered + "The end.") + join.close()
    assert emitted == "The end." and join.seam == "restart"


@pytest.mark.parametrize("style", ["anchored", "prefill"])
def test_white_space_alone_is_not_repeated(style: Continues) -> None:
    """There is no word to continue from, so the answer begins again."""
    for new in ("\n\nHello there", "\nHello there", "Hello there"):
        assert joined("\n\n", new, style, size=1)[0] == "\n\nHello there"
