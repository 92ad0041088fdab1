"""Reads what the user types: messages of one or more lines, and answers to questions.

In a terminal, messages are read with readline if Python has it, which edits a line and recalls earlier ones. They are
read while no event loop runs, so Ctrl-C raises a `KeyboardInterrupt`. A question is asked while an answer streams. It
waits in the event loop, so that tools beside it go on, and Ctrl-C cancels it with the answer.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Final

from ...exceptions import InvalidRequestError

PROMPT: Final = "> "
MORE: Final = "… "
"""The prompt of a further line of a message."""

BLOCK: Final = '"""'
"""It begins and ends a message of several lines."""

ReadLine = Callable[[str], str]
"""Reads a line, without its end. It raises an `EOFError` at the end of the input."""


class Keyboard:
    """Standard input: a terminal, or a pipe or a file whose lines are messages."""

    def __init__(self, *, edits: bool) -> None:
        """Look at standard input. `edits` says whether prompts may be written to standard output, and lines edited."""
        self.is_terminal: Final = sys.stdin is not None and sys.stdin.isatty()
        edits = self.is_terminal and edits
        self._readline: Final = _readline() if edits else None
        self._read_line: Final[ReadLine] = input if edits else self._read_from_stdin
        self._questions: Final = asyncio.Lock()

    def message(self, prompt: str) -> str:
        """The next message.

        Raises:
            EOFError: The input is over.
            KeyboardInterrupt: Ctrl-C was pressed.
            InvalidRequestError: The input is not text.
        """
        message = read_message(self._read_line, prompt)
        try:
            message.encode()
        except UnicodeEncodeError:
            raise InvalidRequestError("the message is not UTF-8 text") from None
        return message

    async def answer(self, question: str) -> str | None:
        """The answer to a question; `None` if there is none. What was typed before the question does not answer it."""
        async with self._questions:
            _forget_typed()
            sys.stderr.write(question)
            sys.stderr.flush()
            await _until_typed()
            line = os.read(sys.stdin.fileno(), 4096)
        return line.decode("utf-8", "replace").strip() if line else None

    def recall(self, messages: Iterable[str]) -> None:
        """Let the arrow keys bring these messages, as if they were typed."""
        if self._readline is not None:
            self._readline.clear_history()
            for message in messages:
                if "\n" not in message:
                    self._readline.add_history(message)

    def complete(self, completions: Callable[[str], Sequence[str]]) -> None:
        """Let the tab key complete a line with what the function returns for it: whole lines."""
        if self._readline is None:
            return
        readline = self._readline

        def nth(word: str, number: int) -> str | None:
            line = readline.get_line_buffer()[: readline.get_endidx()]
            begin = len(line) - len(word)
            found = [each[begin:] for each in completions(line)]
            return found[number] if number < len(found) else None

        readline.set_completer_delims(" ")
        readline.set_completer(nth)
        is_libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")

    def _read_from_stdin(self, prompt: str) -> str:
        if sys.stdin is None or sys.stdin.closed:
            raise EOFError
        if self.is_terminal:
            sys.stderr.write(prompt)
            sys.stderr.flush()
        try:
            line = sys.stdin.buffer.readline()
        except OSError as error:
            raise InvalidRequestError(f"standard input cannot be read: {error.strerror or error}") from None
        if not line:
            raise EOFError
        try:
            return line.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            raise InvalidRequestError("a line of standard input is not UTF-8 text") from None


def read_message(read_line: ReadLine, prompt: str) -> str:
    r"""A message. It goes on after a line that ends with a single backslash, and between two lines of triple quotes.

    The end of the input ends a message that has begun.
    """
    line = read_line(prompt)
    with suppress(EOFError):
        if line.lstrip().startswith(BLOCK):
            line = line.lstrip().removeprefix(BLOCK)
            lines = [line]
            with suppress(EOFError):
                while not lines[-1].rstrip().endswith(BLOCK):
                    lines.append(read_line(MORE))
            return "\n".join(lines).rstrip().removesuffix(BLOCK).strip("\n")
        while line.endswith("\\") and not line.endswith("\\\\"):
            line = line[:-1] + "\n"
            line += read_line(MORE)
    return line


def _readline() -> ModuleType | None:
    try:
        import readline
    except ImportError:
        return None
    # Python switches this off. With it, text of several lines that is pasted is one message.
    readline.parse_and_bind("set enable-bracketed-paste on")
    return readline


def _forget_typed() -> None:
    """Drop what was typed before a question, so that it is not taken for the answer."""
    with suppress(ImportError):
        import termios

        with suppress(termios.error):
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


async def _until_typed() -> None:
    """Wait until a line was typed. On Windows, where the event loop does not watch terminals, reading it blocks."""
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(sys.stdin.fileno(), typed.set)
    except NotImplementedError:
        return
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
