"""The canonical form of a text. Two texts with the same canonical form ask the same thing.

It normalises what depends only on the manner of typing: Unicode composition (NFC, never NFKC), white space, greetings
and thanks at the edges, contractions, the last punctuation, and capitals that only mark the beginning of a sentence or
a name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from msgspec import Struct

from .lexicon import lexicon
from .politeness import ENDS, first_word, quotes, without_politeness
from .vocabulary import FUNCTION, I_AFTER, I_BEFORE, NAMES_TOO, OF_A_TEXT, ORDERS, QUESTIONS, TYPED_SMALL

_LOOKALIKES: Final = str.maketrans(
    {
        **dict.fromkeys("\ufeff\u200b\u2060\u00ad"),  # invisible
        **dict.fromkeys("\u2018\u2019\u02bc", "'"),
        **dict.fromkeys("\u201c\u201d\u201e", '"'),
        **dict.fromkeys("\u2010\u2011", "-"),
        "\u2026": "...",
    }
)
_CHUNK: Final = re.compile(r'"[^"]*"|[^\s"]+|"')
_OPENING: Final = "(['"
_CLOSING: Final = ".,;:!?)]'"
_WORD: Final = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*")
_MARK: Final = re.compile(r"\.+|.", re.DOTALL)
_NOT: Final = "is are was were do does did has have had would could should"
_CONTRACTED: Final[dict[str, tuple[str, ...]]] = {
    **{f"{verb}n't": (verb, "not") for verb in (*_NOT.split(), "might", "must", "need")},
    **{f"{verb}nt": (verb, "not") for verb in _NOT.split()},
    **{f"{who}'re": (who, "are") for who in ("you", "we", "they", "what", "who")},
    **{f"{who}'ve": (who, "have") for who in ("i", "you", "we", "they", "should", "could", "would", "might")},
    **{f"{who}'ll": (who, "will") for who in ("i", "you", "he", "she", "it", "we", "they", "that", "there", "who")},
    "can't": ("can", "not"),
    "cannot": ("can", "not"),
    "won't": ("will", "not"),
    "shan't": ("shall", "not"),
    "youre": ("you", "are"),
    "theyre": ("they", "are"),
    "ive": ("i", "have"),
    "i'm": ("i", "am"),
    "im": ("i", "am"),
    "let's": ("let", "us"),
}
_IS: Final = frozenset({"what", "who", "where", "when", "why", "how", "that", "it", "he", "she", "there", "here"})
_NOT_IS: Final = frozenset({"its", "hes", "shes", "heres"})
_RUN_TOGETHER: Final = _CONTRACTED.keys() | {f"{word}s" for word in _IS} - _NOT_IS
_PARTICIPLES: Final = frozenset({"been", "got", "gone", "become", "done", "had", "made", "taken", "come", "fallen"})
"""Before these words, `what's` means `what has`."""


_OPENERS: Final = QUESTIONS | ORDERS | FUNCTION


class Token(Struct, frozen=True, gc=False):
    """A word, a punctuation mark, or any other text between spaces.

    `plain` means that it is written like an everyday word: in small letters, or with a capital at the beginning of a
    sentence.
    """

    text: str
    plain: bool


def canonical(text: str) -> tuple[Token, ...]:
    """The tokens of a text in canonical form. If it is not English, only white space and typography are normalised."""
    tokens = _tokens(unicodedata.normalize("NFC", text).translate(_LOOKALIKES))
    small = [token.lower() for token in tokens] if _shouted(tokens) else [token for token in tokens if token.islower()]
    if not reads_as_english([*small, *(token.lower() for token in tokens[:1])], glue=1):
        return tuple(Token(token, False) for token in tokens)
    return _without_end(_expanded(_cased(without_politeness(tokens))))


def reads_as_english(small: Sequence[str], glue: int) -> bool:
    """Whether at least three quarters of the words are English, and at least `glue` of them are function words."""
    words = lexicon()
    plain = [word for word in small if word.isalpha()]
    english = sum(words.lists(word) for word in plain)
    return english >= 0.75 * len(plain) and sum(word in FUNCTION for word in plain) >= glue


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    for chunk in _CHUNK.findall(text) if '"' in text else text.split():
        if chunk.isalpha() or chunk[0] == '"':
            tokens.append(chunk)
            continue
        inner = chunk.lstrip(_OPENING)
        core = inner.rstrip(_CLOSING)
        after = inner[len(core) :]
        if after[:1] == "!" and core and not (core[-1].isalpha() and len(core) > 1):
            core, after = core + "!", after[1:]  # a factorial
        tokens += chunk[: len(chunk) - len(inner)]
        if core:
            tokens.append(core)
        if after:
            tokens += _MARK.findall(after)
    return tokens


def _without_end(tokens: list[Token]) -> tuple[Token, ...]:
    """Remove the last punctuation: all of it after a question or an order, otherwise only full stops."""
    words = [token.text for token in tokens[:1]]
    first = first_word(words)
    if any(token.text == ":" for token in tokens) or (first in OF_A_TEXT and first not in {"summarize", "summarise"}):
        return tuple(tokens)
    ends = "?!." if first in QUESTIONS or first in ORDERS else "."
    end = len(tokens)
    while end > 1 and tokens[end - 1].text.strip(ends) == "":
        end -= 1
    if end < len(tokens) and tokens[end].text == "!" and not tokens[end - 1].text.isalpha():
        return tuple(tokens)  # a factorial
    return tuple(tokens[:end])


# ── capitals and contractions ──────────────────────────────────────────────────────────────────────────────────────


def _cased(tokens: list[str]) -> list[Token]:
    if _shouted(tokens):
        return [Token(token.lower(), True) if _WORD.fullmatch(token) else Token(token, False) for token in tokens]
    cased: list[Token] = []
    begins = True
    for place, token in enumerate(tokens):
        if token.isascii() and token.isalpha() and token.islower():
            cased.append(Token(token, True))
        elif _WORD.fullmatch(token):
            after = tokens[place + 1] if place + 1 < len(tokens) else ""
            before = tokens[place - 1] if place else ""
            cased.append(_word(token, begins, before, after))
        else:
            cased.append(Token(token, False))
        begins = token in ENDS
    return cased


def _word(word: str, begins: bool, before: str, after: str) -> Token:
    small = word.lower()
    if small == word:
        return Token(word, True)
    if word == "I":
        pronoun = (begins and after.islower()) or before.lower() in I_BEFORE or after in I_AFTER
        return Token("i" if pronoun else word, pronoun)
    if word.startswith("I'"):
        return Token(small, True)
    if len(word) == 1:
        article = word == "A" and begins and after.isalpha() and after.islower()
        return Token("a" if article else word, article)
    if begins and word[1:].islower() and not _is_a_name_too(small):
        return Token(small, True)
    if _keeps_capitals(word, small):
        return Token(word, False)
    return Token(small, False)


def _keeps_capitals(word: str, small: str) -> bool:
    """Whether the capitals change the meaning, as in `Turkey`, `Java`, `IT` and `mA`.

    They do not in `Norway` and `SQL`, which mean the same in small letters.
    """
    if len(word) < 3 or not (word[0].isupper() and (word[1:].islower() or word.isupper() or len(word) > 4)):
        return True
    parts = {small, small.removesuffix("'s"), *small.split("-")} - TYPED_SMALL
    return any(part in NAMES_TOO or lexicon().writes_small(part) for part in parts)


def _is_a_name_too(small: str) -> bool:
    return small in NAMES_TOO or (lexicon().is_a_name_too(small) and small not in _OPENERS)


def _shouted(tokens: list[str]) -> bool:
    words = [token for token in tokens if token.isalpha()]
    return len(words) > 2 and all(word.isupper() for word in words) and any(len(word) > 3 for word in words)


def _expanded(tokens: list[Token]) -> list[Token]:
    """Expand contractions, except in a sentence that quotes text, and after a colon, where quoted text may begin."""
    if not any("'" in token.text or token.text in _RUN_TOGETHER for token in tokens):
        return tokens
    expanded: list[Token] = []
    verbatim = quoting = False
    for place, token in enumerate(tokens):
        word = token.text
        if place == 0 or (tokens[place - 1].text in ENDS and not verbatim):
            sentence = [each.text for each in takewhile(lambda each: each.text not in ENDS, tokens[place:])]
            quoting = quotes(sentence)
        verbatim = verbatim or word == ":"
        if verbatim or quoting or not token.plain or (word not in _CONTRACTED and word[-1] != "s"):
            expanded.append(token)
            continue
        words = _CONTRACTED.get(word)
        stem = word.removesuffix("s").removesuffix("'")
        if stem in _IS and word not in _NOT_IS:
            after = tokens[place + 1].text if place + 1 < len(tokens) else ""
            words = (stem, "is") if after and not (after.endswith("ed") or after in _PARTICIPLES) else None
        expanded += [Token(part, True) for part in words] if words else [token]
    return expanded
