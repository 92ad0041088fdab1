"""The join filter: it finds where a continuation meets the text that the reader already has.

Theory of operation
-------------------
A model that is asked to continue may repeat the last words that it was shown, or some of them, or the whole answer, and
it may comment first. The join holds back the head of its text until it knows where the two texts meet. Then it cuts off
the repetition and emits everything after it.

- **Invariant.** The text that was fed in equals `trimmed` followed by the text that came out, character by character.
  Texts are compared in a normal form (white space, quotes, dashes, decomposed characters), but never changed.
- **Order.** The possible readings are tried from the strongest to the weakest. A reading that may still come true holds
  up the weaker ones. docs/decisions/0004 and 0022 say what counts as proof.
- **Limits.** At most `HOLD` characters are held back, unless they repeat the delivered text exactly.
- **Who may write.** One stream owns a join and feeds it. Nothing here waits, so a cancelled stream leaves nothing to
  clean up.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .._policy import Continues
from ..events import Seam
from .anchor import Anchor, anchor_of, may_come
from .normal_text import NormalText, normal_form, without_last_marks
from .repetition import LEAST_CHARACTERS, Passage, Restart, is_proof

__all__ = ["HOLD", "Join", "anchor_of"]


REMARK: Final = 120
"""The most characters of a model's remark before it continues."""
HOLD: Final = 600
"""At most this many characters are held back, unless they repeat the delivered text exactly."""

_PICKING_UP: Final = re.compile(r" ?[\[(]?\.{3,}[\])]? ?")
_MAY_PICK_UP: Final = re.compile(r" ?[\[(]?\.*[\])]? ?")
_AROUND: Final = "\"'*_`>.<#- \t“”‘’«"


class _Cut(NamedTuple):
    """The cut: how the texts meet, and where in the normal form of the head the repetition begins and ends.

    `end` is `None` if the whole head is a repetition.
    """

    seam: Seam
    start: int
    end: int | None


_NOTHING: Final = _Cut("plain", 0, 0)


class Join:
    """Takes the pieces of a continuation and returns the text that may be emitted.

    `seam` says how the texts met; it is `None` until the join has decided. `trimmed` is the text that was cut off.
    The result does not depend on how the continuation was split into pieces. Once `is_decided`, all text passes
    unchanged.
    """

    def __init__(
        self,
        delivered: str,
        style: Continues,
        *,
        anchor: str | None = None,
        hold: int = HOLD,
        prompt: str | None = None,
        is_certain: bool = True,
    ) -> None:
        self.refusal: str | None = None
        self.proof: str | None = None
        self.leak: str | None = None
        self.is_watching = self.may_show = False
        core = delivered.rstrip()
        self._space = delivered[len(core) :]
        self._style = style
        self._hold = hold
        self._whole, self._marks = without_last_marks(normal_form(core).lstrip(" "))
        words = anchor_of(delivered) if anchor is None else anchor.strip()
        self._anchor = Anchor(words, self._whole)
        before = core.removesuffix(words).rstrip(" \t")
        self._mid_sentence = before[-1:].isalnum() or before.endswith(",")
        self._head = NormalText()
        self._ended = self._hit_limit = self._quoted = False
        self._anchoring = style == "anchored" and bool(self._anchor.form)
        self._restart: Restart | None = None
        self._passage: Passage | None = None
        self._after_ellipsis: Passage | None = None
        self._again: Restart | None = None
        self._cut: _Cut | None = None
        self.seam: Seam | None = None
        self.trimmed = ""

    @property
    def is_decided(self) -> bool:
        """Whether the join knows where the texts meet."""
        return self.seam is not None

    @property
    def is_at_the_seam(self) -> bool:
        """Whether the repetition is complete, and only the marks or the white space that close it may still come."""
        return self._cut is not None and not self.is_decided

    @property
    def is_too_short_to_tell(self) -> bool:
        """Whether the text that is held back repeats some of what the reader has, and is too short to be proof."""
        restarts, passages = (self._restart, self._again), (self._passage, self._after_ellipsis)
        return any(each is not None and each.is_exact and not each.is_proven for each in restarts) or any(
            each is not None and each.is_short for each in passages
        )

    @property
    def is_repeating(self) -> bool:
        """Whether all the text that is held back repeats what the reader already has, so far."""
        if self.is_decided:
            return False
        if self._anchoring and self._anchor.has_begun(self._head):
            return True
        anchor_start = self._anchor.begun_within(self._head, REMARK) if self._anchor.is_unique else None
        if self._style == "anchored" and self._remark_before(anchor_start) is not None:
            return True
        restarts, passages = (self._restart, self._again), (self._passage, self._after_ellipsis)
        return any(restart is not None and restart.is_exact and restart.is_proven for restart in restarts) or any(
            passage is not None and passage.is_the_only_one for passage in passages
        )

    def feed(self, text: str) -> str:
        """Take a piece of the continuation, and return the text that may be emitted now."""
        if self.seam is not None:
            return text
        room = self._hold - len(self._head)
        if 0 < room < len(text):  # so that the result does not depend on how the text was split
            return self.feed(text[:room]) + self.feed(text[room:])
        self._head.add(text)
        return self._look()

    def close(self, hit_limit: bool = False) -> str:
        """Decide now, because the model has ended or time is up, and return the text that may be emitted.

        `hit_limit` says that a token limit ended the answer. Then a mere prefix of the anchor counts as a repetition.
        """
        if self.seam is not None:
            return ""
        self._head.end()
        self._ended, self._hit_limit = True, hit_limit and self._style == "anchored"
        return self._look()

    # ── readings ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _look(self) -> str:
        if self._cut is None:
            self._cut = self._read()
        return "" if self._cut is None else self._emit(self._cut)

    def _read(self) -> _Cut | None:
        """Try the readings from the strongest to the weakest.

        A reading returns `None` while it may still come true, and `_NOTHING` if it cannot.
        """
        full = self._ended or len(self._head) >= self._hold
        readings = (self._anchored, self._restarted, self._overlapping, self._after_remark)
        for reading in readings if self._style == "anchored" else (self._restarted,):
            cut = reading(full)
            if cut is not _NOTHING:
                return cut
        return _NOTHING

    def _anchored(self, full: bool) -> _Cut | None:
        """The model repeats the anchor, with only decoration before it."""
        if not self._anchoring:
            return _NOTHING
        start = self._anchor.place(self._head)
        if start is not None:
            return _Cut("anchor", start, start + len(self._anchor.form))
        self._anchoring = self._anchor.may_come(self._head)
        if self._anchoring and not full:
            return None
        if self._anchoring and self._hit_limit and self._anchor.has_begun(self._head):
            return _Cut("anchor", 0, None)
        return _NOTHING

    def _restarted(self, full: bool) -> _Cut | None:
        """The model repeats the whole text from its first word on."""
        if self._restart is None:
            if not is_proof(self._whole):
                return _NOTHING
            lenient = self._style == "anchored"
            start = _blank(self._head) if lenient else 0
            if start == self._head.form_length and not full:
                return None
            self._restart = Restart(self._whole, self._head, start, lenient=lenient)
        return self._outcome(self._restart)

    def _outcome(self, restart: Restart) -> _Cut | None:
        """The outcome of a restart. While the model repeats the text, no weaker reading is tried."""
        restart.look()
        if restart.end is not None:
            return _Cut("restart", restart.start, restart.end)
        if restart.failed:
            return _NOTHING
        if not self._ended:
            return None
        # The answer ended before it reached new text.
        if restart.is_exact and (restart.is_proven or (self._hit_limit and restart.has_begun)):
            return _Cut("restart", restart.start, None)
        return _NOTHING

    def _overlapping(self, full: bool) -> _Cut | None:
        """The model repeats the last words or the last page, perhaps after an ellipsis."""
        if not self._whole:
            return _NOTHING
        if self._passage is None:
            start = _blank(self._head)
            if start == self._head.form_length and not full:
                return None
            self._passage = Passage(self._whole, self._head, start)
        cut = self._outcome_of(self._passage, full)
        if cut is not _NOTHING:
            return cut
        if self._after_ellipsis is None:
            beginning = self._head.form(0, LEAST_CHARACTERS)
            if not full and _MAY_PICK_UP.fullmatch(beginning):
                return None
            ellipsis = _PICKING_UP.match(beginning)
            if ellipsis is None:
                return _NOTHING
            self._after_ellipsis = Passage(self._whole, self._head, ellipsis.end())
        return self._outcome_of(self._after_ellipsis, full)

    def _outcome_of(self, passage: Passage, full: bool) -> _Cut | None:
        """The outcome of a passage. A passage that occurs only once in the text may be longer than `hold`."""
        passage.look()
        if passage.end is not None:
            return _Cut("overlap", passage.start, passage.end)
        if not passage.failed and not full:
            return None
        if passage.failed or not passage.is_the_only_one:
            passage.failed = True
            return _NOTHING
        if not self._ended:
            return None
        # The answer ended before it reached new text. A short passage may be a phrase that the text uses again.
        return _Cut("overlap", passage.start, None) if self._hit_limit and len(self._head) > REMARK else _NOTHING

    def _after_remark(self, full: bool) -> _Cut | None:
        """The model repeats the anchor or the whole text after a remark such as "Here is the rest:".

        The words before a repetition are a remark only if the repetition is not there by chance. Two repetitions prove
        this: a long anchor that the text has only once, and the whole text.
        """
        may_follow = False
        if self._anchor.is_unique:
            start = self._remark_before(self._anchor.place_within(self._head, REMARK))
            if start is not None:
                return _Cut("anchor", start, start + len(self._anchor.form))
            may_follow = self._anchor.may_come_within(self._head, REMARK)
        if self._restart is not None:  # otherwise the text is too short to be proof
            beginning = self._whole[:LEAST_CHARACTERS]
            form = self._head.form(0, REMARK + LEAST_CHARACTERS)
            if self._again is None:
                place = form.find(beginning, 1)
                start = self._remark_before(place if place > 0 else None)
                if start is not None:
                    self._again = Restart(self._whole, self._head, start, lenient=True)
            if self._again is not None:
                return self._outcome(self._again)
            may_follow = may_follow or may_come(beginning, form, 0, REMARK)
        return None if may_follow and not full else _NOTHING

    def _remark_before(self, start: int | None) -> int | None:
        """`start`, if there is only a remark or decoration before it."""
        if start is None:
            return None
        remark = self._head.raw[: self._head.raw_start(start)].rstrip(_AROUND)
        return start if not remark or remark.endswith((":", "\n")) else None

    # ── cutting ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _emit(self, cut: _Cut) -> str:
        """Cut off the repetition, the marks that close those before it, and the white space that the reader has.

        Wait while any of these may still come.
        """
        head, ended = self._head, self._ended
        if cut.end is None:
            return self._decide(cut.seam, len(head))
        if cut is _NOTHING and self._style == "anchored" and self._whole:
            return self._decide("plain", 0)
        # With prefill, the request had to end without this white space, so the model repeats it. The same holds for a
        # text without a word.
        marks = self._anchor.marks if cut.seam == "anchor" else self._marks
        if cut.end and marks and not head.settled(cut.end):
            return ""
        at = head.raw_end(cut.end, marks)
        if cut.seam == "anchor":
            closed = self._anchor.closed(head.raw[: head.raw_start(cut.start)], head.raw[at:], ended)
            if closed is None:
                return ""
            if closed:
                again = self._quotes_first(cut.end)
                if again is None:
                    return ""
                if again:
                    return self._look()
            at += closed
        rest = head.raw[at:]
        if self._space:
            text = rest.lstrip()
            if not text and not ended:
                return ""
            at += _repeated_space(self._space, rest[: len(rest) - len(text)])
        return self._decide(cut.seam, at)

    def _quotes_first(self, end: int) -> bool | None:
        """Whether the anchor comes twice, because the model quoted it before it continued; `None` while it may.

        A line may be in the text twice. But words from the middle of a sentence rarely follow themselves.
        """
        if self._quoted or not (self._mid_sentence and self._anchor.is_unique):
            return False
        start = self._anchor.place(self._head, end)
        may_come = self._anchor.may_come(self._head, end) and len(self._head) < self._hold and not self._ended
        if start is None and may_come:
            return None
        self._quoted = True  # it is looked for only once
        if start is not None:
            self._cut = _Cut("anchor", start, start + len(self._anchor.form))
        return start is not None

    def _decide(self, seam: Seam, cut: int) -> str:
        self.seam = seam
        raw = self._head.raw
        self.trimmed = raw[:cut]
        self._head = NormalText()
        return raw[cut:]


def _blank(head: NormalText) -> int:
    """The length of the white space at the beginning of the head, in the normal form."""
    return int(head.form(0, 1) == " ")


def _repeated_space(delivered: str, now: str) -> int:
    """The number of white space characters at the beginning of the rest that the reader already has.

    A line break that the reader does not have is kept. A blank in the place of another white space is not.
    """
    same = 0
    while same < min(len(delivered), len(now)) and delivered[same] == now[same]:
        same += 1
    more = now[same:]
    if same == len(delivered) or not more:
        return same
    return same + (more.index("\n") if "\n" in more else len(more))
