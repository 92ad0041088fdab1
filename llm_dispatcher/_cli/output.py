"""How an answer is written: text as it comes, on standard output, and what happens to it on standard error."""

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
from .exit_codes import harmless, one_line
from .show import in_words


class Voice(Protocol):
    """Who writes an answer."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def event(self, event: Event) -> None: ...
    def end(self, response: TaskResponse) -> None: ...


class JsonVoice:
    """Every event as a line of JSON."""

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


class TextVoice:
    """The text alone on standard output, and all else on standard error: a bar, if the text goes elsewhere, or words.

    Where both are one terminal the text is its own progress; until it begins, a spinner says who is being asked.
    """

    def __init__(self, tracker: ProgressTracker, *, quiet: bool) -> None:
        self._tracker = tracker
        self._quiet = quiet
        self._out = sys.stdout  # (rich lends its own while it draws)
        self._on_screen = self._out.isatty()
        self._watched = sys.stderr.isatty() and not quiet
        self._dim = self._watched and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._in_line = False
        self._whole = False
        self._drawn = ExitStack()

    def __enter__(self) -> Self:
        if self._watched:
            from rich.console import Console

            console = Console(stderr=True)
            drawn = console.status("asking …") if self._on_screen else self._tracker.live(console)
            self._drawn.enter_context(drawn)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._drawn.close()
        if self._in_line and (self._whole or self._on_screen):
            self._write("\n")

    def event(self, event: Event) -> None:
        match event:
            case TextDelta():
                if self._on_screen:
                    self._drawn.close()
                self._write(harmless(event.text) if self._on_screen else event.text)
            case StreamCompleted() | StreamFailed():
                pass  # the last word follows, or the error
            case StreamStarted() if event.attempt == 1 and self._on_screen:
                pass  # the text is about to begin
            case _ if (words := in_words(event)) is not None:
                self._remark(words)
            case _:
                pass

    def end(self, response: TaskResponse) -> None:
        """The last words: who was asked in vain, who answered, and what it came to."""
        if self._on_screen:
            self._drawn.close()
        self._whole = response.error is None
        if self._whole:
            for words in asked_in_vain(response):
                self._remark(words)
            self._remark(bill(response))

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
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - beside the answer


def asked_in_vain(response: TaskResponse) -> Iterable[str]:
    """Whose attempts left nothing in the text, and why: a wrong key would go unnoticed while others answer."""
    return dict.fromkeys(
        f"{attempt.target} was asked in vain: {attempt.failure.kind}: {attempt.failure.message}"
        for attempt in response.attempts
        if attempt.failure is not None and attempt.delivered == 0
    )


def bill(response: TaskResponse) -> str:
    """Who answered, how many tokens, what they cost, and how long it took."""
    usage = response.usage
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out" if usage.source != "unknown" else None
    cost = f"${response.cost:.6f}" if response.cost is not None else None
    attempts = f"{len(response.attempts)} attempts" if len(response.attempts) > 1 else None
    finish = response.finish_reason if response.finish_reason != "stop" else None
    first = (
        f"first word after {in_seconds(response.first_token_after)}" if response.first_token_after is not None else None
    )
    parts = (str(response.target), finish, attempts, tokens, cost, first, f"{in_seconds(response.elapsed)} in all")
    return " · ".join(part for part in parts if part)
