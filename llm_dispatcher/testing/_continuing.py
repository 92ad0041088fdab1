"""A vendor that goes on with an answer which another had begun, in each of the ways that models do."""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec.structs import replace

from ._received import ReceivedRequest
from ._script import Reply
from .faults import Written


class Kind(StrEnum):
    """How a model goes on."""

    ANCHOR = "anchor"
    """It repeats the words it was asked to repeat, and goes on."""
    QUOTED = "quoted"
    BOLD = "bold"
    EXACT = "exact"
    """It goes on without repeating anything."""
    RESTART = "restart"
    """It begins the whole answer again."""
    REMARK = "remark"
    """It says something first, then repeats the words and goes on."""
    LAST_WORDS = "last words"
    """It repeats only some of the words: enough of them to be recognised."""
    OTHER_SPACE = "other space"
    """It repeats the words with other white space between them."""


class Continuing(Written, frozen=True, tag="continuing"):
    """A script: the whole `text` for a request that begins, and the rest of it for one that goes on."""

    text: str
    kind: Kind = Kind.ANCHOR
    reply: Reply = Reply()

    def __call__(self, request: ReceivedRequest) -> Reply:
        delivered = delivered_in(request)
        text = self.text if delivered is None else self._rest(*delivered)
        return replace(self.reply, text=text, chunks=())

    def _rest(self, delivered: str, anchor: str | None) -> str:
        if not self.text.startswith(delivered):
            raise ValueError(f"asked to go on from {delivered[-40:]!r}, which is not in this script's text")
        rest = self.text.removeprefix(delivered)
        if anchor is None:
            # An open assistant turn: the model goes on writing. What was stripped of it is said again.
            return rest
        gap = delivered[len(delivered.rstrip()) :]
        match self.kind:
            case Kind.ANCHOR:
                return anchor + gap + rest
            case Kind.QUOTED:
                return f'"{anchor}"{gap}{rest}'
            case Kind.BOLD:
                return f"**{anchor}**{gap}{rest}"
            case Kind.EXACT:
                return rest
            case Kind.RESTART:
                return self.text
            case Kind.REMARK:
                return f"Sure, continuing:\n\n{anchor}{gap}{rest}"
            case Kind.LAST_WORDS:
                return anchor[max(0, len(anchor) - 30) :].lstrip() + gap + rest
            case Kind.OTHER_SPACE:
                return "\n".join(anchor.split()) + gap + rest


def delivered_in(request: ReceivedRequest) -> tuple[str, str | None] | None:
    """The text that a request asks to go on from, with the words it asks to repeat, if any; `None` if it begins."""
    turns = request.turns
    if turns and turns[-1].role == "assistant":
        return turns[-1].text, None
    if len(turns) >= 2 and turns[-2].role == "assistant":
        anchor = _quoted_end(turns[-2].text.rstrip(), turns[-1].text)
        if anchor is not None:
            return turns[-2].text, anchor
    return None


def _quoted_end(delivered: str, asked: str) -> str | None:
    """The most that stands between <<< and >>> and is the end of the text.

    The wording may well use the marks elsewhere, to speak of them, and so may the text itself.
    """
    starts = [found.end() for found in re.finditer(r"<<<", asked)]
    ends = [found.start() for found in re.finditer(r">>>", asked)]
    quoted = [asked[start:end].strip() for start in starts for end in ends if start < end]
    return max((each for each in quoted if each and delivered.endswith(each)), key=len, default=None)
