"""The join filter: where a continuation meets the text that the reader already has.

A model that is asked to go on may repeat the last words it was shown, or only some of them, or begin the whole answer
again, or comment first. The head of its text is held back until the seam is found; what was delivered before is then
cut off the head, and nothing else is ever changed. Texts are compared in a normal form (white space, quotes, dashes,
decomposed characters), but what comes out is always, to the letter, an end of what came in.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal, TypeAlias

from .events import Seam

Style: TypeAlias = Literal["prefill", "anchored"]

ANCHOR_WORDS: Final = 10
ANCHOR_CHARACTERS: Final = 120
UNSPACED_ANCHOR: Final = 40
"""Of text without spaces, this many characters are quoted."""
LEAST_CHARACTERS: Final = 16
LEAST_WORDS: Final = 3
"""Less than this is no proof of repetition: "ha ha ha" may well go on."""
PREAMBLE: Final = 120
HOLD: Final = 600
TAIL: Final = 2_000
LOOKED_AT: Final = TAIL + HOLD

_ALIKE: Final = str.maketrans(
    {**dict.fromkeys("“”„‟«»", '"'), **dict.fromkeys("‘’‚‛", "'"), **dict.fromkeys("‐‑‒–—−", "-"), "…": "..."}
)
_WORD: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")
_DECORATION: Final = re.compile(r"(?:```\w*|[\s\"'*_`>.<#-])*")
_CLOSING: Final = {"<": ">", "“": "”", "„": "“", "«": "»", "‘": "’"}


def anchor_of(delivered: str) -> str:
    """The last words of a text: what a model is asked to repeat, so that the seam can be proven. Empty if blank."""
    core = delivered.rstrip()
    words = [word.start() for word in re.finditer(r"\S+", core[-ANCHOR_CHARACTERS:])]
    if len(core) > ANCHOR_CHARACTERS and words and not core[-ANCHOR_CHARACTERS - 1].isspace() and words[0] == 0:
        words.pop(0)  # it may be the end of a word only
    first = words[-ANCHOR_WORDS:][0] if words else ANCHOR_CHARACTERS - UNSPACED_ANCHOR
    anchor = core[-ANCHOR_CHARACTERS:][first:]
    while anchor and unicodedata.combining(anchor[0]):
        anchor = anchor[1:]
    return anchor


class Join:
    """Fed with the pieces of a continuation, says which text may be emitted.

    `seam` is how the texts met and `trimmed` what was cut off the head: all that was fed is always `trimmed` and then
    what was emitted. Once `decided`, everything passes.
    """

    def __init__(self, delivered: str, style: Style, *, anchor: str | None = None, hold: int = HOLD) -> None:
        core = delivered.rstrip()
        self._space = delivered[len(core) :]
        self._style = style
        self._hold = hold
        self._whole = _normal(core).lstrip(" ")
        self._anchor = _normal(anchor_of(delivered) if anchor is None else anchor.strip())
        self._head = _Head()
        self._restarting = _is_proof(self._whole)
        self._compared = 0
        self._anchoring = self._overlapping = style == "anchored" and bool(self._anchor)
        self.seam: Seam | None = None
        self.trimmed = ""

    @property
    def decided(self) -> bool:
        return self.seam is not None

    def feed(self, text: str) -> str:
        """What may be emitted now that this has come."""
        if self.seam is not None:
            return text
        self._head.feed(text)
        return self._look(ended=False)

    def close(self) -> str:
        """Decide with what there is: the stream has ended, or has been held for long enough."""
        return "" if self.seam is not None else self._look(ended=True)

    def _look(self, ended: bool) -> str:
        """Try the readings in the order of their strength; one that may still come true holds up the weaker ones."""
        full = ended or self._head.length >= self._hold
        if self._anchoring:
            at = self._anchor_at_start()
            if at is not None:
                return self._cut("anchor", at, ended)
            self._anchoring = self._anchor_may_come()
            if self._anchoring and not full:
                return ""
        complete = self._restart() if self._restarting else None
        if complete is not None:
            return self._cut("restart", (0, complete), ended)
        if self._restarting and not ended:
            return ""
        if self._restarting and _is_proof(self._head.normal):
            return self._emit("restart", self._head.length)  # it ended before it came to anything new
        if self._overlapping:
            if not full and self._head.normal.lstrip(" ") in self._whole[-TAIL:]:
                return ""
            self._overlapping = False
            end = self._overlap()
            if end is not None:
                return self._cut("overlap", (0, end), ended)
        if self._style == "anchored" and self._anchor:
            at = self._anchor_after_preamble()
            if at is not None:
                return self._cut("anchor", at, ended)
            if not full and self._preamble_may_come():
                return ""
        if self._space and (self._style == "prefill" or not self._whole):
            # The request had to end without this white space, or without a word to go on from: so it is said again.
            return self._cut("plain", (0, 0), ended)
        return self._emit("plain", 0)

    # ── the readings ───────────────────────────────────────────────────────────────────────────────────────────────

    def _anchor_at_start(self) -> tuple[int, int] | None:
        """Where the anchor is in the head, if nothing but decoration is before it."""
        normal = self._head.normal
        decoration = _DECORATION.match(normal)
        latest = decoration.end() if decoration else 0
        start = normal.find(self._anchor, 0, latest + len(self._anchor))
        return (start, start + len(self._anchor)) if start >= 0 else None

    def _anchor_may_come(self) -> bool:
        normal = self._head.normal
        decoration = _DECORATION.match(normal)
        latest = decoration.end() if decoration else 0
        return any(self._anchor.startswith(normal[start:]) for start in range(latest + 1))

    def _restart(self) -> int | None:
        """Where the head has said all of the text again; each character is compared once."""
        while self._compared < len(self._whole):
            new = self._head.normal_from(self._compared)
            if not new:
                return None
            here = self._whole[self._compared : self._compared + len(new)]
            if new[: len(here)] != here:
                self._restarting = False
                return None
            self._compared += len(here)
        return len(self._whole)

    def _overlap(self) -> int | None:
        """Where the longest end of the text that the head begins with ends, if it is long enough to be proof."""
        normal = self._head.normal
        skipped = len(normal) - len(normal.lstrip(" "))
        head, tail = normal[skipped:], self._whole[-TAIL:]
        for length in range(min(len(head), len(tail)), LEAST_CHARACTERS - 1, -1):
            if tail.endswith(head[:length]) and _is_proof(head[:length]):
                return skipped + length
        return None

    def _anchor_after_preamble(self) -> tuple[int, int] | None:
        """Where the anchor is after a remark of the model's. It has to be long enough, and the only one of its kind,
        to prove that what is before it is no part of the text.
        """
        if not _is_proof(self._anchor) or self._whole.count(self._anchor) > 1:
            return None
        start = self._head.normal.find(self._anchor, 0, PREAMBLE + len(self._anchor))
        if start < 0:
            return None
        before = self._head.raw[: self._head.raw_start(start)]
        remark = before.rstrip("\"'*_`>.<#- \t“”‘’«")
        return (start, start + len(self._anchor)) if remark.endswith((":", "\n")) else None

    def _preamble_may_come(self) -> bool:
        normal = self._head.normal
        if not _is_proof(self._anchor):
            return False
        earliest = max(0, len(normal) - len(self._anchor))
        return any(self._anchor.startswith(normal[start:]) for start in range(earliest, min(PREAMBLE, len(normal)) + 1))

    # ── the cut ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _cut(self, seam: Seam, at: tuple[int, int], ended: bool) -> str:
        """Cut after the repeated text, the marks that close what opened before it, and the white space that the reader
        has; hold on while any of these may still come.
        """
        start, end = at
        head = self._head
        cut = head.raw_end(end)
        if cut is None:  # the repeated text ends inside a character
            return self._emit("plain", 0)
        closing = _closing(head.raw[: head.raw_start(start)]) if seam == "anchor" else ""
        rest = head.raw[cut:]
        if closing and not ended and closing.startswith(rest) and rest != closing:
            return ""
        if closing and rest.startswith(closing):
            cut += len(closing)
            rest = rest[len(closing) :]
        if self._space:
            text = rest.lstrip()
            if not text and not ended:
                return ""
            cut += _said_again(self._space, rest[: len(rest) - len(text)])
        return self._emit(seam, cut)

    def _emit(self, seam: Seam, cut: int) -> str:
        self.seam = seam
        raw = self._head.raw
        self.trimmed = raw[:cut]
        self._head = _Head()
        return raw[cut:]


class _Head:
    """The head of a continuation, raw and in normal form, with the way back from normal characters to raw ones."""

    def __init__(self) -> None:
        self._raw: list[str] = []
        self._normal: list[str] = []
        self._from: list[int] = []
        self._seen = ""
        self.length = 0

    @property
    def raw(self) -> str:
        return "".join(self._raw)

    @property
    def normal(self) -> str:
        """The normal form, as far as seams are looked for: a restart may go on for much longer than that."""
        if len(self._seen) < min(len(self._normal), LOOKED_AT):
            self._seen = "".join(self._normal[:LOOKED_AT])
        return self._seen

    def normal_from(self, index: int) -> str:
        return "".join(self._normal[index:])

    def feed(self, text: str) -> None:
        for character in text:
            if character.isspace():
                if not self._normal or self._normal[-1] != " ":
                    self._normal.append(" ")
                    self._from.append(self.length)
            else:
                for part in unicodedata.normalize("NFD", character).translate(_ALIKE):
                    self._normal.append(part)
                    self._from.append(self.length)
            self.length += 1
        self._raw.append(text)

    def raw_start(self, index: int) -> int:
        """Where in the raw text the normal character at `index` begins."""
        return self._from[index] if index < len(self._from) else self.length

    def raw_end(self, index: int) -> int | None:
        """Where in the raw text the normal characters before `index` end; `None` if that is inside a character."""
        if index == 0:
            return 0
        last = self._from[index - 1]
        if index < len(self._from) and self._from[index] == last:
            return None
        return last + 1


def _normal(text: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFD", text).translate(_ALIKE))


def _is_proof(normal: str) -> bool:
    return len(normal) >= LEAST_CHARACTERS and len(_WORD.findall(normal)) >= LEAST_WORDS


def _closing(opening: str) -> str:
    """The marks that close those which stand before the anchor."""
    marks = re.search(r"[\"'*_`<“„«‘]*$", opening.rstrip() if opening.endswith(("\n", " ")) else opening)
    if marks is None:
        return ""
    return "".join(_CLOSING.get(mark, mark) for mark in reversed(marks.group()))


def _said_again(delivered: str, now: str) -> int:
    """How much of the white space at the head of the rest the reader has already.

    A line break that the reader has not seen is kept; a blank in the place of another is not.
    """
    same = 0
    while same < min(len(delivered), len(now)) and delivered[same] == now[same]:
        same += 1
    more = now[same:]
    if same == len(delivered) or not more:
        return same
    return same + (more.index("\n") if "\n" in more else len(more))
