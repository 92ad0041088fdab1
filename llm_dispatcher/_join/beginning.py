"""What the first new text of a continuation gives away: that the model did something else than continue.

Each function returns the reason why the text cannot be shown, an empty string if it can, or `None` while more of the
text has to come.
"""

from __future__ import annotations

import re
from typing import Final

from .boundary import is_in_code, is_inside_sentence, last_line, may_be_whole

QUOTES_THE_REQUEST: Final = "it quotes the request"
BEGAN_AGAIN: Final = "it began the answer again and left it"
NOTHING_DELIVERED: Final = "it begins with none of the delivered words"
NOTHING_NEW_AT_LIMIT: Final = "nothing new, and the limit was reached"
NOTHING_NEW_INSIDE: Final = "nothing new in the middle of a sentence"
NOTHING_NEW_BEFORE_END: Final = "nothing new, and the text was not at its end"
QUOTED_ONLY: Final = "it quoted the delivered words and began something else"
CLOSES_NOTHING: Final = "it closes marks that it has not opened"
TEMPLATE: Final = "it writes the marks of a chat template"
NEW_ANSWER: Final = "it began a new answer"

_A_STOP: Final = re.compile(r"\s*[^\w\s]{0,2}\s*")
_CLOSING: Final = re.compile(r">{2,}")
_TEMPLATE_MARKS: Final = (
    "<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>", "<end_of_turn>", "</s>",
)  # fmt: skip
_NEW_PARAGRAPH: Final = re.compile(r"[^\S\n]*\n\s*")
_SENTENCE: Final = re.compile(r"(?:[A-Z][a-z]+|I|A)(?:'[a-z]+)?,? [a-z\[(*]")
"""The beginning of a sentence. `McDonald was` and `userName is` are told apart by the letters before it."""
_REMARK: Final = re.compile(
    r"(?:Sure|Certainly|Of course|Absolutely|Here(?:'s|’s| is| are)|I(?:'m|’m| am) (?:sorry|happy|glad)|I apologi[sz]e|"
    r"Apologies|Sorry|Continuing|Understood)\b"
)
_HEADING: Final = re.compile(r"#{1,6} [A-Z]|\d{1,2}\. [A-Z]|```")
_MAY_BEGIN_ANSWER: Final = re.compile(r"[A-Z#`<\d]")
_LAST_WORD: Final = re.compile(r"(?<![^\s(\"“])[^\W\d_]+(?:['’-][^\W\d_]+)*,?\Z")
"""The word with which a text ends, if it is an ordinary one. `user_na` and `x.na` are names in code."""
_SHORT_WORDS: Final = frozenset(
    ("a", "an", "as", "at", "be", "by", "he", "if", "in", "is", "it", "my", "no", "of", "on", "or", "so", "to", "we")
)
"""Words of two letters after which a capital begins no second half: `iPhone` and `eBay` are one word."""
_FIRST_LOOK: Final = 24
"""A remark, a heading or the beginning of a sentence shows within this many characters."""


def nothing_new(delivered: str, hit_limit: bool) -> str:
    """The reason why an answer that brought nothing new does not complete the delivered text, if there is one."""
    if hit_limit:
        return NOTHING_NEW_AT_LIMIT
    if is_inside_sentence(delivered):
        return NOTHING_NEW_INSIDE
    return "" if may_be_whole(delivered) else NOTHING_NEW_BEFORE_END


def only_ends_the_sentence(rest: str, ended: bool) -> bool | None:
    """Whether the only new text is one mark or two, such as a full stop; `None` while more may come."""
    if not _A_STOP.fullmatch(rest):
        return False
    return True if ended else None


def of_an_anchored_answer(
    delivered: str, rest: str, *, is_glued: bool, opened: bool, closed: bool, ended: bool
) -> str | None:
    """What the first text after a proven seam gives away.

    Args:
        delivered: The delivered text.
        rest: The text after the repetition and the marks that close it.
        is_glued: Whether it follows the repetition without white space.
        opened: Whether our marks stood before the repetition.
        closed: Whether marks that close them stood after it.
        ended: Whether no more text will come.
    """
    reasons = [
        _closes_nothing(delivered, rest, ended) if is_glued and not opened else "",
        _writes_a_template(delivered, rest, ended),
        _only_quoted(delivered, rest, ended) if opened and closed else "",
    ]
    return next((reason for reason in reasons if reason), None if None in reasons else "")


def _closes_nothing(delivered: str, rest: str, ended: bool) -> str | None:
    """A run of `>` right after the repetition, before a line break, closes marks. Code may close its own there."""
    closing = _CLOSING.match(rest)
    line = last_line(delivered)
    if closing is None:
        return None if rest in {"", ">"} and not ended else ""
    if line.count("<") > line.count(">") or line.endswith(">") or ">>" in delivered:
        return ""
    after = rest[closing.end() :]
    if not after.strip(" ") and not ended:
        return None
    return CLOSES_NOTHING if not after.strip(" ") or after.lstrip(" ")[0] in "\n<" else ""


def _writes_a_template(delivered: str, rest: str, ended: bool) -> str | None:
    if any(rest.startswith(mark) for mark in _TEMPLATE_MARKS) and "<|" not in delivered:
        return TEMPLATE
    return None if not ended and any(mark.startswith(rest) for mark in _TEMPLATE_MARKS) else ""


def _only_quoted(delivered: str, rest: str, ended: bool) -> str | None:
    """The model quoted the words in our marks, and then began a paragraph in the middle of the sentence."""
    if delivered[-1:].isspace() or not is_inside_sentence(delivered) or is_in_code(delivered):
        return ""
    if last_line(delivered).startswith("#"):
        return ""
    paragraph = _NEW_PARAGRAPH.match(rest)
    if paragraph is None:
        return None if not rest.strip() and not ended else ""
    if paragraph.end() == len(rest):
        return "" if ended else None
    return QUOTED_ONLY if rest[paragraph.end()].isupper() else ""


def of_an_uncertain_prefill(delivered: str, text: str, *, began_again: bool, ended: bool) -> str | None:
    """Whether a host that is not known to take prefill has begun a new answer.

    It shows only where the delivered text ends inside a sentence and the new text is glued to its last word.

    Args:
        delivered: The delivered text.
        text: The first text of the continuation.
        began_again: Whether that begins as the delivered text does, and parts from it.
        ended: Whether no more text will come.
    """
    word = _LAST_WORD.search(delivered)
    if word is None or is_in_code(delivered):
        return ""
    if began_again:
        return NEW_ANSWER
    if len(text) < _FIRST_LOOK and not ended:
        return None if not text or _MAY_BEGIN_ANSWER.match(text) else ""
    if text.startswith(_TEMPLATE_MARKS) and "<|" not in delivered:
        return TEMPLATE
    last = word.group().rstrip(",")
    is_whole = len(last) > 2 or last in _SHORT_WORDS
    if _REMARK.match(text) or (_HEADING.match(text) and is_whole):
        return NEW_ANSWER
    may_be_part = not (last.islower() and is_whole) and not word.group().endswith(",")
    return NEW_ANSWER if _SENTENCE.match(text) and not may_be_part else ""
