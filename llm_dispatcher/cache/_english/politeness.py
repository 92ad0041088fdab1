"""Removing greetings, thanks and `please` at the edges of a text, if they are not the subject of the text."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from .vocabulary import HANGING, LANGUAGES, OF_A_TEXT, ORDERS, ORDERS_TO_ASSISTANTS, QUESTIONS

ENDS: Final = frozenset(".?!")
"""The marks that end a sentence."""
_GREETINGS: Final = tuple(
    tuple(words.split())
    for words in (
        "hi", "hello", "hey", "hi there", "hello there", "hey there", "good morning", "good afternoon", "good evening",
        "greetings", "i have a question", "i have a quick question", "quick question",
    )
)  # fmt: skip
_THANKS: Final = tuple(
    tuple(words.split())
    for words in (
        "thanks in advance", "thank you in advance", "thank you very much", "thank you so much", "thanks so much",
        "thanks a lot", "many thanks", "thank you", "thanks", "thx", "cheers", "please",
    )
)  # fmt: skip
_AFTER_A_BARE_GREETING: Final = frozenset(
    {"what", "how", "why", "when", "where", "which", "who", "can", "could", "please", "i"}
)


def without_politeness(tokens: list[str]) -> list[str]:
    """Remove greetings, thanks and `please`, if the remaining text is clearly a question or an order.

    They stay where the text may be about them: how to say `thanks`, or what to translate.
    """
    while (cut := _opening(tokens)) > 0:
        tokens = tokens[cut:]
    return _without_thanks(tokens)


def _opening(tokens: list[str]) -> int:
    """The number of tokens at the beginning that are only polite."""
    small = [token.lower() for token in tokens[:6]]
    for greeting in _GREETINGS:
        if tuple(small[: len(greeting)]) == greeting:
            cut = len(greeting)
            while cut < len(tokens) and tokens[cut] in {",", ".", "!", ":", "-"}:
                cut += 1
            if cut == len(greeting) and first_word(tokens[cut:]) not in _AFTER_A_BARE_GREETING:
                continue  # `hello is a greeting in …`
            if _is_request(tokens[cut:], kind=True):
                return cut
    if small[:1] == ["please"] or small[:1] == ["kindly"]:
        return 1 if _is_request(tokens[1:]) else 0
    if len(small) > 3 and small[0] in {"can", "could", "would", "will"} and small[1] == "you":
        if small[2] in {"please", "kindly"}:
            return 3 if small[3] in ORDERS else 0
        if small[2] in ORDERS_TO_ASSISTANTS and not {"you", "your", "yourself"} & set(tokens[2:]):
            return 2
    return 0


def _is_request(tokens: list[str], kind: bool = False) -> bool:
    if len(tokens) < 2:
        return False
    first = first_word(tokens)
    begins = first in QUESTIONS or first in ORDERS or (kind and first in {"please", "kindly", "i", "my"})
    return begins and not quotes(tokens[1:])


def quotes(tokens: list[str]) -> bool:
    """Whether the words may be quoted: as something to say or to translate, or for how it is said in French."""
    small = [token.lower() for token in tokens]
    if any(token in OF_A_TEXT for token in small):
        return True
    return any(word in {"in", "into", "to"} and after in LANGUAGES for word, after in pairwise(small))


def first_word(tokens: list[str]) -> str:
    """The first word in small letters, up to an apostrophe; "" if there is none."""
    return tokens[0].lower().partition("'")[0] if tokens else ""


def _without_thanks(tokens: list[str]) -> list[str]:
    end = len(tokens)
    while end and tokens[end - 1] in ENDS:
        end -= 1
    small = [token.lower() for token in tokens[max(0, end - 5) : end]]
    for thanks in _THANKS:
        rest = tokens[: end - len(thanks)]
        if tuple(small[-len(thanks) :]) != thanks or len(rest) < 3:
            continue
        apart = rest[-1] in ENDS
        if rest.count(",") > 1:
            return tokens  # it may be the last item of a list
        if ":" in rest or not (apart or rest[-1] == "," or thanks == ("please",)):
            return tokens
        if quotes(rest) and not (rest[-1] == "?" and first_word(rest) in QUESTIONS):
            return tokens
        if not apart and rest[-1].lower() in HANGING:
            return tokens
        return _without_thanks(rest[:-1] if rest[-1] == "," else rest)
    return tokens
