"""Terminals for tests of the command. For POSIX systems only."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 120.0
"""Seconds for a step that takes one: the machine may be busy."""


class Terminal:
    """A terminal, and everything that was written to it."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self.drawn = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a read may end inside a character
        self._place = 0

    def read_until(self, words: str) -> str:
        """Everything up to some words; fails if they never appear."""
        until = time.monotonic() + PATIENCE
        while words not in self.drawn:
            assert time.monotonic() < until, f"{words!r} never appeared: {self.drawn!r}"
            assert self._read(), f"it ended without {words!r}: {self.drawn!r}"
        return self.drawn

    def read_next(self, words: str) -> str:
        """Everything from the last `read_next` up to these words; fails if they never appear."""
        begin = self._place
        until = time.monotonic() + PATIENCE
        while (found := self.drawn.find(words, begin)) < 0:
            assert time.monotonic() < until, f"{words!r} never appeared: {self.drawn[begin:]!r}"
            assert self._read(), f"it ended without {words!r}: {self.drawn[begin:]!r}"
        self._place = found + len(words)
        return self.drawn[begin : self._place]

    def read_to_the_end(self) -> str:
        while self._read():
            pass
        return self.drawn

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def hand_over(self) -> None:
        """Close our copy of the command's side. Reading then ends when the command ends."""
        os.close(self.theirs)
        self.theirs = -1

    def close(self) -> None:
        os.close(self._ours)
        if self.theirs >= 0:
            os.close(self.theirs)

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], PATIENCE)[0]:
            return False
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # The other side is closed.
            return False
        self.drawn += self._decoder.decode(data)
        return bool(data)


def controlling() -> None:
    """In the child process: make the terminal its controlling terminal, so that Ctrl-C is a signal."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The process has ended after the block, in any case, and its pipes are closed."""
    with process:
        try:
            yield process
            process.wait(PATIENCE)
        finally:
            process.kill()


def plain(output: str) -> str:
    """The text without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output).replace("\r", "")
