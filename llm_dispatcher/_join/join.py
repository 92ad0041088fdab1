"""The join filter: it finds where a continuation meets the text that the reader already has.

Theory of operation
-------------------
A model that is asked to continue may repeat the last words that it was shown, or some of them, or the whole answer, and
it may comment first. The join holds back the head of its text until it knows where the two texts meet. Then it cuts off
the repetition and emits everything after it.

- **Proof.** An anchored continuation proves itself by what it repeats. If it repeats nothing, or brings nothing new, or
  begins with our own words, `refusal` says so before anything was emitted. docs/decisions/0040 has the rules.
- **Invariant.** The text that was fed in equals `trimmed` followed by the text that came out, character by character.
  A mark of ours that stands in the new text is the one exception: `taken` has it, with its place. Texts are compared in
  a normal form (white space, quotes, dashes, decomposed characters), but never changed.
- **Limits.** At most `HOLD` characters are held back, unless they repeat the delivered text exactly. After the seam,
  the join watches a bounded stretch for our marks and wording, and holds back a few words of it at most.
- **Who may write.** One stream owns a join and feeds it. Nothing here waits, so a cancelled stream leaves nothing to
  clean up.
"""

from __future__ import annotations

from typing import Final

from .._policy import Continues
from ..events import Seam
from . import beginning
from .anchor import Anchor, anchor_of
from .boundary import is_at_boundary
from .normal_text import NormalText, normal_form, without_last_marks
from .readings import NOTHING, REMARK, Cut, Readings
from .repetition import WORD
from .watch import Mark, Watch
from .wording import wording_of

__all__ = ["HOLD", "Join", "anchor_of"]

HOLD: Final = 600
"""At most this many characters are held back, unless they repeat the delivered text exactly."""


class Join:
    """Takes the pieces of a continuation and returns the text that may be emitted.

    `seam` says how the texts met; it is `None` until the join has decided. `trimmed` is the text that was cut off.
    `proof` says what proves the seam, and `refusal` is the reason why the continuation cannot be shown: a decided join
    has one of them. Nothing was emitted before a refusal. The result does not depend on how the continuation was split
    into pieces.

    Feed the join while it is not decided or `is_watching`, and close it at the end; otherwise all text passes
    unchanged.

    Args:
        delivered: The text that the reader has.
        style: How the model was asked to continue.
        prompt: The user turn that asked for an anchored continuation, with `{anchor}` in it. The join knows its words
            if a model quotes them. Without it, nothing after the seam is watched.
        is_certain: Whether the host is known to continue an open assistant turn. If not, a new answer is refused.
        anchor: The words that the model was asked to repeat; the last words of `delivered` if not given.
        hold: How many characters are held back at most.
    """

    def __init__(
        self,
        delivered: str,
        style: Continues,
        *,
        prompt: str | None = None,
        is_certain: bool = True,
        anchor: str | None = None,
        hold: int = HOLD,
    ) -> None:
        core = delivered.rstrip()
        self._delivered = delivered
        self._space = delivered[len(core) :]
        self._is_certain = is_certain
        self._hold = hold
        whole, self._marks = without_last_marks(normal_form(core).lstrip(" "))
        self._has_to_prove_itself = style == "anchored" and bool(whole)
        self._wording = wording_of(prompt) if prompt is not None and self._has_to_prove_itself else None
        words = anchor_of(delivered) if anchor is None else anchor.strip()
        self._anchor = Anchor(words, whole)
        before = core.removesuffix(words).rstrip(" \t")
        self._mid_sentence = before[-1:].isalnum() or before.endswith(",")
        self._head = NormalText()
        self._readings = Readings(whole, self._anchor, style, self._head, hold)
        self._ended = self._hit_limit = self._quoted = False
        self._cut: Cut | None = None
        self._watch: Watch | None = None
        self.seam: Seam | None = None
        self.trimmed = ""
        self.proof: str | None = None
        self.refusal: str | None = None

    @property
    def is_decided(self) -> bool:
        """Whether the join knows where the texts meet."""
        return self.seam is not None

    @property
    def is_watching(self) -> bool:
        """Whether the join still looks for our marks and wording after the seam, so that it has to be fed."""
        return self._watch is not None and not self._watch.is_over

    @property
    def leak(self) -> str | None:
        """What of our own came after text was emitted. The attempt ends there; the rest is not emitted."""
        return self._watch.leak if self._watch is not None else None

    @property
    def taken(self) -> list[Mark]:
        """The marks of ours that were taken out of the new text, each with the number of characters before it."""
        return self._watch.taken if self._watch is not None else []

    @property
    def may_show(self) -> bool:
        """Whether an unproven text may be shown all the same, where the policy allows it.

        It may if the delivered text ended at a boundary and the text that is held back has nothing of our own.
        """
        is_another_answer = self.refusal in (beginning.NOTHING_DELIVERED, beginning.BEGAN_AGAIN)
        return is_another_answer and self.seam == "plain" and self.leak is None and is_at_boundary(self._delivered)

    @property
    def is_at_the_seam(self) -> bool:
        """Whether the repetition is complete, and only the first new text is waited for."""
        return self._cut is not None and not self.is_decided

    @property
    def is_too_short_to_tell(self) -> bool:
        """Whether the text that is held back repeats some of what the reader has, and is too short to be proof."""
        return self._readings.is_too_short_to_tell

    @property
    def is_repeating(self) -> bool:
        """Whether all the text that is held back repeats what the reader already has, so far."""
        return not self.is_decided and self._readings.is_repeating

    def feed(self, text: str) -> str:
        """Take a piece of the continuation, and return the text that may be emitted now."""
        if self.seam is not None:
            return text if self._watch is None else self._watch.feed(text)
        room = self._hold - len(self._head)
        if 0 < room < len(text):  # so that the result does not depend on how the text was split
            return self.feed(text[:room]) + self.feed(text[room:])
        self._head.add(text)
        return self._look()

    def close(self, hit_limit: bool = False) -> str:
        """Decide now, because the model has ended or time is up, and return the text that may be emitted.

        `hit_limit` says that a token limit ended the answer. Then a mere prefix of the anchor counts as a repetition.
        """
        if self.seam is None:
            self._head.end()
            self._ended, self._hit_limit = True, hit_limit
            text = self._look()
            return text + self._watch.close(hit_limit) if self._watch is not None else text
        return "" if self._watch is None else self._watch.close(hit_limit)

    def _look(self) -> str:
        if self._cut is None:
            self._cut = self._readings.read(self._ended, self._hit_limit)
        return "" if self._cut is None else self._emit(self._cut)

    # ── cutting ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _emit(self, cut: Cut) -> str:
        """Cut off the repetition, the marks that close those before it, and the white space that the reader has.

        Wait while any of these may still come.
        """
        head, ended = self._head, self._ended
        if cut.end is None:
            return self._left(cut)
        if cut is NOTHING and self._has_to_prove_itself:
            return self._unproven()
        # With prefill, the request had to end without this white space, so the model repeats it. The same holds for a
        # text without a word.
        marks = self._anchor.marks if cut.seam == "anchor" else self._marks
        if cut.end and marks and not head.settled(cut.end):
            return ""
        at = head.raw_end(cut.end, marks)
        before = head.raw[: head.raw_start(cut.start)] if cut.end else ""
        closed: int | None = 0
        if cut.seam == "anchor" or _opens(before):
            closed = self._anchor.closed(before, head.raw[at:], ended)
            if closed is None:
                return ""
            if closed and cut.seam == "anchor":
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
        if self._has_to_prove_itself:
            return self._begin(cut, at, before, bool(closed))
        return self._open_turn(cut, at)

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
            self._cut = Cut("anchor", start, start + len(self._anchor.form))
        return start is not None

    # ── deciding ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, cut: Cut, at: int, before: str, closed: bool) -> str:
        """Judge the first new text after a proven repetition, and decide; wait while there is too little of it."""
        rest, ended = self._head.raw[at:], self._ended
        opened = _opens(before)
        if not rest.strip():
            if not ended and len(rest) <= REMARK:
                return ""
            return self._decide(cut.seam, at, beginning.nothing_new(self._delivered, self._hit_limit) if ended else "")
        if cut.seam == "overlap" and not self._hit_limit:
            only_ends = beginning.only_ends_the_sentence(rest, ended)
            if only_ends is None:
                return ""
            if only_ends:
                return self._decide(cut.seam, at, beginning.nothing_new(self._delivered, False))
        reason = beginning.of_an_anchored_answer(
            self._delivered,
            rest,
            is_glued=not (self._head.raw[at - 1 : at] or rest[0]).isspace(),
            opened=opened,
            closed=closed,
            ended=ended,
        )
        if reason is None:
            return ""
        if reason or self._wording is None:
            return self._decide(cut.seam, at, reason)
        return self._watched(cut.seam, at, opened=opened, owed=opened and not closed)

    def _watched(self, seam: Seam, at: int, refusal: str = "", *, opened: bool, owed: bool = False) -> str:
        """Decide, and watch the new text from its first word on; wait while it may begin with our wording."""
        assert self._wording is not None
        watch = Watch(self._wording, self._delivered, opened=opened, owed=owed)
        shown = watch.feed(self._head.raw[at:])
        if not shown.strip():
            if watch.leak is not None:
                return self._decide(seam, at, beginning.QUOTES_THE_REQUEST)
            if not watch.is_over and not self._ended:
                return ""
        self._watch = watch
        self._decide(seam, at, refusal)
        return shown

    def _left(self, cut: Cut) -> str:
        """The model ended inside the repetition."""
        if self._hit_limit:
            return self._decide(cut.seam, len(self._head), beginning.NOTHING_NEW_AT_LIMIT)
        return self._decide(cut.seam, len(self._head), beginning.BEGAN_AGAIN if self._has_to_prove_itself else "")

    def _unproven(self) -> str:
        """The model repeated nothing. Its text may be shown if the policy says so, so it is watched, too."""
        reason = beginning.BEGAN_AGAIN if self._readings.began_again else beginning.NOTHING_DELIVERED
        if self._wording is None:
            return self._decide("plain", 0, reason)
        return self._watched("plain", 0, reason, opened=True)

    def _open_turn(self, cut: Cut, at: int) -> str:
        """The model continued an open turn, or nothing was delivered that it could repeat."""
        if cut is NOTHING and not self._is_certain:
            reason = beginning.of_an_uncertain_prefill(
                self._delivered,
                self._head.raw[at:],
                began_again=self._readings.began_again,
                ended=self._ended,
            )
            if reason is None:
                return ""
            return self._decide("plain", at, reason)
        return self._decide(cut.seam, at)

    def _decide(self, seam: Seam, cut: int, refusal: str = "") -> str:
        self.seam = seam
        raw = self._head.raw
        self.trimmed = raw[:cut]
        self.refusal = refusal or None
        self.proof = None if refusal else self._proof(seam)
        self._head = NormalText()
        return raw[cut:]

    def _proof(self, seam: Seam) -> str:
        if seam == "plain":
            return "an open turn" if self._delivered.strip() else "a new answer"
        name = {"anchor": "the anchor", "restart": "the answer again", "overlap": "the last words"}[seam]
        return f"{name}: {_extent(self.trimmed)}"


def _opens(before: str) -> bool:
    """Whether our marks are open at the end of what comes before a repetition."""
    return before.rstrip().endswith("<")


def _extent(text: str) -> str:
    """How long a repetition is: in words, or in characters if the script does not separate words."""
    if any(word[1] for word in WORD.finditer(text)):
        return f"{len(text.strip())} characters"
    words = len(text.split())
    return f"{words} word{'' if words == 1 else 's'}"


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
