"""Token ids of simulated vendors: each piece of text is one token."""

from __future__ import annotations

from typing import Final
from zlib import crc32

from ...provider import TokenTrail


class Trail(TokenTrail):
    """The tokens of one answer. Those of a trail `before` come first. `texts` are what they stand for."""

    __slots__ = ("is_yielded", "texts")

    def __init__(self, family: str, before: TokenTrail | None = None) -> None:
        super().__init__(family, [] if before is None else before.prompt, [] if before is None else [*before.output])
        self.texts: Final[list[str]] = [*before.texts] if isinstance(before, Trail) else []
        self.is_yielded = False

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def add(self, text: str) -> bool:
        """Append the token of a piece of text; no text has no token. Returns whether the trail is to be yielded now."""
        if not text:
            return False
        self.texts.append(text)
        self.output.append(crc32(text.encode()))
        is_first, self.is_yielded = not self.is_yielded, True
        return is_first

    def __repr__(self) -> str:
        return f"<{len(self.texts)} tokens of {self.family}>"
