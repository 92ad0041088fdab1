"""What a chat shows: answers on standard output, and what happens beside them on standard error.

In a terminal, remarks are dim, and a spinner is drawn while nothing arrives. The results of commands go to standard
output, or with `--json`, where that has the events of the streams, to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, TextIO

from ...events import (
    Event,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    TaskResponse,
    TextDelta,
    ToolCall,
    ToolCallDropped,
    ToolResult,
    to_json,
)
from ..describe import describe
from ..exit_codes import exit_code, report
from ..output import failed_targets, summary
from ..printing import harmless, one_line, say, say_table

LONGEST: Final = 200
"""So many characters of a call's arguments and of its result are shown."""


class Screen:
    """Standard output and standard error."""

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self.is_terminal: Final = sys.stdout.isatty() and not as_json
        self.code = 0
        self._quiet = quiet
        self._as_json = as_json
        self._out: Final = sys.stdout  # rich replaces sys.stdout while it draws
        self._spins = self.is_terminal and sys.stderr.isatty() and not quiet and os.environ.get("TERM") != "dumb"
        self._dim = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._in_line = False
        self._is_paused = False
        self._is_broken = self._after_remark = False
        self._spinner = ExitStack()

    # ── a stream ───────────────────────────────────────────────────────────────────────────────────────────────────

    def wait(self, words: str = "waiting …") -> None:
        """Draw the spinner until something else is shown."""
        if self._spins and not self._in_line and not self._is_paused:
            from rich.console import Console
            from rich.text import Text

            self._spinner.close()
            self._spinner.enter_context(Console(stderr=True).status(Text(one_line(words))))

    @contextmanager
    def without_spinner(self) -> Generator[None, None, None]:
        """Draw no spinner inside the block, where a question stands on the screen."""
        self.end_line()
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False
        self.wait("waiting for tools …")

    def event(self, event: Event) -> None:
        """Show an event of a stream."""
        if self._as_json:
            self._out.buffer.write(to_json(event) + b"\n")
            self._out.buffer.flush()
            return
        match event:
            case TextDelta():
                self._write(self._for_terminal(event.text) if self.is_terminal else event.text)
            case StreamInterrupted():
                self._is_broken = True  # one line says it, with what happens next
            case StreamSwitched():
                self._is_broken = False
                goes_on = "begins again" if event.rung == "restarted" else "continues"
                self.remark(f"{event.from_target} broke off, and {event.to_target} {goes_on}")
            case StreamStarted() if self._is_broken:
                self._is_broken = False
                self.remark(f"{event.target} broke off, and goes on")
            case StreamStarted() if event.cached:
                self.remark(describe(event) or "")
            case ToolCall():
                self.remark(_short(in_python(event)))
                self.wait("waiting for tools …")
            case ToolResult():
                outcome = f"failed: {event.error}" if event.error is not None else f"→ {event.result}"
                self.remark(f"{event.name} {_short(outcome)}")
                self.wait()
            case StreamReset() | ToolCallDropped():
                self.remark(describe(event) or "")
            case _:
                pass

    def end(self, response: TaskResponse) -> None:
        """End the answer, and show which target has answered, and what it cost. An error is shown elsewhere."""
        self._is_broken = False
        self.end_line()
        if self._as_json or response.finish_reason in (None, "cancelled"):
            return
        for words in failed_targets(response):
            self.remark(words)
        self.remark(summary(response))

    # ── beside a stream ────────────────────────────────────────────────────────────────────────────────────────────

    def remark(self, words: str) -> None:
        """Write a line about what happens."""
        if self._quiet or self._as_json:
            return
        if self.is_terminal:
            self.end_line()  # a pipe gets the text as it is
        line = f"[{one_line(words)}]"
        say(f"\x1b[2m{line}\x1b[0m" if self._dim else line, sys.stderr)
        sys.stderr.flush()
        self._after_remark = True

    def error(self, error: Exception) -> None:
        """Write an error in one line. The command will exit with the code of the first one."""
        self.end_line()
        code = exit_code(error)
        self.code = self.code or code
        report(error, code, as_json=self._as_json)

    def lines(self, text: str) -> None:
        """Write the result of a command."""
        self.end_line()
        say(harmless(text), self._results)

    def table(self, heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write the result of a command as a table."""
        self.end_line()
        say_table(heading, rows, self._results)

    def end_line(self) -> None:
        """Remove the spinner, and end a line of text that has begun."""
        self._spinner.close()
        if self._in_line:
            self._write("\n")

    def new_line(self) -> None:
        """Leave the line of a prompt."""
        say("", self._out if self.is_terminal else sys.stderr)

    def _for_terminal(self, text: str) -> str:
        """The text for the terminal: without controls, and without empty lines after a remark."""
        if self._after_remark:
            text = text.lstrip("\n")
            self._after_remark = not text
        return harmless(text)

    @property
    def _results(self) -> TextIO:
        return sys.stderr if self._as_json else self._out

    def _write(self, text: str) -> None:
        self._spinner.close()
        self._out.write(text)
        self._out.flush()
        if text:
            self._in_line = not text.endswith("\n")


def in_python(call: ToolCall) -> str:
    """A call as Python writes one."""
    arguments = call.arguments
    inside = call.raw_arguments if arguments is None else ", ".join(f"{name}={arguments[name]!r}" for name in arguments)
    return f"{call.name}({inside})"


def _short(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
