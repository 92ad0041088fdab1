"""The readings of a continuation: the ways in which it may repeat what was delivered.

They are tried from the strongest to the weakest. A reading that may still come true holds up the weaker ones.
docs/decisions/0004 and 0022 say what counts as proof. The join that owns the readings adds text to the head and then
calls `read`. Nothing here waits, so a cancelled stream leaves nothing to clean up.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .._policy import Continues
from ..events import Seam
from .anchor import Anchor, may_come
from .normal_text import NormalText
from .repetition import LEAST_CHARACTERS, Passage, Restart, is_proof

REMARK: Final = 120
"""The most characters of a model's remark before it continues."""

_PICKING_UP: Final = re.compile(r" ?[\[(]?\.{3,}[\])]? ?")
_MAY_PICK_UP: Final = re.compile(r" ?[\[(]?\.*[\])]? ?")
_AROUND: Final = "\"'*_`>.<#- \t“”‘’«"


class Cut(NamedTuple):
    """The cut: how the texts meet, and where in the normal form of the head the repetition begins and ends.

    `end` is `None` if the whole head is a repetition.
    """

    seam: Seam
    start: int
    end: int | None


NOTHING: Final = Cut("plain", 0, 0)


class Readings:
    """The readings of one continuation, whose first text is `head`.

    Args:
        whole: The normal form of the delivered text.
        anchor: The words that the model was asked to repeat.
        style: How the model was asked to continue.
        head: The first text of the continuation. The join adds to it.
        hold: At most this many characters are held back, unless they repeat the delivered text exactly.
    """

    def __init__(self, whole: str, anchor: Anchor, style: Continues, head: NormalText, hold: int) -> None:
        self._whole = whole
        self._anchor = anchor
        self._style = style
        self._head = head
        self._hold = hold
        self._ended = self._hit_limit = False
        self._anchoring = style == "anchored" and bool(anchor.form)
        self._restart: Restart | None = None
        self._passage: Passage | None = None
        self._after_ellipsis: Passage | None = None
        self._again: Restart | None = None

    @property
    def began_again(self) -> bool:
        """Whether the text repeats the beginning of the delivered text for long enough to be proof, at least."""
        return any(each is not None and each.is_proven for each in (self._restart, self._again))

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
        if self._anchoring and self._anchor.has_begun(self._head):
            return True
        anchor_start = self._anchor.begun_within(self._head, REMARK) if self._anchor.is_unique else None
        if self._style == "anchored" and self._remark_before(anchor_start) is not None:
            return True
        restarts, passages = (self._restart, self._again), (self._passage, self._after_ellipsis)
        return any(restart is not None and restart.is_exact and restart.is_proven for restart in restarts) or any(
            passage is not None and passage.is_the_only_one for passage in passages
        )

    def read(self, ended: bool, hit_limit: bool) -> Cut | None:
        """Try the readings from the strongest to the weakest.

        A reading returns `None` while it may still come true, and `NOTHING` if it cannot.

        Args:
            ended: Whether no more text will come, so that the readings have to decide.
            hit_limit: Whether a token limit ended the answer. Then a mere prefix of the anchor is a repetition.
        """
        self._ended, self._hit_limit = ended, hit_limit and self._style == "anchored"
        full = ended or len(self._head) >= self._hold
        readings = (self._anchored, self._restarted, self._overlapping, self._after_remark)
        for reading in readings if self._style == "anchored" else (self._restarted,):
            cut = reading(full)
            if cut is not NOTHING:
                return cut
        return NOTHING

    def _anchored(self, full: bool) -> Cut | None:
        """The model repeats the anchor, with only decoration before it."""
        if not self._anchoring:
            return NOTHING
        start = self._anchor.place(self._head)
        if start is not None:
            return Cut("anchor", start, start + len(self._anchor.form))
        self._anchoring = self._anchor.may_come(self._head)
        if self._anchoring and not full:
            return None
        if self._anchoring and self._hit_limit and self._anchor.has_begun(self._head):
            return Cut("anchor", 0, None)
        return NOTHING

    def _restarted(self, full: bool) -> Cut | None:
        """The model repeats the whole text from its first word on."""
        if self._restart is None:
            lenient = self._style == "anchored"
            # An open turn of "1,1,1,1," goes on as it began.
            if not is_proof(self._whole) or (not lenient and _repeats_itself(self._whole)):
                return NOTHING
            start = _blank(self._head) if lenient else 0
            if start == self._head.form_length and not full:
                return None
            self._restart = Restart(self._whole, self._head, start, lenient=lenient)
        return self._outcome(self._restart)

    def _outcome(self, restart: Restart) -> Cut | None:
        """The outcome of a restart. While the model repeats the text, no weaker reading is tried."""
        restart.look()
        if restart.end is not None:
            return Cut("restart", restart.start, restart.end)
        if restart.failed:
            return NOTHING
        if not self._ended:
            return None
        # The answer ended before it reached new text.
        if restart.is_exact and (restart.is_proven or (self._hit_limit and restart.has_begun)):
            return Cut("restart", restart.start, None)
        return NOTHING

    def _overlapping(self, full: bool) -> Cut | None:
        """The model repeats the last words or the last page, perhaps after an ellipsis."""
        if not self._whole:
            return NOTHING
        if self._passage is None:
            start = _blank(self._head)
            if start == self._head.form_length and not full:
                return None
            self._passage = Passage(self._whole, self._head, start)
        cut = self._outcome_of(self._passage, full)
        if cut is not NOTHING:
            return cut
        if self._after_ellipsis is None:
            beginning = self._head.form(0, LEAST_CHARACTERS)
            if not full and _MAY_PICK_UP.fullmatch(beginning):
                return None
            ellipsis = _PICKING_UP.match(beginning)
            if ellipsis is None:
                return NOTHING
            self._after_ellipsis = Passage(self._whole, self._head, ellipsis.end())
        return self._outcome_of(self._after_ellipsis, full)

    def _outcome_of(self, passage: Passage, full: bool) -> Cut | None:
        """The outcome of a passage. A passage that occurs only once in the text may be longer than `hold`."""
        passage.look()
        if passage.end is not None:
            return Cut("overlap", passage.start, passage.end)
        if not passage.failed and not full:
            return None
        if passage.failed or not passage.is_the_only_one:
            passage.failed = True
            return NOTHING
        if not self._ended:
            return None
        # The answer ended before it reached new text. A short passage may be a phrase that the text uses again.
        return Cut("overlap", passage.start, None) if self._hit_limit and len(self._head) > REMARK else NOTHING

    def _after_remark(self, full: bool) -> Cut | None:
        """The model repeats the anchor or the whole text after a remark such as "Here is the rest:".

        The words before a repetition are a remark only if the repetition is not there by chance. Two repetitions prove
        this: a long anchor that the text has only once, and the whole text.
        """
        may_follow = False
        if self._anchor.is_unique:
            start = self._remark_before(self._anchor.place_within(self._head, REMARK))
            if start is not None:
                return Cut("anchor", start, start + len(self._anchor.form))
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
        return None if may_follow and not full else NOTHING

    def _remark_before(self, start: int | None) -> int | None:
        """`start`, if there is only a remark or decoration before it."""
        if start is None:
            return None
        remark = self._head.raw[: self._head.raw_start(start)].rstrip(_AROUND)
        return start if not remark or remark.endswith((":", "\n")) else None


def _repeats_itself(text: str) -> bool:
    """Whether a text is a shorter one, several times."""
    return text in (text + text)[1:-1]


def _blank(head: NormalText) -> int:
    """The length of the white space at the beginning of the head, in the normal form."""
    return int(head.form(0, 1) == " ")
