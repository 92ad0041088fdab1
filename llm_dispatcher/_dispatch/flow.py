"""`FlowMeter`: whether an answer comes as fast as the `flow` clock asks.

An answer is measured in stretches. Each stretch begins when the one before has all its characters, and has to get its
own within its seconds. Only waiting for the vendor counts, and not what the reader does with a piece. A vendor that
was fast for a while has no credit for it, so a drip is noticed within two stretches.

The meter has no timer: the watchdog asks it when the stretch ends, and tells it what came. Only the task that reads
the stream calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf
from typing import Final, TypeAlias

from .._resilience import Flow
from ..events import ProviderEvent, ReasoningDelta, ToolCall, ToolCallDelta

OtherContent: TypeAlias = ReasoningDelta | ToolCallDelta | ToolCall | ProviderEvent
"""What a reader sees of an answer beside its text."""

Content: TypeAlias = str | OtherContent
"""What a reader sees of an answer."""


class FlowMeter:
    """Measures one attempt, from its first content on.

    Args:
        flow: The least speed.
        share: The seconds that a stretch may take at most, so that another attempt still has time. A shorter stretch
            needs fewer characters: the speed is the same.
    """

    __slots__ = ("_flow", "_missing", "_share", "left", "seconds")

    def __init__(self, flow: Flow, share: Callable[[], float]) -> None:
        self._flow: Final = flow
        self._share: Final = share
        self.seconds = flow.seconds
        self.left = inf
        self._missing = 0.0  # the first content begins a stretch

    def begin(self) -> None:
        """A stretch begins."""
        self.seconds = self.left = min(self._flow.seconds, self._share())
        self._missing = self.needed

    @property
    def needed(self) -> float:
        """The characters of this stretch."""
        return self._flow.characters * self.seconds / self._flow.seconds

    def take(self, content: Content, waited: float) -> bool:
        """Count what came after a wait of so many seconds. Returns whether the stretch has all its characters.

        A vendor that reports a search is at other work, so that completes the stretch too. So does a whole tool call,
        which some vendors send without fragments.
        """
        if isinstance(content, str):
            self._missing -= len(content)
        else:
            self._take_other(content)
        self.left -= waited
        return self._missing <= 0

    def _take_other(self, content: OtherContent) -> None:
        match content:
            case ReasoningDelta():
                self._missing -= len(content.text)
            case ToolCallDelta():
                self._missing -= len(content.fragment)
            case ToolCall() | ProviderEvent():
                self._missing = 0.0

    def __str__(self) -> str:
        """What came in this stretch, for an error message."""
        return f"only {int(self.needed - self._missing)} of {ceil(self.needed)} characters came"
