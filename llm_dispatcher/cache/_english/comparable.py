"""Which texts may be compared with others. Code, lists and spelling tasks may not: a single character changes them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from .vocabulary import OF_A_TEXT, OF_THE_SURFACE, PERHAPS_OF_THE_SURFACE

LONGEST: Final = 2000
"""Longer texts, in characters, are compared for equality only: a judgement would be slow, and an error expensive."""

_INDENTED: Final = re.compile(r"\n[ \t]+\S|\n\s*(?:[-*+•>|#]|\d+[.)])\s|\t")
_VERSES: Final = re.compile(r"[^\s.!?:;,][ \t]*\n+(?=\S)")
_TURNS: Final = re.compile(r"(?im)^(?:user|assistant|system|human|ai|q|a)\s*:")
_QUOTED: Final = re.compile(r"(?:^|\s)['\u2018][^'\u2018\u2019]+['\u2019](?=[\s.,:;?!]|$)")
_UNUSUAL: Final = re.compile(r"[`{}\\$^~;=!<>+\-*/%&|:\[\]()@?]")
_CODE: Final = re.compile(
    r"""`|[{}\\$^~]\w|\w[{}\\^~]|[{};]\s*(?:\n|$)                          # marks that prose does not use
    |[=!<>+\-*/%&|^]=|=>|->|<-|::|&&|\|\||\+\+\w|\w\+\+(?!\s|[.,?!]|$)|<[/!a-zA-Z]     # operators and tags
    |\w\(\w*\)|\w\[\w*\]|(?:^|\s)[!&*~@%][A-Za-z_]|\w\s?[=<>|]\s?[\w"'(\[-]|\s[?:|&*=<>^/\\+]\s+\S
    |\b(?:def|class|const|let|var|func|import|from|return|SELECT|INSERT|UPDATE|DELETE)\s+\S+\s*[(=:;{*]""",
    re.VERBOSE,
)
_PHRASES: Final = re.compile(
    r"""\b(?:(?:upper|lower|title|camel|snake)[ -]case|capital\sletters?|(?:all|small|block)\scaps|past\stense
    |how\smany\s(?:words|times|lines|sentences|spaces)|proof-read(?:ing)?
    |(?:complete|finish|continue|correct|fix|edit|diagram)\s(?:the|this|my|these)
    |(?:reverse|repeat|sort|split|join|concatenate|format|indent)\s(?:the|this|these|my|order|string|words?|text)
    |(?:correct|fix|check|edit|improve|review|grade|mark|score|rate|evaluate|language)\b[^:]{0,60}(?=:)
    |(?:errors?|mistakes?|wrong|improve\smy|my\s(?:english|text))\b[^:]{0,60}(?=:)|my\s(?:writing|english)
    |format\s?(?=:)|which\sis\s(?:correct|right)|what\smistakes?|wrong\swith\s(?:this|the|my)\s(?:sentence|text|phrase)
    |(?:british|american|uk|us)\senglish|article\s(?:the|an?)|(?:the|a|this)\sletter\s\w
    |(?:the|these|this|which)\swords?)\b""",
    re.VERBOSE,
)
_WORDS: Final = re.compile(r"[a-z0-9]+")


def exact_only(text: str) -> str | None:
    """Why this text is compared for equality only: `long`, `layout`, `code` or `surface`. `None` if it is not."""
    if len(text) > LONGEST:
        return "long"
    if "\n" in text or "\t" in text:
        inner = text.strip()
        if _INDENTED.search(inner) or len(_VERSES.findall(inner)) > 2:
            return "layout"
    if ":" in text and _TURNS.search(text):
        return "layout"
    if _UNUSUAL.search(text) and _CODE.search(text):
        return "code"
    small = text.lower()
    words = set(_WORDS.findall(small))
    if words & OF_THE_SURFACE or (words & PERHAPS_OF_THE_SURFACE and _PHRASES.search(small)) or _QUOTED.search(text):
        return "surface"
    return None


@lru_cache(maxsize=256)
def asks_to_process_text(instruction: str) -> bool:
    """Whether an instruction, such as a system prompt, asks to process the text that follows: to translate, correct or
    classify it.
    """
    words = set(_WORDS.findall(instruction.lower()))
    return bool(words & OF_THE_SURFACE or words & OF_A_TEXT or words & {"summary", "edit", "editor", "translator"})
