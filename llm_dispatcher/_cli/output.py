"""The output of `stream`: the text on standard output while it arrives, and everything else on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, Self

from .._durations import in_seconds
from ..events import Event, StreamCompleted, StreamFailed, StreamStarted, TaskResponse, TextDelta, to_json
from ..streaming import ProgressTracker
from .describe import describe
from .printing import harmless, one_line


class Output(Protocol):
    """Writes the events of a stream."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def event(self, event: Event) -> None: ...
    def end(self, response: TaskResponse) -> None: ...


class JsonOutput:
    """Writes each event as a line of JSON."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def event(self, event: Event) -> None:
        sys.stdout.buffer.write(to_json(event) + b"\n")
        sys.stdout.buffer.flush()

    def end(self, response: TaskResponse) -> None:
        pass


class TextOutput:
    """Writes the text to standard output, and progress and remarks to standard error.

    If standard output is a terminal, a spinner is drawn until the text begins. Otherwise a progress bar is drawn, if
    standard error is a terminal.
    """

    def __init__(self, tracker: ProgressTracker, *, quiet: bool) -> None:
        self._tracker = tracker
        self._quiet = quiet
        self._out = sys.stdout  # rich replaces sys.stdout while it draws.
        self._on_screen = self._out.isatty()
        self._has_progress = sys.stderr.isatty() and not quiet
        self._dim = self._has_progress and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._in_line = False
        self._complete = False
        self._progress = ExitStack()

    def __enter__(self) -> Self:
        if self._has_progress:
            from rich.console import Console

            console = Console(stderr=True)
            drawing = console.status("waiting …") if self._on_screen else self._tracker.live(console)
            self._progress.enter_context(drawing)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.close()
        if self._in_line and (self._complete or self._on_screen):
            self._write("\n")

    def event(self, event: Event) -> None:
        match event:
            case TextDelta():
                if self._on_screen:
                    self._progress.close()
                self._write(harmless(event.text) if self._on_screen else event.text)
            case StreamCompleted() | StreamFailed():
                pass  # `end` writes the summary, or the command writes the error.
            case StreamStarted() if event.attempt == 1 and self._on_screen:
                pass  # The text follows at once.
            case _ if (words := describe(event)) is not None:
                self._remark(words)
            case _:
                pass

    def end(self, response: TaskResponse) -> None:
        """Write the summary: the targets that failed, the target that answered, and the cost."""
        if self._on_screen:
            self._progress.close()
        self._complete = response.error is None
        if self._complete:
            for words in failed_targets(response):
                self._remark(words)
            self._remark(summary(response))

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
        if text:
            self._in_line = not text.endswith("\n")

    def _remark(self, words: str) -> None:
        if self._quiet:
            return
        if self._in_line and self._on_screen:
            self._write("\n")
        line = f"[{one_line(words)}]"
        if self._dim:
            line = f"\x1b[2m{line}\x1b[0m"
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - a remark beside the answer


def failed_targets(response: TaskResponse) -> Iterable[str]:
    """The targets that delivered nothing, with their errors. Otherwise a wrong key would stay unnoticed."""
    answered = {
        attempt.target for attempt in response.attempts if attempt.delivered > 0 or attempt.outcome == "completed"
    }
    return dict.fromkeys(
        f"{attempt.target} failed: {attempt.failure.kind}: {attempt.failure.message}"
        for attempt in response.attempts
        if attempt.failure is not None and attempt.target not in answered
    )


def summary(response: TaskResponse) -> str:
    """The target that answered, the tokens, the cost and the time."""
    usage = response.usage
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out" if usage.source != "unknown" else None
    cost = f"${response.cost:.6f}" if response.cost is not None else None
    attempts = f"{len(response.attempts)} attempts" if len(response.attempts) > 1 else None
    finish = response.finish_reason if response.finish_reason != "stop" else None
    first = (
        f"first token after {in_seconds(response.first_token_after)}"
        if response.first_token_after is not None
        else None
    )
    parts = (str(response.target), finish, attempts, tokens, cost, first, f"{in_seconds(response.elapsed)} in total")
    return " · ".join(part for part in parts if part)
