"""Where a text ends: inside a sentence, at a boundary, or where an answer may end."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import category, combining

_ENDS_A_SENTENCE: Final = frozenset(".!?…。！？．｡।॥؟۔։።᙮")
_CLOSES: Final = "\"'*_`)]”’»“‘」』）】"
"""Marks that may stand between the end of a sentence and the end of the text."""
_WITHOUT_FULL_STOPS: Final = re.compile(r"[\u0e00-\u0eff\u1780-\u17ff]")
"""Thai, Lao and Khmer. Their sentences end without a mark, so the end of a text does not show."""
_FENCE: Final = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
_OPEN: Final = frozenset(",;:-–—−/\\([{<=+&%$#@~^(「『（【“„«‘")
"""Marks after which more has to come."""


def is_at_boundary(text: str) -> bool:
    """Whether a text ends with a sentence or a line, so that another text may follow it."""
    core = text.rstrip()
    return not core or "\n" in text[len(core) :] or _last_mark(core) in _ENDS_A_SENTENCE


def is_inside_sentence(text: str) -> bool:
    """Whether a text ends inside a sentence: after a letter, a digit, a comma, an opening bracket or the like."""
    core = text.rstrip()
    if not core:
        return False
    if core[-1] in _OPEN:
        return True
    return "\n" not in text[len(core) :] and _is_part_of_a_sentence(core)


def may_be_whole(text: str) -> bool:
    """Whether an answer may end here. It does not end inside a sentence, in a block of code or before a paragraph."""
    is_before_a_paragraph = text[len(text.rstrip()) :].count("\n") >= 2
    return not (is_in_code(text) or is_before_a_paragraph or is_inside_sentence(text))


def last_line(text: str) -> str:
    """The last line of a text, without the white space around it."""
    return text.rstrip().rpartition("\n")[2].strip()


def is_in_code(text: str) -> bool:
    """Whether a text ends inside a block of code."""
    return len(_FENCE.findall(text)) % 2 == 1


def _last_mark(core: str) -> str:
    """The last character of a text, without the quotes and brackets that may close after a sentence."""
    return core.rstrip(_CLOSES)[-1:] or core[-1:]


def _is_part_of_a_sentence(core: str) -> bool:
    if core.endswith(("```", "~~~")):
        return False
    if core.startswith(("{", "[")) and core.endswith(("}", "]")):
        return False  # an object or a list, which may be the whole answer
    last = _last_mark(core)
    if last in _OPEN:
        return True
    return (last.isalnum() or bool(combining(last)) or category(last) in {"Mn", "Mc"}) and not (
        _WITHOUT_FULL_STOPS.match(last)
    )
