"""How the command ends: its exit codes, an error in one line, and nobody there to read any more."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import MutableMapping, Sequence
from typing import Any, Final, TextIO

from typer import Abort, Exit
from typer.core import TyperGroup

from ..exceptions import ConfigurationError, InvalidRequestError, LLMDispatcherError, StreamingError

DONE: Final = 0
FAILED: Final = 1
MISUSED: Final = 2
MISCONFIGURED: Final = 3
BROKEN_OFF: Final = 4
BUG: Final = 70
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
TERMINATED: Final = 143

CODES: Final = {
    DONE: "All is well.",
    FAILED: "No vendor answered, or something that was looked at is not well.",
    MISUSED: "The command line or the request is wrong.",
    MISCONFIGURED: "The configuration is missing or wrong.",
    BROKEN_OFF: "The answer broke off: what was written is a part of it.",
    BUG: "A mistake of ours; --debug shows where.",
    INTERRUPTED: "Interrupted by Ctrl-C.",
    PIPE_CLOSED: "Whoever was reading the output has left.",
    TERMINATED: "Told to end (SIGTERM).",
}


class Commands(TyperGroup):
    """The group of all commands, that ends as this module says.

    `--debug` may stand anywhere before a `--`; and with `--json` an error is JSON too.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        ours = given[: given.index("--")] if "--" in given else given
        debug, as_json = "--debug" in ours, "--json" in ours
        words = [word for word in ours if word != "--debug"] + given[len(ours) :]
        try:
            code = super().main(words or ["--help"], prog_name, complete_var, False, windows_expand_args, **extra)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is told in one line
            if debug:
                traceback.print_exc()
            code = exit_code(error)
            try:
                _tell(error, code, as_json=as_json)
            except BrokenPipeError:
                code = PIPE_CLOSED
        sys.exit(_flushed(code if isinstance(code, int) else DONE))

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:  # typer's own context, which it does not export
        try:
            return super().make_context(info_name, args, parent, **extra)
        except BrokenPipeError:
            raise Exit(PIPE_CLOSED) from None

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise Exit(PIPE_CLOSED) from None


def exit_code(error: BaseException) -> int:
    """The code that an error ends with."""
    match error:
        case ConfigurationError():
            return MISCONFIGURED
        case StreamingError():
            return BROKEN_OFF
        case InvalidRequestError():
            return MISUSED
        case LLMDispatcherError():
            return FAILED
        case Abort():
            return FAILED
        case ValueError() | OSError():
            return MISUSED
        case _:
            return int(getattr(error, "exit_code", BUG))


def _tell(error: Exception, code: int, *, as_json: bool) -> None:
    """The error on standard error: a line, or a line for each problem of a configuration."""
    from .._redaction import redacted
    from ..events import Failure

    if as_json:
        import msgspec

        told: MutableMapping[str, object] = msgspec.to_builtins(Failure.of(error))
        told["message"] = one_line(redacted(_words(error)))
        if isinstance(error, ConfigurationError):
            told["problems"] = msgspec.to_builtins(error.problems)
        print(json.dumps({"error": told, "exit_code": code}, ensure_ascii=False), file=sys.stderr)  # noqa: T201
        return
    lines = str(error).splitlines() if isinstance(error, ConfigurationError) else [_words(error)]
    for line in lines:
        print(f"llm-dispatcher: {redacted(one_line(line))}", file=sys.stderr)  # noqa: T201 - the command's last word


def _words(error: Exception) -> str:
    """The error's own words; of a command line that was not understood, with where to read on."""
    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "llm-dispatcher"
        return f"{format_message()} ({command} --help)"
    if exit_code(error) == BUG:
        return f"{type(error).__name__}: {error} (a mistake of ours; --debug shows where)"
    if isinstance(error, OSError) and error.filename is not None and not isinstance(error, LLMDispatcherError):
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def one_line(text: str) -> str:
    """Text that a terminal shows in one line, and takes no orders from."""
    return harmless(" ".join(text.split()))


_CONTROLS: Final = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "␡",
    **dict.fromkeys(range(0x80, 0xA0), "�"),
    # These turn the direction of what follows, so that a line reads as something else than it says.
    **dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "�"),
}


def harmless(text: str) -> str:
    """Text that does nothing to a terminal but stand there: models and vendors may say anything."""
    return text.translate(_CONTROLS)


def _flushed(code: int) -> int:
    """The code, once what was written is out; nothing is left for Python to stumble over while it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            _redirect_to_nowhere(stream)
            code = code or PIPE_CLOSED
    return code


def _redirect_to_nowhere(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
