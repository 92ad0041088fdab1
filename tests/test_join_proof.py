"""An anchored continuation proves itself, or it is refused; our marks and our wording are known for what they are."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llm_dispatcher._dispatch.continuation import CONTINUE_PROMPT
from llm_dispatcher._join.boundary import is_at_boundary, is_inside_sentence, may_be_whole
from llm_dispatcher._join.join import HOLD, Join, anchor_of
from llm_dispatcher._join.watch import WATCH
from llm_dispatcher._policy import Continues
from tests.test_join import (
    continuation,
    cut_where,
    ends_in_a_word,
    long_texts,
    proves,
    refrains,
    split,
    tales,
    texts,
    ways,
)
from tests.texts import texts_with_marks

OWN_MARKS = (
    "<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> main\n",
    ">>> print(1 << 2)\n4\n>>>\n",
    "cout << x<<y << endl;\ncin >>x>> y;\n",
    "std::vector<std::vector<int>> v;\nmap<int, list<list<int>>>\n",
    "> he said\n>> she said\n>>> I said\n",
    "cat <<EOF >> out.log\nabc\nEOF\n",
    "<<word>> is what «word» is in ASCII. Read on >>\n",
    "<a href='x'><b>bold</b></a>\n<br>\n",
    "x <- y; f <<- g; a |> b; p->q; A => B\n",
    "| a | b |\n|---|---|\n",
    "Repeat the words, without the marks, and go on from there to the end of your street.\n",
    "Its last words were kind. Your answer was late. Begin by repeating the test.\n",
)
"""Texts with marks or words like those of the request, which are their own."""
marked = st.lists(st.sampled_from(OWN_MARKS) | texts.map(lambda text: text + "\n"), min_size=1, max_size=5).map("".join)
any_texts = marked | texts | long_texts | refrains | texts_with_marks
pieces = st.integers(1, 40)
splits = st.lists(st.integers(1, 700), max_size=12)
styles: st.SearchStrategy[Continues] = st.sampled_from(["prefill", "anchored"])
QUOTATIONS = (
    "\nBegin by repeating exactly the words between <<< and >>>, without the marks",
    "\n\nYour answer was cut off. Its last words were:\n",
    " Your answer was cut off.",
    "\n8. Repeat the words between <<< and >>>, without the marks, and go straight on from there",
    " >>>\nDo not comment on the interruption.",
)


class Result(NamedTuple):
    """What a reader sees, and what the join says."""

    shown: str
    join: Join

    @property
    def whole(self) -> tuple[object, ...]:
        join = self.join
        leak = join.leak if join.refusal is None else None  # what follows a refusal is not looked at
        taken = join.taken if join.refusal is None else []
        return self.shown, join.seam, join.trimmed, join.proof, join.refusal, leak, taken


def read(
    delivered: str, style: Continues, parts: list[str], *, hit_limit: bool = False, is_certain: bool = True
) -> Result:
    """Read a continuation as an attempt does, which ends where the join refuses the text."""
    join = Join(delivered, style, prompt=CONTINUE_PROMPT, is_certain=is_certain)
    shown = ""
    for part in parts:
        text = join.feed(part)
        if join.refusal is not None:
            return Result(shown, join)
        shown += text
    text = join.close(hit_limit)
    return Result(shown + text if join.refusal is None else shown, join)


def sized(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def put_back(join: Join, shown: str) -> str:
    """The shown text with the marks that were taken out of it."""
    for place, mark in reversed(join.taken):
        shown = shown[:place] + mark + shown[place:]
    return shown


# ── what is proven ─────────────────────────────────────────────────────────────────────────────────────────────────


@given(any_texts, st.data(), pieces, st.booleans())
def test_a_model_that_obeys_is_never_refused_and_nothing_of_it_is_cut(
    whole: str, data: st.DataObject, size: int, hit_limit: bool
) -> None:
    cut = data.draw(st.integers(1, len(whole)))
    delivered, rest = whole[:cut], whole[cut:]
    assume(delivered.strip() and rest.strip())
    gap = delivered[len(delivered.rstrip()) :]
    sent = anchor_of(delivered) + gap + rest
    shown, join = read(delivered, "anchored", sized(sent, size), hit_limit=hit_limit)
    assert (delivered + shown, join.refusal, join.leak, join.taken) == (whole, None, None, [])
    assert join.proof is not None and join.proof.startswith("the anchor: ")


@given(any_texts | tales(4), st.data(), ways, splits, st.booleans(), styles, st.booleans(), st.sampled_from(QUOTATIONS))
def test_the_result_does_not_depend_on_the_split(
    whole: str,
    data: st.DataObject,
    way: str,
    lengths: list[int],
    hit_limit: bool,
    style: Continues,
    is_certain: bool,
    quotation: str,
) -> None:
    cut = data.draw(st.integers(0, len(whole)))
    rest = data.draw(st.just(whole[cut:]) | st.text("<> .\n#Aa", max_size=40))
    at = data.draw(st.integers(0, len(rest)))
    new = continuation(way, whole[:cut], rest[:at] + data.draw(st.sampled_from(["", quotation])) + rest[at:])
    at_once = read(whole[:cut], style, [new], hit_limit=hit_limit, is_certain=is_certain)
    in_parts = read(whole[:cut], style, split(new, lengths), hit_limit=hit_limit, is_certain=is_certain)
    assert in_parts.whole == at_once.whole
    shown, join = at_once
    if join.refusal is not None:
        assert shown == ""
    elif join.leak is not None:
        assert new.startswith(join.trimmed + put_back(join, shown))
    else:
        assert join.trimmed + put_back(join, shown) == new


@given(tales(14), st.data(), pieces)
def test_a_text_that_repeats_nothing_is_refused_unseen(whole: str, data: st.DataObject, size: int) -> None:
    delivered = cut_where(data, whole, lambda text: len(text.split()) > 3 and not text[-1].isspace())
    rest = whole[len(delivered) :]
    assume(rest.strip())
    shown, join = read(delivered, "anchored", sized(rest, size))
    assert (shown, join.refusal, join.proof) == ("", "it begins with none of the delivered words", None)
    assert join.proof is None


@given(tales(30), st.data(), pieces)
def test_a_second_answer_that_agrees_for_a_while_is_a_restart_that_failed(
    whole: str, data: st.DataObject, size: int
) -> None:
    delivered = cut_where(data, whole, lambda text: len(text.split()) > 12)
    kept = " ".join(delivered.split(" ")[: data.draw(st.integers(5, 10))])
    assume(kept != delivered and proves(kept))
    shown, join = read(delivered, "anchored", sized(kept + " or quite otherwise: nobody knew.", size))
    assert (shown, join.refusal) == ("", "it began the answer again and left it")


@pytest.mark.parametrize(
    ("delivered", "sent", "proof"),
    [
        ("One two three four five six seven", "One two three four five six seven eight", "the anchor: 7 words"),
        ("It ends. One two three four fi", "One two three four five", "the last words: 5 words"),
        ("这种文字在词与词之间没有任何空格", "这种文字在词与词之间没有任何空格。", "the anchor: 16 characters"),
        ("\n\n", "Hello", "a new answer"),
    ],
)
def test_the_proof_says_what_was_repeated(delivered: str, sent: str, proof: str) -> None:
    assert read(delivered, "anchored", [sent]).join.proof == proof


def test_an_open_turn_needs_no_proof() -> None:
    join = read("One two", "prefill", [" three"]).join
    assert (join.proof, join.refusal, join.is_watching) == ("an open turn", None, False)


# ── nothing new ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("delivered", "at_boundary", "inside", "whole"),
    [
        ("He came.", True, False, True),
        ("He came.”", True, False, True),
        ("(He came.)", True, False, True),
        ("他来了。", True, False, True),
        ("वह आया।", True, False, True),
        ("**Done!**", True, False, True),
        ("ภาษาไทยไม่มีช่องว่าง", False, False, True),
        ("He came", False, True, False),
        ("He came,", False, True, False),
        ("He came (", False, True, False),
        ("There were 14", False, True, False),
        ("This takes:\n", True, True, False),
        ("The fox (a mammal)", False, True, False),
        ("A line\n", True, False, True),
        ("He came.\n\n", True, False, False),
        ('{"a": 1}', False, False, True),
        ("```python\nx = f(1)\n```", False, False, True),
        ("```python\nx = f(1)\n", True, False, False),
        ("| a | b |", False, False, True),
    ],
)
def test_where_a_text_ends(delivered: str, at_boundary: bool, inside: bool, whole: bool) -> None:
    assert (is_at_boundary(delivered), is_inside_sentence(delivered), may_be_whole(delivered)) == (
        at_boundary,
        inside,
        whole,
    )


@given(tales(6), st.data(), pieces, st.booleans(), st.sampled_from(["anchor", "marks", "restart"]))
def test_an_answer_without_anything_new_completes_only_what_may_be_whole(
    text: str, data: st.DataObject, size: int, hit_limit: bool, way: str
) -> None:
    delivered = cut_where(data, text, lambda cut: len(cut.split()) > 4 and cut[-1].isalnum())
    delivered += data.draw(st.sampled_from(["", ".", ",", ".\n"]))
    sent = continuation(way, delivered, "")
    shown, join = read(delivered, "anchored", sized(sent, size), hit_limit=hit_limit)
    expected = None if "." in delivered[-2:] else "nothing new in the middle of a sentence"
    assert (shown, join.refusal) == ("", "nothing new, and the limit was reached" if hit_limit else expected)


@pytest.mark.parametrize(
    ("repeated", "refusal"),
    [
        ("time there was a small dog who liked to read", None),
        ("Once upon a time there was a small dog who liked to read", None),
        ("a small dog who liked to read", "nothing new in the middle of a sentence"),
    ],
)
def test_a_full_stop_after_words_that_were_not_asked_for_is_nothing_new(repeated: str, refusal: str | None) -> None:
    """After the anchor, or after the whole text, it may be all that was missing."""
    delivered = "Once upon a time there was a small dog who liked to read"
    assert read(delivered, "anchored", [repeated, "."]).join.refusal == refusal


# ── our marks and our wording ──────────────────────────────────────────────────────────────────────────────────────


@given(tales(14), st.data(), pieces, st.integers(2, 5), st.sampled_from(QUOTATIONS), st.booleans())
def test_our_wording_right_after_the_seam_is_refused_unseen(
    whole: str, data: st.DataObject, size: int, marks: int, quotation: str, in_marks: bool
) -> None:
    delivered = cut_where(data, whole, ends_in_a_word)
    sent = f"{'<' * marks}{anchor_of(delivered)}{'>' * marks}" if in_marks else anchor_of(delivered)
    assume("Repeat" not in quotation)
    shown, join = read(delivered, "anchored", sized(sent + quotation + whole[len(delivered) :], size))
    assert shown == "" and join.refusal is not None


@given(tales(14), st.data(), pieces, st.sampled_from(QUOTATIONS))
def test_our_wording_after_text_that_was_shown_ends_the_attempt(
    whole: str, data: st.DataObject, size: int, quotation: str
) -> None:
    delivered = cut_where(data, whole, lambda text: ends_in_a_word(text) and len(whole) - len(text) > 10)
    new = whole[len(delivered) :]
    shown, join = read(delivered, "anchored", sized(anchor_of(delivered) + new + "." + quotation + " more", size))
    assert join.refusal is None and join.leak == "it wrote a sentence of the request"
    assert shown == new + ("." if "Repeat" not in quotation else ".\n8. Repeat")
    assert "cut off" not in shown and "repeating" not in shown and "marks" not in shown and "comment" not in shown
    assert join.feed("anything") == ""


@given(
    tales(14),
    st.data(),
    pieces,
    st.sampled_from(["Do not comment on the interruption", "Begin by repeating exactly the"]),
)
def test_our_wording_that_a_token_limit_cuts_off_is_not_shown(
    whole: str, data: st.DataObject, size: int, sentence: str
) -> None:
    """Four words of a sentence are enough there, and the last may be cut. Without a limit they are the text's own."""
    delivered = cut_where(data, whole, lambda text: ends_in_a_word(text) and len(whole) - len(text) > 10)
    new, first = whole[len(delivered) :], len(" ".join(sentence.split(" ")[:3])) + 2
    quotation = sentence[: data.draw(st.integers(first, len(sentence) - 5))]
    sent = sized(anchor_of(delivered) + new + ".\n\n" + quotation, size)
    shown, join = read(delivered, "anchored", sent, hit_limit=True)
    assert (shown, join.leak) == (new + ".", "it wrote a sentence of the request")
    shown, join = read(delivered, "anchored", sent)
    assert (shown, join.leak) == (new + ".\n\n" + quotation, None)


@given(tales(14), st.data(), pieces, st.integers(3, 5), st.integers(2, 5))
def test_marks_that_are_closed_after_the_new_text_are_taken(
    whole: str, data: st.DataObject, size: int, opening: int, closing: int
) -> None:
    delivered = cut_where(data, whole, lambda text: ends_in_a_word(text) and len(whole) - len(text) > 10)
    new, end = whole[len(delivered) :], data.draw(st.sampled_from(["", " And more.", "\nMore."]))
    sent = "<" * opening + anchor_of(delivered) + new + ">" * closing + end
    shown, join = read(delivered, "anchored", sized(sent, size))
    assert (shown, join.refusal, join.leak) == (new + end, None, None)
    assert join.taken == [(len(new), ">" * closing)]


@given(tales(8), st.data(), pieces, st.sampled_from(["<<<{}>>>", "<<<{}\n", "<<{}>>"]))
def test_marks_that_are_opened_again_are_not_shown(whole: str, data: st.DataObject, size: int, again: str) -> None:
    delivered = cut_where(data, whole, ends_in_a_word)
    anchor = anchor_of(delivered)
    shown, join = read(delivered, "anchored", sized(f"<<<{anchor}>>> and more, {again.format(anchor)}", size))
    assert (shown, join.leak) == (" and more, ", "it wrote a mark of the request")
    sent = f"<<<{anchor}>>>\n<<<{anchor[1:]}>>> and more"
    shown, join = read(delivered, "anchored", sized(sent, size))
    assert shown == "" and join.refusal is not None


@pytest.mark.parametrize(
    ("sent", "refusal"),
    [
        (">>>\nThe dog read.", "it closes marks that it has not opened"),
        (">>", "it closes marks that it has not opened"),
        ("<|im_end|>\n<|im_start|>user", "it writes the marks of a chat template"),
        (" >> 1", None),
        (">>1", None),
    ],
)
def test_marks_after_a_seam_without_marks(sent: str, refusal: str | None) -> None:
    delivered = "Once upon a time there was a small dog who liked to read"
    for size in (1, 5, 200):
        result = read(delivered, "anchored", sized(anchor_of(delivered) + sent, size))
        assert result.join.refusal == refusal


@pytest.mark.parametrize(
    ("delivered", "sent", "refusal"),
    [
        (
            "8. Add the tea to the",
            "\n\nI will keep this in mind.",
            "it quoted the delivered words and began something else",
        ),
        ("8. Add the tea to the", "\n9. Pour it.", None),
        ("8. Add the tea to the pot.", "\n\nI will keep this in mind.", None),
        ("## About tea and the pot", "\n\nPour it.", None),
        ("```\nx = 1\ny = z", "\nZ = 3", None),
    ],
)
def test_a_new_paragraph_after_quoted_words_leaves_the_sentence(delivered: str, sent: str, refusal: str | None) -> None:
    for size in (1, 5, 200):
        result = read(delivered, "anchored", sized(f"<<<{anchor_of(delivered)}>>>{sent}", size))
        assert result.join.refusal == refusal


def test_the_words_of_another_prompt_are_known() -> None:
    join = Join("One two three four", "anchored", prompt="Bitte fahre genau hinter diesen Worten fort: {anchor}")
    assert join.feed("One two three four\nBitte fahre genau hinter diesen Worten fort: one") is not None
    assert join.refusal == "it quotes the request"


def test_wording_that_the_delivered_text_has_is_its_own() -> None:
    delivered = "The library asks: Begin by repeating exactly the words between the marks. Then it says"
    rest = ": Begin by repeating exactly the words between them."
    assert read(delivered, "anchored", [anchor_of(delivered) + rest]).shown == rest


@pytest.mark.parametrize(
    ("delivered", "rest"),
    [
        ("It is a std::vector<std::vector<int", ">>\nNext"),
        ("It is a std::map<int, std::list<std::list<int", ">>>"),
        ("Write this at the prompt >", ">>\nNext"),
        ("He read on >> and then once more", ">>\nNext"),
        ("The format has <|im_start|>user and hello", "<|im_end|>\nNext"),
        ("Then turn left, and", " go on from there to the end of your street."),
        ("Then turn left, and", " go straight on from there to the end of your street."),
    ],
)
def test_marks_and_words_that_are_the_texts_own_stay(delivered: str, rest: str) -> None:
    for size in (1, 5, 200):
        shown, join = read(delivered, "anchored", sized(anchor_of(delivered) + rest, size))
        assert (shown, join.refusal, join.leak) == (rest, None, None)


@given(st.integers(WATCH - 60, WATCH + 10), st.sampled_from(QUOTATIONS), splits)
def test_where_the_watch_ends_does_not_depend_on_the_split(length: int, quotation: str, lengths: list[int]) -> None:
    delivered = "One two three four"
    sent = delivered + (" five" * WATCH)[:length] + quotation + " six" * 30 + quotation
    assert read(delivered, "anchored", split(sent, lengths)).whole == read(delivered, "anchored", [sent]).whole


def test_the_watch_ends() -> None:
    join = Join("One two three four", "anchored", prompt=CONTINUE_PROMPT)
    assert (join.feed("One two three four"), join.is_decided) == ("", False)
    assert join.feed(" five" * (WATCH // 5)) == " five" * (WATCH // 5)
    assert (join.is_decided, join.is_watching) == (True, False)
    assert join.feed(" Your answer was cut off. the") == " Your answer was cut off. the"


def test_few_characters_are_held_back_while_the_join_watches() -> None:
    join = Join("One two three four", "anchored", prompt=CONTINUE_PROMPT)
    join.feed("One two three four five")
    fed = " the words that are between the others go straight on from there to the sea, where the end of it is"
    held = most = 0
    for character in fed:
        held += 1 - len(join.feed(character))
        most = max(most, held)
    assert most <= len("go straight on from there to the s") < HOLD


# ── what may be shown all the same ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("delivered", "sent", "may_show"),
    [
        ("It rained all day.", " The sun came out.", True),
        ("It rained all day\n", "The sun came out.", True),
        ("It rained all", "The sun came out.", False),
        ("It rained all day.", "<<<The sun>>> came out.", False),
        ("It rained all day.", "Your answer was cut off. Its last", False),
        ("It rained all day and all of the night.", "all day and all of the night.", False),
    ],
)
def test_an_unproven_text_may_be_shown_at_a_boundary(delivered: str, sent: str, may_show: bool) -> None:
    join = Join(delivered, "anchored", prompt=CONTINUE_PROMPT)
    assert join.trimmed + join.feed(sent) + join.close(True) in {sent, ""}
    assert join.refusal is not None and join.may_show is may_show


# ── a host that is not known to take prefill ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("delivered", "sent", "is_new"),
    [
        ("the colours seem to shift and shift", "A rainbow is formed when light passes", True),
        ("the colours seem to shift and", "Sure! Here is the rest of it", True),
        ("the colours seem to shift, and, well,", "The rainbow is formed when light", True),
        ("A rainbow is formed when light passes, and", "A rainbow is formed when rain falls", True),
        ("a rainbow is formed when light passes, and", "a rainbow is formed when rain falls", True),
        ("the colours seem to", "# Rainbows\n\nThey are", True),
        ("the colours seem to shift", "ed. A rainbow is formed", False),
        ("the colours seem to shift", " A rainbow is formed when", False),
        ("the colours seem to shift.", "A rainbow is formed when", False),
        ("She bought an i", "Phone and went home with it", False),
        ("It was old Mc", "Donald who had a farm there", False),
        ("The variable `user", "Name is set to the name of", False),
        ("It is written in C", "# and it runs everywhere.", False),
        ("```python\nis", "Empty and so on and so on", False),
    ],
)
def test_a_new_answer_in_the_middle_of_a_sentence_is_refused(delivered: str, sent: str, is_new: bool) -> None:
    for size in (1, 5, 200):
        shown, join = read(delivered, "prefill", sized(sent, size), is_certain=False)
        assert (join.refusal is not None, shown) == (is_new, "" if is_new else sent)
        assert read(delivered, "prefill", sized(sent, size)).shown == sent


@given(tales(14, 20), st.data(), pieces)
def test_a_restart_by_such_a_host_is_cut(whole: str, data: st.DataObject, size: int) -> None:
    delivered = cut_where(data, whole, lambda text: len(text.split()) > 5)
    shown, join = read(delivered, "prefill", sized(whole, size), is_certain=False)
    assert (delivered + shown, join.seam, join.refusal) == (whole, "restart", None)


@given(any_texts, st.data(), pieces)
def test_an_honest_host_is_not_refused_in_lower_case(whole: str, data: st.DataObject, size: int) -> None:
    whole = whole.lower()
    delivered = cut_where(data, whole, lambda text: bool(text.strip()) and not text[-1].isspace())
    rest = whole[len(delivered) :]
    shown, join = read(delivered, "prefill", sized(rest, size), is_certain=False)
    assert join.refusal is None and join.trimmed + shown == rest
