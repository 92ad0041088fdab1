"""`Continuing`: a script that continues an answer which another vendor has begun, in the ways of real models."""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec.structs import replace

from ._received import ReceivedRequest
from ._script import Reply
from .faults import ScriptPart


class Kind(StrEnum):
    """How a model continues."""

    ANCHOR = "anchor"
    """It repeats the words that the request asks for, and continues."""
    QUOTED = "quoted"
    BOLD = "bold"
    EXACT = "exact"
    """It continues without repeating anything."""
    RESTART = "restart"
    """It begins the whole answer again."""
    REMARK = "remark"
    """It begins with a remark, then repeats the words and continues."""
    LAST_WORDS = "last words"
    """It repeats only some of the words, but enough to be recognised."""
    OTHER_SPACE = "other space"
    """It repeats the words with other white space between them."""


class Continuing(ScriptPart, frozen=True, tag="continuing"):
    """A script that answers a new request with the whole `text`, and a continuation with the rest of it."""

    text: str
    kind: Kind = Kind.ANCHOR
    reply: Reply = Reply()

    def __call__(self, request: ReceivedRequest) -> Reply:
        delivered = delivered_in(request)
        text = self.text if delivered is None else self._rest(*delivered)
        return replace(self.reply, text=text, chunks=())

    def _rest(self, delivered: str, anchor: str | None) -> str:
        if not self.text.startswith(delivered):
            raise ValueError(f"the request continues {delivered[-40:]!r}, which is not in this script's text")
        rest = self.text.removeprefix(delivered)
        if anchor is None:
            # An open assistant turn: the model goes on writing, and repeats white space that was stripped.
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
    """The text that a request continues, and the words that it asks to repeat, if any; `None` for a new request."""
    turns = request.turns
    if turns and turns[-1].role == "assistant":
        return turns[-1].text, None
    if len(turns) >= 2 and turns[-2].role == "assistant":
        anchor = _quoted_end(turns[-2].text.rstrip(), turns[-1].text)
        if anchor is not None:
            return turns[-2].text, anchor
    return None


def _quoted_end(delivered: str, prompt: str) -> str | None:
    """The longest end of the text that the prompt has between <<< and >>>.

    The prompt may have these marks in other places, and so may the text.
    """
    starts = [match.end() for match in re.finditer(r"<<<", prompt)]
    ends = [match.start() for match in re.finditer(r">>>", prompt)]
    quoted = [prompt[start:end].strip() for start in starts for end in ends if start < end]
    return max((each for each in quoted if each and delivered.endswith(each)), key=len, default=None)
